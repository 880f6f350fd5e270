"""Gossip keys of a federation, asked of one server: who is asked, and what is refused."""

from harness import World

from core.model.query import Answer
from gossip.keyring import Keyring, encode_key
from gossip.messages import KEYS, NACK, Packet

OLD, NEW = bytes(32), b"\x01" * 32


def federation() -> World:
    """Two datacenters of two servers each, every one with its own keyring."""
    world = World()
    for number, datacenter in ((1, "a"), (2, "a"), (3, "b"), (4, "b")):
        first = 1 if datacenter == "a" else 3
        joins = tuple(f"10.0.0.{n}:4648" for n in (1, first))
        server = world.add_server(
            f"s{number}", number, region="eu", datacenter=datacenter,
            bootstrap_expect=1 if number == first else 0, retry_join=joins,
        )  # fmt: skip
        world.until(lambda: server.datacenter_id)  # noqa: B023
        world.keyrings[f"s{number}"] = Keyring([OLD])
    world.run(10)
    return world


def ask(world: World, operation: str, key: bytes = NEW) -> Answer:
    server = next(one for one in world.servers() if one.server.config.name == "s1")
    return world.ask(server, f"Agent.Keyring.{operation}", body={"Key": encode_key(key)})


def held(world: World) -> list[list[bytes]]:
    return [keyring.keys for _, keyring in sorted(world.keyrings.items())]


def test_a_key_is_rotated_at_every_agent_of_every_datacenter() -> None:
    world = federation()
    listed = ask(world, "List").body
    assert listed["Keys"] == {encode_key(OLD): 4} and listed["NumNodes"] == 4
    assert [one["Name"] for one in listed["Members"]] == [
        "s1.eu/a", "s2.eu/a", "s3.eu/b", "s4.eu/b"
    ]  # fmt: skip
    assert ask(world, "Install").body["Keys"] == {encode_key(OLD): 4, encode_key(NEW): 4}
    assert ask(world, "Use").body["PrimaryKeys"] == {encode_key(NEW): 4}
    assert not ask(world, "Remove", OLD).body["Messages"]
    assert held(world) == [[NEW]] * 4


def test_the_key_in_use_is_not_removed_from_anybody() -> None:
    world = federation()
    ask(world, "Install")
    answer = ask(world, "Remove", OLD)
    assert answer.status == 400 and "in use at s1.eu/a, s2.eu/a, s3.eu/b" in answer.error
    assert held(world) == [[OLD, NEW]] * 4


def test_a_key_that_a_member_lacks_is_not_used_by_anybody() -> None:
    world = federation()
    ask(world, "Install")
    world.keyrings["s4"].remove(NEW)
    answer = ask(world, "Use")
    assert answer.status == 400 and "s4.eu/b would be cut off" in answer.error
    assert all(keys[0] == OLD for keys in held(world))


def test_a_member_that_does_not_answer_is_named_and_holds_nobody_up() -> None:
    world = federation()
    world.mute |= {("s1", "s2")}
    body = ask(world, "Install").body
    assert body["NumErr"] == 1 and list(body["Messages"]) == ["s2.eu/a"]
    assert held(world)[0] == held(world)[3] == [OLD, NEW]


def test_a_pool_in_clear_and_a_bad_key_are_answered_in_words() -> None:
    world = federation()
    world.keyrings.clear()
    assert "not encrypted" in ask(world, "List").error
    assert ask(world, "Install", b"short").status == 400


def test_a_relayed_question_that_makes_no_sense_is_answered() -> None:
    world = federation()
    got: list[object] = []
    keyring = world.servers()[0].server.keyring
    keyring.on_request("wan", 1, Packet(KEYS, data=b"\xff"))
    for effect in keyring._server.outbox.take():
        got.append(effect.packet.kind)
    assert got == [NACK]
