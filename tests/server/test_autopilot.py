"""The leader keeps the quorum: learners first, dead servers out, never below quorum."""

import msgspec
from harness import World
from stories import JOIN, datacenter, follower, leader, register

from core.model.host import Halt
from core.server.config import AutopilotConfig
from core.server.machine import ServerMachine

SWIFT = AutopilotConfig(server_stabilization_time_us=4_000_000)


def voters(world: World) -> set[str]:
    return set(leader(world).server.consensus.raft.configuration.voters)


def server_id(number: int) -> str:
    return f"00000000-0000-0000-0000-{number:012d}"


def health(world: World) -> dict[str, bool]:
    answer = world.ask(leader(world), "Operator.AutopilotHealth")
    return {row["Name"].partition(".")[0]: row["Healthy"] for row in answer.body["Servers"]}


def test_a_later_server_is_a_learner_until_it_was_healthy_for_a_while() -> None:
    world = datacenter(3, 0)
    world.add_server("s4", 4, bootstrap_expect=3, retry_join=JOIN)
    raft = leader(world).server.consensus.raft
    world.until(lambda: server_id(4) in raft.configuration.learners)
    began_us = world.now_us
    world.until(lambda: server_id(4) in raft.configuration.voters)
    assert 10_000_000 <= world.now_us - began_us < 20_000_000


def test_a_server_that_shall_not_vote_never_does_and_one_that_did_is_demoted() -> None:
    world = datacenter(3, 0, autopilot=SWIFT)
    late = world.add_server("s4", 4, bootstrap_expect=3, retry_join=JOIN, is_non_voter=True)
    raft = leader(world).server.consensus.raft
    world.until(lambda: server_id(4) in raft.configuration.learners)
    register(world)
    world.run(30)
    assert server_id(4) in raft.configuration.learners
    assert late.state.hash() == leader(world).state.hash()
    name = follower(world).name  # type: ignore[attr-defined]
    world.kill(next(one for one in world.servers() if one.name == name))  # type: ignore[attr-defined]
    world.configs[name] = msgspec.structs.replace(world.configs[name], is_non_voter=True)
    world.start(name)
    world.until(lambda: world.configs[name].server_id in raft.configuration.learners)
    assert len(voters(world)) == 2


def test_a_server_that_shall_not_vote_founds_nothing() -> None:
    world = World()
    alone = world.add_server("s1", 1, is_non_voter=True)
    world.run(20)
    assert alone.server.consensus.is_empty


def test_a_dead_voter_stays_until_its_replacement_votes() -> None:
    world = datacenter(3, 0, autopilot=SWIFT)
    world.run(5)
    dead = follower(world)
    gone = dead.server.config.server_id
    world.kill(dead)
    world.run(60)
    assert gone in voters(world)  # of three voters none may go: min_quorum
    assert not health(world)[dead.name]  # type: ignore[attr-defined]
    world.add_server("s4", 4, bootstrap_expect=3, retry_join=JOIN)
    world.until(lambda: server_id(4) in voters(world))
    world.until(lambda: gone not in voters(world))
    assert len(voters(world)) == 3


def test_without_clean_up_the_dead_stay() -> None:
    config = msgspec.structs.replace(SWIFT, cleanup_dead_servers=False, min_quorum=1)
    world = datacenter(5, 0, autopilot=config)
    world.kill(follower(world))
    world.run(60)
    assert len(voters(world)) == 5


def test_clean_up_ends_at_the_smallest_quorum_and_the_dead_come_back_as_learners() -> None:
    world = datacenter(5, 0, autopilot=SWIFT)
    world.run(5)
    dead = [one for one in world.servers() if one is not leader(world)][:2]
    for one in dead:
        world.kill(one)
    world.until(lambda: len(voters(world)) == 3)
    again = world.start(dead[0].name)  # type: ignore[attr-defined]
    world.until(lambda: again.server.config.server_id in voters(world))
    world.run(5)
    assert again.state.hash() == leader(world).state.hash()


def test_a_removal_that_would_lose_the_quorum_is_refused_with_its_reason() -> None:
    world = datacenter(3, 0)
    world.run(5)
    first = leader(world)
    others = [one for one in world.servers() if one is not first]
    world.kill(others[0])
    world.run(3)
    params = {"id": others[1].server.config.server_id}
    refused = world.ask(first, "Operator.RemovePeer", params=params)
    assert refused.status == 500 and "the quorum would be lost" in refused.error
    params = {"address": others[0].server.config.rpc_addr}  # the dead one may go
    done = world.ask(first, "Operator.RemovePeer", params=params)
    assert not done.is_error, done
    assert others[0].server.config.server_id not in voters(world)


def test_a_removed_server_is_not_taken_in_again_and_the_leader_says_why() -> None:
    world = datacenter(3, 0, autopilot=SWIFT)
    world.run(5)
    removed = follower(world)
    params = {"id": removed.server.config.server_id}
    assert not world.ask(leader(world), "Operator.RemovePeer", params=params).is_error
    world.run(60)
    assert len(voters(world)) == 2
    said = [log.fields["reason"] for _, log in world.logs if "not taken into" in log.message]
    assert said and "empty data_dir" in said[0]
    assert len(said) == 1  # once, not every two seconds
    told = [(name, log) for name, log in world.logs if "is refused by the quorum" in log.message]
    assert [(name, log.fields["reason"]) for name, log in told] == [(removed.name, said[0])]


def test_the_leader_itself_can_be_removed() -> None:
    world = datacenter(3, 0)
    world.run(5)
    first = leader(world)
    params = {"id": first.server.config.server_id}
    assert not world.ask(follower(world), "Operator.RemovePeer", params=params).is_error
    world.until(lambda: (found := world.leader()) is not None and found is not first)
    assert first.server.config.server_id not in voters(world)


def test_a_server_of_another_datacenter_with_our_name_is_refused() -> None:
    world = datacenter(3, 0)
    stranger = World(2)
    stranger.add_server("x1", 9, bootstrap_expect=1)
    stranger.until(stranger.leader)
    world.disks["x1"] = stranger.disks["x1"]
    world.configs["x1"] = msgspec.structs.replace(stranger.configs["x1"], retry_join=JOIN)
    world.start("x1")
    world.run(30)
    world.leader = lambda: next(  # type: ignore[method-assign]
        one for one in world.servers()
        if one.server.consensus.is_serving and one.name != "x1"  # type: ignore[attr-defined]
    )  # fmt: skip
    assert len(voters(world)) == 3
    terms = {one.server.consensus.term for one in world.servers() if one.name != "x1"}  # type: ignore[attr-defined]
    world.run(30)
    assert terms == {leader(world).server.consensus.term}  # nobody's leader was unseated
    told = {log.message for _, log in world.logs if log.level in ("warning", "error")}
    assert any("refuse" in message for message in told), told
    # Each side reads it in a log of its own, with the remedy.
    for side, text in (("x1", "empty its data_dir"), ("s1", "an empty data_dir")):
        assert any(text in str(log.fields) for name, log in world.logs if name == side), side
    told_s1 = [log for name, log in world.logs if "is refused by the quorum" in log.message]
    assert [log.fields["by"] for log in told_s1] == ["x1"]


def test_settings_are_kept_checked_and_guarded_by_index() -> None:
    world = datacenter(3, 0)
    default = world.ask(leader(world), "Operator.AutopilotGet").body
    assert default["CleanupDeadServers"] is True and default["MinQuorum"] == 3
    body = {**default, "MinQuorum": 5, "LastContactThreshold": "250ms"}
    done = world.ask(leader(world), "Operator.AutopilotSet", body=body, params={"cas": "0"})
    assert done.body is True
    late = world.ask(leader(world), "Operator.AutopilotSet", body=body, params={"cas": "0"})
    assert late.body is False
    world.run(1)
    kept = world.ask(follower(world), "Operator.AutopilotGet", stale=True).body
    assert (kept["MinQuorum"], kept["LastContactThreshold"]) == (5, "250ms")
    for wrong in (
        {"MinQuorum": 9}, {"MinQuorum": "x"}, {"LastContactThreshold": "soon"},
        {"ServerStabilizationTime": 0}, {"CleanupDeadServers": 1},
        {"EnableRedundancyZones": True},
    ):  # fmt: skip
        answer = world.ask(leader(world), "Operator.AutopilotSet", body=wrong)
        assert answer.status == 400 and next(iter(wrong)) in answer.error


def test_health_names_who_is_not_and_says_429() -> None:
    world = datacenter(3, 0)
    world.run(5)
    fine = world.ask(leader(world), "Operator.AutopilotHealth")
    assert fine.status == 200 and fine.body["FailureTolerance"] == 1
    sick = follower(world)
    world.kill(sick)
    world.until(lambda: not health(world)[sick.name])  # type: ignore[attr-defined]
    answer = world.ask(leader(world), "Operator.AutopilotHealth")
    assert answer.status == 429 and not answer.body["Healthy"]
    assert answer.body["FailureTolerance"] == 0
    (row,) = [row for row in answer.body["Servers"] if not row["Healthy"]]
    assert row["Name"].startswith(sick.name) and not row["Leader"]  # type: ignore[attr-defined]


def test_a_copy_of_a_servers_data_folder_is_stopped_with_the_remedy() -> None:
    """Two processes with one replica id: the one that is not where the log says must go."""
    world = datacenter(3, 0)
    world.run(5)
    original = follower(world)
    name = original.name  # type: ignore[attr-defined]
    halted: list[str] = []
    carry_out = world._carry_out

    def keep_halts(agent: ServerMachine, effect: object) -> None:
        if isinstance(effect, Halt):
            halted.append(f"{agent.name}: {effect.reason}")  # type: ignore[attr-defined]
            world.kill(agent)
        else:
            carry_out(agent, effect)

    world._carry_out = keep_halts  # type: ignore[method-assign]
    world.disks["copy"] = world.disks[name]
    world.configs["copy"] = msgspec.structs.replace(
        world.configs[name], name="copy", rpc_addr="10.0.0.9:4647", gossip_addr="10.0.0.9:4648",
        http_addr="10.0.0.9:4646",
    )  # fmt: skip
    world.start("copy")
    world.until(lambda: halted)
    assert halted[0].startswith("copy: ") and "empty data_dir" in halted[0]
    world.run(10)
    assert len(halted) == 1
    register(world)
