"""The birth of a datacenter: one log, however the servers find each other."""

from harness import World
from stories import JOIN, datacenter, leader

from core.server.bootstrap import PLEDGE


def test_a_single_server_begins_at_once() -> None:
    world = World()
    server = world.add_server("s1", 1, bootstrap_expect=1)
    world.until(world.leader, 3)
    assert len(server.datacenter_id) == 12


def test_three_servers_share_one_datacenter_id_and_all_vote() -> None:
    world = datacenter(3, 0)
    world.run(3)
    ids = {server.datacenter_id for server in world.servers()}
    assert len(ids) == 1 and "" not in ids
    assert len(leader(world).server.consensus.voters()) == 3


def test_too_few_servers_wait() -> None:
    world = World()
    for number in (1, 2):
        world.add_server(f"s{number}", number, bootstrap_expect=3, retry_join=JOIN)
    world.run(30)
    assert world.leader() is None


def test_a_late_server_with_the_lowest_id_joins_and_begins_nothing_of_its_own() -> None:
    world = World()
    for number in (2, 3, 4):
        world.add_server(f"s{number}", number, bootstrap_expect=3, retry_join=("10.0.0.2:4648",))
    first = world.until(world.leader)
    late = world.add_server("s1", 1, bootstrap_expect=3, retry_join=("10.0.0.2:4648",))
    world.until(lambda: late.datacenter_id == first.datacenter_id)
    world.until(lambda: len(leader(world).server.consensus.voters()) == 4)


def test_a_server_that_belongs_to_a_log_pledges_nothing() -> None:
    world = datacenter(1, 0)
    birth = leader(world)._birth
    body = {"server_id": "other", "region": "global", "datacenter": "dc1"}
    assert birth.on_pledge(body) == ({"granted": False}, "")


def test_an_empty_server_pledges_to_one_at_a_time() -> None:
    world = World()
    server = world.add_server("s1", 1, bootstrap_expect=3)
    body = {"server_id": "a", "region": "global", "datacenter": "dc1"}
    assert server._birth.on_pledge(body) == ({"granted": True}, "")
    assert server._birth.on_pledge({**body, "server_id": "b"}) == ({"granted": False}, "")
    assert server._birth.on_pledge(body) == ({"granted": True}, "")


def test_a_pledge_without_a_name_is_refused_in_words() -> None:
    world = World()
    server = world.add_server("s1", 1, bootstrap_expect=3)
    assert server._birth.on_pledge("nonsense") == (None, f"{PLEDGE} needs a server_id")
