"""Which nodes may run a group at all: pool, datacenter, drivers, constraints, volumes.

Asked once per computed class, of one node that speaks for it; constraints that escape to
unique attributes are asked node by node, of those that passed all else. Groups that ask
the same share one answer for the whole batch.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
import numpy as np

from core.model.job import Affinity, Constraint, Job, TaskGroup
from core.model.node import Node
from core.scheduler.constraints import (
    DISTINCT,
    describe,
    does_escape,
    is_constraint_met,
    resolve_target,
)
from core.scheduler.spread import PropertyValues
from core.scheduler.units import TaskAsk, refusal, unit_asks
from core.scheduler.view import Floats, Mask, NodesView

_ANY_POOL = "all"
_TRUE = ("1", "true", "True")
_ANSWERS_MOST = 256  # kept: each is a mask over all nodes
T = TypeVar("T")


@dataclass(slots=True)
class Candidates:
    """The nodes that may run a group, and why the others may not. Shared: do not change."""

    eligible: Mask
    evaluated: int  # ready nodes of the pool and the datacenters
    in_pool: int
    available: dict[str, int]  # ready nodes of the pool by datacenter
    filtered: dict[str, int] = field(default_factory=dict)  # reason -> nodes
    class_filtered: dict[str, int] = field(default_factory=dict)  # node class -> nodes
    class_eligibility: dict[str, bool] = field(default_factory=dict)  # by computed class
    has_escaped: bool = False
    number: int = 0  # of these candidates among those of one `Feasibility`


class Feasibility:
    """Answers for one picture of the nodes.

    Args:
        numbers: Of the candidates; one room's have to differ.
    """

    def __init__(self, nodes: NodesView, numbers: Iterator[int] | None = None) -> None:
        self.nodes = nodes  # usage apart, the same as long as the answers are kept
        self._known: dict[bytes, Candidates] = {}
        self._numbers = numbers or itertools.count(1)
        self._suitable: dict[bytes, Mask] = {}
        self._values: dict[str, PropertyValues] = {}

    @property
    def is_full(self) -> bool:
        """Whether it knows so much by now that it is better to begin anew."""
        return len(self._known) + len(self._suitable) + len(self._values) > _ANSWERS_MOST

    @property
    def node_count(self) -> int:
        """Ordinals, those of purged nodes included."""
        return len(self.nodes)

    def candidates(self, job: Job, group: TaskGroup) -> Candidates:
        """Return which nodes may run `group`, whatever room they have."""
        demands = _Demands(job, group)
        key = demands.key()
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = self._find(demands)
            known.number = next(self._numbers)
        return known

    def suitable(self, job: Job, group: TaskGroup) -> Mask:
        """Return on which nodes an instance of `group` may stay, whether they take new work or not.

        What cores and devices it holds is not looked at: another ask for them is another process.
        """
        demands = _Demands(job, group)
        key = demands.key()
        known = self._suitable.get(key)
        if known is None:
            nodes, classes = self.nodes, self.nodes.classes
            passes = [
                node is not None
                and _is_reachable(node, demands)
                and not demands.refusal_of_class(node)
                for node in classes.nodes
            ]
            known = self._suitable[key] = np.array(passes, np.bool_)[classes.of_node]
            for ordinal in np.flatnonzero(known).tolist() if demands.escaping else ():
                node = nodes.records[ordinal]
                known[ordinal] = node is not None and all(
                    is_constraint_met(one, node) for one in demands.escaping
                )
        return known

    def property_values(self, target: str) -> PropertyValues:
        """Return what `target` stands for on each node, by ordinal."""
        known = self._values.get(target)
        if known is None:
            is_unique = does_escape(Constraint(l_target=target))
            values = self._by_node(lambda node: resolve_target(target, node), is_unique, None)
            known = self._values[target] = PropertyValues(values)
        return known

    def affinity(self, job: Job, group: TaskGroup) -> Floats | None:
        """Return each node's affinity score in [-1, 1], None when nobody asks for any."""
        wishes = [*(job.affinities or []), *(group.affinities or [])]
        for task in group.tasks or []:
            wishes += task.affinities or []
        whole = sum(abs(_weight(wish)) for wish in wishes)
        if not whole:
            return None
        total = np.zeros(len(self.nodes))
        for wish in wishes:
            met = self._by_node(_met(wish), does_escape(wish), False)
            total += np.where(np.array(met, np.bool_), float(_weight(wish)), 0.0)
        return total / whole

    def _find(self, demands: "_Demands") -> Candidates:
        nodes, classes = self.nodes, self.nodes.classes
        reasons = ["" if node is None else demands.refusal_of_class(node) for node in classes.nodes]
        is_reachable = np.array([_is_reachable(node, demands) for node in classes.nodes], np.bool_)
        in_pool = np.array([_is_in_pool(node, demands) for node in classes.nodes], np.bool_)
        per_class = nodes.is_ready & in_pool[classes.of_node]
        size = np.bincount(classes.of_node[nodes.is_ready], minlength=len(classes))
        passes = is_reachable & np.array([not reason for reason in reasons], np.bool_)
        result = Candidates(
            eligible=nodes.is_ready & passes[classes.of_node],
            evaluated=int(size[is_reachable].sum()),
            in_pool=int(per_class.sum()),
            available={},
        )
        for number, node in enumerate(classes.nodes):
            count = int(size[number])
            if node is None:
                continue
            key = nodes.class_keys.get(int(classes.ids[number]), "")
            result.class_eligibility[key] = bool(passes[number])
            if count and in_pool[number]:
                _add(result.available, node.datacenter, count)
            if count and is_reachable[number] and reasons[number]:
                _add(result.filtered, reasons[number], count)
                _add(result.class_filtered, node.node_class, count)
        if demands.escaping:
            self._apply_escaping(demands, result)
        if demands.units:
            self._apply_units(demands.units, result)
        return result

    def _apply_escaping(self, demands: "_Demands", result: Candidates) -> None:
        result.has_escaped = True
        for ordinal in np.flatnonzero(result.eligible).tolist():
            node = self.nodes.records[ordinal]
            assert node is not None
            for constraint in demands.escaping:
                if not is_constraint_met(constraint, node):
                    result.eligible[ordinal] = False
                    _add(result.filtered, describe(constraint), 1)
                    _add(result.class_filtered, node.node_class, 1)
                    break

    def _apply_units(self, asks: tuple[TaskAsk, ...], result: Candidates) -> None:
        # A computed class says nothing of cores and devices: each node is asked.
        result.has_escaped = True
        for ordinal in np.flatnonzero(result.eligible).tolist():
            node = self.nodes.records[ordinal]
            assert node is not None
            reason = refusal(node, asks)
            if reason:
                result.eligible[ordinal] = False
                _add(result.filtered, reason, 1)
                _add(result.class_filtered, node.node_class, 1)

    def _by_node(self, ask: Callable[[Node], T], is_unique: bool, absent: T) -> list[T]:
        def answer(node: Node | None) -> T:
            return absent if node is None else ask(node)

        if is_unique:
            return [answer(node) for node in self.nodes.records]
        classes = self.nodes.classes
        answers = [answer(node) for node in classes.nodes]
        return [answers[number] for number in classes.of_node.tolist()]


class _Demands:
    """What a group demands of a node, apart from room."""

    def __init__(self, job: Job, group: TaskGroup) -> None:
        tasks = group.tasks or []
        self.pool = job.node_pool or "default"
        self.datacenters = ["*"] if job.datacenters is None else job.datacenters
        self.drivers = sorted({task.driver for task in tasks if task.driver})
        constraints = [*(job.constraints or []), *(group.constraints or [])]
        for task in tasks:
            constraints += task.constraints or []
        self.constraints = [one for one in constraints if one.operand not in DISTINCT]
        self.escaping = [one for one in self.constraints if does_escape(one)]
        self._of_class = [one for one in self.constraints if not does_escape(one)]
        self.volumes = [
            (request.source, request.read_only)
            for _, request in sorted((group.volumes or {}).items())
            if request.type == "host" and not request.per_alloc
        ]
        self.units = unit_asks(group)
        # Refused rather than promised: nobody carries them out yet.
        self.has_csi = any(one.type == "csi" for one in (group.volumes or {}).values())

    def key(self) -> bytes:
        return msgspec.msgpack.encode(
            (self.pool, self.datacenters, self.drivers, self.constraints, self.volumes,
             self.has_csi, [(ask.cores, ask.devices) for ask in self.units])
        )  # fmt: skip

    def refusal_of_class(self, node: Node) -> str:
        """Return why no node of this class will do, "" when it may."""
        for constraint in self._of_class:
            if not is_constraint_met(constraint, node):
                return describe(constraint)
        for driver in self.drivers:
            if not _has_driver(node, driver):
                return "missing drivers"
        for source, read_only in self.volumes:
            volume = (node.host_volumes or {}).get(source)
            if volume is None or (volume.read_only and not read_only):
                return "missing compatible host volumes"
        return "missing CSI volumes" if self.has_csi else ""


def is_glob_match(pattern: str, text: str) -> bool:
    """Whether `text` matches `pattern`, in which `*` stands for any characters."""
    head, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    if not text.startswith(head):
        return False
    position = len(head)
    for part in rest[:-1]:
        found = text.find(part, position)
        if found < 0:
            return False
        position = found + len(part)
    return text.endswith(rest[-1]) and len(text) - len(rest[-1]) >= position


def _is_in_pool(node: Node | None, demands: _Demands) -> bool:
    return node is not None and demands.pool in (_ANY_POOL, node.node_pool or "default")


def _is_reachable(node: Node | None, demands: _Demands) -> bool:
    return (
        node is not None
        and _is_in_pool(node, demands)
        and any(is_glob_match(pattern, node.datacenter) for pattern in demands.datacenters)
    )


def _has_driver(node: Node, driver: str) -> bool:
    info = (node.drivers or {}).get(driver)
    if info is not None:
        return info.detected and info.healthy
    return (node.attributes or {}).get(f"driver.{driver}") in _TRUE


def _met(wish: Affinity) -> Callable[[Node], bool]:
    return lambda node: is_constraint_met(wish, node)


def _weight(wish: Affinity) -> int:
    return 50 if wish.weight is None else wish.weight


def _add(counts: dict[str, int], key: str, count: int) -> None:
    if key:  # a node may have no class of its own
        counts[key] = counts.get(key, 0) + count
