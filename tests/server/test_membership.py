"""Joining by names and addresses, and making the dead leave."""

import pytest
from harness import World
from stories import datacenter, leader

from core.model.host import GossipExchanged, Log, with_port
from gossip.messages import ALIVE, DEAD, SYNC_TABLE, Identity, Packet, Update
from gossip.views import Status


def status(server, name: str) -> str:  # type: ignore[no-untyped-def]
    member = server.server.membership.wan.member(name)
    return "forgotten" if member is None else str(member.status)


def test_a_name_leads_to_a_server_and_counts_as_joined() -> None:
    world = World()
    eu = world.add_server("eu1", 1, region="eu")
    us = world.add_server("us1", 2, region="us", retry_join=("seeds.example:4648",))
    world.by_gossip["wan", "seeds.example:4648"] = eu
    answer = world.ask(us, "Agent.Join", params={"address": ["seeds.example:4648"]})
    assert answer.body == {"num_joined": 1, "error": ""}
    world.run(20)  # who has just joined compares tables a few times more
    exchanges = us.server.membership.wan.counters.exchanges
    world.run(20)  # and is not joined again and again
    assert us.server.membership.wan.counters.exchanges - exchanges <= 1


def test_a_name_of_many_that_led_to_ourselves_is_tried_again_soon() -> None:
    world = World()
    eu = world.add_server("eu1", 1, region="eu")
    us = world.add_server(
        "us1", 2, region="us", retry_join=("seeds.example:4648",), retry_interval_us=10_000_000
    )
    world.by_gossip["wan", "seeds.example:4648"] = us
    world.run(10.1)
    world.by_gossip["wan", "seeds.example:4648"] = eu  # the next of its addresses
    world.until(lambda: len(us.server.membership.wan.members()) == 2, 3)


def test_an_address_that_leads_nowhere_is_tried_for_ever() -> None:
    world = World()
    us = world.add_server("us1", 2, region="us", retry_join=("10.0.0.1:4648",))
    world.until(world.leader)  # it does not wait for ever to be born
    world.run(40)
    world.add_server("eu1", 1, region="eu")
    world.until(lambda: len(us.server.membership.wan.members()) == 2, 5)


def test_a_dead_server_is_made_to_leave_and_forgotten_everywhere() -> None:
    world = datacenter(3, 0)
    world.run(3)
    victim = next(one for one in world.servers() if one is not leader(world))
    name = victim.server.membership.wan_name
    asked, other = [one for one in world.servers() if one is not victim]
    world.kill(victim)
    world.until(lambda: {status(asked, name), status(other, name)} == {"dead"}, 90)
    world.ask(asked, "Agent.ForceLeave", params={"node": name})
    world.until(lambda: {status(asked, name), status(other, name)} == {"left"}, 20)
    # without its region, and for good
    bare = victim.server.config.name
    world.ask(asked, "Agent.ForceLeave", params={"node": bare, "prune": "true"})
    world.until(lambda: {status(asked, name), status(other, name)} == {"forgotten"}, 5)
    lan = asked.server.membership.lan
    assert lan.member(bare) is None
    world.run(60)
    assert {status(asked, name), status(other, name)} == {"forgotten"}


def test_a_living_server_is_not_made_to_leave() -> None:
    world = datacenter(3, 0)
    world.run(3)
    asked = leader(world)
    other = next(one for one in world.servers() if one is not asked)
    name = other.server.membership.wan_name
    params = {"node": name, "prune": "true"}
    answer = world.ask(asked, "Agent.ForceLeave", params=params)
    assert not answer.is_error and f"{name} is alive" in answer.body["error"]
    answer = world.ask(asked, "Agent.ForceLeave", params={"node": "nobody"})
    assert not answer.is_error and "no member is called nobody" in answer.body["error"]
    assert status(asked, name) == Status.ALIVE


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1", "10.0.0.1:4648"),
        ("10.0.0.1:5", "10.0.0.1:5"),
        ("seeds.example", "seeds.example:4648"),
        ("seeds.example:5", "seeds.example:5"),
        ("fd00::1", "[fd00::1]:4648"),
        ("[fd00::1]", "[fd00::1]:4648"),
        ("[fd00::1]:5", "[fd00::1]:5"),
    ],
)
def test_an_address_gets_the_port_it_lacks(text: str, address: str) -> None:
    assert with_port(text, 4648) == address


def test_another_agent_of_our_name_is_told_of_once_and_an_earlier_life_is_none() -> None:
    world = datacenter(1, 0)
    server = leader(world)
    own = server.server.config
    name = f"{own.name}.{own.region}"

    def told() -> list[Log]:
        return [log for _, log in world.logs if "has our name" in log.message]

    def claim(number: int, server_id: str, status: int = ALIVE) -> None:
        who = Identity(name, f"10.0.9.{number}:4648", {"role": "server", "id": server_id})
        packet = Packet(
            SYNC_TABLE, sender="s9.global", updates=(Update(name, status, "", who, 100),)
        )
        world.deliver(server, GossipExchanged("wan", 999, packet))

    claim(1, own.server_id)  # ourselves, before the address changed
    claim(2, "another", DEAD)
    assert not told()
    claim(3, "another")
    claim(3, "another")
    assert [log.fields["at"] for log in told()] == ["10.0.9.3:4648"]
    assert "another name" in told()[0].fields["remedy"]
