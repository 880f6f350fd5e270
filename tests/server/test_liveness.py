"""When a node is given up, and when it is not: gossip alone never decides."""

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
