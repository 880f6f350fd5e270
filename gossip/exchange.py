"""Push-pull: joining, repairing what gossip lost, and finding back after isolation.

A small pool exchanges whole tables. A large one exchanges a summary first, 8 bytes for
each of 256 buckets of members; the answer holds the rows of the buckets that differ, and
a third packet the rows that the other lacks. A quiet pool of 10,000 so pays 2 KB a
round instead of a megabyte.

Rounds grow rarer with the pool, except for a member that just learned something by one:
where one rumour was lost, more were. Who has just joined makes two in quick succession, for others
may have joined at the same moment: the first with the member that it joined by, who has met them
all by then, then some with random ones as long as the pool grows by a quarter from one to the next.

A member that believes itself alone tries the addresses it ever knew, for ever: those who
failed, those it joined by, those of its last life, and the last 64 it has reaped.
"""

import math
from collections.abc import Iterable, Sequence

from gossip import timers
from gossip.digests import Digests
from gossip.local import Local
from gossip.membership import Membership
from gossip.messages import (
    ALIVE,
    DEAD,
    NACK,
    STATUS_MASK,
    SYNC_DIFFERENCE,
    SYNC_DONE,
    SYNC_ROWS,
    SYNC_SUMMARY,
    SYNC_TABLE,
    Identity,
    Packet,
    Update,
    make_update,
)
from gossip.table import SUMMARY_BYTES, differing_buckets

REMEMBERED_MAX = 64
ALONE_TRIES = 3
REASON_BYTES_MAX = 512  # of why somebody is refused, as it travels


class Exchanger:
    __slots__ = (
        "_digests",
        "_due_us",
        "_first",
        "_is_among_many",
        "_joined",
        "_local",
        "_membership",
        "_open",
        "_reconnect_due_us",
        "_remembered",
        "_round_id",
    )

    def __init__(
        self,
        local: Local,
        membership: Membership,
        digests: Digests,
        known: Sequence[tuple[str, str]],
    ) -> None:
        self._local = local
        self._membership = membership
        self._digests = digests
        self._open: dict[int, str] = {}  # exchange id -> address
        self._due_us = 0
        self._round_id = -1  # exchange of the latest regular round
        # whom to ask first after joining: who knows all that joined by it meanwhile
        self._first = ""
        # how many it found when it joined, itself included, or in its last quick round since; 0
        # from the first regular round on
        self._joined = 0
        self._is_among_many = False  # who joined when it did
        self._reconnect_due_us = 0
        # address -> name, "" while nobody there has answered; the oldest first
        self._remembered: dict[str, str] = {}
        for name, address in known:
            self._remember(address, name)
        membership.on_alone = self._hurry_reconnect

    def start(self, now_us: int) -> None:
        local = self._local
        self.spread_round(now_us)
        self._reconnect_due_us = now_us + local.settings.reconnect_interval_us
        if self._remembered:
            self._reconnect_due_us = now_us
        local.arm(self._reconnect_due_us, timers.RECONNECT)

    def spread_round(self, now_us: int) -> None:
        """Arm the regular round at random, for members that began together."""
        self._joined, self._first = 0, ""
        self._arm_round(now_us, int(self._local.rng.random() * self._interval_us()))

    # -- starting exchanges ---------------------------------------------------------

    def join(self, addresses: Sequence[str], now_us: int) -> None:
        for address in addresses:
            if address != self._own_address():
                self._remember(address, self._remembered.get(address, ""))
                self._ask(address, now_us)

    def on_interval(self, due_us: int, now_us: int) -> None:
        """The regular round: exchange with one random member."""
        if due_us != self._due_us:
            return
        local = self._local
        if self._first:
            # others may have joined by the same member in the moment after us
            self._arm_round(now_us, self._shaken_us(local.settings.exchange_interval_us // 16))
            self._round_id = self._ask(self._first, now_us)
            self._first = ""
            return
        joined, self._joined = self._joined, 0
        if joined and local.table.active * 4 > joined * 5:
            # many joined with us: who missed us has rounds of its own just now
            self._joined, self._is_among_many = local.table.active, True
            self._arm_round(now_us, self._shaken_us(local.settings.exchange_interval_us // 8))
        else:
            self._arm_round(now_us, self._interval_us())
            if joined and not self._is_among_many:
                # In one pool of thirty, somebody missed each copy of the rumour that we are there
                # (n * e^-limit), and would take us for dead, or for nobody, until its next round.
                self._membership.refutation.insist(now_us)
                return
        for peer in local.table.sample(local.rng, 1, skip=(local.me,), status_max=ALIVE):
            self._round_id = self._ask(local.table.identity(peer).address, now_us)

    def on_reconnect(self, due_us: int, now_us: int) -> None:
        """Try those who failed; alone, try everybody ever known."""
        if due_us != self._reconnect_due_us:
            return
        local = self._local
        table, settings = local.table, local.settings
        is_alone = table.active <= 1
        interval_us = settings.isolated_interval_us if is_alone else settings.reconnect_interval_us
        # between 0.8 and 1.2 intervals: those who failed together must not return together
        self._reconnect_due_us = now_us + int(interval_us * (0.8 + 0.4 * local.rng.random()))
        local.arm(self._reconnect_due_us, timers.RECONNECT)
        lost = self._lost_addresses(is_alone)
        if not lost:
            return
        # The whole pool together makes one attempt an interval for each that is lost.
        tries = ALONE_TRIES if is_alone else int(local.rng.random() < len(lost) / table.active)
        for address in local.rng.sample(lost, min(tries, len(lost))):
            self._ask(address, now_us)

    def _lost_addresses(self, is_alone: bool) -> list[str]:
        table = self._local.table
        addresses = [
            table.identity(ordinal).address
            for ordinal in (table.gone_us if table.dead else ())
            if table.key(ordinal) & STATUS_MASK == DEAD
        ]
        for address, name in self._remembered.items():
            ordinal = table.find(name) if name else -1
            is_present = ordinal >= 0 and table.key(ordinal) & STATUS_MASK != DEAD
            if is_alone or (name and not is_present):
                addresses.append(address)
        own = self._own_address()
        return [address for address in dict.fromkeys(addresses) if address != own]

    def _hurry_reconnect(self, now_us: int) -> None:
        """We just lost the last one: don't wait for the slow round."""
        soon_us = now_us + self._local.settings.isolated_interval_us
        if soon_us < self._reconnect_due_us and not self._local.is_leaving:
            self._reconnect_due_us = soon_us
            self._local.arm(soon_us, timers.RECONNECT)

    def _interval_us(self) -> int:
        """Slower as the pool grows: each doubling beyond 32 adds one interval."""
        interval_us = self._local.settings.exchange_interval_us
        active = self._local.table.active
        return interval_us * (1 + max(0, math.ceil(math.log2(max(1, active)) - 5)))

    def _shaken_us(self, wait_us: int) -> int:
        """Return from 0.5 to 1 of a wait: those who joined together must not ask together."""
        return int(wait_us * (0.5 + 0.5 * self._local.rng.random()))

    def _ask(self, address: str, now_us: int) -> int:
        local = self._local
        table = local.table
        if table.active <= 1 or table.size <= local.settings.full_table_max_members:
            packet = self._table_packet(self._rows(), now_us)
        else:
            packet = Packet(
                SYNC_SUMMARY,
                sender=local.name,
                updates=(self.own_row(),),
                digests=self._digests.all(now_us),
                summary=table.summary(),
            )
        return self._send(address, packet)

    def _send(self, address: str, packet: Packet) -> int:
        """Begin an exchange; return its id."""
        exchange_id = self._local.exchange(
            address, packet, self._local.settings.exchange_timeout_us
        )
        self._open[exchange_id] = address
        return exchange_id

    # -- answering ------------------------------------------------------------------

    def answer(self, packet: Packet, now_us: int) -> Packet:
        """Return the reply to another member's request, and learn from the request.

        A request that makes no sense is answered with NACK: the other need not wait.
        """
        local = self._local
        kind = packet.kind
        reason = self._membership.refusal(packet.sender, packet.updates)
        if reason:
            # with our own row, for the other to see with whom it has to do
            text = reason.encode()[:REASON_BYTES_MAX]
            return Packet(NACK, sender=local.name, updates=(self.own_row(),), data=text)
        if kind == SYNC_SUMMARY:
            if len(packet.summary) != SUMMARY_BYTES:
                local.tally.drop("bad_summary")
                return Packet(NACK, sender=local.name)
            if local.table.active > 1:
                self._absorb(packet, now_us)
            # else we were alone: its own row would end that, and our dead would go out with the
            # reply. What it sends next has all it knows, and withdraws our verdicts.
            buckets = differing_buckets(local.table.summary(), packet.summary)
            return Packet(
                SYNC_DIFFERENCE,
                sender=local.name,
                updates=self._rows_of(buckets),
                digests=self._digests.all(now_us),
                buckets=buckets,
            )
        if kind == SYNC_TABLE:
            # made before we learn from theirs: they know their own rows
            reply = self._table_packet(self._rows(), now_us)
            self._absorb(packet, now_us)
            return reply
        if kind == SYNC_ROWS:
            self._absorb(packet, now_us)
            return Packet(SYNC_DONE, sender=local.name)
        local.tally.drop("unknown_kind")
        return Packet(NACK, sender=local.name)

    def on_exchanged(self, exchange_id: int, packet: Packet | None, now_us: int) -> None:
        address = self._open.pop(exchange_id, None)
        if address is None:
            return
        if packet is None:
            self._local.tally.exchanges_failed += 1
            if exchange_id == self._round_id:
                # made up for soon, with somebody else
                soon_us = self._shaken_us(self._local.settings.exchange_interval_us // 8)
                if now_us + soon_us < self._due_us:
                    self._arm_round(now_us, soon_us)
            return
        if self._membership.refusal(packet.sender, packet.updates):
            self._remembered.pop(address, None)
            return
        if packet.kind == NACK and packet.data and packet.updates:
            self._remembered.pop(address, None)
            self._membership.on_refused(packet.updates[0], packet.data.decode(errors="replace"))
            return
        if packet.kind not in (SYNC_TABLE, SYNC_DIFFERENCE, SYNC_DONE):
            self._local.tally.drop("unexpected_reply")
            return
        if address in self._remembered and packet.sender:
            self._remembered[address] = packet.sender
        self._absorb(packet, now_us, address)
        if packet.kind == SYNC_DIFFERENCE and packet.buckets:
            rows = self._rows_theirs_lack(packet)
            if rows:
                self._send(address, Packet(SYNC_ROWS, sender=self._local.name, updates=rows))

    def _absorb(self, packet: Packet, now_us: int, address: str = "") -> None:
        """Learn from a request, or from the answer of who is at `address`."""
        table = self._local.table
        before, was_alone = table.summary(), table.active <= 1
        self._membership.absorb_rows(packet.updates, packet.sender, now_us)
        self._digests.absorb(packet.digests, now_us)
        if table.summary() == before:
            return
        if was_alone:
            self._joined, self._first, self._is_among_many = table.active, address, False
            share = 64 if address else 16
            soon_us = self._shaken_us(self._local.settings.exchange_interval_us // share)
        else:
            soon_us = self._shaken_us(self._local.settings.exchange_interval_us)
        if now_us + soon_us < self._due_us:
            self._arm_round(now_us, soon_us)

    def _arm_round(self, now_us: int, wait_us: int) -> None:
        self._due_us = now_us + wait_us
        self._local.arm(self._due_us, timers.EXCHANGE)

    # -- rows -----------------------------------------------------------------------

    def own_row(self) -> Update:
        return self._row(self._local.me)

    def _row(self, ordinal: int) -> Update:
        table = self._local.table
        identity = table.identity(ordinal)
        return make_update(identity.name, table.key(ordinal), identity.name, identity)

    def _rows(self) -> tuple[Update, ...]:
        """All we believe, our own row first: it introduces us as an accuser.

        Alone, nothing but ourselves: the dead of an isolated member are no news to anybody.
        """
        if self._local.table.active <= 1:
            return (self.own_row(),)
        me = self._local.me
        others = (o for o in self._local.table.ordinals() if o != me)
        return (self.own_row(), *(self._row(ordinal) for ordinal in others))

    def _rows_of(self, buckets: bytes) -> tuple[Update, ...]:
        if not buckets:
            return ()
        if self._local.table.active <= 1:
            return self._rows()
        table, wanted = self._local.table, frozenset(buckets)
        return tuple(self._row(o) for o in table.ordinals() if table.bucket(o) in wanted)

    def _rows_theirs_lack(self, packet: Packet) -> tuple[Update, ...]:
        """Return our rows of the differing buckets that beat, or are not in, theirs."""
        theirs = {row.name: row.key for row in packet.updates}
        return tuple(
            row for row in self._rows_of(packet.buckets) if row.key > theirs.get(row.name, 0)
        )

    def _table_packet(self, rows: tuple[Update, ...], now_us: int) -> Packet:
        return Packet(
            SYNC_TABLE,
            sender=self._local.name,
            updates=rows,
            digests=self._digests.all(now_us),
        )

    # -- memory of addresses --------------------------------------------------------

    def remembered(self) -> Iterable[tuple[str, str]]:
        """Return (address, name) pairs, the latest first; the name may be ""."""
        return reversed(self._remembered.items())

    def answered_by(self, address: str) -> str:
        """Return the name of who last answered at an address we joined by, or ""."""
        return self._remembered.get(address, "")

    def remember(self, identities: list[Identity]) -> None:
        """Keep the addresses of members that failed and are now forgotten otherwise."""
        for identity in identities:
            self._remember(identity.address, identity.name)

    def _remember(self, address: str, name: str) -> None:
        self._remembered.pop(address, None)
        self._remembered[address] = name
        while len(self._remembered) > REMEMBERED_MAX:
            del self._remembered[next(iter(self._remembered))]

    def _own_address(self) -> str:
        return self._local.table.identity(self._local.me).address
