"""`GossipMachine`: one member of one pool; the verbs that a host calls.

The host's contract
-------------------
* Call one verb at a time with the monotonic time in microseconds. After each call take
  `take_output()` and carry it out in order. Call `tick` when `deadline_us` is reached;
  an early or second tick is harmless.
* `output.packets`: send as datagrams; they may be lost.
* `output.exchanges`: open a stream, send the packet, and answer with exactly one
  `on_exchanged(exchange_id, reply or None)`, None on any failure or after `timeout_us`.
* A request that arrives on a stream goes to `on_exchange_request` under an id of the
  host's choice; the output of that very call carries the reply under the same id, or
  none when the request deserves none.
* Keep `snapshot()` on disk now and then, and hand it back as `known` after a restart.

Nothing here knows a clock, a socket or a thread. `rng` is the only source of chance.
"""

import random
from collections.abc import Callable, Sequence

from gossip.directory import Directory
from gossip.messages import Identity, Packet
from gossip.settings import Settings
from gossip.views import Counters, DigestView, MemberView, Output


class GossipMachine:
    deadline_us: int

    def __init__(
        self,
        *,
        name: str,
        address: str,
        meta: dict[str, str],
        settings: Settings,
        rng: random.Random,
        now_us: int,
        known: Sequence[tuple[str, str]] = (),
        admit: Callable[[Identity], str] | None = None,
        directory: Directory | None = None,
    ) -> None: ...

    def join(self, addresses: Sequence[str], now_us: int) -> None: ...
    def leave(self, now_us: int) -> None: ...
    def on_packet(self, source: str, packet: Packet, now_us: int) -> None: ...
    def on_exchange_request(
        self, exchange_id: int, source: str, packet: Packet, now_us: int
    ) -> None: ...
    def on_exchanged(self, exchange_id: int, packet: Packet | None, now_us: int) -> None: ...
    def tick(self, now_us: int) -> None: ...
    def set_meta(self, meta: dict[str, str], now_us: int) -> None: ...
    def force_leave(self, name: str, now_us: int) -> None: ...
    def publish_digest(
        self, origin: str, term: int, sequence: int, data: bytes, now_us: int
    ) -> None: ...
    def digests(self, now_us: int) -> list[DigestView]: ...
    def members(self) -> list[MemberView]: ...
    def member(self, name: str) -> MemberView | None: ...
    def snapshot(self) -> list[tuple[str, str]]: ...
    def take_output(self) -> Output: ...
    @property
    def counters(self) -> Counters: ...
    @property
    def health_score(self) -> int: ...
    @property
    def is_left(self) -> bool: ...  # the farewell has been told often enough
