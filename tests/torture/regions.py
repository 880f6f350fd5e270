"""One job over three regions under real faults: `python -m tests.torture --regions 3`.

Three regions, two datacenters in one of them, three servers and a client each, all plain
`serai agent` processes (tests/torture/federation.py). Two services are divided over them:

    hold     lives in eu, spills over to the others; at most one process of an index, ever
    surge    anywhere, spread over the regions; one copy more where a region was cut off

Somebody scales them all the time, at any server, while faults drawn from the seed strike at
random moments, at times two at once: a region is cut off by the relay, for longer than surge
waits or shorter; a datacenter's servers are killed, or the leaders of all; a region is filled
with other work. What runs is counted in /proc by the NOMAD_* environment, several times a
second, never asked of an agent:

    index twice     an index runs in more datacenters than its job's mode allows
    never settled   all is mended for so long, and the indices that run are not those of the
                    newest count that was acknowledged, each once
"""

import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trio

from sim.lastline import last_line
from tests.torture.cluster import ClusterError
from tests.torture.federation import (
    REGIONS,
    SERVERS,
    SLOT_MHZ,
    SLOT_MIB,
    SLOTS,
    Federation,
    open_federation,
)
from tests.torture.instances import places_of

HOLD, SURGE = "hold", "surge"
MOST: Final = {HOLD: 1, SURGE: 2}  # datacenters that may run an index at a time
COUNTS: Final = {HOLD: (2, 3, 5, 7), SURGE: (2, 3, 4)}
FULL_ROUNDS: Final = 15
SETTLED_LIMIT_S: Final = 180.0
_LOOK_S: Final = 0.2
_LATE_S: Final = 60.0  # a write of which nothing was heard may take effect so much later
_SECOND_SHARE: Final = 0.4


@dataclass
class Ledger:
    """What was written of one job's count."""

    counts: list[tuple[float, int]] = field(default_factory=list)  # unanswered: when, what
    acknowledged: int = 0
    at_s: float = 0.0

    def took(self, count: int) -> None:
        now_s = time.monotonic()
        self.acknowledged, self.at_s = count, now_s
        self.counts = [one for one in self.counts if now_s - one[0] < _LATE_S]

    def possible(self) -> set[int]:
        return {self.acknowledged, *(count for _, count in self.counts)}


class Trial:
    """The federation, its two jobs, and what was seen."""

    def __init__(self, federation: Federation, seed: int) -> None:
        self.federation = federation
        self.rng = random.Random(f"{seed}/regions")
        self.ledgers = {HOLD: Ledger(), SURGE: Ledger()}
        self.faults: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.violations: list[str] = []
        self.settled_s: list[float] = []
        self.is_over = False
        self._last: dict[tuple[str, int], str] = {}  # index -> where it ran last

    # --- looking --------------------------------------------------------------------------

    async def watch(self) -> None:
        """Count processes until the end."""
        while not self.is_over:
            self.look()
            await trio.sleep(_LOOK_S)

    def look(self) -> dict[str, dict[int, list[str]]]:
        """Count once: job -> index -> datacenters in which it runs."""
        running = self.federation.processes.look()
        self.seen["looks at /proc"] += 1
        found = {job: places_of(running, job) for job in MOST}
        for job, indices in found.items():
            for index, places in indices.items():
                different = sorted(set(places))
                if len(different) > MOST[job]:
                    self._violated(f"{job}[{index}] runs in {', '.join(different)} at once")
                self.seen["copy of an index ran"] += len(different) > 1
                last = self._last.get((job, index), places[0])
                self._last[job, index] = places[0]
                self.seen["index moved to another datacenter"] += last not in places
                is_away = job == HOLD and not places[0].startswith("eu/")
                self.seen["index ran in another region"] += is_away
        return found

    def _violated(self, text: str) -> None:
        if text not in self.violations:
            self.violations.append(text)
            print(f"    VIOLATION {text}", flush=True)

    async def until_settled(self) -> None:
        """Return once what runs is what was asked for, each index once."""
        began_s, reason = time.monotonic(), ""
        while time.monotonic() - began_s < SETTLED_LIMIT_S:
            found = self.look()
            wrong = [self._unsettled(job, found[job]) for job in MOST]
            reason = "; ".join(filter(None, wrong))
            if not reason:
                self.settled_s.append(time.monotonic() - began_s)
                return
            await trio.sleep(_LOOK_S)
        self._violated(f"never settled in {SETTLED_LIMIT_S:g} s: {reason}")

    def _unsettled(self, job: str, running: dict[int, list[str]]) -> str:
        possible = self.ledgers[job].possible()
        is_once = all(len(places) == 1 for places in running.values())
        if is_once and any(set(running) == set(range(count)) for count in possible):
            return ""
        return f"{job} runs {dict(sorted(running.items()))}, asked for was {sorted(possible)}"

    # --- writing --------------------------------------------------------------------------

    async def register(self, job: str) -> None:
        """Register one of the two services.

        Raises:
            ClusterError: Nobody takes it.
        """
        count = COUNTS[job][-1]
        policy: dict[str, Any] = {"Partition": job}
        policy["Spillover"] = {"Regions": ["us", "ap"], "After": 2_000_000_000}
        region = "eu"
        if job == SURGE:
            policy, region = {"Partition": job, "Spread": [{"Attribute": "region"}]}, "*"
        body = {"Job": service(job, count, Region=region, Federation=policy)}
        said = "no answer"
        with trio.move_on_after(60):
            while True:
                found = await self.federation.call("PUT", "jobs", self.rng, body=body, region="eu")
                if found is not None and found.status_code == 200:
                    self.ledgers[job].took(count)
                    return
                said = found.text[:300] if found is not None else said
                await trio.sleep(0.5)
        raise ClusterError(f"nobody takes job {job!r}: {said} {self.federation.last_error}")

    async def scale_now_and_then(self) -> None:
        """Change the counts, each write at whatever server."""
        rng = random.Random(self.rng.getrandbits(64))
        while not self.is_over:
            await self.scale(rng.choice((HOLD, SURGE)), rng)
            await trio.sleep(rng.uniform(2, 8))

    async def scale(self, job: str, rng: random.Random) -> None:
        ledger, count = self.ledgers[job], rng.choice(COUNTS[job])
        body = {"Target": {"Group": "main"}, "Count": count}
        sent_s = time.monotonic()
        found = await self.federation.call("PUT", f"job/{job}/scale", rng, body=body, region="eu")
        if found is None:
            ledger.counts.append((sent_s, count))
            self.seen["writes without an answer"] += 1
        elif found.status_code == 200:
            ledger.took(count)
            self.seen["writes acknowledged"] += 1
        else:
            self.seen["writes refused"] += 1


def service(name: str, count: int, **fields: Any) -> dict[str, Any]:
    """Return a service of so many instances of one slot each."""
    task = {
        "Name": "sleep", "Driver": "raw_exec", "KillTimeout": 1_000_000_000,
        "Config": {"command": "/bin/sleep", "args": ["86400"]},
        "Resources": {"CPU": SLOT_MHZ, "MemoryMB": SLOT_MIB},
    }  # fmt: skip
    group = {"Name": "main", "Count": count, "Tasks": [task],
             "EphemeralDisk": {"SizeMB": 110}}  # fmt: skip
    return {"ID": name, "Name": name, "Type": "service", "Datacenters": ["*"],
            "Update": {"MaxParallel": 0}, "TaskGroups": [group], **fields}  # fmt: skip


# --- faults -----------------------------------------------------------------------------------


async def cut_region(trial: Trial, rng: random.Random) -> None:
    await _cut(trial, "region cut off", rng.choice(REGIONS), rng.uniform(5, 30))


async def cut_region_for_long(trial: Trial, rng: random.Random) -> None:
    await _cut(trial, "region cut off for over a minute", rng.choice(REGIONS), rng.uniform(80, 95))


async def _cut(trial: Trial, name: str, region: str, for_s: float) -> None:
    links = trial.federation.links
    before = _dropped(links)
    links.cut(region)
    await trio.sleep(for_s)
    links.heal()
    trial.faults[name] += _dropped(links) > before


def _dropped(links: Any) -> int:
    return sum(links.between(a, b).dropped for a in links.endpoints for b in links.endpoints)


async def kill_datacenter(trial: Trial, rng: random.Random) -> None:
    """Kill a datacenter's servers, and its client half of the time; its tasks run on."""
    federation, place = trial.federation, rng.choice(trial.federation.places)
    agents = [one for one in federation.agents.values() if one.spec.place == place]
    if rng.random() < 0.5:
        agents = [one for one in agents if one.spec.is_server]
    trial.faults["datacenter killed"] += await federation.kill(agents)
    await trio.sleep(rng.uniform(2, 25))
    federation.start(agents)


async def kill_leaders(trial: Trial, rng: random.Random) -> None:
    """Kill every datacenter's leader at once, and start them again a moment later."""
    federation = trial.federation
    found = [await federation.leader_of(place) for place in federation.places]
    victims = [one for one in found if one is not None]
    trial.faults["leader of each datacenter killed"] += await federation.kill(victims)
    await trio.sleep(rng.uniform(0, 4))
    federation.start(victims)


async def fill_region(trial: Trial, rng: random.Random) -> None:
    """Take what room a region has, have the others' jobs grow, and give it back."""
    federation, region = trial.federation, rng.choice(REGIONS)
    name = f"filler-{rng.getrandbits(32):08x}"
    body = {"Job": service(name, 2 * SLOTS, Region=region)}
    found = await federation.call("PUT", "jobs", rng, body=body, region=region)
    if found is not None and found.status_code == 200:
        await trio.sleep(rng.uniform(2, 5))
        await trial.scale(HOLD, rng)
        await trio.sleep(rng.uniform(5, 20))
        running = {one.index for one in federation.processes.look() if one.job == name}
        trial.faults["region filled"] += bool(running)
    with trio.move_on_after(60):
        while True:
            found = await federation.call("DELETE", f"job/{name}", rng, region=region, purge="true")
            if found is not None:
                return
            await trio.sleep(0.5)


Fault = Callable[[Trial, random.Random], Awaitable[None]]
FAULTS: Final[dict[str, Fault]] = {
    "region cut off": cut_region,
    "region cut off for over a minute": cut_region_for_long,
    "datacenter killed": kill_datacenter,
    "leader of each datacenter killed": kill_leaders,
    "region filled": fill_region,
}
SITUATIONS: Final = (
    "writes acknowledged",
    "index ran in another region",
    "index moved to another datacenter",
    "copy of an index ran",
)


# --- rounds -----------------------------------------------------------------------------------


async def play(trial: Trial, kind: str, number: int) -> None:
    """Strike while somebody writes, mend, and wait until all has settled."""
    rng = random.Random(trial.rng.getrandbits(64))
    kinds = [kind]
    if rng.random() < _SECOND_SHARE:
        kinds.append(rng.choice([one for one in FAULTS if one != kind]))
    began_s = time.monotonic()
    trial.is_over = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trial.watch)
        nursery.start_soon(trial.scale_now_and_then)
        async with trio.open_nursery() as striking:
            for one in kinds:
                drawn = random.Random(rng.getrandbits(64))
                striking.start_soon(_strike, trial, one, drawn)
        trial.federation.heal()
        trial.is_over = True
    await trial.federation.until_ready()
    await trial.until_settled()
    taken_s = time.monotonic() - began_s
    print(f"  {number:3}  {' + '.join(kinds):58} {taken_s:6.1f} s", flush=True)


async def _strike(trial: Trial, kind: str, rng: random.Random) -> None:
    await trio.sleep(rng.uniform(0.5, 6))
    await FAULTS[kind](trial, rng)
    if failed := trial.federation.has_failed():
        raise ClusterError(failed)


async def torture(seed: int, rounds: int, folder: Path, trials: list[Trial]) -> None:
    """Run so many rounds; the trial is put into `trials` as soon as there is one.

    Raises:
        ClusterError: An agent ended by itself, or the federation did not come back.
    """
    print("three regions, four datacenters of three servers", flush=True)
    async with open_federation(folder, lambda line: print(f"    {line}")) as federation:
        trial = Trial(federation, seed)
        trials.append(trial)
        await federation.until_ready()
        for job in MOST:
            await trial.register(job)
        await trial.until_settled()
        deck: list[str] = []
        for number in range(1, rounds + 1):
            deck = deck or trial.rng.sample(sorted(FAULTS), len(FAULTS))
            await play(trial, deck.pop(), number)
            trial.seen["rounds"] += 1


def report(seed: int, asked: int, trials: list[Trial], failure: str) -> int:
    """Print the table and the last line; return the exit code, as tests.torture has them."""
    trial = trials[0] if trials else None
    faults = trial.faults if trial else Counter()
    seen = trial.seen if trial else Counter()
    violations = [*(trial.violations if trial else []), *filter(None, [failure])]
    settled_s = sorted(trial.settled_s) if trial else []
    for title, names, counter in (
        ("fault", tuple(FAULTS), faults),
        ("situation", SITUATIONS, seen),
        ("besides", tuple(sorted(set(seen) - set(SITUATIONS))), seen),
    ):
        print(f"\n{title:45} times")
        for name in names:
            print(f"  {name:45} {counter[name]:>8}")
    for text in violations:
        print(f"violation: {text}")
    rounds = seen["rounds"]
    is_reduced = rounds < FULL_ROUNDS
    zeros = [name for name in FAULTS if not faults[name]]
    zeros += [name for name in SITUATIONS if not seen[name]]
    figures = {
        "program": "tests.torture", "seed": seed, "rounds": rounds, "faults": dict(faults),
        "situations": {name: seen[name] for name in SITUATIONS},
        "acknowledged": seen["writes acknowledged"], "violations": violations, "zero": zeros,
        "settled_s_max": round(settled_s[-1], 1) if settled_s else None,
    }  # fmt: skip
    sizes = {"rounds": asked, "regions": len(REGIONS), "datacenters": 4, "servers": SERVERS}
    print(last_line(figures, sizes=sizes, samples=seen["looks at /proc"], is_reduced=is_reduced))
    if violations:
        return 1
    if rounds < asked:
        return 130
    if is_reduced:
        return 3
    return 4 if zeros else 0
