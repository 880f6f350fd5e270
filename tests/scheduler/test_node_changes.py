"""A node that comes back as another one, with work on it."""

from typing import Any

import msgspec

from core.model.allocation import ClientStatus
from core.model.node import Node
from core.state.commands import RegisterNode


def _with_cpu(node: Node, cpu: int) -> Node:
    resources = node.node_resources
    processor = msgspec.structs.replace(resources.cpu, cpu_shares=cpu)
    whole = msgspec.structs.replace(resources, cpu=processor)
    return msgspec.structs.replace(node, node_resources=whole)


def test_what_runs_on_a_node_that_shrinks_runs_on_and_nothing_comes_before_it_has_room(
    world: Any, kit: Any
) -> None:
    node = world.node(cpu=2000)
    job, other = kit.job(count=2, cpu=800), kit.job("other", cpu=100)
    world.run(world.register(job))
    world.report(world.rows(job), ClientStatus.RUNNING)
    world.do(RegisterNode(node=_with_cpu(node, 1000)))
    assert kit.is_quiet(world.evaluate(job)), "1600 MHz are held of 1000, and nobody is stopped"
    assert world.run(world.register(other)).failed == 1
    world.run(world.register(kit.changed(job, count=1)))
    assert world.evaluate(other).failed == 1, "it holds its room until its client says it ended"
    world.end_stopped()
    assert world.evaluate(other).placed == 1
    world.check_nodes()


def test_a_node_that_grows_takes_what_waited(world: Any, kit: Any) -> None:
    node = world.node(cpu=500)
    job = kit.job(count=2, cpu=400)
    assert world.run(world.register(job)).failed == 1
    world.do(RegisterNode(node=_with_cpu(node, 1000)))
    assert world.evaluate(job).placed == 1
    world.check_nodes()
