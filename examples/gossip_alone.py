"""Three members of a gossip pool in one process; one leaves. Uses nothing but `gossip`."""

import trio

from gossip.endpoint import Pool
from gossip.host import open_member
from gossip.keyring import Keyring

POOL = Pool("example", Keyring([b"sixteen byte key"]))


async def main() -> None:
    async with (
        open_member("a", "127.0.0.1", 0, pool=POOL) as a,
        open_member("b", "127.0.0.1", 0, pool=POOL, join=[a.address]),
    ):
        async with open_member("c", "127.0.0.1", 0, pool=POOL, meta={"role": "db"}) as c:
            c.join([a.address])
            while len(c.members()) < 3 or len(a.members()) < 3:
                await trio.sleep(0.1)
        async for kind, member in a.events:
            print(member.name, kind, dict(member.meta))
            if kind == "left":
                break


trio.run(main)
