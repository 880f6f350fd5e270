"""What a digest says of a job: never wrong at its own moment, against the exact nodes."""

import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nodes import DATACENTER_ID, node, state_with, use

from core.federation.ask import Verdict, asks_of, judge, takes
from core.federation.digest import Digest, Room
from core.federation.survey import Survey
from core.jobspec.canonical import canonicalize
from core.model.job import Constraint, EphemeralDisk, Job, Resources, Task, TaskGroup
from core.model.node import DriverInfo
from core.scheduler import Held
from core.scheduler.capture import capture_nodes
from core.scheduler.demand import ask_of_group
from core.scheduler.feasibility import Feasibility
from core.scheduler.room import Ask
from core.scheduler.room import Room as NodeRoom
from core.state.state import State

MANY = 1 << 30  # more than any of the datacenters here holds


def job(cpu: int = 500, memory: int = 256, count: int = 1, disk: int = 0, **fields: Any) -> Job:
    task = Task(name="t", driver="raw_exec", resources=Resources(cpu=cpu, memory_mb=memory))
    group = TaskGroup(
        name="web", count=count, tasks=[task], ephemeral_disk=EphemeralDisk(size_mb=disk),
        constraints=fields.pop("group_constraints", None),
    )  # fmt: skip
    return canonicalize(Job(id="web", task_groups=[group], **fields), region="eu")


def digest_of(state: State, **fields: Any) -> Digest:
    said = {"region": "eu", "datacenter": "paris", "datacenter_id": DATACENTER_ID, **fields}
    return Digest(**said, **Survey().fields(state))


def exact(state: State, wanted: Job) -> int:
    """Return how many instances the scheduler itself finds room for."""
    (group,) = wanted.task_groups or []
    nodes = capture_nodes(state)
    eligible = Feasibility(nodes).candidates(wanted, group).eligible
    is_apart = any(one.operand == "distinct_hosts" for one in group.constraints or [])
    most = 1 if is_apart else MANY
    return int(NodeRoom(nodes, random.Random(0)).fits(ask_of_group(group), eligible, most).sum())


shapes = st.tuples(
    st.sampled_from([(4_000, 8_192, 50_000), (16_000, 32_768, 200_000), (900, 600, 2_000)]),
    st.sampled_from(["", "gpu"]),
    st.sampled_from(["default", "batch"]),
    st.floats(0, 1), st.floats(0, 1), st.floats(0, 1),
    st.booleans(),
)  # fmt: skip
constraints = st.sampled_from(
    [
        None,
        [Constraint("${attr.kernel.name}", "linux", "=")],
        [Constraint("${attr.cpu.arch}", "arm64", "=")],
        [Constraint("${node.class}", "gpu", "=")],
        [Constraint("${attr.kernel.version}", ">= 5.0", "version")],
        [Constraint("", "", "distinct_hosts")],
    ]
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(shapes, max_size=12),
    st.integers(1, 16_000), st.integers(1, 33_000), st.sampled_from([0, 300, 20_000]),
    st.sampled_from(["default", "batch", "all"]), constraints,
)  # fmt: skip
def test_a_digest_is_never_wrong_at_its_own_moment(
    nodes: list[Any], cpu: int, memory: int, disk: int, pool: str, limits: Any
):
    state = state_with(
        node(f"n{i}", *shape, node_class=kind, node_pool=where,
             attributes={"cpu.arch": "arm64" if is_arm else "amd64", "kernel.version": "6.1"})
        for i, (shape, kind, where, *_, is_arm) in enumerate(nodes)
    )  # fmt: skip
    for i, (shape, _, _, *used, _) in enumerate(nodes):
        use(state, i, *(int(whole * share) for whole, share in zip(shape, used, strict=True)))
    wanted = job(cpu, memory, MANY, disk, node_pool=pool, group_constraints=limits)
    (ask,) = asks_of(wanted)
    digest = digest_of(state)
    found, truth = takes(ask, digest), exact(state, wanted)
    barred = judge(wanted, [ask], digest).is_barred
    assert found.at_least <= truth
    assert truth <= (0 if barred else found.at_most)
    assert found.at_least <= found.likely <= max(found.at_most, found.at_least)


def test_debits_take_room_off_both_bounds():
    digest = digest_of(state_with(node(f"n{i}") for i in range(10)))
    (ask,) = asks_of(job(cpu=2_000, memory=1_000))
    assert takes(ask, digest).at_least == 40
    after = takes(ask, digest, Room(20_000, 1_000))
    assert after.at_least == 30 and after.at_most <= 30
    assert takes(ask, digest, Room(10**9, 10**9)).at_most == 0


def paris() -> State:
    """Ten nodes: each has one free core of eight, but one that is empty; two are special."""
    gpu = {"node_class": "gpu", "attributes": {"cpu.arch": "arm64"}}
    state = state_with(
        node(f"n{i}", drivers={"raw_exec": DriverInfo(detected=True, healthy=True)},
             **(gpu if i >= 8 else {}))
        for i in range(10)
    )  # fmt: skip
    for i in range(9):
        use(state, i, 7_000, 4_000)
    return state


@pytest.mark.parametrize(
    ("wanted", "verdict", "words"),
    [
        (job(), Verdict.FITS, "room"),
        (job(count=9), Verdict.FITS, "room"),
        (job(cpu=5_000), Verdict.FITS, "room"),
        (job(cpu=5_000, count=2), Verdict.FULL, "at most 1 of 2"),
        (job(cpu=8_001), Verdict.TOO_BIG, "largest node has 8000 MHz"),
        (job(cpu=5_000, count=11), Verdict.TOO_BIG, "at most 10 of 11"),
        (job(cpu=800, count=101), Verdict.TOO_BIG, "all nodes together have 80000"),
        (job(memory=16_001), Verdict.TOO_BIG, "largest node has 16000 MiB"),
        (job(disk=100_001), Verdict.TOO_BIG, "largest node has 100000 MiB"),
        (job(datacenters=["us-*"]), Verdict.NOT_ALLOWED, "us-*"),
        (job(datacenters=["eu-par*"]), Verdict.MAY_FIT, "may"),
        (job(node_pool="batch"), Verdict.NO_MATCH, "pool 'batch'"),
        (job(constraints=[Constraint("${node.class}", "gpu", "=")]), Verdict.FITS, "room"),
        (job(cpu=8_000, constraints=[Constraint("${attr.cpu.arch}", "arm64", "=")]),
         Verdict.MAY_FIT, "may"),
        (job(constraints=[Constraint("${attr.cpu.arch}", "riscv", "=")]),
         Verdict.NO_MATCH, "attribute 'cpu.arch=riscv'"),
        (job(constraints=[Constraint("${attr.kernel.name}", "^li", "regexp")]),
         Verdict.MAY_FIT, "may"),
        (job(constraints=[Constraint("", "", "distinct_hosts")], count=11),
         Verdict.TOO_BIG, "at most 10"),
    ],
)  # fmt: skip
def test_the_verdict_and_its_reason(wanted: Job, verdict: Verdict, words: str):
    found = judge(wanted, asks_of(wanted), digest_of(paris()))
    assert (found.verdict, words in found.reason) == (verdict, True), found


@pytest.mark.parametrize(
    ("fields", "age_us", "verdict"),
    [
        ({"has_quorum": False}, 0, Verdict.UNKNOWN),
        ({"is_draining": True}, 0, Verdict.NOT_ALLOWED),
        ({}, 90_000_000, Verdict.FITS),
        ({}, 91_000_000, Verdict.UNKNOWN),
    ],
)
def test_drained_quorumless_and_silent_datacenters_are_barred(
    fields: dict[str, Any], age_us: int, verdict: Verdict
):
    found = judge(job(), asks_of(job()), digest_of(paris(), **fields), age_us=age_us)
    assert found.verdict is verdict
    assert found.is_barred == (verdict is not Verdict.FITS)


def test_a_survey_follows_its_nodes():
    state = paris()
    survey = Survey()
    first = survey.fields(state)["classes"]
    assert [(one.node_class, one.nodes) for one in first] == [("", 8), ("gpu", 2)]
    use(state, 0, 1_000, 0)
    again = survey.fields(state)["classes"]
    assert again[0].free.cpu == first[0].free.cpu - 1_000
    held_cpu = np.array([9, 9], np.int64)
    held = survey.fields(state, [Held(Ask(3_000, 100, 0), held_cpu)])["classes"]
    assert held[1].free.cpu == again[1].free.cpu - 6_000
    assert survey.fields(state)["classes"][1].free == again[1].free, "the state is untouched"
