"""`open_member`, the whole of gossip in one line, and the example that shows it."""

import runpy
from pathlib import Path

import trio

from gossip.endpoint import Pool
from gossip.host import open_member
from gossip.key_messages import KeyOperation, KeyQuestion, KeyTarget
from gossip.keyring import Keyring
from gossip.rotation import ask_all

EXAMPLE = Path(__file__).parents[2] / "examples" / "gossip_alone.py"
POOL = Pool("test")


def test_the_example_runs_as_documented(capsys):
    runpy.run_path(str(EXAMPLE))
    assert capsys.readouterr().out.splitlines() == [
        "b joined {}",
        "c joined {'role': 'db'}",
        "c left {'role': 'db'}",
    ]


async def test_a_join_that_was_refused_is_tried_again():
    async with open_member("a", "127.0.0.1", 0, pool=POOL) as a:
        address, port = a.address, a.endpoint.port
    with trio.fail_after(30):
        async with open_member("b", "127.0.0.1", 0, pool=POOL, join=[address], rejoin_s=0.02) as b:
            while not b.endpoint.drops["stream_failed"]:
                await trio.lowlevel.checkpoint()
            assert len(b.members()) == 1
            async with open_member("a", "127.0.0.1", port, pool=POOL):
                while len(b.members()) < 2:
                    await trio.lowlevel.checkpoint()


async def test_a_key_is_changed_as_documented():
    """docs/gossip.md, "Changing the key of a running pool"."""
    old, new = bytes(32), b"\x01" * 32
    kept: list[list[bytes]] = []

    async def keep(pool, keys):
        kept.append(keys)
        return ""

    async with (
        open_member("a", "127.0.0.1", 0, pool=Pool("p", Keyring([old])), keep_keys=keep) as member,
        open_member("b", "127.0.0.1", 0, pool=Pool("p", Keyring([old])), join=[member.address]),
    ):
        with trio.fail_after(10):
            while len(member.members()) < 2:
                await trio.lowlevel.checkpoint()
            targets = [KeyTarget("pool", who.name, (who.address,)) for who in member.members()]
            for operation, key in [("install", new), ("use", new), ("remove", old)]:
                question = KeyQuestion(KeyOperation(operation), key)
                answers = await ask_all(member.endpoint, targets, question)
                assert not any(one.error for one in answers)
    assert kept[-1] == [new]
