"""A pool that begins formed: all know all, and nobody has anything left to tell."""

import random

from gossip.forming import Formation
from gossip.machine import GossipMachine
from gossip.messages import make_update
from gossip.settings import LAN
from gossip.views import Status


def build(formation: Formation | None, name: str, now_us: int = 0) -> GossipMachine:
    machine = GossipMachine(
        name=name,
        address=f"{name}:1",
        meta={"role": "client"},
        settings=LAN,
        rng=random.Random(name),
        now_us=now_us,
        directory=None if formation is None else formation.directory,
    )
    if formation is not None:
        formation.enter(machine, now_us)
    return machine


def names(machine: GossipMachine) -> list[str]:
    return [view.name for view in machine.members() if view.status is Status.ALIVE]


def test_each_knows_who_entered_before_and_at_the_end_all_know_all():
    formation = Formation()
    machines = [build(formation, name) for name in ("a", "b", "c")]
    assert [names(machine) for machine in machines] == [["a"], ["a", "b"], ["a", "b", "c"]]
    server = build(None, "s")
    own = next(view for view in server.members())
    rows = server.table.identity(server.me)
    assert own.name == rows.name
    formation.complete(machines, [make_update("s", 4, "s", rows)], 1)
    assert [names(machine) for machine in machines] == [["a", "b", "c", "s"]] * 3
    assert [machine.rumours_queued for machine in machines] == [0, 0, 0]
    assert [row.name for row in formation.rows()] == ["a", "b", "c", "s"]


def test_who_comes_later_or_again_joins_as_any_member_does():
    formation = Formation()
    machines = [build(formation, name) for name in ("a", "b")]
    again = build(formation, "a")
    assert names(again) == ["a"]
    formation.complete(machines, [], 1)
    assert names(build(formation, "late", 2)) == ["late"]
    assert len(formation) == 2


def test_a_member_of_a_formed_pool_that_dies_is_found_and_forgotten():
    formation = Formation()
    machines = {name: build(formation, name) for name in "abcd"}
    formation.complete([*machines.values()], [], 0)
    dead = machines.pop("d")
    now_us, inbox = 0, []
    while now_us < 60_000_000:
        now_us += 50_000
        for name, machine in machines.items():
            machine.tick(now_us)
            inbox += [(f"{name}:1", *sent) for sent in machine.take_output().packets]
        for source, address, packet in inbox:
            if (target := machines.get(address[0])) is not None:
                target.on_packet(source, packet, now_us)
        inbox = []
    assert dead.rumours_queued == 0
    assert all(machine.member("d").status is Status.DEAD for machine in machines.values())
    assert all(machine.prune("d") for machine in machines.values())
    assert len(names(machines["a"])) == 3
