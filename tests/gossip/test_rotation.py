"""The keys of a running pool, changed over real sockets."""

import pytest
import trio

from gossip.endpoint import Pool, open_endpoint
from gossip.key_messages import KeyOperation, KeyQuestion, KeyTarget, MemberKeys, objection
from gossip.keyring import Keyring
from gossip.messages import KEYS, Packet
from gossip.rotation import ask_all, ask_keys

OLD, NEW = bytes(32), b"\x01" * 32
WAIT_S = 5


class Fleet:
    """Three endpoints with keyrings of their own; the first one asks."""

    def __init__(self) -> None:
        self.keyrings = [Keyring([OLD]) for _ in range(3)]
        self.kept: list[list[bytes]] = []
        self.full_disks: set[int] = set()
        self.endpoints = []
        self.targets = []

    async def open(self, stack) -> None:
        for number, keyring in enumerate(self.keyrings):

            async def keep(pool, keys, number=number):
                self.kept.append(keys)
                return "disk full" if number in self.full_disks else ""

            endpoint = await stack.enter_async_context(
                open_endpoint("127.0.0.1", 0, pools={"lan": Pool("lan", keyring)}, keep_keys=keep)
            )
            self.endpoints.append(endpoint)
            addresses = () if number == 0 else (endpoint.address,)
            self.targets.append(KeyTarget("lan", f"m{number}", addresses))

    async def ask(self, operation, key=NEW) -> list[MemberKeys]:
        with trio.fail_after(WAIT_S):
            return await ask_all(self.endpoints[0], self.targets, KeyQuestion(operation, key))


@pytest.fixture
async def fleet():
    from contextlib import AsyncExitStack

    fleet = Fleet()
    async with AsyncExitStack() as stack:
        await fleet.open(stack)
        yield fleet


async def test_a_key_is_rotated_at_all_members(fleet):
    for operation, key in (
        (KeyOperation.INSTALL, NEW),
        (KeyOperation.USE, NEW),
        (KeyOperation.REMOVE, OLD),
    ):
        answers = await fleet.ask(operation, key)
        assert [(one.name, one.error) for one in answers] == [("m0", ""), ("m1", ""), ("m2", "")]
    assert [keyring.keys for keyring in fleet.keyrings] == [[NEW]] * 3
    # each change was kept on disk before it took effect
    assert fleet.kept.count([OLD, NEW]) == fleet.kept.count([NEW, OLD]) == 3
    assert all(one.keys == (NEW,) for one in await fleet.ask(KeyOperation.LIST))


async def test_each_member_refuses_what_would_leave_it_without_a_key(fleet):
    assert all("in use" in one.error for one in await fleet.ask(KeyOperation.REMOVE, OLD))
    assert all("install it first" in one.error for one in await fleet.ask(KeyOperation.USE))
    assert all("16, 24 or 32" in one.error for one in await fleet.ask(KeyOperation.INSTALL, b"x"))
    assert [keyring.keys for keyring in fleet.keyrings] == [[OLD]] * 3 and not fleet.kept


async def test_what_can_not_be_kept_is_not_changed(fleet):
    fleet.full_disks = {1}
    answers = await fleet.ask(KeyOperation.INSTALL)
    assert [one.error for one in answers] == ["", "disk full", ""]
    assert fleet.keyrings[1].keys == [OLD]


async def test_who_does_not_answer_is_named(fleet):
    fleet.targets.append(KeyTarget("lan", "gone", ("127.0.0.1:1",)))
    assert "no answer" in (await fleet.ask(KeyOperation.INSTALL))[-1].error
    # of several addresses the first that answers is taken
    target = KeyTarget("lan", "m1", ("127.0.0.1:1", fleet.endpoints[1].address))
    (answer,) = await ask_keys(fleet.endpoints[0], target, KeyQuestion(KeyOperation.LIST))
    assert answer.keys == (OLD, NEW)


async def test_nobody_without_a_key_of_the_pool_is_heard(fleet):
    stranger = {"lan": Pool("lan", Keyring([b"\x02" * 32]))}
    async with open_endpoint("127.0.0.1", 0, pools=stranger) as endpoint:
        (answer,) = await ask_keys(
            endpoint, fleet.targets[1], KeyQuestion(KeyOperation.INSTALL, b"\x02" * 32)
        )
    assert answer.error and fleet.keyrings[1].keys == [OLD]
    assert fleet.endpoints[1].drops["wrong_key"] == 1


async def test_a_pool_in_clear_has_no_keys():
    pools = {"lan": Pool("lan")}
    async with open_endpoint("127.0.0.1", 0, pools=pools) as one:
        for addresses in ((), (one.address,)):
            target = KeyTarget("lan", "m", addresses)
            (answer,) = await ask_keys(one, target, KeyQuestion(KeyOperation.INSTALL, NEW))
            assert "not encrypted" in answer.error


async def test_a_question_that_makes_no_sense_changes_nothing(fleet):
    for data in (b"", b"\xff", b"\x93\xa3use\x01\x02"):
        address = fleet.endpoints[1].address
        packet = Packet(KEYS, data=data)
        assert await fleet.endpoints[0].exchange("lan", address, packet, WAIT_S) is None
    assert fleet.keyrings[1].keys == [OLD]


def test_objections_name_who_would_be_cut_off():
    listed = [
        MemberKeys("a", "", (OLD, NEW)),
        MemberKeys("b", "", (OLD,)),
        MemberKeys("c", "no answer"),
    ]
    assert "b would be cut off" in objection(KeyQuestion(KeyOperation.USE, NEW), listed)
    assert "in use at a, b" in objection(KeyQuestion(KeyOperation.REMOVE, OLD), listed)
    assert objection(KeyQuestion(KeyOperation.REMOVE, NEW), listed) == ""
    assert objection(KeyQuestion(KeyOperation.USE, OLD), listed) == ""
