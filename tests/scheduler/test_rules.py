"""Each rule of the reconciler as one row: what there is, and what is decided about it.

    before   one instance per comma: its index, its node, how it is, and what else is true of it
    after    the decisions, in order of index; "-" when there is nothing to do

Nodes are a, b, c (ready), `down` and `away` (disconnected). An instance is of version 0 unless it
says `v1`; the job is at version 1 where `change` says what is new, else at 0. Words on an
instance: `stop` it was asked to; `move` it is asked to migrate; `canary` it is one; `well`, `ill`
what its client says of its health to the deployment that it is `ours` of; `second` it is the
second of its index; `ago` it failed or was cut off long ago.
"""

import itertools
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

import msgspec
import numpy as np
import pytest

from core.model.allocation import Allocation, ClientStatus, Desired, DesiredTransition
from core.model.evaluation import Deployment, DeploymentState, DeploymentStatus
from core.model.job import (
    DisconnectStrategy,
    Job,
    ReschedulePolicy,
    Resources,
    Task,
    TaskGroup,
    UpdateStrategy,
)
from core.model.node import DriverInfo, Node, NodeStatus
from core.scheduler.decisions import GroupChanges
from core.scheduler.feasibility import Feasibility
from core.scheduler.reconcile import reconcile
from core.scheduler.view import AllocRows, JobView, NodesView

NS: Final = 10**9
NOW_US: Final = 1_700_000_000 * 1_000_000
NODES: Final = ("a", "b", "c", "down", "away")
HOUR_AGO_NS: Final = NOW_US * 1000 - 3600 * NS
TRIES = ReschedulePolicy(
    attempts=0, interval_ns=0, delay_ns=30 * NS, delay_function="constant", unlimited=True
)
NO_TRIES = msgspec.structs.replace(TRIES, unlimited=False, attempts=0)
WAITS = DisconnectStrategy(lost_after_ns=60 * NS, replace=True)
STAYS_ALONE = DisconnectStrategy(lost_after_ns=60 * NS, replace=False)
ENDS_ITSELF = DisconnectStrategy(stop_on_client_after_ns=60 * NS, replace=True)
ONE_BY_ONE = UpdateStrategy(max_parallel=1)
CANARY = UpdateStrategy(max_parallel=1, canary=1)


@dataclass(frozen=True)
class Rule:
    name: str
    before: str
    after: str
    count: int = 1
    kind: str = "service"
    change: str = ""  # "words" that no process sees, or "processes"
    more: dict[str, Any] = field(default_factory=dict)  # of the group
    rollout: str = ""  # of the newest version: status, and "tried" or "promoted" with canaries
    share: tuple[tuple[int, int], ...] = ()
    is_stopped: bool = False
    has_group: bool = True


RULES = [
    # --- what is wanted ------------------------------------------------------------------
    Rule("an index that has nothing is placed", "", "0 place, 1 place", count=2),
    Rule("what runs is kept", "0 a running, 1 b pending", "-", count=2),
    Rule("only the share's indices are wanted", "", "1 place, 2 place", count=3, share=((1, 9),)),
    Rule("scaled down: the highest stop", "0 a running, 1 b running, 2 c running",
         "1 stop, 2 stop", count=1),
    Rule("count 0 stops all", "0 a running", "0 stop", count=0),
    Rule("a stopped job stops all", "0 a running, 1 down running", "0 stop, 1 lost", count=2,
         is_stopped=True),
    Rule("a group that the job has no more stops", "0 a running", "0 stop", has_group=False),
    Rule("of two of an index the first stays", "0 a running, 0 b running second",
         "0 stop second"),
    Rule("of two of an index who runs stays", "0 a pending, 0 b running second", "0 stop"),
    Rule("what was asked to stop is replaced when it must run", "0 a running stop", "0 ended"),
    # --- nodes ---------------------------------------------------------------------------
    Rule("on a node that is down it is lost and replaced", "0 down running", "0 lost"),
    Rule("an unwanted one on a node that is down is given up", "0 a running, 1 down running",
         "1 lost"),
    Rule("asked to move: stopped and placed elsewhere", "0 a running move", "0 migrate"),
    Rule("cut off, and the job does not wait: lost at once", "0 away running", "0 lost"),
    Rule("cut off, and the job waits: unknown, with a replacement, looked at again",
         "0 away running", "0 disconnect, 0 later", more={"disconnect": WAITS}),
    Rule("unknown, its time not over: waits on", "0 away unknown, 0 b running second", "-",
         more={"disconnect": WAITS}),
    Rule("unknown, its time over: the first of its index is given up",
         "0 away unknown ago, 0 b running second", "0 lost", more={"disconnect": WAITS}),
    Rule("unknown without a replacement yet: placed when there is room", "0 away unknown",
         "0 disconnect", more={"disconnect": WAITS}),
    Rule("a group that is never replaced waits for ever", "0 away unknown ago", "-",
         more={"disconnect": STAYS_ALONE}),
    Rule("a client that ends it itself: nothing starts before", "0 away running",
         "0 later, 0 unknown", more={"disconnect": ENDS_ITSELF}),
    Rule("it ended itself by now: lost and replaced", "0 away unknown ago", "0 lost",
         more={"disconnect": ENDS_ITSELF}),
    Rule("back: the original stays where it is preferred",
         "0 a running, 0 b running second", "0 stop second",
         more={"disconnect": msgspec.structs.replace(WAITS, reconcile="keep_original")}),
    Rule("back: the replacement stays where it is preferred",
         "0 a running, 0 b running second", "0 stop",
         more={"disconnect": msgspec.structs.replace(WAITS, reconcile="keep_replacement")}),
    # --- failed and complete -------------------------------------------------------------
    Rule("failed just now: tried again when its delay is over", "0 a failed", "0 later"),
    Rule("failed long ago: tried again at once", "0 a failed ago", "0 reschedule"),
    Rule("failed, without tries left: stays failed", "0 a failed ago", "-",
         more={"reschedule_policy": NO_TRIES}),
    Rule("failed in an older version: a new one has a fresh start", "0 a failed",
         "0 update", change="processes", more={"reschedule_policy": NO_TRIES}),
    Rule("complete, service: replaced", "0 a complete", "0 ended"),
    Rule("complete, batch: done", "0 a complete", "-", kind="batch"),
    Rule("complete, batch, new version: runs again", "0 a complete", "0 ended", kind="batch",
         change="processes"),
    Rule("batch that was asked to stop is not done", "0 a complete stop", "0 ended",
         kind="batch"),
    Rule("lost: replaced", "0 a lost stop", "0 ended"),
    # --- new versions --------------------------------------------------------------------
    Rule("a change that no process sees is followed in place", "0 a running, 1 b running",
         "0 follow, 1 follow", count=2, change="words"),
    Rule("a change of processes replaces", "0 a running, 1 b running", "0 update, 1 update",
         count=2, change="processes"),
    Rule("max_parallel at a time, the lowest first", "0 a running, 1 b running, 2 c running",
         "0 update, 2 wait", count=3, change="processes", more={"update": ONE_BY_ONE}),
    Rule("who is not well yet counts as away", "0 a running v1 ours, 1 b running", "1 wait",
         count=2, change="processes", more={"update": ONE_BY_ONE}, rollout="running"),
    Rule("who got well makes room for the next", "0 a running v1 ours well, 1 b running",
         "1 update", count=2, change="processes", more={"update": ONE_BY_ONE}, rollout="running"),
    Rule("who is ill holds the rollout", "0 a running v1 ours ill, 1 b running", "1 wait",
         count=2, change="processes",
         more={"update": UpdateStrategy(max_parallel=2)}, rollout="running"),
    Rule("a paused rollout goes no further", "0 a running v1 ours well, 1 b running", "1 wait",
         count=2, change="processes", more={"update": ONE_BY_ONE}, rollout="paused"),
    Rule("a failed rollout goes no further, nor grows", "0 a running v1 ours well, 1 b running",
         "1 wait", count=3, change="processes", more={"update": ONE_BY_ONE}, rollout="failed"),
    Rule("batch jobs know no max_parallel", "0 a running, 1 b running", "0 update, 1 update",
         count=2, kind="batch", change="processes", more={"update": ONE_BY_ONE}),
    # --- canaries ------------------------------------------------------------------------
    Rule("a change of processes begins with canaries", "0 a running, 1 b running",
         "0 canary, 2 wait", count=2, change="processes", more={"update": CANARY}),
    Rule("a change that no process sees needs none", "0 a running", "0 follow", change="words",
         more={"update": CANARY}),
    Rule("while a canary is tried nothing else follows",
         "0 a running, 1 b running, 0 c running v1 ours canary second", "2 wait", count=2,
         change="processes", more={"update": CANARY}, rollout="running tried"),
    Rule("what is lost meanwhile comes back in its version",
         "0 a running, 1 down running, 0 c running v1 ours canary second",
         "1 lost v0, 1 wait", count=2, change="processes", more={"update": CANARY},
         rollout="running tried"),
    Rule("a canary that is lost is placed as one again",
         "0 a running, 0 down running v1 ours canary second", "0 lost canary, 1 wait",
         change="processes", more={"update": CANARY}, rollout="running tried"),
    Rule("given up: the canaries stop, the old version stays",
         "0 a running, 0 c running v1 ours canary second", "0 stop second, 1 wait",
         change="processes", more={"update": CANARY}, rollout="failed tried"),
    Rule("promoted: the canary is its index, the old one stops, the rest follow",
         "0 a running, 1 b running, 0 c running v1 ours well second", "0 stop, 1 update", count=2,
         change="processes", more={"update": CANARY}, rollout="running promoted"),
    Rule("canaries of a version before stop",
         "0 a running, 0 c running canary second", "0 canary, 0 stop second, 1 wait",
         change="processes", more={"update": CANARY}),
]  # fmt: skip


@pytest.mark.parametrize("rule", RULES, ids=[rule.name for rule in RULES])
def test_rule(rule: Rule) -> None:
    view = _view(rule)
    (changes,) = reconcile(view, _feasibility(), "evaluation", NOW_US)
    assert (", ".join(_told(view, changes)) or "-") == rule.after


def test_every_rule_has_its_own_name() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)


# --- reading a row ---------------------------------------------------------------------------


@cache
def _feasibility() -> Feasibility:
    drivers = {"raw_exec": DriverInfo(detected=True, healthy=True)}
    records = [Node(id=name, name=name, drivers=drivers, status=NodeStatus.READY) for name in NODES]
    full, none = np.full(len(NODES), 1000), np.zeros(len(NODES), np.int64)
    ready = np.ones(len(NODES), np.bool_)
    nodes = NodesView([*records], full, full, full, none, none, none, ready, none)
    return Feasibility(nodes, itertools.count(1))


def _job(rule: Rule, version: int) -> Job:
    is_new = version == 1
    task = Task(
        name="task",
        driver="raw_exec",
        env={"A": "2"} if is_new and rule.change == "processes" else None,
        kill_timeout_ns=9 * NS if is_new and rule.change == "words" else 5 * NS,
        resources=Resources(cpu=1, memory_mb=1),
    )
    group = TaskGroup(
        **{"name": "main", "count": rule.count, "reschedule_policy": TRIES, **rule.more},
        tasks=[task],
    )
    return Job(
        id="web",
        type=rule.kind,
        version=version,
        create_index=1,
        datacenters=["*"],
        stop=rule.is_stopped,
        task_groups=[group] if rule.has_group else [],
    )


def _view(rule: Rule) -> JobView:
    parsed = [words.split() for words in rule.before.split(",") if words.strip()]
    flags = [set(words[3:]) for words in parsed]

    def column(values: Any) -> Any:
        return np.array([*values], np.int64)

    def mask(values: Any) -> Any:
        return np.array([*values], np.bool_)

    index = column(int(words[0]) for words in parsed)
    generation = column("second" in known for known in flags)
    seconds = {int(i) for i, g in zip(index, generation, strict=True) if g}
    rows = AllocRows(
        group=column(0 for _ in parsed),
        index=index,
        generation=generation,
        node=column(NODES.index(words[1]) for words in parsed),
        desired=column(Desired.STOP if "stop" in known else Desired.RUN for known in flags),
        client_status=column(ClientStatus[words[2].upper()] for words in parsed),
        job_version=column("v1" in known for known in flags),
        health=column(1 if "well" in known else 0 if "ill" in known else -1 for known in flags),
        is_deployed=mask("ours" in known for known in flags),
        is_newest=mask(g or int(i) not in seconds for i, g in zip(index, generation, strict=True)),
        is_canary=mask("canary" in known for known in flags),
        asks=np.ones((len(parsed), 3), np.int64),
    )
    newest = int(bool(rule.change))
    return JobView(
        namespace="default",
        id="web",
        uid="uid",
        job=_job(rule, newest),
        datacenter_id="0123456789ab",
        ordinal=0,
        group_names={0: "main"},
        indices={"main": [*rule.share]} if rule.share else {},
        rows=rows,
        details={
            at: _detail(words, known)
            for at, (words, known) in enumerate(zip(parsed, flags, strict=True))
            if words[2] in ("failed", "unknown") or "move" in known
        },
        versions={number: _job(rule, number) for number in (0, 1)},
        deployment=_deployment(rule, newest),
        node_gone={NODES.index("down"): "down", NODES.index("away"): "disconnected"},
    )


def _detail(words: list[str], flags: set[str]) -> Allocation:
    return Allocation(
        id="".join(words), namespace="default", eval_id="", name="", node_id=words[1],
        node_name=words[1], job_id="web", job=None, task_group="main",
        desired_transition=DesiredTransition(migrate="move" in flags or None),
        modify_time_ns=HOUR_AGO_NS if "ago" in flags else NOW_US * 1000,
    )  # fmt: skip


def _deployment(rule: Rule, version: int) -> Deployment | None:
    if not rule.rollout:
        return None
    status, *words = rule.rollout.split()
    state = DeploymentState(desired_canaries=len(words), promoted="promoted" in words)
    return Deployment(
        id="d", namespace="default", job_id="web", job_version=version, job_create_index=1,
        status=DeploymentStatus(status), task_groups={"main": state},
    )  # fmt: skip


def _told(view: JobView, changes: GroupChanges) -> list[str]:
    rows = view.rows

    def of(row: int) -> str:
        return f"{rows.index[row]}"

    told = [f"{index} place" for index in changes.fresh.tolist()]
    told += [f"{index} canary" for index in changes.canaries.tolist()]
    for one in changes.replacements:
        version = f" v{one.version}" if one.version >= 0 else ""
        told.append(f"{one.index} {one.reason}{version}{' canary' if one.is_canary else ''}")
    told += [f"{of(row)} follow" for row in changes.in_place]
    for row, stop in changes.stops:
        what = "stop" if stop.client_status is None else stop.client_status.name.lower()
        told.append(f"{of(row)} {what}{' second' if rows.generation[row] else ''}")
    told += [f"{of(one.row)} later" for one in changes.later]
    if changes.waiting_updates:
        told.append(f"{changes.waiting_updates} wait")
    return sorted(told, key=lambda text: (text.endswith("wait"), text))
