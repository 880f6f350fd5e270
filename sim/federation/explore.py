"""Every order of a few messages, exhaustively: `python -m sim.federation explore`.

Seeds try many large worlds at random; here a small one is tried completely. A home and two
datacenters share one job of two instances, over the shipped commands (`PutParts`,
`TakeReport`, `PutShare`, `SyncShares`) in three real states, with the shipped planner. A
message that was once sent may arrive at any time, any number of times, or never: so every
interleaving of loss, duplication and reordering is among what is tried, within `Bounds`.

Steps: the home decides on any division, also on such as it must refuse; a share arrives,
and there is room or there is none; a process ends that shall end; a report arrives; a full
sync is sent, and arrives. In each state that can be reached:

    index twice       no instance is authorised in two datacenters
    process twice     nor does one run in two
    stuck             when all that is sent arrives and all ends that shall, the home knows:
                      nothing is held beyond what is allowed, and what is allowed runs

In further rounds the home is declared off while it lives, and its job adopted
(`explore_lost.py`).

What a datacenter makes of a step follows from its own state alone, so each is computed once
with the real code (`sites.py`) and looked up after that.

Exit codes: 0 nothing found; 1 a violation; 3 nothing found, but not all was tried.
"""

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any, Final, NamedTuple

from core.federation.homes import Report
from core.federation.shares import Share
from core.jobspec import canonicalize
from core.model.ids import derived_id
from core.model.job import EphemeralDisk, Job, Resources, Task, TaskGroup, UpdateStrategy
from core.model.node import (
    DriverInfo,
    Node,
    NodeCpuResources,
    NodeDiskResources,
    NodeMemoryResources,
    NodeResources,
    NodeStatus,
)
from sim.federation.sites import GROUP, HomeSite, Messages, ShareSite, Site, Step
from sim.lastline import last_line

IDS: Final = ("00000000000a", "00000000000b", "00000000000c")
LETTERS: Final = dict(zip(IDS, "ABC"))


class Bounds(NamedTuple):
    """How much is tried."""

    decisions: int
    syncs: int
    instances: int
    states: int  # a stop, not a goal


ROUNDS: Final = (
    Bounds(decisions=2, syncs=0, instances=2, states=0),
    Bounds(decisions=3, syncs=1, instances=1, states=0),
)
LOST_ROUNDS: Final = (
    Bounds(decisions=1, syncs=0, instances=2, states=0),
    Bounds(decisions=3, syncs=0, instances=1, states=0),
)


class Whole(NamedTuple):
    """All datacenters together. `sent` is every message that ever left."""

    numbers: tuple[int, ...]  # of the states, by `IDS`
    sent: frozenset[int]
    decisions: int
    syncs: int
    is_off: bool = False  # whether the home was declared off (sim.federation.explore_lost)
    later: int = 0  # decisions of the home that adopted the job


class Broken(Exception):
    """A checker fired."""

    def __init__(self, checker: str, text: str) -> None:
        super().__init__(text)
        self.checker, self.text = checker, text


class Exploration:
    """The search. `states`, `steps` and `longest` say how far it went."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.messages = Messages()
        job = a_job(bounds.instances)
        home_id, *others = IDS
        self.home = HomeSite(home_id, tuple(others), self.messages, a_node(home_id), job)
        self.shares = [ShareSite(one, home_id, self.messages, a_node(one), job) for one in others]
        self.sites: list[Site] = [self.home, *self.shares]
        self.steps = self.longest = 0
        self.is_complete = True
        self._settled: dict[tuple[int, ...], None] = {}
        self._choices = [*product((*IDS, ""), repeat=bounds.instances)]
        self._came_from: dict[Whole, tuple[Whole, str]] = {}

    @property
    def states(self) -> int:
        return len(self._came_from)

    def run(self) -> None:
        """Visit every state, the nearest first.

        Raises:
            Broken: With the shortest way there.
        """
        first = self._with_news(Whole(tuple(site.first for site in self.sites), frozenset(), 0, 0))
        self._came_from[first] = (first, "")
        layer = [first]
        while layer:
            self.longest += 1
            following = []
            for whole in layer:
                self._check(whole)
                for text, after in self._after(whole):
                    self.steps += 1
                    if after not in self._came_from:
                        self._came_from[after] = (whole, text)
                        following.append(after)
                if len(self._came_from) > self.bounds.states:
                    self.is_complete = False
                    return
            layer = following

    # --- steps ------------------------------------------------------------------------------

    def _after(self, whole: Whole) -> Iterator[tuple[str, Whole]]:
        for text, after in self._all_after(whole):
            if after != whole:
                yield text, self._with_news(after)

    def _all_after(self, whole: Whole) -> Iterator[tuple[str, Whole]]:
        numbers = whole.numbers
        for message in sorted(whole.sent):
            place = IDS.index(self.messages.to[message])
            if place == 0:
                step = self.home.take(numbers[0], message)
                yield f"A takes {self._shown(message)}", _put(whole, 0, step)
                continue
            share = self.shares[place - 1]
            name = f"{LETTERS[share.id]} takes {self._shown(message)}"
            for has_room in (True, False):
                step = share.take(numbers[place], message, has_room=has_room)
                yield name + ("" if has_room else ", no room"), _put(whole, place, step)
        for place, site in enumerate(self.sites):
            for instance in site.views[numbers[place]].ending:
                step = site.end(numbers[place], instance)
                yield f"{LETTERS[site.id]} ended {instance}", _put(whole, place, step)
        if whole.syncs < self.bounds.syncs:
            for share in self.shares:
                message = self.home.sync_for(numbers[0], share.id)
                told = whole._replace(sent=whole.sent | {message}, syncs=whole.syncs + 1)
                yield f"A sends {self._shown(message)}", told
        if whole.decisions < self.bounds.decisions:
            yield from self._decisions(whole)

    def _decisions(self, whole: Whole) -> Iterator[tuple[str, Whole]]:
        number = whole.numbers[0]
        divisions = {
            division: None
            for choice in self._choices
            for division in self.home.divisions(number, choice)
        }
        for division in divisions:
            step = self.home.decide(number, whole.decisions, division)
            if step.number != number:
                who = [LETTERS[one] for one in (self.home.id, *self.home.others)]
                shown = " ".join(f"{one}{sorted(had)}" for one, had in zip(who, division))
                moved = _put(whole, 0, step)._replace(decisions=whole.decisions + 1)
                yield f"A decides {shown}", moved

    def _with_news(self, whole: Whole) -> Whole:
        """What can be said is said at once: nothing says when, or whether, it arrives."""
        news = {
            message
            for site, number in zip(self.sites, whole.numbers)
            for message in site.views[number].messages
        }
        return whole if news <= whole.sent else whole._replace(sent=whole.sent | news)

    # --- checks -----------------------------------------------------------------------------

    def _check(self, whole: Whole) -> None:
        views = [site.views[number] for site, number in zip(self.sites, whole.numbers)]
        for number, one in enumerate(views):
            for other in views[number + 1 :]:
                if one.authorised & other.authorised:
                    raise Broken("index twice", self._story(whole))
                if one.running & other.running:
                    raise Broken("process twice", self._story(whole))
        if whole.numbers not in self._settled:
            self._settled[whole.numbers] = None
            self._check_end(whole)

    def _check_end(self, whole: Whole) -> None:
        """Let the newest of everything arrive and all end that shall: then all is known."""
        numbers = [*whole.numbers]
        for _ in range(20):
            before = [*numbers]
            for place, site in enumerate(self.sites):
                for instance in site.views[numbers[place]].ending:
                    numbers[place] = site.end(numbers[place], instance).number
            for place, share in enumerate(self.shares, 1):
                for message in self.home.views[numbers[0]].messages:
                    if self.messages.to[message] == share.id:
                        step = share.take(numbers[place], message, has_room=True)
                        numbers[place] = step.number
                        for answer in step.answers:
                            numbers[0] = self.home.take(numbers[0], answer).number
                for message in share.views[numbers[place]].messages:
                    numbers[0] = self.home.take(numbers[0], message).number
            if before == numbers:
                break
        for other, told in self.home.views[numbers[0]].parts:
            place = IDS.index(other)
            runs = self.sites[place].views[numbers[place]].running
            if not told.is_settled or runs != told.allowed:
                text = f"{LETTERS[other]} runs {sorted(runs)}, the home has {told}"
                raise Broken("stuck", f"{text}; {self._story(whole)}")

    def _story(self, whole: Whole) -> str:
        """Return the way to a state."""
        way: list[str] = []
        while True:
            whole, text = self._came_from[whole]
            if not text:
                return "; ".join(reversed(way))
            way.append(text)

    def _shown(self, message: int) -> str:
        body = self.messages.bodies[message]
        if isinstance(body, Share):
            return f"share {body.index} {_flat(body.indices)}"
        if isinstance(body, Report):
            who = LETTERS[body.datacenter_id]
            return f"{who}'s report on {body.index}: holds {_flat(body.holds)}"
        return f"sync up to {body.index}: {len(body.listed)} listed"


def _flat(indices: dict[str, Any]) -> str:
    found = [i for low, high in indices.get(GROUP, ()) for i in range(low, high)]
    return "{" + ",".join(map(str, found)) + "}"


def _put(whole: Whole, place: int, step: Step) -> Whole:
    numbers = (*whole.numbers[:place], step.number, *whole.numbers[place + 1 :])
    if whole.sent.issuperset(step.answers):
        return whole._replace(numbers=numbers)
    return whole._replace(numbers=numbers, sent=whole.sent.union(step.answers))


def a_node(datacenter_id: str) -> Node:
    return Node(
        id=derived_id("node", datacenter_id), secret_id="s", name="n", node_pool="default",
        datacenter=datacenter_id, status=NodeStatus.READY,
        drivers={"raw_exec": DriverInfo(detected=True, healthy=True)},
        node_resources=NodeResources(
            cpu=NodeCpuResources(cpu_shares=100_000),
            memory=NodeMemoryResources(memory_mb=100_000),
            disk=NodeDiskResources(disk_mb=1_000_000),
        ),
    )  # fmt: skip


def a_job(instances: int) -> Job:
    task = Task(
        name="task", driver="raw_exec", config={"command": "sleep"},
        resources=Resources(cpu=100, memory_mb=100),
    )  # fmt: skip
    group = TaskGroup(
        name=GROUP, count=instances, tasks=[task], ephemeral_disk=EphemeralDisk(size_mb=300),
        update=UpdateStrategy(max_parallel=0),
    )  # fmt: skip
    job = Job(
        id="job", name="job", type="service", datacenters=["*"], uid="0" * 32, task_groups=[group]
    )
    return canonicalize(job, region="r")


def main(arguments: Sequence[str] | None = None) -> int:
    """Explore; return the exit code."""
    from sim.federation.explore_lost import LostHome  # which builds on this module

    parser = argparse.ArgumentParser(
        prog="python -m sim.federation explore", description=(__doc__ or "").partition("\n")[0]
    )
    for name, about in (
        ("decisions", "of the home"),
        ("syncs", "full syncs that are sent"),
        ("instances", "of the job"),
    ):
        parser.add_argument(f"--{name}", type=int, help=f"{about}; default: see the last line")
    parser.add_argument("--states", type=int, default=3_000_000, help="at most so many a round")
    # Of the protocol of seed programs (sim.mutants): there is one seed, and all of it is tried.
    parser.add_argument("--start", type=int, default=0, help=argparse.SUPPRESS)
    for name in ("seeds", "workers"):
        parser.add_argument(f"--{name}", help=argparse.SUPPRESS)
    parser.add_argument("--first", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    given = {name: getattr(options, name) for name in ("decisions", "syncs", "instances")}
    given = {name: value for name, value in given.items() if value is not None}
    rounds: list[tuple[type[Exploration], Bounds]] = [(Exploration, one) for one in ROUNDS]
    rounds += [(LostHome, one) for one in LOST_ROUNDS]
    if given:
        rounds = [(Exploration, ROUNDS[0]._replace(**given))]
    rounds = [(kind, one._replace(states=options.states)) for kind, one in rounds]
    began_s = time.process_time()
    violations: list[dict[str, Any]] = []
    states = steps = 0
    is_complete = True
    for kind, bounds in rounds:
        exploration = kind(bounds)
        try:
            exploration.run()
        except Broken as broken:
            print(f"{broken.checker}: {broken.text}")
            found = {"seed": options.start, "checker": broken.checker, "text": broken.text}
            violations.append(found)
        states, steps = states + exploration.states, steps + exploration.steps
        is_complete &= exploration.is_complete
        _print_round(exploration)
        if violations:
            break
    figures = {
        "program": "sim.federation explore",
        "states": states,
        "steps": steps,
        "violations": violations,
        "complete": is_complete and not violations,
        "cpu_s": round(time.process_time() - began_s, 1),
    }
    sizes = {"rounds": [{"world": kind.__name__, **one._asdict()} for kind, one in rounds]}
    print(last_line(figures, sizes=sizes, samples=states, is_reduced=not is_complete))
    if violations:
        return 1
    return 0 if is_complete else 3


def _print_round(exploration: Exploration) -> None:
    bounds = exploration.bounds
    computed = sum(site.computed for site in exploration.sites)
    numbered = " ".join(f"{LETTERS[s.id]} {len(s.views)}" for s in exploration.sites)
    sizes = ", ".join(f"{name} {size}" for name, size in [*bounds._asdict().items()][:-1])
    print(f"{type(exploration).__name__}, {sizes}:")
    print(f"  states visited     {exploration.states:>10}")
    print(f"  steps              {exploration.steps:>10}")
    print(f"  longest way        {exploration.longest:>10}")
    print(f"  messages           {len(exploration.messages.bodies):>10}")
    print(f"  carried out        {computed:>10}  (states of each datacenter: {numbered})")


if __name__ == "__main__":
    sys.exit(main())
