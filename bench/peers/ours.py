"""Serai's contender: all members in this process, as memberlist's are; see bench.peers."""

import json
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


async def run(count: int, quiet_s: int) -> None:
    began = time.monotonic()
    async with AsyncExitStack() as stack:
        members: list[Member] = []
        for number in range(count - 1):
            join = [members[0].address] if members else []
            member = open_member(f"m{number:04}", HOST, 0, pool=Pool("lan"), join=join)
            members.append(await stack.enter_async_context(member))
        async with open_member(
            "victim", HOST, 0, pool=Pool("lan"), join=[members[0].address]
        ) as victim:
            say("joined", await agreed([*members, victim], count, began))
            await trio.sleep(quiet_s)
            say("quiet", time.monotonic() - began)
            victim.says_farewell = False
        say("detected", await agreed(members, count - 1, time.monotonic()))
        for member in members:  # thirty farewells, one after another, would tell nobody anything
            member.says_farewell = False


async def agreed(members: list[Member], count: int, began: float) -> float:
    """Return the seconds since `began` until each member knows exactly `count` living."""
    gone = (Status.DEAD, Status.LEFT)
    while any(sum(view.status not in gone for view in m.members()) != count for m in members):
        if time.monotonic() - began > LIMIT_S:
            raise SystemExit(f"no agreement within {LIMIT_S:.0f} s")
        await trio.sleep(0.02)
    return time.monotonic() - began


def say(phase: str, seconds: float) -> None:
    print(json.dumps({"phase": phase, "s": seconds}), flush=True)


if __name__ == "__main__":
    trio.run(run, int(sys.argv[1]), int(sys.argv[2]))
