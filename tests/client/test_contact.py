"""A client and its servers: how they meet, what is asked of it, how it leaves."""

import random
from typing import Any

import msgspec
import pytest
from client_parts import Make, methods

from core.client.effects import (
    ShutdownComplete,
    ShutdownRequested,
)
from core.model.allocation import ClientStatus
from core.model.host import (
    GossipExchange,
    GossipExchangeReply,
    GossipExchangeRequested,
    Requested,
)
from core.model.job import (
    RestartPolicy,
)
from core.model.node import HostVolumeInfo
from core.model.query import Query
from gossip.machine import GossipMachine
from gossip.messages import SYNC_SUMMARY, SYNC_TABLE
from gossip.settings import LAN

# --- the way to the servers -------------------------------------------------------------


def test_a_new_client_says_hello_registers_and_asks_for_work(world: Any) -> None:
    world.run(1)
    assert methods(world) == ["Node.Hello", "Node.Register", "Node.Allocations", "Node.Allocations"]
    node = world.nodes[0]
    assert node["ID"].endswith("00000000abcd")
    assert node["Status"] == "ready"
    assert node["Attributes"]["cpu.arch"] == "amd64"
    assert world.calls[-1].body["min_index"] == 1


def test_a_node_says_which_host_volumes_it_has(make_world: Make) -> None:
    world = make_world(host_volumes={"data": HostVolumeInfo(path="/srv/data", read_only=True)})
    world.run(1)
    (node,) = world.nodes
    assert node["HostVolumes"]["data"]["Path"] == "/srv/data"
    assert node["HostVolumes"]["data"]["ReadOnly"] is True


def test_identity_is_kept_over_a_restart(world: Any) -> None:
    world.run(1)
    world.boot()
    world.run(1)
    assert world.nodes[0]["ID"] == world.nodes[1]["ID"]
    assert world.nodes[0]["SecretID"] == world.nodes[1]["SecretID"]


def test_an_unreachable_server_is_tried_again_and_the_other_one_too(world: Any) -> None:
    world.is_reachable = False
    world.run(120)
    hellos = [call for call in world.calls if call.method == "Node.Hello"]
    assert {call.address for call in hellos} == {"s1:4647", "s2:4647"}
    assert 8 < len(hellos) < 40  # it backs off
    world.is_reachable = True
    world.run(20)
    assert world.machine.contact.is_registered


def test_servers_that_forgot_the_node_get_its_registration_again(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    alloc_id = world.place(make_alloc(make_job()))
    world.run(2)
    world.knows_node = False
    world.updates.clear()
    world.exit("web", 1)  # a report is due, and is refused
    world.run(3)
    assert len(world.nodes) == 2
    assert world.last(alloc_id).client_status == ClientStatus.PENDING


def test_a_client_of_another_datacenter_is_left_alone(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    world.place(make_alloc(make_job()))
    world.run(1)
    node = msgspec.msgpack.decode(world.disk["node"])
    node["datacenter_id"] = "ffffffffffff"
    world.disk["node"] = msgspec.msgpack.encode(node)
    world.boot()
    world.run(30)
    assert len(world.nodes) == 1  # work runs here: it does not change sides
    assert world.running()


def test_a_client_joins_the_lan_pool_of_its_datacenter(make_world: Make) -> None:
    world = make_world(gossip_addr="node:4648")
    world.run(3)
    joins = [effect for effect in world.effects if isinstance(effect, GossipExchange)]
    assert {(join.pool, join.address) for join in joins} == {("lan", "s1:4648")}


def test_servers_are_learnt_from_the_lan_pool(make_world: Make) -> None:
    world = make_world(gossip_addr="node:4648")
    world.run(1)
    server = GossipMachine(
        name="s9", address="s9:4648", meta={"role": "server", "rpc": "s9:4647"},
        settings=LAN, rng=random.Random(1), now_us=world.now_us,
    )  # fmt: skip
    server.join(["node:4648"], world.now_us)
    _, _, packet, _ = server.take_output().exchanges[0]
    world.feed(GossipExchangeRequested("lan", 1, "s9:4648", packet))
    assert "s9:4647" in world.machine.contact.servers
    assert isinstance(world.effects[-1], GossipExchangeReply)


def test_a_server_that_answers_again_is_shown_the_client_once_more(
    make_world: Make, make_job: Make, make_alloc: Make
) -> None:
    world = make_world(gossip_addr="node:4648")
    world.run(1)
    server = GossipMachine(
        name="s9", address="s9:4648", meta={"role": "server", "rpc": "s9:4647"},
        settings=LAN, rng=random.Random(1), now_us=world.now_us,
    )  # fmt: skip
    server.join(["node:4648"], world.now_us)
    _, _, packet, _ = server.take_output().exchanges[0]
    world.feed(GossipExchangeRequested("lan", 1, "s9:4648", packet))
    joining = (SYNC_TABLE, SYNC_SUMMARY)

    def joins() -> list[GossipExchange]:
        found = [effect for effect in world.effects if isinstance(effect, GossipExchange)]
        return [e for e in found if e.address == "s9:4648" and e.packet.kind in joining]

    world.is_reachable = False
    world.change(world.place(make_alloc(make_job())))  # ends the blocking query
    world.run(5)
    world.is_reachable = True
    while world.machine.contact._failures:
        before = len(joins())  # the pool has regular rounds as well
        world.run(0.01)
    assert len(joins()) == before + 1


# --- requests ---------------------------------------------------------------------------


def test_a_user_restarts_and_signals_a_task(world: Any, make_job: Make, make_alloc: Make) -> None:
    alloc_id = world.place(make_alloc(make_job(restart_policy=RestartPolicy(attempts=0))))
    world.run(1)
    assert world.ask("Client.RestartTask", alloc_id=alloc_id, task="web").error == ""
    world.run(1)
    assert len(world.starts) == 2  # the policy has no say in it
    assert world.state(alloc_id).restarts == 1
    assert world.ask("Client.SignalTask", alloc_id=alloc_id, signal="SIGHUP").error == ""
    world.run(1)
    assert world.events(alloc_id)[-1] == "Signaling"
    assert world.running() == [(alloc_id, "web")]


@pytest.mark.parametrize(
    ("method", "body", "status", "words"),
    [
        ("Client.RestartTask", {"alloc_id": "none"}, 404, "Unknown allocation"),
        ("Client.RestartTask", {"task": "no"}, 404, "Could not find task"),
        ("Client.RestartTask", {"task": 7}, 400, "Expected `str`"),
        ("Client.SignalTask", {"signal": "SIGNOPE"}, 500, "invalid signal"),
        ("Client.ReadFile", {"operation": "burn"}, 400, "unknown operation"),
        ("Client.ReadFile", {"operation": "logs", "task": "no"}, 400, "unknown task name"),
        ("Client.ReadFile", {"operation": "cat", "offset": -1}, 400, "negative"),
        ("Client.Nothing", {}, 404, "no method"),
    ],
)
def test_a_bad_request_is_refused_in_words(
    world: Any, make_job: Make, make_alloc: Make,
    method: str, body: dict[str, Any], status: int, words: str,
) -> None:  # fmt: skip
    alloc_id = world.place(make_alloc(make_job()))
    world.run(1)
    reply = world.ask(method, **{"alloc_id": alloc_id, **body})
    assert words in reply.error
    assert reply.body["status"] == status


def test_ping_tells_the_node(world: Any) -> None:
    world.run(1)
    assert world.ask("Agent.Ping").body == {"node_id": world.nodes[0]["ID"]}


def test_a_query_of_the_own_api_is_passed_on_to_a_server(world: Any) -> None:
    world.run(1)
    world.feed(Requested(5, "Query", Query(method="Job.List")))
    world.run(1)
    assert world.replies[5].body == {"echo": "Query"}


# --- shutdown ---------------------------------------------------------------------------


def test_a_shutdown_leaves_tasks_alone(world: Any, make_job: Make, make_alloc: Make) -> None:
    world.place(make_alloc(make_job()))
    world.run(1)
    world.feed(ShutdownRequested(stop_tasks=False))
    assert isinstance(world.effects[-1], ShutdownComplete)
    assert world.running()


def test_a_shutdown_of_dev_ends_tasks_and_reports_it(
    world: Any, make_job: Make, make_alloc: Make
) -> None:
    alloc_id = world.place(make_alloc(make_job()))
    world.run(1)
    world.feed(ShutdownRequested(stop_tasks=True))
    world.run(2)
    assert world.running() == []
    assert world.last(alloc_id).client_status == ClientStatus.COMPLETE
    assert sum(isinstance(e, ShutdownComplete) for e in world.effects) == 1
