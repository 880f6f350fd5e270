"""What the parts of one machine share: who we are, what we know, what goes out.

What each packet of each second touches lies in one object, of which every part of the probe
cycle is a layer: `Timers`, `Touched`, `Local`, `Walk`, `Prober`, `GossipMachine`, each a subclass
of the one before. To have it in twenty objects, one a concern, is the obvious design, and was
ours: a process of a thousand members or more then waits for memory, object by object, for longer
than it computes. What is needed now and then, `Membership` or `Exchanger`, is an object of its own
and gets the machine as the `Local` that it is.
"""

import random
from collections.abc import Callable
from typing import Final

from gossip.awareness import Awareness
from gossip.dissemination import Rumours
from gossip.messages import (
    Identity,
    Packet,
    Update,
    make_update,
    utf8_bytes,
)
from gossip.settings import Settings
from gossip.table import Table
from gossip.timers import Timers
from gossip.views import NOTHING, Counters, EventKind, MemberEvent, Output

# Header, label, nonce, tag, checksum and the fixed fields of a packet, at their largest.
ENVELOPE_BYTES: Final = 160

Post = Callable[[str, Packet], None]  # sends a packet to an address


class Touched(Timers):
    """What each probe of each member touches, side by side: an object is laid out in the order of
    the classes that declare its slots, and a process of ten thousand members waits for every line
    of memory.
    """

    __slots__ = (
        "_end",
        "_is_late",
        "_keys",
        "_length",
        "_open",
        "_position",
        "_stride",
        "_target_name",
        "gossip_is_armed",
        "has_doubts",
        "is_accusing",
        "is_leaving",
        "me",
        "name",
        "output",
        "pings_answered",
        "post",
        "sequence",
        "settings",
        "stretch",
        "table",
    )


class Local(Touched):
    """Invariants: `stretch` is the score of `awareness` plus one; `is_accusing` says whether
    `table.accused` is above 0.
    """

    __slots__ = (
        "_exchange_id",
        "_gossip_phase_us",
        "_room_bytes",
        "awareness",
        "is_silent",
        "others_received",
        "others_sent",
        "rng",
        "rumours",
        "tally",
        "updates_received",
    )

    def __init__(
        self,
        identity: Identity,
        settings: Settings,
        rng: random.Random,
        table: Table,
        post: Post | None,
        now_us: int,
    ) -> None:
        super().__init__()
        self.name = identity.name
        self.settings = settings
        self.rng = rng
        self.table = table
        self.output = NOTHING  # exchanged for a new one by the first that has something to say
        # sends a packet; whoever calls it counts it, but for what follows from other numbers
        self.post = post or self._lay_out
        self.tally = Counters()  # but for what is counted at each packet, further below
        self.awareness = Awareness(settings.health_max)
        self.stretch = 1  # how many times as long as usual our own probes take
        self.has_doubts = False  # whether a name that another address claimed is to be probed
        self.is_accusing = False  # whether the table holds a SUSPECT or DEAD member
        self.rumours = Rumours(settings.retransmit_multiplier)
        # our own ordinal; incarnations begin at 1
        self.me = table.add(identity, 1 << 2, now_us)
        self.is_leaving = False
        # while a table is taken over whole: whoever gave it has told the others
        self.is_silent = False
        # true while there is any rumour, and until the next round after the last
        self.gossip_is_armed = False
        # Packets but for our own PINGs, the first ACK of each and the PINGs that we answer: these
        # are nearly all, and follow from `sequence` and `pings_answered`; see `Prober.probes`.
        self.others_sent = 0
        self.others_received = 0
        self.pings_answered = 0
        self.updates_received = 0
        # a random start, so that an answer to an earlier life's probe is not ours
        self.sequence = rng.getrandbits(31)
        self._gossip_phase_us = now_us + int(rng.random() * settings.gossip_interval_us)
        self._exchange_id = 0
        self._room_bytes = settings.packet_bytes_max - ENVELOPE_BYTES - utf8_bytes(self.name)

    def doubt_timing(self, delta: int) -> None:
        """Trust our own timing less, or more again by a negative `delta`."""
        self.awareness.add(delta)
        self.stretch = self.awareness.score + 1

    def send(self, address: str, packet: Packet) -> None:
        self.others_sent += 1
        self.post(address, packet)

    def _lay_out(self, address: str, packet: Packet) -> None:
        self.opened().packets.append((address, packet))

    def opened(self) -> Output:
        """Return the output to add to."""
        if self.output is NOTHING:
            self.output = Output()
        return self.output

    def exchange(self, address: str, packet: Packet, timeout_us: int) -> int:
        """Ask for a stream; return the id that its end will carry."""
        self._exchange_id += 1
        self.tally.exchanges += 1
        self.opened().exchanges.append((self._exchange_id, address, packet, timeout_us))
        return self._exchange_id

    def spread(self, update: Update, now_us: int) -> None:
        """Queue a rumour, and wake the gossip timer, which sleeps while there is none."""
        if self.is_silent and update.name != self.name:
            return
        self.rumours.add(update)
        if not self.gossip_is_armed:
            self.gossip_is_armed = True
            interval_us = self.settings.gossip_interval_us
            rounds = (now_us - self._gossip_phase_us) // interval_us + 1
            self.arm_gossip(self._gossip_phase_us + rounds * interval_us)

    def rumours_for(self, packets: int) -> list[tuple[Update, ...]]:
        """Return the rumours of each of some packets that carry nothing else."""
        return self.rumours.take_copies(
            packets, self._room_bytes, self.settings.packet_parts_max - 2
        )

    def rumours_beside(self, *others: str) -> tuple[Update, ...]:
        """Return the rumours that fit into a packet that also carries these texts."""
        if not self.rumours.current:
            return ()
        room_bytes = self._room_bytes
        for other in others:
            room_bytes -= utf8_bytes(other)
        # one part is the packet's own, one may be an accusation put in front
        return self.rumours.take(room_bytes, self.settings.packet_parts_max - 2)

    def accusation(self, ordinal: int) -> Update:
        """Return what we hold against a member, to be told to it first."""
        return make_update(self.table.identity(ordinal).name, self.table.key(ordinal), self.name)

    def emit(self, kind: EventKind, ordinal: int) -> None:
        self.opened().events.append(MemberEvent(kind, self.table.view(ordinal)))
