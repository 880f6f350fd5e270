"""What a job asks of a datacenter, group by group, and whether a digest says it has it."""

from enum import StrEnum
from fnmatch import fnmatchcase

import msgspec

from core.federation.digest import Digest, Room, fits_at_least, fits_at_most, may_have
from core.model.job import Job

DEFAULT_CPU = 100  # MHz, of a task that says nothing
DEFAULT_MEMORY = 300  # MiB


class GroupAsk(msgspec.Struct, frozen=True):
    """One group: `count` instances, each of `each`."""

    group: str
    count: int
    each: Room
    words: tuple[str, ...] = ()  # what a node must have, as the digest's filter names it


class Verdict(StrEnum):
    """What a datacenter can do for a job, as far as its digest tells."""

    FITS = "fits"  # surely, at the digest's moment
    MAY_FIT = "may fit"  # the grid is too coarse to be sure
    FULL = "full"  # it would, were the nodes empty
    TOO_BIG = "too big"  # not even on empty nodes
    NO_MATCH = "no match"  # no node has the driver or the pool, as it is now
    NOT_ALLOWED = "not allowed"  # the job names other datacenters
    NO_NODES = "no nodes"
    UNKNOWN = "unknown"  # no digest, or no quorum


class Judgement(msgspec.Struct, frozen=True):
    verdict: Verdict
    reason: str
    score: float = 0.0  # larger is better; comparable between datacenters

    @property
    def is_possible(self) -> bool:
        return self.verdict in (Verdict.FITS, Verdict.MAY_FIT)


def asks_of(job: Job) -> list[GroupAsk]:
    """Return what each group of a canonical job asks."""
    asks = []
    for group in job.task_groups or []:
        cpu = memory = 0
        words = [f"pool.{job.node_pool}"] if job.node_pool not in (None, "", "all") else []
        for task in group.tasks or []:
            resources = task.resources
            cpu += DEFAULT_CPU if resources is None or resources.cpu is None else resources.cpu
            memory += (
                DEFAULT_MEMORY
                if resources is None or resources.memory_mb is None
                else resources.memory_mb
            )
            words.append(f"driver.{task.driver}")
        disk = group.ephemeral_disk.size_mb if group.ephemeral_disk else 0
        asks.append(
            GroupAsk(
                group=group.name,
                count=1 if group.count is None else group.count,
                each=Room(cpu, memory, disk or 0),
                words=tuple(dict.fromkeys(words)),
            )
        )
    return asks


def allows(job: Job, region: str, datacenter: str) -> bool:
    """Return whether the job may run in a datacenter, by its `datacenters` globs."""
    patterns = job.datacenters or ["*"]
    return any(
        fnmatchcase(datacenter, pattern) or fnmatchcase(f"{region}-{datacenter}", pattern)
        for pattern in patterns
    )


def judge(job: Job, asks: list[GroupAsk], digest: Digest) -> Judgement:
    """Return what a digest says of a job: verdict, reason in words, score.

    The score is the share of room left on the scarcer resource, less the queue's weight:
    empty datacenters first, busy ones last.
    """
    if not allows(job, digest.region, digest.datacenter):
        wanted = ", ".join(job.datacenters or [])
        return Judgement(Verdict.NOT_ALLOWED, f"the job's datacenters are {wanted}")
    if not digest.has_quorum:
        return Judgement(Verdict.UNKNOWN, "it has no quorum")
    if digest.is_draining:
        return Judgement(Verdict.NOT_ALLOWED, "the datacenter is being drained")
    if not digest.nodes_ready:
        return Judgement(Verdict.NO_NODES, "it has no ready nodes")
    score = _score(asks, digest)
    is_sure = True
    full = ""
    for ask in asks:
        if not ask.count:
            continue
        too_big = _too_big(ask, digest)
        if too_big:
            return Judgement(Verdict.TOO_BIG, too_big)
        missing = next((word for word in ask.words if not may_have(digest.drivers, word)), "")
        if missing:
            kind, _, name = missing.partition(".")
            return Judgement(Verdict.NO_MATCH, f"group {ask.group!r}: no node has {kind} {name!r}")
        full = full or _full(ask, digest)
        is_sure &= fits_at_least(digest.grid_free, ask.each.cpu, ask.each.memory) >= ask.count
    if full:
        return Judgement(Verdict.FULL, full, score)
    if not _sum_fits(asks, digest.free):
        return Judgement(Verdict.FULL, "all groups together exceed what is free", score)
    if is_sure:
        return Judgement(Verdict.FITS, "there is room", score)
    return Judgement(Verdict.MAY_FIT, "there may be room", score)


def _too_big(ask: GroupAsk, digest: Digest) -> str:
    for name, unit, want, slot in (
        ("cpu", "MHz", ask.each.cpu, digest.slot_empty.cpu),
        ("memory", "MiB", ask.each.memory, digest.slot_empty.memory),
        ("disk", "MiB", ask.each.disk, digest.slot_empty.disk),
    ):
        if want > slot:
            return (
                f"group {ask.group!r} asks {want} {unit} of {name} an instance, "
                f"the largest node has {slot} {unit}"
            )
    most = fits_at_most(digest.grid_empty, ask.each.cpu, ask.each.memory)
    total = digest.total
    for name, unit, want, have in (
        ("cpu", "MHz", ask.each.cpu * ask.count, total.cpu),
        ("memory", "MiB", ask.each.memory * ask.count, total.memory),
    ):
        if want > have:
            return (
                f"group {ask.group!r} asks {want} {unit} of {name} for {ask.count} instances, "
                f"all nodes together have {have} {unit}"
            )
    if most < ask.count:
        return f"group {ask.group!r}: at most {most} of {ask.count} instances fit on empty nodes"
    return ""


def _full(ask: GroupAsk, digest: Digest) -> str:
    for name, unit, want, slot in (
        ("cpu", "MHz", ask.each.cpu, digest.slot_free.cpu),
        ("memory", "MiB", ask.each.memory, digest.slot_free.memory),
    ):
        if want > slot:
            return (
                f"group {ask.group!r} asks {want} {unit} of {name} an instance, "
                f"the freest node has {slot} {unit} free"
            )
    most = fits_at_most(digest.grid_free, ask.each.cpu, ask.each.memory)
    if most < ask.count:
        return f"group {ask.group!r}: at most {most} of {ask.count} instances fit now"
    return ""


def _sum_fits(asks: list[GroupAsk], free: Room) -> bool:
    return (
        sum(ask.each.cpu * ask.count for ask in asks) <= free.cpu
        and sum(ask.each.memory * ask.count for ask in asks) <= free.memory
    )


def _score(asks: list[GroupAsk], digest: Digest) -> float:
    cpu = digest.free.cpu - sum(ask.each.cpu * ask.count for ask in asks)
    memory = digest.free.memory - sum(ask.each.memory * ask.count for ask in asks)
    left = min(cpu / max(digest.total.cpu, 1), memory / max(digest.total.memory, 1))
    busy = digest.queue_depth / (digest.queue_depth + 100)
    return round(left - 0.5 * busy, 4)
