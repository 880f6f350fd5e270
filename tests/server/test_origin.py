"""Two regions that share no more than a name; and datacenters that are meant to be one region."""

from harness import World

from core.server.machine import ServerMachine


def member_names(server: ServerMachine) -> list[str]:
    return [member.name for member in server.server.membership.wan.members()]


def refusals(world: World, name: str) -> list[str]:
    return [
        log.fields["reason"]
        for agent, log in world.logs
        if agent == name and log.message == "wan member refused"
    ]


def join(world: World, server: ServerMachine, address: str) -> dict[str, object]:
    answer = world.ask(server, "Agent.Join", params={"address": [address]})
    assert isinstance(answer.body, dict)
    return answer.body


def born(world: World, name: str, number: int, **config: object) -> ServerMachine:
    server = world.add_server(name, number, **config)
    world.until(lambda: server.server.consensus.is_serving)
    return server


def test_regions_of_one_name_and_two_origins_refuse_each_other() -> None:
    world = World()
    one = born(world, "s1", 1, region="eu", datacenter="a")
    two = born(world, "s2", 2, region="eu", datacenter="b")
    answer = join(world, one, "10.0.0.2:4648")
    assert answer["num_joined"] == 0 and one.datacenter_id in str(answer["error"])
    world.run(60)
    for server, other in ((one, two), (two, one)):
        assert len(member_names(server)) == 1
        (reason,) = refusals(world, server.server.config.name)  # told once, not at every try
        assert other.datacenter_id in reason and "'eu'" in reason
        assert server.measures.gossip_dropped["wan/not_admitted"] > 0


def test_two_datacenters_of_one_name_refuse_each_other() -> None:
    world = World()
    one = born(world, "s1", 1)
    born(world, "s2", 2)
    answer = join(world, one, "10.0.0.2:4648")
    assert answer["num_joined"] == 0 and "another datacenter named global/dc1" in str(
        answer["error"]
    )


def test_a_third_region_keeps_the_one_it_met_first() -> None:
    """And who is refused brings none of its friends along."""
    world = World()
    us = born(world, "us1", 1, region="us", datacenter="u")
    eu = born(world, "eu1", 2, region="eu", datacenter="a")
    false_eu = born(world, "eu2", 3, region="eu", datacenter="b")
    friend = born(world, "friend", 4, region="asia", datacenter="c")
    assert join(world, eu, "10.0.0.1:4648")["num_joined"] == 1
    assert join(world, false_eu, "10.0.0.4:4648")["num_joined"] == 1
    assert join(world, false_eu, "10.0.0.1:4648")["num_joined"] == 0
    world.run(30)
    assert member_names(us) == member_names(eu) == ["eu1.eu", "us1.us"]
    assert member_names(friend) == ["eu2.eu", "friend.asia"]


def test_a_region_built_anew_is_admitted_once_the_old_one_is_gone() -> None:
    world = World()
    us = born(world, "us1", 1, region="us", datacenter="u")
    old = born(world, "eu1", 2, region="eu", datacenter="a")
    assert join(world, old, "10.0.0.1:4648")["num_joined"] == 1
    world.kill(old)
    world.until(lambda: us.server.membership.wan.member("eu1.eu").status == "dead", 120)
    new = born(world, "eu2", 3, region="eu", datacenter="a")
    assert join(world, new, "10.0.0.1:4648")["num_joined"] == 1


def test_a_newborn_asks_whom_it_was_told_of_before_it_begins() -> None:
    """So a second datacenter takes the first one's origin, and a server its datacenter."""
    world = World()
    first = born(world, "s1", 1, region="eu", datacenter="a")
    joins = ("10.0.0.1:4648",)
    second = born(world, "s2", 2, region="eu", datacenter="b", retry_join=joins)
    assert second.state.region_origin == first.state.region_origin == first.datacenter_id
    third = world.add_server("s3", 3, region="eu", datacenter="a", retry_join=joins)
    world.until(lambda: third.datacenter_id)
    assert third.datacenter_id == first.datacenter_id


def test_datacenters_born_apart_but_told_of_each_other_become_one_region() -> None:
    world = World()
    world.cut = {("s1", "s2"), ("s2", "s1")}
    both = ("10.0.0.1:4648", "10.0.0.2:4648")
    one = born(world, "s1", 1, region="eu", datacenter="a", retry_join=both)
    two = born(world, "s2", 2, region="eu", datacenter="b", retry_join=both)
    assert one.state.region_origin == two.state.region_origin == ""
    world.cut.clear()
    world.until(lambda: len(member_names(one)) == len(member_names(two)) == 2)
    world.until(lambda: one.state.region_origin and two.state.region_origin, 90)
    assert one.state.region_origin == two.state.region_origin
    assert [one.state.is_authority, two.state.is_authority].count(True) == 1


def test_the_origin_survives_a_restart() -> None:
    world = World()
    one = born(world, "s1", 1, region="eu")
    world.kill(one)
    again = world.start("s1")
    world.until(lambda: again.server.consensus.is_serving)
    assert again.state.region_origin == one.datacenter_id
    own = again.server.membership.wan.member("s1.eu")
    assert own is not None and own.meta["origin"] == one.datacenter_id
