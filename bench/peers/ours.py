"""Serai's contender: all members but one in this process; see bench.peers.

The one that is killed is a process of its own: only so it says no farewell.
"""

import json
import os
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from typing import Final

import trio

from gossip.endpoint import Pool
from gossip.host import Member, open_member
from gossip.views import Status

HOST: Final = "127.0.0.1"
LIMIT_S: Final = 120.0
VICTIM: Final = "--victim"


async def run(count: int, quiet_s: int) -> None:
    began = time.monotonic()
    async with AsyncExitStack() as stack:

        async def begin(number: int) -> None:
            join = [members[0].address] if members else []
            member = open_member(f"m{number:04}", HOST, 0, pool=Pool("lan"), join=join)
            members.append(await stack.enter_async_context(member))

        members: list[Member] = []
        await begin(0)
        # beside the others: to start an interpreter takes as long as all of them together
        with subprocess.Popen(
            [sys.executable, "-m", "bench.peers.ours", VICTIM, members[0].address]
        ) as victim:
            for number in range(1, count - 1):
                await begin(number)
            say("joined", await agreed(members, count, began))
            await trio.sleep(quiet_s)
            say("quiet", time.monotonic() - began)
            victim.kill()
            say("detected", await agreed(members, count - 1, time.monotonic()))
        # thirty farewells, one after another, would tell nobody anything
        os._exit(0)


async def agreed(members: list[Member], count: int, began: float) -> float:
    """Return the seconds since `began` until each member knows exactly `count` living."""
    gone = (Status.DEAD, Status.LEFT)
    while any(sum(view.status not in gone for view in m.members()) != count for m in members):
        if time.monotonic() - began > LIMIT_S:
            raise SystemExit(f"no agreement within {LIMIT_S:.0f} s")
        await trio.sleep(0.02)
    return time.monotonic() - began


async def be_victim(join: str) -> None:
    async with open_member("victim", HOST, 0, pool=Pool("lan"), join=[join]):
        await trio.sleep_forever()


def say(phase: str, seconds: float) -> None:
    print(json.dumps({"phase": phase, "s": seconds}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == VICTIM:
        trio.run(be_victim, sys.argv[2])
    else:
        trio.run(run, int(sys.argv[1]), int(sys.argv[2]))
