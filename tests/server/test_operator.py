"""The quorum and the agents as operators see them, and what they may change."""

from harness import World
from stories import clients, datacenter, follower, leader, register, running, until_running

from core.model.host import Halt
from core.server.measures import FAMILIES, Histogram
from core.state.commands import Entry
from core.state.entry import encode_entry


def test_the_raft_configuration_names_its_leader() -> None:
    world = datacenter(3, 0)
    rows = world.ask(follower(world), "Operator.RaftConfiguration").body["Servers"]
    assert [row["Voter"] for row in rows] == [True] * 3
    assert [row["Address"] for row in rows if row["Leader"]] == [
        leader(world).server.config.rpc_addr
    ]


def test_leadership_is_handed_over_to_whom_the_operator_names() -> None:
    world = datacenter(3, 0)
    heir = follower(world)
    params = {"address": heir.server.config.rpc_addr}
    answer = world.ask(leader(world), "Operator.TransferLeadership", params=params)
    assert not answer.is_error, answer
    world.until(lambda: world.leader() is heir)
    wrong = world.ask(leader(world), "Operator.TransferLeadership", params={"id": "nobody"})
    assert wrong.status == 500 and "nobody" in wrong.error


def test_a_server_asked_to_stop_hands_over_and_leaves() -> None:
    from core.server.effects import ShutdownRequested

    world = datacenter(3, 0)
    first = leader(world)
    world.deliver(first, ShutdownRequested())
    second = world.until(lambda: (found := world.leader()) is not first and found)
    world.until(lambda: first.server.membership.is_left)
    world.run(3)
    members = world.ask(second, "Agent.Members").body["Members"]
    assert {one["Name"]: one["Status"] for one in members}["s1.global"] in ("left", "alive")


def test_members_are_shown_in_nomads_words() -> None:
    world = datacenter(3, 1)
    world.run(5)
    body = world.ask(leader(world), "Agent.Members").body
    assert len(body["Members"]) == 3
    tags = body["Members"][0]["Tags"]
    assert tags["role"] == "nomad" and tags["port"] == "4647" and tags["dc"] == "dc1"
    lan = world.ask(leader(world), "Agent.Nodes").body["Members"]
    assert {one["Name"] for one in lan} == {"s1", "s2", "s3", "c1"}


def test_a_lone_server_joins_another_region_by_command() -> None:
    world = World()
    eu = world.add_server("eu1", 1, region="eu")
    world.add_server("us1", 2, region="us")
    answer = world.ask(eu, "Agent.Join", params={"address": ["10.0.0.2:4648"]})
    assert answer.body == {"num_joined": 1, "error": ""}
    world.until(lambda: world.ask(eu, "Region.List").body == ["eu", "us"])
    nobody = world.ask(eu, "Agent.Join", params={"address": "10.9.9.9"})
    assert nobody.body["num_joined"] == 0 and "10.9.9.9:4648" in nobody.body["error"]


def test_health_says_whether_there_is_a_leader() -> None:
    world = datacenter(3, 0)
    server = follower(world)
    assert world.ask(server, "Agent.Health").body["server"]["ok"]
    for other in world.servers():
        if other is not server:
            world.kill(other)
    world.run(5)
    sick = world.ask(server, "Agent.Health")
    assert sick.status == 500 and not sick.body["server"]["ok"]


def test_scheduler_settings_are_kept_and_guarded_by_index() -> None:
    world = datacenter(1, 0)
    body = {"SchedulerAlgorithm": "spread"}
    assert world.ask(leader(world), "Operator.SchedulerSet", body=body).body["Updated"]
    shown = world.ask(leader(world), "Operator.SchedulerGet").body
    assert shown["SchedulerConfig"]["SchedulerAlgorithm"] == "spread"
    lost = world.ask(
        leader(world), "Operator.SchedulerSet", body={"SchedulerAlgorithm": "binpack"},
        params={"cas": "1"},
    )  # fmt: skip
    assert lost.body["Updated"] is False
    bad = world.ask(leader(world), "Operator.SchedulerSet", body={"SchedulerAlgorithm": "x"})
    assert bad.status == 400


def test_garbage_collection_forgets_a_stopped_job() -> None:
    world = datacenter(1, 1)
    register(world)
    until_running(world, 2)
    world.ask(leader(world), "Job.Deregister", params={"job_id": "web"})
    until_running(world, 0)
    world.run(2)
    assert not world.ask(leader(world), "System.GC").is_error
    assert world.ask(leader(world), "Job.Get", params={"job_id": "web"}).status == 404


def test_services_are_listed_as_clients_report_them() -> None:
    from core.model.service import ServiceRegistration

    world = datacenter(3, 1)
    client = clients(world)[0]
    one = ServiceRegistration(
        id="svc-1", service_name="web", node_id=client.node_id, job_id="web",
        address="10.1.0.1", port=8080, tags=["blue"],
    )  # fmt: skip
    client._call("Node.Update", {"updates": [], "services": [one]})
    world.until(lambda: len(leader(world).state.services) == 1)
    names = world.ask(follower(world), "Service.List").body
    assert names == [
        {"Namespace": "default", "Services": [{"ServiceName": "web", "Tags": ["blue"]}]}
    ]
    found = world.ask(leader(world), "Service.Get", params={"name": "web", "choose": "1|x"}).body
    assert [row.port for row in found] == [8080]
    assert world.ask(leader(world), "Service.Get", params={"name": "none"}).body == []


def test_every_metric_family_has_its_number() -> None:
    world = datacenter(3, 1)
    register(world)
    until_running(world, 2)
    measures = leader(world).measures
    for name, kind, text, attribute, label in FAMILIES:
        value = getattr(measures, attribute)
        assert text.endswith("."), name
        assert isinstance(value, Histogram if kind == "histogram" else (dict if label else int))
    assert measures.commit_latency.total > 0 and measures.placements == 2
    assert measures.nodes["ready"] == 1 and running(world) == 2


def test_an_entry_of_a_newer_version_halts_the_server_in_words() -> None:
    world = datacenter(1, 0)
    server = leader(world)
    data = bytearray(encode_entry(Entry(wall_us=1, commands=[])))
    data[1] = 200  # a schema that this version does not know
    server.server.consensus.raft.propose([bytes(data)], world.now_us)
    seen: list[str] = []

    def carry_out(agent: object, effect: object) -> None:
        if isinstance(effect, Halt):
            seen.append(effect.reason)
        else:
            carried(agent, effect)

    carried, world._carry_out = world._carry_out, carry_out  # type: ignore[method-assign]
    world.run(1)
    assert len(seen) == 1 and "schema 200" in seen[0] and "upgrade" in seen[0]
