"""Why a job is where it is, told although the leader that decided it is gone: real processes.

Two datacenters of eu hold one instance each, for the job asks a port that nodes have once. The
rest spills over: us refuses it, for somebody else has the port there, which no digest tells;
so does ap. Then the leader of the job's home is killed. When ap has the port free, the next
leader gives the instance there. Asked in ap, `serai job why` still tells it all: who was asked
by how old a digest, and who refused with what reason.
"""

import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.torture.federation import Federation, open_federation
from tests.torture.instances import places_of
from tests.torture.regions import service

pytestmark = [pytest.mark.slow, pytest.mark.process]

PORT = 8099  # of the scheduler's books only: nobody listens on it
LIMIT_S = 150.0


def with_port(name: str, count: int, **fields: Any) -> dict[str, Any]:
    job = service(name, count, **fields)
    ports = [{"Label": "p", "Value": PORT}]
    job["TaskGroups"][0]["Networks"] = [{"ReservedPorts": ports}]
    return job


class Story:
    """What is asked of the federation, at whatever server answers."""

    def __init__(self, federation: Federation) -> None:
        self.federation = federation
        self._rng = random.Random(1)

    async def call(
        self, method: str, path: str, region: str, body: Any = None, **params: str
    ) -> Any:
        """Ask until somebody answers with 200."""
        with trio.move_on_after(60):
            while True:
                found = await self.federation.call(
                    method, path, self._rng, body=body, region=region, **params
                )
                if found is not None and found.status_code == 200:
                    return found.json()
                await trio.sleep(0.3)
        raise AssertionError(f"{method} {path}: {self.federation.last_error}")

    async def register(self, job: dict[str, Any]) -> None:
        await self.call("PUT", "jobs", job["Region"], {"Job": job})

    async def events(self) -> list[dict[str, Any]]:
        told = await self.call("GET", "job/story/why", "eu")
        return [event for job in told["Jobs"] for event in job["Events"]]

    async def home(self) -> str:
        told = await self.call("GET", "job/story/why", "eu")
        return str(told["Jobs"][0]["Home"])

    def places(self, job: str) -> dict[int, list[str]]:
        return places_of(self.federation.processes.look(), job)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        began_s = time.monotonic()
        while not condition():
            assert time.monotonic() - began_s < LIMIT_S, f"no {what}: {self.places('story')}"
            await trio.sleep(0.2)

    async def until_refused(self, *places: str) -> None:
        with trio.move_on_after(LIMIT_S):
            while True:
                events = await self.events()
                by = {e["Facts"].get("by") or place_of(e) for e in events if e["Kind"] == "refused"}
                if by >= set(places):
                    return
                await trio.sleep(0.3)
        raise AssertionError(f"{places} did not refuse: {[one['Text'] for one in events]}")


def place_of(event: dict[str, Any]) -> str:
    return f"{event['Region']}/{event['Datacenter']}"


async def play(folder: Path) -> tuple[dict[str, Any], str]:
    """Play it all, and return what `job why` says in ap, as JSON and as text."""
    async with open_federation(folder, print) as federation:
        story = Story(federation)
        await federation.until_ready()
        for region in ("us", "ap"):
            await story.register(with_port(f"{region}-has-it", 1, Region=region))
            await story.until(
                lambda region=region: bool(story.places(f"{region}-has-it")), f"port in {region}"
            )
        spill = {"Spillover": {"Regions": ["us", "ap"], "After": 1_000_000_000}}
        await story.register(with_port("story", 3, Region="eu", Federation=spill))
        await story.until(lambda: len(story.places("story")) == 2, "two instances in eu")
        await story.until_refused("us/dc1", "ap/dc1")
        leader = await federation.leader_of(await story.home())
        assert leader is not None and await federation.kill([leader])
        await story.call("DELETE", "job/ap-has-it", "ap", purge="true")
        await story.until(
            lambda: ["ap/dc1"] in story.places("story").values(), "third instance in ap"
        )
        address = federation.servers_of("ap/dc1")[0].spec.api
        said = []
        for flags in (["-json"], []):
            command = [sys.executable, "-m", "core.cli.main", "job", "why", f"-address={address}",
                       "-region=eu", *flags, "story"]  # fmt: skip
            done = await trio.run_process(command, capture_stdout=True, capture_stderr=True)
            said.append(done.stdout.decode())
        return json.loads(said[0]), said[1]


def test_the_chain_is_whole_after_the_homes_leader_was_replaced(tmp_path: Path) -> None:
    told, text = trio.run(play, tmp_path)
    (job,) = told["Jobs"]
    assert not told["Missing"] and job["Home"].startswith("eu/")
    events = {event["ID"]: event for event in job["Events"]}
    kinds = [event["Kind"] for event in job["Events"]]
    assert kinds[0] == "submitted" and "registered" in kinds, text
    by_us = next(e for e in job["Events"] if e["Kind"] == "refused" and "us/dc1" in said_by(e))
    assert str(PORT) in by_us["Text"] or "port" in by_us["Text"], by_us
    asked = [e for e in job["Events"] if e["Facts"].get("to") == "us/dc1"]
    assert asked and asked[0]["Facts"]["digest_age_ms"] >= 0, text
    moved = [e for e in job["Events"] if e["Facts"].get("to") == "ap/dc1"]
    assert len(moved) >= 2, "the one that was refused, and the one that was taken"
    assert "digest of" in moved[-1]["Text"]
    assert is_caused_by(events, moved[-1]["ID"], asked[0]["ID"]), text
    assert "us/dc1" in text and "refused" in text and "digest of" in text


def said_by(event: dict[str, Any]) -> str:
    return f"{place_of(event)} {event['Facts'].get('by', '')}"


def is_caused_by(events: dict[str, Any], late: str, early: str) -> bool:
    """Whether a chain of causes leads from one event back to another."""
    seen, left = set(), [late]
    while left:
        one = left.pop()
        if one == early:
            return True
        if one not in seen:
            seen.add(one)
            left += events.get(one, {}).get("After") or []
    return False
