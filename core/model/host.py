"""The contract between a machine and its host.

A **machine** decides; a **host** moves bytes. The host calls

    effects = machine.handle(event, now)

with something that happened and the moment it did, and carries out what comes back,
in order. Between calls nothing happens in a machine. After each call the host reads
`machine.deadline_us` and, when monotonic time reaches it, sends `Tick()`. A tick that
comes early or twice is harmless: timers check themselves.

There are two hosts: `core/agent` (trio, real sockets, disks and processes) and `sim`
(virtual time). A machine is handed its randomness (`random.Random`) when it is built,
and keeps no other source of it.

What one role alone needs (raft, gossip, task processes, disk) is defined beside that
machine; here is what all share: time, and calls between agents.

* `Call` asks another agent; exactly one `CallDone` follows, with the error text
  "timeout" or "unreachable: ..." when no answer came.
* `Requested` brings somebody's call; exactly one `Reply` must follow, now or later.
  `source` is "local" for this agent's own HTTP API. `RequestedTogether` brings several, so
  that what follows from all of them (a proposal, a message) is done once; servers take it.
* `Send` is a message that needs no answer (raft); it may be lost.
"""

from typing import Any, NamedTuple, Protocol

import msgspec

FOREVER_US = 1 << 62  # a deadline that never comes

Address = str  # "host:port"


def with_port(text: str, port: int) -> Address:
    """Return `text` with `port` where it names none; IPv6 gets its brackets."""
    host, colon, last = text.rpartition(":")
    if colon and last.isdigit() and (":" not in host or host.endswith("]")):
        return text
    bare = text.strip("[]")
    return f"[{bare}]:{port}" if ":" in bare else f"{bare}:{port}"


class Now(NamedTuple):
    """The moment of an event, both in whole microseconds."""

    mono_us: int  # for timers; never goes back
    wall_us: int  # since 1970 UTC; for records only, may jump


class Peer(msgspec.Struct, frozen=True, tag=False):
    """Who called. With TLS the fields come from the certificate, else from the caller."""

    name: str = ""
    role: str = ""  # "server" | "client" | "local"
    datacenter_id: str = ""
    address: Address = ""
    is_proven: bool = False


LOCAL = Peer(name="local", role="local", is_proven=True)


class Event(msgspec.Struct, tag=True, tag_field="@", frozen=True):
    """Something that happened. Every event can be encoded, so a run can be recorded."""


class Effect(msgspec.Struct, tag=True, tag_field="@", frozen=True):
    """Something the host shall do."""


class Tick(Event, frozen=True):
    """The machine's deadline was reached."""


class Requested(Event, frozen=True):
    request_id: int
    method: str  # "Query", "Raft.Message", "Node.Register", ...
    body: Any
    source: Peer = LOCAL


class RequestedTogether(Event, frozen=True):
    """Several calls that came while the host was busy: taken in order, carried out as one."""

    requests: tuple[Requested, ...]


class CallDone(Event, frozen=True):
    call_id: int
    error: str = ""  # "" = the call was answered
    body: Any = None


class MessageReceived(Event, frozen=True):
    """A one-way message of `Send` arrived."""

    channel: str  # "raft"
    body: Any
    source: Peer


class Call(Effect, frozen=True):
    call_id: int
    address: Address
    method: str
    body: Any
    timeout_us: int


class Reply(Effect, frozen=True):
    request_id: int
    body: Any = None
    error: str = ""


class Send(Effect, frozen=True):
    channel: str
    address: Address
    body: Any


class Log(Effect, frozen=True):
    """A line for the operator. `fields` are plain values."""

    level: str  # "debug" | "info" | "warning" | "error"
    message: str
    fields: dict[str, Any] = {}


class Halt(Effect, frozen=True):
    """The machine cannot go on (a failed fsync, an unknown command): stop the process."""

    reason: str


class Machine(Protocol):
    """What both hosts drive."""

    @property
    def deadline_us(self) -> int: ...

    def handle(self, event: Event, now: Now) -> list[Effect]: ...


# --- gossip: both roles are members of pools, so its edges are shared ---------------


class GossipReceived(Event, frozen=True):
    """A datagram of a pool arrived and decoded (`packet` is of gossip.messages)."""

    pool: str  # "lan" | "wan"
    source: Address
    packet: Any


class GossipExchangeRequested(Event, frozen=True):
    """Another member opened a stream (push-pull, stream ping): one reply is due."""

    pool: str
    exchange_id: int
    source: Address
    packet: Any


class GossipExchanged(Event, frozen=True):
    """Our own stream exchange ended; `packet` is None when the peer did not answer."""

    pool: str
    exchange_id: int
    packet: Any = None


class GossipSend(Effect, frozen=True):
    pool: str
    address: Address
    packet: Any


class GossipExchange(Effect, frozen=True):
    pool: str
    exchange_id: int
    address: Address
    packet: Any
    timeout_us: int


class GossipExchangeReply(Effect, frozen=True):
    pool: str
    exchange_id: int
    packet: Any


class SaveMembers(Effect, frozen=True):
    """Keep the member list of a pool for a rejoin after restart; small, may be lost."""

    pool: str
    members: list[tuple[str, Address]]
