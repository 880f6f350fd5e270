"""Many small jobs at once: what is done once for all of them, counted instead of timed."""

from collections import Counter
from typing import Any

import pytest
from clients import job
from stories import datacenter, leader

from core.jobspec import forms
from core.model.host import LOCAL, Requested, RequestedTogether, Send
from core.model.query import Query
from core.scheduler.newcomers import Newcomers
from core.server.proposal import GATHERED_MOST, LOADED
from core.state import job_forms
from core.state.commands import Barrier

JOBS = 96
TOGETHER = 8


def _count(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, found: list[Any]) -> None:
    real = getattr(owner, name)

    def counted(*args: Any, **more: Any) -> Any:
        result = real(*args, **more)
        found.append(result)
        return result

    monkeypatch.setattr(owner, name, counted)


def test_what_small_jobs_cost_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """One entry a job and few for their plans; read, checked and planned by their form."""
    world = datacenter(3, 4)
    machine = leader(world)
    checks: list[Any] = []
    planned: list[Any] = []
    _count(monkeypatch, forms, "validate", checks)
    _count(monkeypatch, Newcomers, "plan", planned)
    monkeypatch.setattr(job_forms, "_forms", {})
    consensus, proposed = machine.server.consensus, Counter[str]()
    propose = consensus.propose

    def counted(commands: list[Any], *more: Any) -> None:
        proposed[type(commands[0]).__name__] += 1
        propose(commands, *more)

    monkeypatch.setattr(consensus, "propose", counted)
    for start in range(0, JOBS, TOGETHER):
        calls = []
        for number in range(start, start + TOGETHER):
            given = {**job("web", 1), "ID": f"web-{number}", "Name": f"web-{number}"}
            query = Query(method="Job.Register", body={"Job": given})
            calls.append(Requested(-world.next_id(), "Query", query, LOCAL))
        world.deliver(machine, RequestedTogether(tuple(calls)))
    world.until(lambda: len(planned) >= JOBS)
    world.run(0.5)
    state = machine.state
    assert sum(record.id.startswith("web-") for record in state.jobs) == JOBS
    # Once as it comes, once more, and once under other names; then never again.
    assert len(checks) <= 3
    assert len(job_forms._forms) == 1
    assert all(plan is not None for plan in planned[:JOBS])
    groups = {id(record.job.task_groups) for record in state.jobs if record.id != "web"}
    assert len(groups) == 1
    assert proposed["RegisterJob"] == JOBS
    assert 0 < proposed["ApplyPlans"] <= JOBS // 4


def test_under_load_proposals_leave_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a batch is written the next ones gather: not a message to each for every call."""
    world = datacenter(3, 0)
    machine = leader(world)
    consensus = machine.server.consensus
    outcomes: list[Any] = []
    sent: list[int] = []
    carry_out = world._carry_out

    def counted(agent: Any, effect: Any) -> None:
        if agent is machine and isinstance(effect, Send) and effect.channel == "raft":
            sent.append(len(getattr(effect.body[1], "entries", ())))
        carry_out(agent, effect)

    monkeypatch.setattr(world, "_carry_out", counted)
    query = Query(method="Status.Leader", stale=True)
    calls = 4 * LOADED
    for _ in range(calls):
        consensus.propose([Barrier()], outcomes.append)
        world.deliver(machine, Requested(-world.next_id(), "Query", query, LOCAL))
    world.run(0.1)
    assert len(outcomes) == calls and all(one.applied is not None for one in outcomes)
    with_entries = [count for count in sent if count]
    assert sum(with_entries) >= 2 * calls  # to two followers
    assert len(with_entries) <= 2 * (LOADED + 4)
    assert max(with_entries) <= GATHERED_MOST


def test_a_proposal_that_waits_for_more_leaves_in_time() -> None:
    world = datacenter(3, 0)
    machine = leader(world)
    consensus = machine.server.consensus
    outcomes: list[Any] = []
    query = Query(method="Status.Leader", stale=True)
    for _ in range(LOADED + 3):
        consensus.propose([Barrier()], outcomes.append)
        world.deliver(machine, Requested(-world.next_id(), "Query", query, LOCAL))
    assert machine.deadline_us <= world.now_us + 4_000  # though its disk never answers
    world.run(0.05)
    assert len(outcomes) == LOADED + 3
