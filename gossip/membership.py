"""The rules by which this member changes its mind about others, and about itself.

A claim about another member wins if its key is larger (SWIM, section 4.2: a higher
incarnation wins; at equal incarnation suspect beats alive, and dead beats both). A claim
about this member is never believed; it is outbid by a higher incarnation, which nobody
else may raise.

What is refused, and counted by reason:

    unknown_subject    an accusation of a member never heard of
    unknown_accuser    an accusation by a member never heard of
    incarnation_leap   an incarnation far beyond the one known
    name_conflict      another address for a name whose member lives: it keeps its name
    not_admitted       the owner's hook refused the member
    table_full         more members than `members_max`
"""

from collections.abc import Callable, Iterable

from gossip import timers
from gossip.local import Local
from gossip.messages import (
    ALIVE,
    DEAD,
    LEFT,
    STATUS_BITS,
    STATUS_MASK,
    SUSPECT,
    Identity,
    Update,
    make_update,
)
from gossip.suspicion import Suspicion
from gossip.table import ESCAPE, UNKNOWN
from gossip.views import EventKind

Admit = Callable[[Identity], str]

RETELL_INTERVAL_US = 1_000_000
DOUBTFUL_MAX = 16


class Membership:
    """Invariant: a member is in `suspicions` if and only if its status is SUSPECT."""

    __slots__ = (
        "_admit",
        "_is_silent",
        "_local",
        "_retold_us",
        "doubts",
        "gossip_phase_us",
        "on_alone",
        "suspicions",
    )

    def __init__(self, local: Local, admit: Admit | None, now_us: int) -> None:
        self._local = local
        self._admit = admit
        self.doubts: list[str] = []  # names that another address claimed
        # while a table is taken over whole: whoever gave it has told the others
        self._is_silent = False
        self._retold_us = now_us - RETELL_INTERVAL_US
        self.suspicions: dict[int, Suspicion] = {}
        self.on_alone: Callable[[int], None] = lambda now_us: None
        interval_us = local.settings.gossip_interval_us
        self.gossip_phase_us = now_us + int(local.rng.random() * interval_us)

    # -- claims of others -----------------------------------------------------------

    def absorb(self, updates: tuple[Update, ...], now_us: int) -> None:
        """Take the rumours of a packet."""
        local = self._local
        table, me = local.table, local.me
        find, keys, length = table.directory.ordinals.get, table.keys, len(table.keys)
        suspicions = self.suspicions
        local.updates_received += len(updates)
        for update in updates:
            ordinal = find(update.name)
            if ordinal is None or ordinal >= length:
                self._introduce(update, now_us)
                length = len(keys)
                continue
            known = keys[ordinal]
            if known == ESCAPE:
                known = table.key(ordinal)
            key = update.key
            if ordinal == me:
                self._answer(update, now_us)
            elif key < known:
                continue
            elif key > known:
                if known == UNKNOWN:
                    self._introduce(update, now_us)
                else:
                    self._weigh(ordinal, known, update, now_us)
            elif key & STATUS_MASK == SUSPECT:
                suspicion = suspicions[ordinal]
                # is_news(), without the call: nearly all rumours of a storm are none
                accusers = suspicion.accusers
                if len(accusers) <= suspicion.k and update.by not in accusers:
                    self._confirm(ordinal, update, now_us)
            elif key & STATUS_MASK == ALIVE:
                self._compare(ordinal, update)

    def absorb_rows(self, rows: tuple[Update, ...], sender: str, now_us: int) -> None:
        """Take what another member believes, from a push-pull.

        Its DEAD are only suspected here: they may have refuted, and then hear of it.
        """
        local = self._local
        self._is_silent = local.table.active == 1
        if self._is_silent:
            rows = tuple(self._after_isolation(rows, now_us))
        self.absorb(tuple(self._introductions(rows)), now_us)
        # a row of ourselves goes as it is: DEAD is what we have to outbid
        self.absorb(
            tuple(
                row if row.name == local.name else _as_claim(row, sender)
                for row in rows
                if row.status != ALIVE
            ),
            now_us,
        )
        self._is_silent = False

    def _introductions(self, rows: tuple[Update, ...]) -> Iterable[Update]:
        """Yield the ALIVE, and as such the SUSPECT that we have yet to meet."""
        for row in rows:
            if row.status == ALIVE:
                yield row
            elif row.status == SUSPECT and self._local.table.find(row.name) < 0:
                yield make_update(row.name, row.key & ~STATUS_MASK, row.name, row.identity)

    def _after_isolation(self, rows: tuple[Update, ...], now_us: int) -> Iterable[Update]:
        """Withdraw verdicts passed while cut off from everybody, where a peer differs.

        Nobody heard them, so this is no more than a restart with an empty table would do;
        but all the others need not refute one by one, and no storm follows.
        """
        table = self._local.table
        for row in rows:
            ordinal = table.find(row.name)
            if ordinal >= 0 and ordinal != self._local.me and row.status < DEAD:
                known = table.key(ordinal)
                if known & STATUS_MASK == DEAD and row.incarnation == known >> STATUS_BITS:
                    assert row.identity is not None, "rows of a push-pull carry identities"
                    table.set_identity(ordinal, row.identity)
                    self._set(ordinal, row.key & ~STATUS_MASK, row.name, now_us)
            yield row

    def _introduce(self, update: Update, now_us: int) -> None:
        """Meet a member never heard of."""
        local = self._local
        identity = update.identity
        if update.status != ALIVE or identity is None:
            local.counters.drop("unknown_subject")
        elif local.table.size >= local.settings.members_max:
            local.counters.drop("table_full")
        elif self._is_admitted(identity):
            ordinal = local.table.add(identity, update.key, now_us)
            self._on_active_changed(now_us)
            self.spread(update, now_us)
            local.emit(EventKind.JOINED, ordinal)

    def _weigh(self, ordinal: int, known: int, update: Update, now_us: int) -> None:
        """Judge a claim whose key is larger than the known one."""
        local = self._local
        table = local.table
        leap = update.incarnation - (known >> STATUS_BITS)
        if leap > local.settings.incarnation_leap_max:
            local.counters.drop("incarnation_leap")
            return
        if update.status == ALIVE:
            if self._accepts_identity(ordinal, known, update.identity):
                is_new = update.identity != table.identity(ordinal)
                if is_new and update.identity is not None:
                    table.set_identity(ordinal, update.identity)
                self._set(ordinal, update.key, update.by, now_us, update, is_new=is_new)
            return
        if update.by != update.name and table.find(update.by) < 0:
            local.counters.drop("unknown_accuser")
            return
        if update.status == LEFT and update.by != update.name and known & STATUS_MASK < DEAD:
            # only a member itself says that it leaves; of another it is an accusation
            key = update.incarnation << STATUS_BITS | SUSPECT
            update = make_update(update.name, key, update.by)
            if key <= known:
                return
        self._set(ordinal, update.key, update.by, now_us, update)

    def _accepts_identity(self, ordinal: int, known: int, identity: Identity | None) -> bool:
        local = self._local
        if identity is None:
            local.counters.drop("no_identity")
            return False
        believed = local.table.identity(ordinal)
        if identity is believed or identity == believed:
            return True
        if identity.address != believed.address and known & STATUS_MASK < DEAD:
            self._on_conflict(identity.name)
            return False
        return self._is_admitted(identity)

    def _compare(self, ordinal: int, update: Update) -> None:
        """An ALIVE of the known incarnation: from another address it is an impostor's."""
        identity = update.identity
        believed = self._local.table.identity(ordinal)
        if identity is None or identity is believed:
            return
        if identity.address != believed.address:
            self._on_conflict(identity.name)

    def _on_conflict(self, name: str) -> None:
        """Keep the member we know, but look soon whether it still lives."""
        self._local.counters.name_conflicts += 1
        self._local.counters.drop("name_conflict")
        if name not in self.doubts and len(self.doubts) < DOUBTFUL_MAX:
            self.doubts.append(name)

    def doubtful(self) -> int:
        """Return the ordinal of a member whose name another one claimed, or -1."""
        table = self._local.table
        while self.doubts:
            ordinal = table.find(self.doubts.pop(0))
            if ordinal >= 0 and table.key(ordinal) & STATUS_MASK < DEAD:
                return ordinal
        return -1

    def _is_admitted(self, identity: Identity) -> bool:
        return not self._refusal(identity)

    def _refusal(self, identity: Identity) -> str:
        """Ask the owner; a refusal is counted and told."""
        reason = "" if self._admit is None else self._admit(identity)
        if reason:
            self._local.counters.drop("not_admitted")
            self._local.opened().refusals.append((identity, reason))
        return reason

    def refusal(self, sender: str, rows: tuple[Update, ...]) -> str:
        """Return why we take nothing of what `sender` tells, or "".

        Who is not admitted must not bring its friends along either.
        """
        table = self._local.table
        for row in rows if self._admit is not None else ():
            if row.name == sender and row.identity is not None:
                ordinal = table.find(sender)
                if ordinal >= 0 and table.identity(ordinal) == row.identity:
                    return ""
                return self._refusal(row.identity)
        return ""

    def on_refused(self, row: Update, reason: str) -> None:
        """A peer does not admit us; so we don't know it either."""
        self._local.counters.drop("refused_by_peer")
        if row.identity is not None:
            self._local.opened().refusals.append((row.identity, f"it refuses us: {reason}"))

    # -- suspicion ------------------------------------------------------------------

    def suspect(self, name: str, now_us: int) -> None:
        """Our own probe of `name` failed."""
        local = self._local
        ordinal = local.table.find(name)
        if ordinal < 0:
            return
        key = local.table.key(ordinal)
        status = key & STATUS_MASK
        if status == ALIVE:
            self._set(ordinal, key | SUSPECT, local.name, now_us)
        elif status == SUSPECT:
            self._confirm(ordinal, make_update(name, key, local.name), now_us)

    def _confirm(self, ordinal: int, update: Update, now_us: int) -> None:
        local = self._local
        suspicion = self.suspicions[ordinal]
        if local.table.find(update.by) < 0:
            local.counters.drop("unknown_accuser")
            return
        if not suspicion.confirm(update.by):
            return
        if suspicion.deadline_us <= now_us:
            self._declare_dead(ordinal, now_us)
            return
        if suspicion.armed_us <= now_us or suspicion.deadline_us < suspicion.armed_us:
            self._arm_suspicion(ordinal, suspicion, suspicion.deadline_us)
        # the others need it too: their clocks of this suspicion run as ours does
        self.spread(update, now_us)

    def on_suspicion_due(self, ordinal: int, due_us: int, now_us: int) -> None:
        suspicion = self.suspicions.get(ordinal)
        if suspicion is None or suspicion.armed_us != due_us:
            return
        interval_us = self._local.settings.probe_interval_us
        if now_us - due_us >= interval_us:
            # we slept: a refutation may lie unread in a queue
            self._arm_suspicion(ordinal, suspicion, now_us + interval_us)
        elif suspicion.deadline_us > now_us:
            self._arm_suspicion(ordinal, suspicion, suspicion.deadline_us)
        else:
            self._declare_dead(ordinal, now_us)

    def _arm_suspicion(self, ordinal: int, suspicion: Suspicion, due_us: int) -> None:
        suspicion.armed_us = due_us
        self._local.timers.arm(due_us, timers.SUSPICION, ordinal)

    def _declare_dead(self, ordinal: int, now_us: int) -> None:
        local = self._local
        key = local.table.key(ordinal) & ~STATUS_MASK | DEAD
        self._set(ordinal, key, local.name, now_us)

    # -- claims about ourselves -----------------------------------------------------

    def _answer(self, update: Update, now_us: int) -> None:
        """Outbid a claim about this member (SWIM, section 4.2)."""
        local = self._local
        table = local.table
        mine = table.key(local.me)
        if local.is_leaving:
            return
        if update.incarnation - (mine >> STATUS_BITS) > local.settings.incarnation_leap_max:
            # to outbid it would make our own keys unbelievable to everybody else
            local.counters.drop("incarnation_leap")
            return
        if update.status == ALIVE:
            self._answer_alive(update, mine, now_us)
        elif update.key > mine:
            local.counters.refutations += 1
            if update.status != LEFT:
                # somebody waited for us in vain (Lifeguard, "LHA-Probe")
                local.awareness.add(1)
            self._raise_incarnation(update.incarnation, now_us)
            self.tell_self(now_us)
        elif now_us - self._retold_us >= RETELL_INTERVAL_US:
            # outbid long ago, but somebody has not heard of it
            self.tell_self(now_us)

    def _answer_alive(self, update: Update, mine: int, now_us: int) -> None:
        local = self._local
        identity = local.table.identity(local.me)
        if update.key < mine or update.identity is None:
            return
        if update.identity.address != identity.address:
            # An earlier life of ours, or an impostor. We can't know: so be ready to be
            # believed when the other is dead, but tell nobody and start no war.
            local.counters.name_conflicts += 1
            self._raise_incarnation(update.incarnation, now_us)
        elif update.key > mine or update.identity != identity:
            # an earlier life at this address: what it said last must not outlive it
            self._raise_incarnation(update.incarnation, now_us)
            self.tell_self(now_us)

    def _raise_incarnation(self, outbid: int, now_us: int) -> None:
        table, me = self._local.table, self._local.me
        incarnation = max(outbid, table.key(me) >> STATUS_BITS) + 1
        table.put(me, incarnation << STATUS_BITS | ALIVE, now_us)

    def tell_self(self, now_us: int) -> None:
        """Spread our own row."""
        local = self._local
        self._retold_us = now_us
        identity = local.table.identity(local.me)
        key = local.table.key(local.me)
        is_alive = key & STATUS_MASK == ALIVE
        self.spread(
            make_update(local.name, key, local.name, identity if is_alive else None), now_us
        )

    def change_identity(self, identity: Identity, now_us: int) -> None:
        """Say something new about ourselves; only a new incarnation is heard."""
        self._local.table.set_identity(self._local.me, identity)
        self._raise_incarnation(0, now_us)
        self.tell_self(now_us)

    def leave(self, now_us: int) -> None:
        """Say that we leave; from here on nothing is refuted."""
        local = self._local
        local.is_leaving = True
        local.table.put(local.me, local.table.key(local.me) | LEFT, now_us)
        self.tell_self(now_us)

    def force_leave(self, name: str, now_us: int) -> bool:
        """Turn a DEAD member into one that LEFT; return whether it was dead."""
        local = self._local
        ordinal = local.table.find(name)
        if ordinal < 0 or local.table.key(ordinal) & STATUS_MASK != DEAD:
            return False
        self._set(ordinal, local.table.key(ordinal) | LEFT, local.name, now_us)
        return True

    def prune(self, name: str) -> bool:
        """Forget a member that is DEAD or LEFT at once; return whether it was.

        Those who remember it can't bring it back: nobody is introduced by its obituary.
        """
        local = self._local
        ordinal = local.table.find(name)
        if ordinal < 0 or ordinal == local.me or local.table.key(ordinal) & STATUS_MASK < DEAD:
            return False
        local.emit(EventKind.REAPED, ordinal)
        local.table.forget(ordinal)
        return True

    # -- changing the table ---------------------------------------------------------

    def _set(
        self,
        ordinal: int,
        key: int,
        by: str,
        now_us: int,
        update: Update | None = None,
        *,
        is_new: bool = False,
    ) -> None:
        """Believe `key`; spread it, set its timers, tell the owner.

        Args:
            update: The claim as it came, to be passed on as it is; None if it is ours.
            is_new: The identity changed with it.
        """
        local = self._local
        table = local.table
        was = table.key(ordinal) & STATUS_MASK
        status = key & STATUS_MASK
        table.put(ordinal, key, now_us)
        self.suspicions.pop(ordinal, None)
        if status == SUSPECT:
            local.counters.suspicions += 1
            suspicion = Suspicion(by, now_us, local.settings, table.active)
            self.suspicions[ordinal] = suspicion
            self._arm_suspicion(ordinal, suspicion, suspicion.armed_us)
        if (was < DEAD) != (status < DEAD):
            self._on_active_changed(now_us)
        if update is None:
            identity = table.identity(ordinal)
            update = make_update(identity.name, key, by, identity if status == ALIVE else None)
        self.spread(update, now_us)
        kind = _event_kind(was, status, is_new)
        if kind is not None:
            local.emit(kind, ordinal)

    def _on_active_changed(self, now_us: int) -> None:
        active = self._local.table.active
        self._local.rumours.resize(active)
        if active == 1:
            self.on_alone(now_us)

    def spread(self, update: Update, now_us: int) -> None:
        """Queue a rumour, and wake the gossip timer, which sleeps while there is none."""
        local = self._local
        if self._is_silent and update.name != local.name:
            return
        local.rumours.add(update)
        if not local.gossip_is_armed:
            local.gossip_is_armed = True
            interval_us = local.settings.gossip_interval_us
            rounds = (now_us - self.gossip_phase_us) // interval_us + 1
            local.timers.arm(self.gossip_phase_us + rounds * interval_us, timers.GOSSIP)

    def reap(self, now_us: int) -> list[Identity]:
        """Forget who is gone for long; return those that failed rather than left."""
        local = self._local
        table = local.table
        failed: list[Identity] = []
        horizon_us = now_us - local.settings.tombstone_us
        while table.gone_us:
            ordinal = next(iter(table.gone_us))
            if table.gone_us[ordinal] > horizon_us:
                break
            if ordinal == local.me:
                break  # we left and still run; nothing else is worth doing either
            if table.key(ordinal) & STATUS_MASK == DEAD:
                failed.append(table.identity(ordinal))
            local.emit(EventKind.REAPED, ordinal)
            table.forget(ordinal)
        return failed


def _as_claim(row: Update, sender: str) -> Update:
    """Return a row that is not ALIVE as a claim: LEFT stands, the rest is a suspicion."""
    if row.status == LEFT:
        return make_update(row.name, row.key, row.name)
    return make_update(row.name, row.incarnation << STATUS_BITS | SUSPECT, sender)


def _event_kind(was: int, status: int, is_new: bool) -> EventKind | None:
    """Return what the owner of the machine shall hear of a change, if anything."""
    if status == ALIVE:
        if was >= DEAD:
            return EventKind.JOINED
        return EventKind.UPDATED if was == SUSPECT or is_new else None
    if status == was:
        return None  # the same of a later incarnation
    return (EventKind.SUSPECTED, EventKind.FAILED, EventKind.LEFT)[status - SUSPECT]
