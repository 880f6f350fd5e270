"""Registering nodes, their classes, and what operators decide about them."""

import pytest

from core.model.node import DrainStrategy, DriverInfo
from core.model.service import ServiceRegistration
from core.state.commands import (
    CollectGarbage,
    PurgeNode,
    PutServices,
    RegisterNode,
    SetNodeDrain,
    SetNodeEligibility,
    SetNodeStatus,
)
from core.state.resources import parse_ports


def test_capacity_is_what_the_reservation_leaves(cluster, kit):
    node = kit.node("n0", cpu=1000, memory=800)
    node.reserved_resources.cpu.cpu_shares = 100
    node.reserved_resources.memory.memory_mb = 300
    cluster.do(RegisterNode(node=node))
    table = cluster.state.nodes
    assert (table.cpu_capacity[0], table.memory_capacity[0]) == (900, 500)
    assert table.is_ready.tolist() == [True]


def test_registering_again_keeps_ordinal_and_what_operators_decided(cluster, kit):
    cluster.node("n0")
    cluster.node("n1")
    cluster.do(SetNodeEligibility(node_id="n0", eligibility="ineligible"))
    created = cluster.state.nodes.get("n0").create_index
    assert cluster.node("n0", cpu=2000) == 0
    node = cluster.state.nodes.get("n0")
    assert (node.scheduling_eligibility, node.create_index) == ("ineligible", created)
    assert cluster.state.nodes.cpu_capacity[0] == 2000
    assert not cluster.state.nodes.is_ready[0]


def test_another_secret_can_not_take_over_an_id(cluster, kit):
    cluster.do(RegisterNode(node=kit.node("n0", secret_id="a")))
    assert cluster.refused(RegisterNode(node=kit.node("n0", secret_id="b"))).status == 403


def test_the_ordinal_of_a_purged_node_is_never_given_again(cluster):
    cluster.node("n0")
    cluster.do(PurgeNode(node_id="n0"))
    assert cluster.state.nodes.record(0) is None
    assert not cluster.state.nodes.is_ready[0]
    assert cluster.node("n0") == 1
    assert cluster.state.nodes.count == 1


def test_nodes_that_differ_in_unique_properties_are_of_one_class(cluster):
    cluster.node("n0", attributes={"arch": "x86", "unique.hostname": "a"})
    cluster.node("n1", attributes={"arch": "x86", "unique.hostname": "b"}, meta={"unique.x": "1"})
    cluster.node("n2", attributes={"arch": "arm"})
    cluster.node("n3", cpu=7, attributes={"arch": "x86"})
    healthy = {"exec": DriverInfo(detected=True, healthy=True)}
    cluster.node("n4", attributes={"arch": "x86"}, drivers=healthy)
    table = cluster.state.nodes
    assert table.class_id.tolist() == [0, 0, 1, 2, 3]
    assert table.class_representative(0) == 0
    assert table.class_of_key(table.class_key(2)) == 2


def test_a_drain_makes_ineligible_and_sets_its_deadline(cluster):
    cluster.node("n0")
    cluster.do(SetNodeDrain(node_id="n0", drain=DrainStrategy(deadline_ns=3_600_000_000_000)))
    node = cluster.state.nodes.get("n0")
    assert node.drain_strategy.force_deadline > node.drain_strategy.started_at
    eligible = SetNodeEligibility(node_id="n0", eligibility="eligible")
    assert "draining" in cluster.refused(eligible).error
    cluster.do(SetNodeDrain(node_id="n0", drain=None))
    assert not cluster.state.nodes.is_ready[0]
    cluster.do(SetNodeDrain(node_id="n0", drain=None, mark_eligible=True))
    assert cluster.state.nodes.is_ready[0]


@pytest.mark.parametrize(
    "command",
    [
        SetNodeStatus(node_id="x", status="ready"),
        SetNodeEligibility(node_id="x", eligibility="eligible"),
        SetNodeDrain(node_id="x", drain=None),
        PurgeNode(node_id="x"),
    ],
)
def test_an_unknown_node_is_said_to_be_so(cluster, command):
    assert cluster.refused(command).error == "node not found"


def test_nonsense_is_refused(cluster):
    cluster.node("n0")
    assert cluster.refused(SetNodeStatus(node_id="n0", status="tired")).status == 400
    assert cluster.refused(SetNodeEligibility(node_id="n0", eligibility="x")).status == 400


def test_the_services_of_a_node_that_is_down_are_withdrawn(cluster):
    cluster.node("n0")
    web = ServiceRegistration(id="s1", service_name="web", node_id="n0")
    cluster.do(PutServices(registrations=[web]))
    cluster.do(SetNodeStatus(node_id="n0", status="down"))
    assert cluster.state.services.names() == []


def test_a_node_down_for_long_is_collected_once_it_holds_nothing(cluster):
    cluster.node("n0")
    cluster.job(count=1)
    cluster.place("web", [(0, 0)])
    cluster.do(SetNodeStatus(node_id="n0", status="down"))
    far = cluster.now_us * 2
    collect = CollectGarbage(
        job_before_us=0, evaluation_before_us=0, deployment_before_us=0, node_before_us=far
    )
    assert cluster.do(collect).value["Nodes"] == 0
    cluster.report(cluster.ids()[0], 4)
    collect.evaluation_before_us = far
    cluster.plan("web", [], stops=[cluster.stop(cluster.ids()[0])])
    assert cluster.do(collect).value == {
        "Allocations": 1,
        "Evaluations": 0,
        "Deployments": 0,
        "Jobs": 0,
        "Nodes": 1,
    }


@pytest.mark.parametrize(
    ("text", "ports"), [("", []), ("22,80", [22, 80]), ("1-3, 9", [1, 2, 3, 9]), ("x,7-5,-", [])]
)
def test_reserved_ports_are_read_leniently(text, ports):
    assert parse_ports(text) == sum(1 << port for port in ports)
