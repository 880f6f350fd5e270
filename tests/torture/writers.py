"""Clients that write over HTTP, and the ledger of what each write came to.

A write is *acknowledged* (answered 200), *unsent* (no connection: it can't have happened)
or *unknown* (anything else: it may have happened, once). Nothing is written twice by a
client; whatever the servers do again among themselves must not show.

Two kinds of keys, all of them jobs without instances:

    created   one write each: the job must be there afterwards if it was acknowledged, with
              the value it was given, and must not be there if it was unsent
    counted   a job that one writer overwrites with 1, 2, 3, ...; after an unknown write it
              takes a new one. So it must show the last acknowledged number, or the one
              unknown number after it, and as many versions as writes were carried out
"""

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import trio

from tests.torture.cluster import Cluster, Server

WRITERS: Final = 6
_PAUSE_S: Final = 0.02
_UNSENT_PAUSE_S: Final = 0.1
BULK_WRITERS: Final = 3
_BULK_BYTES: Final = 512 * 1024
FULL_DISK_WORDS: Final = "data folder is full"


@dataclass(slots=True)
class Counted:
    """One counted key: the newest acknowledged number, and the newest tried."""

    acknowledged: int = 0
    tried: int = 0


@dataclass(slots=True)
class Ledger:
    """What became of the writes of one round, or of several."""

    created: dict[str, str] = field(default_factory=dict)  # acknowledged: id -> value
    unsent: set[str] = field(default_factory=set)
    counted: dict[str, Counted] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)  # of unknown writes
    violations: list[str] = field(default_factory=list)  # seen while writing

    @property
    def acknowledged(self) -> int:
        return self.outcomes["acknowledged"]

    def add(self, other: "Ledger") -> None:
        self.created |= other.created
        self.unsent |= other.unsent
        self.counted |= other.counted
        self.outcomes += other.outcomes
        self.reasons += other.reasons
        self.violations += other.violations


class Writers:
    """The clients of one round. `is_bulky` makes some of them write half a megabyte each."""

    def __init__(self, cluster: Cluster, name: str, seed: str) -> None:
        self.ledger = Ledger()
        self.is_bulky = False
        self._cluster = cluster
        self._name = name
        self._seed = seed
        self._is_over = False

    def finish(self) -> None:
        """Let each client end once its present write is answered."""
        self._is_over = True

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            for number in range(WRITERS):
                nursery.start_soon(self._write, number)
            for number in range(BULK_WRITERS):
                nursery.start_soon(self._write_bulk, number)

    async def _write(self, number: int) -> None:
        rng = random.Random(f"{self._seed}/writer {number}")
        generation = 0
        count = 0
        key = f"{self._name}-k{number}-0"
        while not self._is_over:
            server = rng.choice(self._cluster.servers)
            if rng.random() < 0.3:
                count += 1
                await self._create(server, f"{self._name}-c{number}-{count}", rng)
            elif not await self._count(server, key):
                generation += 1
                key = f"{self._name}-k{number}-{generation}"
            elif rng.random() < 0.2:
                await self._read_own(rng.choice(self._cluster.servers), key)
            await trio.sleep(_PAUSE_S)

    async def _create(self, server: Server, job_id: str, rng: random.Random) -> None:
        value = f"{rng.getrandbits(64):016x}"
        outcome = await self._put(server, job_id, value)
        if outcome == "acknowledged":
            self.ledger.created[job_id] = value
        elif outcome == "unsent":
            self.ledger.unsent.add(job_id)

    async def _count(self, server: Server, key: str) -> bool:
        """Write the next number; return False when it is not known whether that happened."""
        counted = self.ledger.counted.setdefault(key, Counted())
        counted.tried = counted.acknowledged + 1
        outcome = await self._put(server, key, str(counted.tried))
        if outcome == "acknowledged":
            counted.acknowledged = counted.tried
        elif outcome == "unsent":
            counted.tried = counted.acknowledged
        return outcome != "unknown"

    async def _read_own(self, server: Server, key: str) -> None:
        """A default read after an acknowledgement shows at least that; nobody else writes it."""
        counted = self.ledger.counted[key]
        try:
            found = await self._cluster.get(server, f"job/{key}")
        except httpx.HTTPError:
            return
        if found.status_code not in (200, 404) or not counted.acknowledged:
            return
        self.ledger.outcomes["reads"] += 1
        value = found.json()["Meta"]["value"] if found.status_code == 200 else None
        if value != str(counted.acknowledged):
            self.ledger.violations.append(
                f"{server.name} answered a default read of {key} with {value}, "
                f"{counted.acknowledged} was acknowledged before"
            )

    async def _write_bulk(self, number: int) -> None:
        rng = random.Random(f"{self._seed}/bulk {number}")
        filler = rng.randbytes(_BULK_BYTES // 2).hex()
        key = f"{self._name}-b{number}"
        while not self._is_over:
            if self.is_bulky:
                counted = self.ledger.counted.get(key)
                if counted is not None and counted.tried != counted.acknowledged:
                    key += "x"
                counted = self.ledger.counted.setdefault(key, Counted())
                counted.tried += 1
                server = rng.choice(self._cluster.servers)
                outcome = await self._put(server, key, str(counted.tried), filler)
                if outcome == "acknowledged":
                    counted.acknowledged = counted.tried
                elif outcome == "unsent":
                    counted.tried = counted.acknowledged
            await trio.sleep(_PAUSE_S)

    async def _put(self, server: Server, job_id: str, value: str, filler: str = "") -> str:
        """Register a job; return what is known of it."""
        meta = {"value": value, **({"filler": filler} if filler else {})}
        try:
            answer = await self._cluster.http.put(
                f"{server.spec.api}/v1/jobs", json={"Job": _job(job_id, meta)}
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
            self.ledger.outcomes["unsent"] += 1
            await trio.sleep(_UNSENT_PAUSE_S)
            return "unsent"
        except httpx.HTTPError as error:
            self._unknown(type(error).__name__)
            return "unknown"
        if answer.status_code == 200:
            self.ledger.outcomes["acknowledged"] += 1
            return "acknowledged"
        self._unknown(answer.text.strip()[:80])
        return "unknown"

    def _unknown(self, reason: str) -> None:
        self.ledger.outcomes["unknown"] += 1
        self.ledger.reasons[reason] += 1
        if FULL_DISK_WORDS in reason:
            self.ledger.outcomes["refused for a full disk"] += 1


def _job(job_id: str, meta: dict[str, str]) -> dict[str, Any]:
    task = {"Name": "t", "Driver": "raw_exec", "Config": {"command": "true"}}
    group = {"Name": "g", "Count": 0, "Tasks": [task]}
    return {"ID": job_id, "Name": job_id, "Type": "service", "Meta": meta, "TaskGroups": [group]}
