"""A server that was held up: it hears before it judges, and takes its backlog in slices."""

from stories import datacenter, follower, leader

from core.model.host import LOCAL, Requested, Tick
from core.model.query import Query
from core.server.backlog import APPLIED_ENTRIES
from core.state.commands import Barrier
from raft.core import Role


def test_a_late_deadline_waits_until_the_host_has_heard_the_others() -> None:
    world = datacenter(3, 0)
    held_up = follower(world)
    world.now_us += 2_000_000  # it got no processor: heartbeats of that time are in its sockets
    query = Query(method="Status.Leader", stale=True)
    world.deliver(held_up, Requested(-world.next_id(), "Query", query, LOCAL))
    raft = held_up.server.consensus.raft
    assert raft.role is Role.FOLLOWER and held_up.deadline_us <= world.now_us
    world.deliver(held_up, Tick())  # nothing was heard even so
    assert raft.role is Role.PRE_CANDIDATE


def test_what_is_committed_together_is_applied_in_slices(monkeypatch) -> None:
    world = datacenter(1, 0)
    machine = leader(world)
    consensus, outcomes, steps = machine.server.consensus, [], []
    handle = machine.handle

    def counted(event, now):
        before = consensus.applied_index
        effects = handle(event, now)
        steps.append(consensus.applied_index - before)
        return effects

    monkeypatch.setattr(machine, "handle", counted)
    for _ in range(3 * APPLIED_ENTRIES):
        consensus.propose([Barrier()], outcomes.append)
    world.deliver(machine, Tick())
    world.run(0.05)
    assert max(steps) <= APPLIED_ENTRIES
    assert len(outcomes) == 3 * APPLIED_ENTRIES
    assert all(outcome.applied is not None for outcome in outcomes)
