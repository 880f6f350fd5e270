"""When a node is given up, and when it is not: gossip alone never decides."""

import itertools

from stories import add_clients, clients, datacenter, leader, register, running, until_running


def status_of(world, name: str) -> str:  # type: ignore[no-untyped-def]
    return next(node.status for node in leader(world).state.nodes if node.name == name)


def test_a_dead_client_is_down_and_its_work_moves() -> None:
    world = datacenter(3, 2)
    register(world, count=2)
    until_running(world, 2)
    world.run(3)  # the new leader's grace
    victim = next(client for client in clients(world) if client.statuses)
    world.kill(victim)
    world.until(lambda: status_of(world, victim.name) == "down")
    survivor = next(iter(clients(world)))
    world.until(lambda: len(survivor.statuses) == 2)
    until_running(world, 2)


def test_a_client_that_gossip_lost_but_that_answers_stays_ready() -> None:
    world = datacenter(3, 2)
    world.run(3)
    quiet = clients(world)[0]
    for other in [*world.servers(), *clients(world)]:
        for pair in ((quiet, other), (other, quiet)):
            world.mute.add((pair[0].name, pair[1].name))
    world.run(60)
    gossip = leader(world).server.membership
    assert gossip.is_lan_alive(quiet.name) is False
    assert status_of(world, quiet.name) == "ready"


def test_a_client_that_never_calls_is_disconnected_and_comes_back() -> None:
    world = datacenter(3, 2)
    register(world, count=2)
    until_running(world, 2)
    silent = clients(world)[0]
    cuts = {(silent.name, server.name) for server in world.servers()}
    world.cut |= cuts
    world.until(lambda: status_of(world, silent.name) != "ready", 300)
    assert status_of(world, silent.name) in ("disconnected", "down")
    world.cut -= cuts
    world.until(lambda: status_of(world, silent.name) == "ready", 300)


def test_a_client_that_its_job_waits_for_is_disconnected_and_its_instance_may_stay() -> None:
    world = datacenter(3, 2)
    job = {"Disconnect": {"LostAfter": 600_000_000_000, "Reconcile": "keep_original"}}
    task = {"Name": "main", "Driver": "raw_exec", "Config": {"command": "/bin/sleep"}}
    register(world, TaskGroups=[{"Name": "app", "Count": 1, "Tasks": [task], **job}])
    until_running(world, 1)
    world.run(3)
    away = next(client for client in clients(world) if client.statuses)
    other = next(client for client in clients(world) if client is not away)
    cuts = {(away.name, one.name) for one in [*world.servers(), other]}
    cuts |= {(there, here) for here, there in cuts}
    world.cut |= cuts
    world.until(lambda: status_of(world, away.name) != "ready", 300)
    assert status_of(world, away.name) == "disconnected"  # gossip holds it for dead
    world.until(lambda: other.statuses, 60)
    world.run(60)
    assert status_of(world, away.name) == "disconnected"
    world.cut -= cuts
    away._report()  # what core.client does when its allocation is said to be unknown
    world.until(lambda: other.statuses and "COMPLETE" in {s.name for s in other.statuses.values()})
    assert {status.name for status in away.statuses.values()} == {"RUNNING"}
    assert status_of(world, away.name) == "ready"


def test_a_client_that_nothing_waits_for_any_more_is_down() -> None:
    world = datacenter(3, 2)
    task = {"Name": "main", "Driver": "raw_exec", "Config": {"command": "/bin/sleep"}}
    wait = {"Disconnect": {"LostAfter": 60_000_000_000}}
    register(world, TaskGroups=[{"Name": "app", "Count": 1, "Tasks": [task], **wait}])
    until_running(world, 1)
    world.run(3)
    victim = next(client for client in clients(world) if client.statuses)
    world.kill(victim)
    world.until(lambda: status_of(world, victim.name) == "disconnected", 60)
    world.until(lambda: status_of(world, victim.name) == "down", 200)
    until_running(world, 1)


def test_a_new_leader_judges_nobody_during_its_grace() -> None:
    world = datacenter(3, 2)
    world.run(3)
    world.kill(leader(world))
    victim = clients(world)[0]
    world.kill(victim)
    elected = world.until(world.leader)
    world.run(1)
    assert status_of(world, victim.name) == "ready"
    assert elected.server.liveness._judges_from_us > world.now_us
    world.until(lambda: status_of(world, victim.name) == "down")


def test_a_client_that_was_down_is_ready_once_it_calls() -> None:
    world = datacenter(1, 1)
    world.run(3)
    client = clients(world)[0]
    world.kill(client)
    world.until(lambda: status_of(world, client.name) == "down")
    world.add(client, client.rpc_addr, client.gossip_addr)
    client._again("Node.Register", client._body_of("Node.Register"))
    world.until(lambda: status_of(world, client.name) == "ready")


def test_a_drained_node_is_emptied_and_the_drain_ends() -> None:
    world = datacenter(1, 2)
    register(world, count=2)
    until_running(world, 2)
    world.run(2)
    busy = next(client for client in clients(world) if client.statuses)
    answer = world.ask(
        leader(world), "Node.Drain", params={"node_id": busy.node_id},
        body={"DrainSpec": {"Deadline": 3_600_000_000_000}},
    )  # fmt: skip
    assert not answer.is_error, answer
    node = world.until(
        lambda: (
            (found := leader(world).state.nodes.get(busy.node_id)).drain_strategy is None and found
        )
    )
    assert node.scheduling_eligibility == "ineligible"
    assert running(world) == 2


def test_an_ineligible_node_takes_no_new_work() -> None:
    world = datacenter(1, 1)
    only = clients(world)[0]
    world.ask(
        leader(world), "Node.Eligibility", params={"node_id": only.node_id},
        body={"Eligibility": "ineligible"},
    )  # fmt: skip
    add_clients(world, 1, first=5)
    register(world, count=2)
    until_running(world, 2)
    assert not only.statuses


def test_a_wrong_secret_is_refused() -> None:
    world = datacenter(1, 1)
    client = clients(world)[0]
    client.secret_id = "stolen"
    errors: list[str] = []

    def reply(body: object, error: str) -> None:
        errors.append(error)

    body = {"node_id": client.node_id, "secret_id": "stolen"}
    leader(world).server.nodes.on_call("Node.Allocations", body, reply)
    assert errors == ["node secret ID does not match"]


def test_a_leader_cut_off_from_gossip_does_not_declare_many_down_alone() -> None:
    """More than a tenth within 10 s: the other servers must see it as the leader does."""
    world = datacenter(3, 12)
    world.run(3)
    sick = leader(world)
    for other in [*world.servers(), *clients(world)]:
        if other is not sick:
            world.mute |= {(sick.name, other.name), (other.name, sick.name)}
    world.cut |= {(sick.name, client.name) for client in clients(world)}
    began_s: dict[str, float] = {}
    for _ in range(150):  # one that reaches nobody is slow to call others dead
        world.run(1)
        for node in sick.state.nodes:
            if node.status == "down":
                began_s.setdefault(node.name, world.now_us / 1e6)
    assert sick.server.membership.is_lan_alive(clients(world)[0].name) is False
    # two of twelve within 10 s would be more than a tenth
    times = sorted(began_s.values())
    assert all(after - before > 9 for before, after in itertools.pairwise(times)), times
    world.mute.clear()
    world.cut.clear()
    world.until(lambda: all(n.status == "ready" for n in leader(world).state.nodes), 200)


def test_many_that_really_died_are_down_once_a_majority_sees_it() -> None:
    world = datacenter(3, 12)
    world.run(3)
    dead = clients(world)[:5]
    for client in dead:
        world.kill(client)
    names = {client.name for client in dead}
    world.until(
        lambda: {n.name for n in leader(world).state.nodes if n.status == "down"} == names, 90
    )


def test_the_limits_of_the_design_are_the_defaults() -> None:
    """DESIGN.md: a call fails within 5 s; disconnected after 180 s; a new leader waits 60 s."""
    from core.agent.config_records import ServerSection
    from core.server.config import LivenessConfig

    config = LivenessConfig()
    assert (config.ping_timeout_us, config.renew_us, config.grace_us) == (
        5_000_000, 180_000_000, 60_000_000
    )  # fmt: skip
    assert ServerSection().failover_heartbeat_ttl_us == 60_000_000


def test_a_silent_client_is_disconnected_after_the_limit_and_not_before() -> None:
    """Whatever gossip says: here it says that the client lives."""
    world = datacenter(1, 1)
    world.run(3)
    silent = clients(world)[0]
    world.cut.add((silent.name, "s1"))
    world.mute.clear()
    limit_s = leader(world).server.config.liveness.renew_us / 1e6
    world.run(limit_s - 70)  # its blocking query is renewed every 60 s
    assert status_of(world, silent.name) == "ready"
    world.until(lambda: status_of(world, silent.name) in ("disconnected", "down"), 80)
