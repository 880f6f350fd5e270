"""What a job asks of a datacenter, group by group, and whether a digest says it has it.

`takes` bounds how many instances of one group a datacenter can take now. Its lower bound is
never wrong at the digest's own moment (one exception: nodes whose 12,000 dynamic ports are
all taken). Where the digest can't tell, for a constraint by version or a static port, the
lower bound is 0: then only the datacenter itself knows.
"""

from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Final

import msgspec

from core.federation import grid, words
from core.federation.digest import REST, ClassRoom, Digest, Room
from core.model.alike import KeptByParts
from core.model.job import Affinity, Constraint, Job, TaskGroup
from core.scheduler.demand import ask_of_group

AGE_MAX_US: Final = 90_000_000  # an older digest is as good as none
_EQUAL: Final = ("", "=", "==", "is")
_NOWHERE: Final = Room()


class GroupAsk(msgspec.Struct, frozen=True):
    """One group: `count` instances, each of `each`."""

    group: str
    count: int
    each: Room
    pool: str = ""  # "" = any
    node_class: str = ""  # "" = any
    words: tuple[str, ...] = ()  # what a node must have (core.federation.words)
    is_plain: bool = True  # whether the words say all that is asked beside room
    is_apart: bool = False  # at most one instance a node
    datacenters: tuple[str, ...] = ("*",)  # patterns that a node's label must match

    @property
    def of_each(self) -> tuple[Any, ...]:
        """All but how many."""
        return (
            self.group, self.each, self.pool, self.node_class, self.words, self.is_plain,
            self.is_apart, self.datacenters,
        )  # fmt: skip


class Takes(msgspec.Struct, frozen=True):
    """How many instances of a group fit now: surely, probably, at most; why not more."""

    at_least: int
    likely: float
    at_most: int
    reason: str = ""


class Verdict(StrEnum):
    """What a datacenter can do for a job, as far as its digest tells."""

    FITS = "fits"  # surely, at the digest's moment
    MAY_FIT = "may fit"  # the digest is too coarse to be sure
    FULL = "full"  # it would, were the nodes empty
    TOO_BIG = "too big"  # not even on empty nodes
    NO_MATCH = "no match"  # no node has the driver, pool, class, attribute... as it is now
    NOT_ALLOWED = "not allowed"  # the job names other datacenters, or this one is drained
    NO_NODES = "no nodes"
    UNKNOWN = "unknown"  # no digest, an old one, or no quorum


_BARRED: Final = (Verdict.NO_MATCH, Verdict.NOT_ALLOWED, Verdict.NO_NODES, Verdict.UNKNOWN)


class Judgement(msgspec.Struct, frozen=True):
    """What is to be expected of one datacenter for one job.

    `takes` counts each group alone; two that go to one datacenter share its room.
    """

    verdict: Verdict
    reason: str
    score: float = 0.0  # 0 to 1, larger is better; comparable between datacenters
    takes: dict[str, Takes] = {}
    weight: float = 0.0  # of a random draw

    @property
    def is_possible(self) -> bool:
        return self.verdict in (Verdict.FITS, Verdict.MAY_FIT)

    @property
    def is_barred(self) -> bool:
        """Whether not even a part of the job may go there, full or not."""
        return self.verdict in _BARRED


# By all that is asked by.
_kept: Final[KeptByParts[list[GroupAsk]]] = KeptByParts(
    ("task_groups", "constraints", "datacenters", "node_pool"), most=1_024
)


def asks_of(job: Job) -> list[GroupAsk]:
    """Return what each group of a canonical job asks."""
    known = _kept.get(job)
    if known is not None:
        return known
    return _kept.keep(job, [_ask_of(job, group) for group in job.task_groups or []])


def _ask_of(job: Job, group: TaskGroup) -> GroupAsk:
    tasks = group.tasks or []
    asked = ask_of_group(group)
    found = [f"driver.{task.driver}" for task in tasks if task.driver]
    node_class, is_plain, is_apart = "", not asked.static_ports, bool(asked.static_ports)
    constraints = [*(job.constraints or []), *(group.constraints or [])]
    for task in tasks:
        constraints += task.constraints or []
        resources = task.resources
        if resources is not None and (resources.devices or resources.cores):
            is_plain = False  # nobody tells how many of them are free
            found += [f"device.{device.name}" for device in resources.devices or []]
    for constraint in constraints:
        if constraint.operand == "distinct_hosts":
            is_apart, is_plain = True, False
            continue
        word = word_of(constraint)
        is_plain &= bool(word)
        if word.startswith("class."):
            node_class = word.removeprefix("class.")
        if word:
            found.append(word)
    for _, volume in sorted((group.volumes or {}).items()):
        if volume.type == "host" and not volume.per_alloc:
            found.append(f"volume.{volume.source}" + ("" if volume.read_only else ".write"))
        else:
            is_plain = False
    pool = "" if job.node_pool == "all" else job.node_pool or "default"
    if pool:
        found.append(f"pool.{pool}")
    return GroupAsk(
        group=group.name,
        count=1 if group.count is None else group.count,
        each=Room(asked.cpu, asked.memory, asked.disk),
        pool=pool,
        node_class=node_class,
        words=tuple(dict.fromkeys(found)),
        is_plain=is_plain,
        is_apart=is_apart,
        datacenters=tuple(job.datacenters or ["*"]),
    )


def word_of(constraint: Constraint | Affinity) -> str:
    """Return the word that stands for the constraint, "" when no word does."""
    left, right = constraint.l_target, constraint.r_target
    if constraint.operand not in _EQUAL or "${" in right or not left.startswith("${"):
        return ""
    name = left.removeprefix("${").removesuffix("}")
    for kind in ("attr.", "meta."):
        if name.startswith(kind):
            return "" if name.startswith(f"{kind}unique.") else f"{name}={right}"
    return {
        "node.class": f"class.{right}",
        "node.pool": f"pool.{right}",
        "node.datacenter": f"datacenter.{right}",
    }.get(name, "")


def allows(job: Job, region: str, datacenter: str) -> bool:
    """Return whether the job may run in a datacenter, by its `datacenters` globs."""
    patterns = job.datacenters or ["*"]
    return any(
        fnmatchcase(datacenter, pattern) or fnmatchcase(f"{region}-{datacenter}", pattern)
        for pattern in patterns
    )


# --- how many instances -------------------------------------------------------------------------


def takes(ask: GroupAsk, digest: Digest, taken: Room = _NOWHERE) -> Takes:
    """Return how many instances of one group alone fit now.

    Args:
        taken: Room that was given away since the digest was made, as far as we know.
    """
    least, likely, most = 0, 0.0, 0
    is_sure = (
        ask.is_plain
        and _is_labelled(ask, digest)
        and all(_is_everywhere(ask, digest, word) for word in ask.words)
    )
    for one in _classes_for(ask, digest):
        bounds = _bounds(ask, one)
        if is_sure and one.pool != REST:
            least += bounds.at_least
        likely += bounds.likely
        most += bounds.at_most
    lost = max(_times(taken.cpu, ask.each.cpu), _times(taken.memory, ask.each.memory))
    most = min(most, _by_sums(ask.each, digest.free.minus(taken)))
    least = max(0, min(least - lost, most))
    return Takes(least, min(max(likely - lost, float(least)), most), most, _shortage(ask, digest))


def takes_when_empty(ask: GroupAsk, digest: Digest) -> int:
    """Return a bound that no number of instances exceeds, were all ready nodes empty."""
    most = 0
    for one in _classes_for(ask, digest):
        if not _holds(one.slot_empty, ask.each):
            continue
        each = 1 if ask.is_apart else _by_sums(ask.each, one.slot_empty)
        most += min(one.nodes * each, _by_sums(ask.each, one.total))
    return most


def _is_everywhere(ask: GroupAsk, digest: Digest, word: str) -> bool:
    # Pool and class are known class by class, for those that are told by name.
    return word in (f"pool.{ask.pool}", f"class.{ask.node_class}") or words.all_have(
        digest.common, word
    )


def _is_labelled(ask: GroupAsk, digest: Digest) -> bool:
    # A node's own datacenter label may be another than its servers' datacenter.
    if "*" in ask.datacenters:
        return True
    return any(fnmatchcase(digest.datacenter, pattern) for pattern in ask.datacenters) and (
        words.all_have(digest.common, f"datacenter.{digest.datacenter}")
    )


def _classes_for(ask: GroupAsk, digest: Digest) -> list[ClassRoom]:
    return [
        one
        for one in digest.classes
        if one.pool == REST
        or (ask.pool in ("", one.pool) and ask.node_class in ("", one.node_class))
    ]


def _bounds(ask: GroupAsk, one: ClassRoom) -> grid.Bounds:
    each = ask.each
    if not _holds(one.slot_free, each):
        return grid.Bounds(0, 0.0, 0)
    sums = _by_sums(each, one.free)
    if ask.is_apart:
        sums = min(sums, one.nodes)
    if not one.grid:
        return grid.Bounds(0, sums / 2, sums)
    found = grid.fits(one.grid, (one.slot_empty.cpu, one.slot_empty.memory), each.cpu, each.memory)
    most = min(found.at_most, sums)
    least = found.at_least
    if each.disk:
        # No node holds more than the largest free slot has room for; of those, so many
        # surely have disk.
        on_disk = one.disk_least // each.disk
        on_one = _by_sums(Room(each.cpu, each.memory), one.slot_free)
        if on_disk < on_one:
            least = least * on_disk // on_one
    return grid.Bounds(min(least, most), min(found.likely, most), most)


def _holds(room: Room, each: Room) -> bool:
    return each.cpu <= room.cpu and each.memory <= room.memory and each.disk <= room.disk


def _by_sums(each: Room, room: Room) -> int:
    pairs = ((each.cpu, room.cpu), (each.memory, room.memory), (each.disk, room.disk))
    return min((have // want for want, have in pairs if want > 0), default=grid.NO_LIMIT)


def _times(room: int, each: int) -> int:
    return -(-room // each) if each > 0 else 0


def _shortage(ask: GroupAsk, digest: Digest) -> str:
    return _exceeds(ask, digest.slot_free, "the freest node has {} free")


def _exceeds(ask: GroupAsk, slot: Room, told: str) -> str:
    """Return what one instance asks beyond a slot, "" when it fits; `told` names the slot."""
    each = ask.each
    for name, unit, want, have in (
        ("cpu", "MHz", each.cpu, slot.cpu),
        ("memory", "MiB", each.memory, slot.memory),
        ("disk", "MiB", each.disk, slot.disk),
    ):
        if want > have:
            asked = f"group {ask.group!r} asks {want} {unit} of {name} an instance"
            return f"{asked}, {told.format(f'{have} {unit}')}"
    return ""


# --- the verdict --------------------------------------------------------------------------------


class Reading:
    """A digest as jobs are judged by it: what was found of it for one is kept for the next.

    Many jobs ask the same of each instance and differ in how many they want.
    """

    def __init__(self, digest: Digest) -> None:
        self.digest = digest
        self._takes: dict[tuple[Any, ...], Takes] = {}
        self._empty: dict[tuple[Any, ...], int] = {}
        self._missing: dict[str, str] = {}

    @cached_property
    def free(self) -> Room:
        return self.digest.free

    @cached_property
    def total(self) -> Room:
        return self.digest.total

    @cached_property
    def slot_empty(self) -> Room:
        return self.digest.slot_empty

    @cached_property
    def nodes_ready(self) -> int:
        return self.digest.nodes_ready

    def takes(self, ask: GroupAsk, taken: Room) -> Takes:
        if taken != _NOWHERE:
            return takes(ask, self.digest, taken)
        known = self._takes.get(key := ask.of_each)
        if known is None:
            known = self._takes[key] = takes(ask, self.digest)
        return known

    def takes_when_empty(self, ask: GroupAsk) -> int:
        known = self._empty.get(key := ask.of_each)
        if known is None:
            known = self._empty[key] = takes_when_empty(ask, self.digest)
        return known

    def lacks(self, word: str) -> str:
        """Return what no node has, in words; "" when some has it, or nobody knows."""
        known = self._missing.get(word)
        if known is None:
            known = self._missing[word] = _missing(word, self.digest)
        return known


def judge(
    job: Job,
    asks: list[GroupAsk],
    digest: Digest,
    *,
    taken: Room = _NOWHERE,
    age_us: int = 0,
    reading: Reading | None = None,
) -> Judgement:
    """Return what a digest says of a job: verdict, reason in words, how many of each group.

    Args:
        reading: Of this digest, kept from job to job.
    """
    reading = Reading(digest) if reading is None else reading
    barred = _bar(job, asks, reading, age_us)
    if barred is not None:
        return barred
    found = {ask.group: reading.takes(ask, taken) for ask in asks}
    full = ""
    is_sure = True
    for ask in asks:
        if not ask.count:
            continue
        too_big = _too_big(ask, reading)
        if too_big:
            return Judgement(Verdict.TOO_BIG, too_big, takes=found)
        room = found[ask.group]
        if room.at_most < ask.count and not full:
            full = room.reason or (
                f"group {ask.group!r}: at most {room.at_most} of {ask.count} instances fit now"
            )
        is_sure &= room.at_least >= ask.count
    if full:
        return Judgement(Verdict.FULL, full, takes=found)
    if not _holds(reading.free.minus(taken), room_of(asks)):
        return Judgement(Verdict.FULL, "all groups together exceed what is free", takes=found)
    # Each group alone fits surely; several share the room, so they only may.
    if is_sure and sum(ask.count > 0 for ask in asks) <= 1:
        return Judgement(Verdict.FITS, "there is room", takes=found)
    return Judgement(Verdict.MAY_FIT, "there may be room", takes=found)


def room_of(asks: list[GroupAsk]) -> Room:
    """Return what all instances of all groups take together."""
    total = Room()
    for ask in asks:
        total = total.plus(ask.each, ask.count)
    return total


def _bar(job: Job, asks: list[GroupAsk], reading: Reading, age_us: int) -> Judgement | None:
    """Return why the job may not go there at all, None when it may."""
    digest = reading.digest
    if not allows(job, digest.region, digest.datacenter):
        wanted = ", ".join(job.datacenters or [])
        return Judgement(Verdict.NOT_ALLOWED, f"the job's datacenters are {wanted}")
    if not digest.has_quorum:
        return Judgement(Verdict.UNKNOWN, "it has no quorum")
    if digest.is_draining:
        return Judgement(Verdict.NOT_ALLOWED, "the datacenter is being drained")
    if age_us > AGE_MAX_US:
        return Judgement(Verdict.UNKNOWN, f"nothing was heard of it for {age_us // 1_000_000} s")
    if not reading.nodes_ready:
        return Judgement(Verdict.NO_NODES, "it has no ready nodes")
    for ask in asks:
        for word in ask.words if ask.count else ():
            if missing := reading.lacks(word):
                return Judgement(Verdict.NO_MATCH, f"group {ask.group!r}: no node has {missing}")
    return None


def _missing(word: str, digest: Digest) -> str:
    if words.may_have(digest.words, word) or not words.is_kind_whole(digest.missing_kinds, word):
        return ""
    kind, _, name = word.partition(".")
    return f"{_KIND_NAMES.get(kind, kind)} {name!r}"


_KIND_NAMES: Final = {"attr": "attribute", "datacenter": "datacenter label"}


def _too_big(ask: GroupAsk, reading: Reading) -> str:
    each, total = ask.each, reading.total
    too_large = _exceeds(ask, reading.slot_empty, "the largest node has {}")
    if too_large:
        return too_large
    for name, unit, want, have in (
        ("cpu", "MHz", each.cpu * ask.count, total.cpu),
        ("memory", "MiB", each.memory * ask.count, total.memory),
    ):
        if want > have:
            return (
                f"group {ask.group!r} asks {want} {unit} of {name} for {ask.count} instances, "
                f"all nodes together have {have} {unit}"
            )
    most = reading.takes_when_empty(ask)
    if most < ask.count:
        return f"group {ask.group!r}: at most {most} of {ask.count} instances fit on empty nodes"
    return ""
