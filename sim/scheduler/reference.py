"""A slow, obvious scheduler to hold the shipped one against: one node at a time.

It knows the records of core.model and nothing else: no columns, no classes of nodes, no
caches. Feasibility is integers and text; scores are the formula of Nomad's papers with
exact fractions wherever they are rational (`10^x` is not). What it answers:

    why_not(job, group, node)        why a node may never run a group, "" when it may
    lacks(node, holders, group)      what a node has too little of for one instance more
    Scorer(...).score(node)          what a placement there is worth
    next_try_us(policy, ...)         when a failed instance may be tried again

`holders` are the allocations that hold room on the node, as records.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final, NamedTuple

from core.model.allocation import Allocation
from core.model.job import (
    Affinity,
    Constraint,
    Job,
    ReschedulePolicy,
    Resources,
    Spread,
    TaskGroup,
)
from core.model.node import Eligibility, Node, NodeStatus
from sim.scheduler import named

WINDOW_US: Final = 5_000_000  # a try that is due so soon is done at once
_DISTINCT: Final = ("distinct_hosts", "distinct_property")


class Ask(NamedTuple):
    """What one instance takes."""

    cpu: int
    memory: int
    disk: int
    static_ports: tuple[int, ...] = ()
    dynamic_ports: int = 0


# --- which nodes ----------------------------------------------------------------------


def is_ready(node: Node) -> bool:
    return (
        node.status == NodeStatus.READY
        and node.scheduling_eligibility == Eligibility.ELIGIBLE
        and node.drain_strategy is None
    )


def why_not(job: Job, group: TaskGroup, node: Node) -> str:
    """Return why `node` may not run `group`, whatever room it has; "" when it may."""
    if job.node_pool not in (None, "", "all") and job.node_pool != node.node_pool:
        return "pool"
    if job.node_pool in (None, "") and node.node_pool != "default":
        return "pool"
    if not any(_is_glob(pattern, node.datacenter) for pattern in job.datacenters or ["*"]):
        return "datacenter"
    for constraint in constraints_of(job, group):
        if constraint.operand not in _DISTINCT and not is_met(constraint, node):
            return f"constraint {constraint.l_target} {constraint.operand} {constraint.r_target}"
    for task in group.tasks or []:
        info = (node.drivers or {}).get(task.driver)
        if info is None or not info.detected or not info.healthy:
            return f"driver {task.driver}"
    for request in (group.volumes or {}).values():
        volume = (node.host_volumes or {}).get(request.source)
        if volume is None or (volume.read_only and not request.read_only):
            return f"volume {request.source}"
    return named.lacking(group, node, ())


def constraints_of(job: Job, group: TaskGroup) -> list[Constraint]:
    found = [*(job.constraints or []), *(group.constraints or [])]
    for task in group.tasks or []:
        found += task.constraints or []
    return found


def is_met(wish: Constraint | Affinity, node: Node) -> bool:
    """Whether a constraint (or an affinity) holds on a node."""
    left, right = value_of(wish.l_target, node), value_of(wish.r_target, node)
    operand = wish.operand
    if operand == "is_set":
        return left is not None
    if operand == "is_not_set":
        return left is None
    if operand in ("!=", "not"):
        return left != right
    if left is None or right is None:
        return False
    if operand in ("=", "==", "is", ""):
        return left == right
    if operand in ("<", "<=", ">", ">="):
        return _compares(_number_order(left, right), operand)
    if operand == "regexp":
        return re.search(right, left) is not None
    if operand in ("set_contains", "set_contains_all"):
        return all(part in _parts(left) for part in _parts(right))
    if operand == "set_contains_any":
        return any(part in _parts(left) for part in _parts(right))
    if operand in ("version", "semver"):
        return all(_is_version_met(left, term, operand) for term in right.split(","))
    return False


def value_of(target: str, node: Node) -> str | None:
    """Return what `${...}` stands for on a node, None when it has none; other text as it is."""
    if not target.startswith("${"):
        return target
    name = target[2:-1]
    for prefix, known in (("attr.", node.attributes), ("meta.", node.meta)):
        if name.startswith(prefix):
            return (known or {}).get(name.removeprefix(prefix))
    return {
        "node.unique.id": node.id,
        "node.unique.name": node.name,
        "node.datacenter": node.datacenter,
        "node.class": node.node_class,
        "node.pool": node.node_pool,
    }.get(name)


def _parts(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _is_glob(pattern: str, text: str) -> bool:
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text) is not None


def _compares(order: int, operand: str) -> bool:
    return (order == 0 and "=" in operand) or order == {"<": -1, ">": 1}.get(operand[0], 0)


def _number_order(left: str, right: str) -> int:
    try:
        one, other = Fraction(left), Fraction(right)
    except ValueError:
        return (left > right) - (left < right)
    return (one > other) - (one < other)


def _is_version_met(text: str, term: str, operand: str) -> bool:
    operator, bound_text = re.fullmatch(r"\s*([<>=!~]*)\s*(\S+)\s*", term).groups()  # type: ignore[union-attr]
    is_strict = operand == "semver"
    version, bound = _version(text, is_strict), _version(bound_text, is_strict)
    if version is None or bound is None:
        return False
    order = (version > bound) - (version < bound)
    if operator in ("", "="):
        return order == 0
    if operator == "!=":
        return order != 0
    is_release = version[1][0] == 1
    if not is_strict and not is_release and (bound[1][0] == 1 or version[0] != bound[0]):
        return False  # an asked release never accepts a pre-release
    if operator == "~>":
        if is_strict or order < 0 or (is_release and bound[1][0] == 0):
            return False
        said = len(bound_text.lstrip("v").split("-")[0].split("."))
        return version[0][: said - 1] == bound[0][: said - 1]
    return _compares(order, operator)


def _version(
    text: str, is_strict: bool
) -> tuple[tuple[int, ...], tuple[int, tuple[str, ...]]] | None:
    # Pre-releases here have one word; they come before the release (0 < 1).
    head, _, before = text.removeprefix("v").partition("-")
    numbers = head.split(".")
    if not all(part.isdigit() for part in numbers) or (is_strict and len(numbers) != 3):
        return None
    padded = tuple(int(part) for part in [*numbers, "0", "0"][: max(3, len(numbers))])
    return padded, (0, (before,)) if before else (1, ())


# --- room -----------------------------------------------------------------------------


def ask_of(group: TaskGroup, node: Node) -> Ask:
    """Return what one instance of a canonical group takes on `node`."""
    resources = [task.resources for task in group.tasks or []]
    static: list[int] = []
    dynamic = 0
    for network in group.networks or []:
        static += [port.value for port in network.reserved_ports or []]
        dynamic += len(network.dynamic_ports or [])
    disk = group.ephemeral_disk.size_mb if group.ephemeral_disk is not None else 300
    return Ask(
        sum(_cpu_of(one, node) for one in resources if one is not None),
        sum((one.memory_mb or 0) for one in resources if one is not None),
        300 if disk is None else disk,
        tuple(static),
        dynamic,
    )


def _cpu_of(asked: Resources, node: Node) -> int:
    # Who asks for cores gets what those are worth there, and nothing else.
    return asked.cores * named.mhz_of_core(node) if asked.cores else asked.cpu or 0


def size_of(alloc: Allocation) -> Ask:
    """Return what an allocation was given; its ports are `ports_of`."""
    given = alloc.allocated_resources
    assert given is not None
    return Ask(
        sum(task.cpu.cpu_shares for task in given.tasks.values()),
        sum(task.memory.memory_mb for task in given.tasks.values()),
        given.shared.disk_mb,
    )


def ports_of(alloc: Allocation) -> list[int]:
    given = alloc.allocated_resources
    assert given is not None
    return [port.value for port in given.shared.ports or []]


def capacity(node: Node) -> Ask:
    """Return what is left of a node after its own reservation."""
    whole, own = node.node_resources, node.reserved_resources
    return Ask(
        whole.cpu.cpu_shares - own.cpu.cpu_shares,
        whole.memory.memory_mb - own.memory.memory_mb,
        whole.disk.disk_mb - own.disk.disk_mb,
    )


def reserved_ports(node: Node) -> set[int]:
    taken: set[int] = set()
    for part in filter(None, node.reserved_resources.networks.reserved_host_ports.split(",")):
        low, _, high = part.partition("-")
        taken |= set(range(int(low), int(high or low) + 1))
    return taken


def lacks(node: Node, holders: Iterable[Allocation], group: TaskGroup) -> str:
    """Return what `node` has too little of for one instance more, "" when it has room."""
    held, ask = list(holders), ask_of(group, node)
    if reason := named.lacking(group, node, held):
        return reason
    whole = capacity(node)
    for name in ("cpu", "memory", "disk"):
        used = sum(getattr(size_of(alloc), name) for alloc in held)
        wanted = getattr(ask, name)
        if wanted and used + wanted > getattr(whole, name):
            return name
    if not ask.static_ports and not ask.dynamic_ports:
        return ""
    taken = reserved_ports(node)
    for alloc in held:
        taken |= set(ports_of(alloc))
    for port in ask.static_ports:
        if port in taken:
            return f"port {port}"
        taken.add(port)
    first, last = node.node_resources.min_dynamic_port, node.node_resources.max_dynamic_port
    free = sum(port not in taken for port in range(first, last + 1))
    return "dynamic ports" if free < ask.dynamic_ports else ""


def has_room_for_all(node: Node, holders: Iterable[Allocation]) -> bool:
    """Whether a node holds all of `holders` at once."""
    held, whole = list(holders), capacity(node)
    for name in ("cpu", "memory", "disk"):
        if sum(getattr(size_of(alloc), name) for alloc in held) > getattr(whole, name):
            return False
    things = [port for alloc in held for port in ports_of(alloc)]
    names = [name for alloc in held for name in named.names_of(alloc)]
    is_free = reserved_ports(node).isdisjoint(things)
    return is_free and len({*things}) == len(things) and len({*names}) == len(names)


def is_apart(
    job: Job, group: TaskGroup, node: Node, nodes: dict[str, Node], others: Iterable[Allocation]
) -> bool:
    """Whether distinct_hosts and distinct_property let one more instance onto `node`.

    Args:
        others: The job's instances that run and stay.
    """
    others = [alloc for alloc in others if alloc.node_id in nodes]
    own = list(group.constraints or [])
    for task in group.tasks or []:
        own += task.constraints or []
    mine = [alloc for alloc in others if alloc.task_group == group.name]
    for constraints, counted in ((job.constraints or [], others), (own, mine)):
        for one in constraints:
            if one.operand == "distinct_hosts" and one.r_target != "false":
                if any(alloc.node_id == node.id for alloc in counted):
                    return False
            if one.operand == "distinct_property":
                value = value_of(one.l_target, node)
                alike = [a for a in counted if value_of(one.l_target, nodes[a.node_id]) == value]
                if value is None or len(alike) >= int(one.r_target or 1):
                    return False
    return True


# --- scores ---------------------------------------------------------------------------


def fitness(node: Node, holders: Iterable[Allocation], ask: Ask, algorithm: str) -> float:
    """Return the bin-pack (or spread) component of one more instance, in [0, 1]."""
    whole, held = capacity(node), list(holders)
    cpu = Fraction(whole.cpu - sum(size_of(a).cpu for a in held) - ask.cpu, max(whole.cpu, 1))
    memory = Fraction(
        whole.memory - sum(size_of(a).memory for a in held) - ask.memory, max(whole.memory, 1)
    )
    powers: float = 10.0 ** float(cpu) + 10.0 ** float(memory)
    score = powers - 2 if algorithm == "spread" else 20 - powers
    if algorithm == "binpack":
        score -= float(2 * abs(cpu - memory))
    return min(max(score, 0.0), 18.0) / 18.0


@dataclass
class Scorer:
    """Scores of nodes for the instances of one group, as they are placed one by one."""

    job: Job
    group: TaskGroup
    nodes: dict[str, Node]
    algorithm: str
    placed: list[str]  # node ids of the group's instances that stay, and of new ones
    parts: dict[str, float] = field(default_factory=dict)  # of the last score

    def score(self, node: Node, holders: Sequence[Allocation], penalised: str = "") -> float:
        """Return the mean of the components that apply."""
        parts = {"fit": fitness(node, holders, ask_of(self.group, node), self.algorithm)}
        already = self.placed.count(node.id)
        if already:
            parts["crowd"] = -(already + 1) / max(self._count(), 1)
        if node.id == penalised:
            parts["penalty"] = -1.0
        if affinity := self._affinity(node):
            parts["affinity"] = affinity
        if devices := named.liking(self.group, node, holders):
            parts["devices"] = devices
        if spread := self._spread(node):
            parts["spread"] = spread
        self.parts = parts
        return sum(parts.values()) / len(parts)

    def _count(self) -> int:
        return 1 if self.group.count is None else self.group.count

    def _affinity(self, node: Node) -> float:
        wishes = [*(self.job.affinities or []), *(self.group.affinities or [])]
        for task in self.group.tasks or []:
            wishes += task.affinities or []
        weights = [50 if wish.weight is None else wish.weight for wish in wishes]
        whole = sum(abs(weight) for weight in weights)
        met = sum(w for w, wish in zip(weights, wishes, strict=True) if is_met(wish, node))
        return float(Fraction(met, whole)) if whole else 0.0

    def _spread(self, node: Node) -> float:
        blocks = [*(self.job.spreads or []), *(self.group.spreads or [])]
        weights = [50 if block.weight is None else block.weight for block in blocks]
        return float(
            sum(
                (
                    self._block(block, Fraction(weight, sum(weights)), node)
                    for block, weight in zip(blocks, weights, strict=True)
                ),
                Fraction(0),
            )
        )

    def _block(self, block: Spread, share: Fraction, node: Node) -> Fraction:
        value = value_of(block.attribute, node)
        if value is None:
            return Fraction(-1)
        counts: dict[str, int] = {}
        for node_id in self.placed:
            held = value_of(block.attribute, self.nodes[node_id])
            if held is not None:
                counts[held] = counts.get(held, 0) + 1
        if not block.spread_target:
            return _even(counts, value)
        desired = {
            one.value: Fraction(one.percent * self._count(), 100) for one in block.spread_target
        }
        spoken = sum(desired.values(), Fraction(0))
        if "*" not in desired and 0 < spoken < self._count():
            desired["*"] = self._count() - spoken
        wanted = desired.get(value, desired.get("*", Fraction(-1)))
        if wanted <= 0:
            return Fraction(-1)
        return (wanted - (counts.get(value, 0) + 1)) / wanted * share


def _even(counts: dict[str, int], value: str) -> Fraction:
    """Return the boost of `value` when all values in use shall have equally many."""
    if not counts:
        return Fraction(0)
    least, most, mine = min(counts.values()), max(counts.values()), counts.get(value, 0)
    if mine != least:
        return Fraction(least - mine, least) if least else Fraction(-1)
    if least == most:
        return Fraction(-1)
    return Fraction(most - least, least) if least else Fraction(1)


# --- failed instances -----------------------------------------------------------------


class Try(NamedTuple):
    """One earlier replacement of a failed instance."""

    at_us: int
    delay_us: int


def next_try_us(
    policy: ReschedulePolicy | None, failed_us: int, tries: Sequence[Try]
) -> tuple[int, int] | None:
    """Return (when the instance may be replaced, the delay); None when never again.

    Args:
        tries: The earlier replacements of its index, oldest first.
    """
    if policy is None:
        return None
    if not policy.unlimited:
        since_us = failed_us - (policy.interval_ns or 0) // 1000
        if sum(one.at_us > since_us for one in tries) >= (policy.attempts or 0):
            return None
    base, most = (policy.delay_ns or 0) // 1000, (policy.max_delay_ns or 0) // 1000
    delay = base
    if tries and policy.delay_function == "exponential":
        delay = 2 * (tries[-1].delay_us or base)
    elif tries and policy.delay_function == "fibonacci":
        before = tries[-2].delay_us if len(tries) > 1 else 0
        delay = (tries[-1].delay_us or base) + before
    if tries and policy.delay_function != "constant" and most and delay >= most:
        delay = base if failed_us - tries[-1].at_us > most else most
    return failed_us + delay, delay
