"""What users do: they register, scale, stop and purge a few names, from anywhere.

Each user looks after one name, and two at times after the same. A user who gets no answer
repeats the request with its token, there or at another datacenter, or gives up. What was
answered is kept, to be held against the end (`ending.py`).
"""

import random
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, Final

import msgspec

from core.model.job import (
    EphemeralDisk,
    FederationPolicy,
    Job,
    ReschedulePolicy,
    Resources,
    SpilloverPolicy,
    Spread,
    Task,
    TaskGroup,
    UpdateStrategy,
)
from core.model.query import Answer, Query
from sim.federation.clients import SLOT_CPU, SLOT_MEMORY
from sim.federation.datacenter import Datacenter
from sim.federation.world import BEGIN_US, S, World

NAMESPACE: Final = "default"
GROUP: Final = "web"
PATIENCE_US: Final = (2 * S, 25 * S)
RACE_US: Final = 150_000
ECHO_PART: Final = 0.3  # of the requests come once more after they were answered
ECHO_US: Final = (5 * S, 60 * S)
SPREAD_PART: Final = 0.3  # of the names
PAUSE_US: Final = (300_000, 15 * S)
_NS: Final = 1_000_000_000


class Kind(StrEnum):
    REGISTER = "register"
    SCALE = "scale"
    STOP = "stop"
    PURGE = "purge"
    PARK = "park"  # `job stop -datacenter X`
    START = "start"  # `job start -datacenter X`


class Fate(StrEnum):
    UNKNOWN = "unknown"
    DONE = "done"
    REFUSED = "refused"


@dataclass(slots=True)
class Operation:
    """One thing that a user wanted. Times are the world's."""

    kind: Kind
    name: str
    mark: str  # of a register: unique; the job carries it
    count: int
    call_us: int
    token: str
    place: str = ""  # datacenter id, of a park or start
    fate: Fate = Fate.UNKNOWN
    return_us: int = 1 << 62
    answer: str = ""
    unanswered: int = 0  # tries that nothing was heard of, or an error that says nothing

    def __str__(self) -> str:
        text = f"{self.kind}({self.name}, {self.count}) {self.mark} at {self.call_us / S:.3f} s"
        return f"{text}: {self.fate} {self.answer[:120]}"


@dataclass(slots=True)
class NameRules:
    """What is fixed for a name: where it may go, and how it is handled under partition."""

    name: str
    region: str  # that its users register it in
    spillover: tuple[str, ...]
    after_us: int
    datacenters: tuple[str, ...]
    partition: str
    max_parallel: int = 0  # of a rolling update; 0 = all instances at once
    is_spread: bool = False  # over datacenters: divided though one has room for all


@dataclass
class Workload:
    """The users of one world and what came of their requests."""

    world: World
    rng: random.Random
    names: dict[str, NameRules] = field(default_factory=dict)
    operations: list[Operation] = field(default_factory=list)
    is_over: bool = False
    _count: int = 0

    def __post_init__(self) -> None:
        self._echoes = random.Random(f"federation/{self.world.seed}/echoes")

    def begin(self) -> None:
        rng = self.rng
        regions = sorted({one.region for one in self.world.datacenters.values()})
        for number in range(rng.randint(2, 4)):
            self.names[f"job{number}"] = self._rules(f"job{number}", regions)
        for rules in self.names.values():
            users = rng.choice((1, 1, 2))
            if users > 1 and rng.random() < 0.7:
                moment_us = rng.randrange(3 * S)  # both at once: a race for the name
                for _ in range(users):
                    delay_us = moment_us + rng.randrange(RACE_US)
                    self.world.after(delay_us, partial(self._act, rules, Kind.REGISTER))
                continue
            for _ in range(users):
                self.world.after(rng.randrange(3 * S), partial(self._act, rules))

    def _rules(self, name: str, regions: list[str]) -> NameRules:
        rng = self.rng
        region = rng.choice(regions)
        others = [one for one in regions if one != region]
        rng.shuffle(others)
        spillover: tuple[str, ...] = ()
        if others and rng.random() < 0.5:
            spillover = (*others[:1], "*") if rng.random() < 0.5 else tuple(others[:2])
        return NameRules(
            name=name,
            region=region,
            spillover=spillover,
            after_us=rng.choice((2, 10, 30)) * S,
            datacenters=("*",) if rng.random() < 0.8 else ("dc0", "dc1"),
            partition="surge" if rng.random() < 0.5 else "hold",
            max_parallel=random.Random(f"{self.world.seed}/{name}").choice((0, 0, 1, 2)),
            is_spread=random.Random(f"{self.world.seed}/{name}/spread").random() < SPREAD_PART,
        )

    # --- acting -------------------------------------------------------------------------------

    def _act(self, rules: NameRules, kind: Kind | None = None) -> None:
        if self.is_over:
            return
        rng = self.rng
        if rules.name in self.world.resting:
            self.world.after(rng.randint(*PAUSE_US), partial(self._act, rules))
            return
        if kind is None:
            (kind,) = rng.choices([*Kind], (20, 16, 6, 5, 2, 2))
        operation = Operation(
            kind=kind,
            name=rules.name,
            mark=f"m{self._next()}" if kind is Kind.REGISTER else "",
            count=rng.choice((0, 1, 2, 3, 4, 6, 8)) if kind is Kind.SCALE else rng.randint(1, 7),
            call_us=self.world.now_us,
            token=f"{rng.getrandbits(128):032x}",
        )
        if kind in (Kind.PARK, Kind.START):
            operation.place = rng.choice(self.parked(rules.name) or [*self.world.datacenters])
        self.operations.append(operation)
        self._try(operation, rules, self._somewhere(rules), tries=rng.choice((1, 2, 4)))

    def parked(self, name: str) -> list[str]:
        """Return the datacenters in which a job may be parked, as far as users can know."""
        found: dict[str, None] = {}
        for one in self.operations:
            if one.name == name and one.kind is Kind.PARK and one.fate is not Fate.REFUSED:
                found[one.place] = None
            elif one.name == name and one.kind is Kind.START and one.fate is Fate.DONE:
                found.pop(one.place, None)
        return [*found]

    def _next(self) -> int:
        self._count += 1
        return self._count

    def _somewhere(self, rules: NameRules, rng: random.Random | None = None) -> Datacenter:
        rng, world = rng or self.rng, self.world
        if rng.random() < 0.85:
            return rng.choice([*world.region(rules.region)])
        return rng.choice([*world.datacenters.values()])

    def _try(
        self, operation: Operation, rules: NameRules, at: Datacenter, *, tries: int,
        is_last: bool = False,
    ) -> None:  # fmt: skip
        """Send it; when no answer comes, send it again or give up. Then go on, if not the last."""
        world, rng = self.world, self.rng
        is_settled = False
        if operation.fate is Fate.UNKNOWN and self._echoes.random() < ECHO_PART:
            world.after(self._echoes.randint(*ECHO_US), partial(self._echo, operation, rules))

        def settle() -> bool:
            nonlocal is_settled
            before, is_settled = is_settled, True
            return not before

        sent_us = world.now_us

        def respond(answer: Answer) -> None:
            if answer.status == 404:
                world.watch.on_unknown(operation.token, sent_us)
            self._note(operation, answer)
            if settle():
                proceed(is_answered=answer.status < 500)

        def give_up() -> None:
            if settle():
                proceed(is_answered=False)

        def proceed(*, is_answered: bool) -> None:
            if self.is_over:
                return
            if not is_answered and tries > 1 and operation.fate is not Fate.DONE:
                world.situations["request repeated with its token"] += 1
                place = at if rng.random() < 0.5 else self._somewhere(rules)
                delay_us = rng.choice((200_000, 3 * S))
                again = partial(self._try, operation, rules, place, tries=tries - 1)
                world.after(delay_us, again)
            elif not is_last:
                world.after(rng.randint(*PAUSE_US), lambda: self._act(rules))

        hosts = [host for host in at.servers if host.is_up]
        operation.unanswered += bool(hosts)
        world.after(rng.randint(*PATIENCE_US), give_up)
        if hosts:
            rng.choice(hosts).on_query(self._query(operation, rules), respond)

    def _echo(self, operation: Operation, rules: NameRules) -> None:
        """Somebody between sends an answered request once more, much later, anywhere."""
        world, rng = self.world, self._echoes
        hosts = [host for host in self._somewhere(rules, rng).servers if host.is_up]
        if self.is_over or operation.fate is not Fate.DONE or not hosts:
            return
        world.situations["answered request repeated much later"] += 1
        sent_us = world.now_us

        def respond(answer: Answer) -> None:
            if answer.status == 404:
                world.watch.on_unknown(operation.token, sent_us)

        rng.choice(hosts).on_query(self._query(operation, rules), respond)

    def _note(self, operation: Operation, answer: Answer) -> None:
        """Keep what an answer says; a server error says nothing of what took effect."""
        operation.answer = f"{answer.status} {answer.error}".strip()
        if not answer.is_error:
            if operation.fate is not Fate.DONE:
                self.world.watch.acknowledged += 1
                operation.return_us = self.world.now_us
            operation.fate = Fate.DONE
        elif answer.status == 404 and operation.kind in (Kind.STOP, Kind.PURGE, Kind.PARK):
            return  # it may be gone by this very request, which came twice
        elif answer.status < 500:
            operation.unanswered -= 1
            if operation.fate is Fate.UNKNOWN and not operation.unanswered:
                operation.fate = Fate.REFUSED
                operation.return_us = self.world.now_us

    # --- requests -------------------------------------------------------------------------------

    def _query(self, operation: Operation, rules: NameRules) -> Query:
        common: dict[str, Any] = {
            "region": rules.region,
            "namespace": NAMESPACE,
            "call_id": operation.token,
            "call_issued_us": BEGIN_US + operation.call_us,
        }
        params: dict[str, Any] = {"job_id": operation.name}
        match operation.kind:
            case Kind.REGISTER:
                return Query(method="Job.Register", body=job_body(operation, rules), **common)
            case Kind.SCALE:
                body = {"Target": {"Group": GROUP}, "Count": operation.count}
                return Query(method="Job.Scale", params=params, body=body, **common)
            case Kind.STOP:
                return Query(method="Job.Deregister", params=params, **common)
            case Kind.PURGE:
                params["purge"] = "true"
                return Query(method="Job.Deregister", params=params, **common)
            case Kind.PARK | Kind.START:
                place = self.world.datacenters[operation.place]
                method = "Job.Start" if operation.kind is Kind.START else "Job.Deregister"
                there = {**common, "region": place.region, "datacenter": place.id}
                return Query(method=method, params=params, **there)


def job_body(operation: Operation, rules: NameRules) -> dict[str, Any]:
    """Return the body of a registration, as JSON would bring it."""
    spillover = None
    if rules.spillover:
        after_ns = rules.after_us * 1_000
        spillover = SpilloverPolicy(regions=[*rules.spillover], after_ns=after_ns)
    job = Job(
        id=rules.name,
        name=rules.name,
        namespace=NAMESPACE,
        type="service",
        region=rules.region,
        datacenters=[*rules.datacenters],
        meta={"mark": operation.mark},
        federation=FederationPolicy(
            partition=rules.partition,
            spillover=spillover,
            spread=[Spread(attribute="datacenter")] if rules.is_spread else None,
        ),
        task_groups=[
            marked_group(
                operation,
                UpdateStrategy(
                    max_parallel=rules.max_parallel,
                    health_check="task_states",
                    min_healthy_time_ns=0,
                    healthy_deadline_ns=30 * _NS,
                    progress_deadline_ns=60 * _NS,
                ),
            )
        ],
    )
    plain: dict[str, Any] = msgspec.to_builtins(job)
    return {"Job": plain}


def marked_group(operation: Operation, update: UpdateStrategy) -> TaskGroup:
    """Return the group of such a job: each instance fills a slot and shows the mark."""
    return TaskGroup(
        name=GROUP,
        count=operation.count,
        ephemeral_disk=EphemeralDisk(size_mb=300),
        update=update,
        reschedule_policy=ReschedulePolicy(
            attempts=0,
            delay_ns=5 * _NS,
            delay_function="constant",
            unlimited=True,
            interval_ns=0,
            max_delay_ns=0,
        ),
        tasks=[
            Task(
                name="task",
                driver="raw_exec",
                config={"command": "sleep"},
                env={"MARK": operation.mark},
                resources=Resources(cpu=SLOT_CPU, memory_mb=SLOT_MEMORY),
            )
        ],
    )
