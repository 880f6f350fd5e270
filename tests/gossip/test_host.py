"""`open_member`, the whole of gossip in one line, and the example that shows it."""

import runpy
from pathlib import Path

import trio

from gossip.endpoint import Pool
from gossip.host import open_member

EXAMPLE = Path(__file__).parents[2] / "examples" / "gossip_alone.py"
POOL = Pool("test")


def test_the_example_runs_as_documented(capsys):
    runpy.run_path(str(EXAMPLE))
    assert capsys.readouterr().out.splitlines() == [
        "b joined {}",
        "c joined {'role': 'db'}",
        "c left {'role': 'db'}",
    ]


async def test_a_member_joins_as_soon_as_somebody_is_there(autojump_clock):
    """Refused at first: the join is tried again."""
    async with open_member("a", "127.0.0.1", 0, pool=POOL) as a:
        port = a.endpoint.port
    async with open_member("b", "127.0.0.1", 0, pool=POOL, join=[f"127.0.0.1:{port}"]) as b:
        await trio.sleep(8)
        assert len(b.members()) == 1
        async with open_member("a", "127.0.0.1", port, pool=POOL):
            with trio.fail_after(60):
                while len(b.members()) < 2:
                    await trio.sleep(1)
