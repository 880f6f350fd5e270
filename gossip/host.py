"""A complete member of one pool on trio: a machine and an endpoint, wired together.

    async with open_member("a", "127.0.0.1", 4648, pool=Pool("lan"), join=[...]) as member:
        async for event in member.events: ...

Leaving the block says farewell to the pool. Serai's agents don't use this: they drive
several machines behind one endpoint. It is what someone wants who has one pool, and the
shortest example of a host.
"""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import trio

from gossip.endpoint import Endpoint, KeepKeys, Pool, open_endpoint
from gossip.machine import GossipMachine
from gossip.messages import Packet
from gossip.settings import LAN, Settings
from gossip.views import MemberEvent, MemberView, Output

EVENTS_MAX: Final = 1_024
FAREWELL_S: Final = 5.0
_POOL: Final = "pool"


class Member:
    """Made by `open_member`."""

    def __init__(self, nursery: trio.Nursery, rejoin_s: float) -> None:
        self.machine: GossipMachine
        self.endpoint: Endpoint
        self.events: trio.MemoryReceiveChannel[MemberEvent]
        # a reader that is too slow loses events, never the pool
        self._event_sink, self.events = trio.open_memory_channel[MemberEvent](EVENTS_MAX)
        self._nursery = nursery
        self._rejoin_s = rejoin_s
        self.says_farewell = True  # False: end without a word, as if killed
        self._changed = trio.Event()

    @property
    def address(self) -> str:
        return self.endpoint.address

    def members(self) -> list[MemberView]:
        return self.machine.members()

    def join(self, addresses: Sequence[str]) -> None:
        """Join by these addresses; tried again until somebody is found."""
        self._nursery.start_soon(self._keep_joining, list(addresses))

    async def _keep_joining(self, addresses: list[str]) -> None:
        while True:
            self.machine.join(addresses, now_us())
            self._carry_out(self.machine.take_output())
            await trio.sleep(self._rejoin_s)
            if len(self.machine.members()) > 1:
                return

    def on_packet(self, _pool: str, source: str, packet: Packet) -> None:
        self.machine.on_packet(source, packet, now_us())
        self._carry_out(self.machine.take_output())

    async def on_exchange(self, _pool: str, source: str, packet: Packet) -> Packet | None:
        self.machine.on_exchange_request(0, source, packet, now_us())
        output = self.machine.take_output()
        self._carry_out(output)
        return output.replies[0][1]

    async def run_timers(self) -> None:
        while True:
            self._changed = trio.Event()
            with trio.move_on_at(self.machine.deadline_us / 1e6):
                await self._changed.wait()
            self.machine.tick(now_us())
            self._carry_out(self.machine.take_output())

    async def leave(self) -> None:
        """Say farewell, for five seconds at most."""
        self.machine.leave(now_us())
        self._carry_out(self.machine.take_output())
        with trio.move_on_after(FAREWELL_S):
            while not self.machine.is_left:
                await trio.sleep(0.05)

    def _carry_out(self, output: Output) -> None:
        for address, packet in output.packets:
            self.endpoint.send(_POOL, address, packet)
        for exchange_id, address, packet, timeout_us in output.exchanges:
            self._nursery.start_soon(self._exchange, exchange_id, address, packet, timeout_us)
        for event in output.events:
            try:
                self._event_sink.send_nowait(event)
            except (trio.WouldBlock, trio.BrokenResourceError):
                self.endpoint.drops["events_unread"] += 1
        self._changed.set()

    async def _exchange(
        self, exchange_id: int, address: str, packet: Packet, timeout_us: int
    ) -> None:
        reply = await self.endpoint.exchange(_POOL, address, packet, timeout_us / 1e6)
        self.machine.on_exchanged(exchange_id, reply, now_us())
        self._carry_out(self.machine.take_output())


def now_us() -> int:
    """Return trio's monotonic time, microseconds."""
    return int(trio.current_time() * 1e6)


@asynccontextmanager
async def open_member(
    name: str,
    host: str,
    port: int,
    *,
    pool: Pool,
    meta: dict[str, str] | None = None,
    settings: Settings = LAN,
    join: Sequence[str] = (),
    known: Sequence[tuple[str, str]] = (),
    advertise: str = "",
    rejoin_s: float = 5.0,
    keep_keys: KeepKeys | None = None,
) -> AsyncIterator[Member]:
    """Be a member of `pool` until the block ends, then leave it gracefully.

    Args:
        name: Unique in the pool.
        host: Where to listen; `port` 0 chooses a free one.
        meta: What others shall know, at most 512 bytes.
        join: Addresses of members.
        known: `machine.snapshot()` of an earlier life.
        advertise: "host:port" under which others reach us; "" = where we listen.
        rejoin_s: Pause before `join` is tried again while nobody is found.
        keep_keys: As of `open_endpoint`.

    Raises:
        OSError: the address can't be bound.
        ValueError: name or metadata is too long.
    """
    async with trio.open_nursery() as nursery:
        member = Member(nursery, rejoin_s)
        async with open_endpoint(
            host,
            port,
            pools={_POOL: pool},
            on_packet=member.on_packet,
            on_exchange=member.on_exchange,
            keep_keys=keep_keys,
        ) as endpoint:
            member.endpoint = endpoint
            member.machine = GossipMachine(
                name=name,
                address=advertise or endpoint.address,
                meta=meta or {},
                settings=settings,
                rng=random.SystemRandom(),
                now_us=now_us(),
                known=known,
            )
            nursery.start_soon(member.run_timers)
            if join:
                member.join(join)
            try:
                yield member
            finally:
                if member.says_farewell:
                    with trio.CancelScope(shield=True):
                        await member.leave()
                nursery.cancel_scope.cancel()
