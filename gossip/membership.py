"""The rules by which this member changes its mind about others.

A claim about another member wins if its key is larger (SWIM, section 4.2: a higher
incarnation wins; at equal incarnation suspect beats alive, and dead beats both). A claim
about this member is gossip.refutation's.

What is refused, and counted by reason:

    unknown_subject    an accusation of a member never heard of
    unknown_accuser    an accusation by a member never heard of
    incarnation_leap   an incarnation far beyond the one known
    name_conflict      another address for a name whose member lives: it keeps its name
    not_admitted       the owner's hook refused the member
    table_full         more members than `members_max`
"""

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Final

from gossip import timers
from gossip.local import Local
from gossip.messages import (
    ALIVE,
    DEAD,
    GOSSIP,
    LEFT,
    STATUS_BITS,
    STATUS_MASK,
    SUSPECT,
    Identity,
    Packet,
    Update,
    make_update,
)
from gossip.refutation import Refutation
from gossip.suspicion import Suspicion
from gossip.table import ESCAPE, UNKNOWN
from gossip.views import EventKind

Admit = Callable[[Identity], str]

DOUBTFUL_MAX: Final = 16
CLAIM_KEPT_US: Final = 120_000_000  # longer than suspicions last
HEARD_MAX: Final = 300  # a table of more needs twice the memory

_KEY: Final = attrgetter("key")


class Membership:
    """Invariants: a member is in `suspicions` if and only if its status is SUSPECT; what `_heard`
    holds of a name changes nothing here, whenever and however often it comes.
    """

    __slots__ = (
        "_admit",
        "_claims",
        "_heard",
        "_local",
        "doubts",
        "on_alone",
        "refutation",
        "suspicions",
    )

    def __init__(self, local: Local, admit: Admit | None, now_us: int) -> None:
        self._local = local
        self._admit = admit
        # Of a name a claim that was no news, or a key of which no claim is, whoever makes it: in a
        # storm nearly all that comes is known already.
        self._heard: dict[str, Update | int] = {}
        self.doubts: list[str] = []  # names that another address claimed
        # the best of what another address claimed of these names, and when it was heard last
        self._claims: dict[str, tuple[Update, int]] = {}
        self.refutation = Refutation(local, now_us)
        self.suspicions: dict[int, Suspicion] = {}
        self.on_alone: Callable[[int], None] = lambda now_us: None

    # -- claims of others -----------------------------------------------------------

    def absorb(self, updates: tuple[Update, ...], now_us: int) -> None:
        """Take the rumours of a packet."""
        self._local.updates_received += len(updates)
        heard = self._heard.get
        news: list[Update] = []
        for update in updates:
            known = heard(update.name)
            if known is not update and known != update.key:
                news.append(update)
        if news:
            if len(self._heard) + len(news) > HEARD_MAX:
                self._heard.clear()
            self._take(news, now_us)

    def _take(self, updates: Iterable[Update], now_us: int) -> None:
        """Judge claims one by one."""
        table, me = self._local.table, self._local.me
        find, keys, length = table.directory.ordinals.get, table.keys, len(table.keys)
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
                self.refutation.on_claim(update, now_us)
            elif key > known:
                if known == UNKNOWN:
                    self._introduce(update, now_us)
                else:
                    self._weigh(ordinal, known, update, now_us)
            elif key == known:
                self._hear_again(ordinal, update, now_us)

    def absorb_rows(self, rows: tuple[Update, ...], sender: str, now_us: int) -> None:
        """Take what another member believes, from a push-pull.

        Its DEAD are only suspected here: they may have refuted, and then hear of it.
        """
        local = self._local
        local.is_silent = local.table.active == 1
        if local.is_silent:
            rows = tuple(self._after_isolation(rows, now_us))
        local.updates_received += len(rows)
        self._take([*self._introductions(rows)], now_us)
        # a row of ourselves goes as it is: DEAD is what we have to outbid
        self._take(
            [
                row if row.name == local.name else _as_claim(row, sender)
                for row in rows
                if row.status != ALIVE
            ],
            now_us,
        )
        local.is_silent = False

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
                    self._heard.clear()  # the key sinks
                    self._set(ordinal, row.key & ~STATUS_MASK, row.name, now_us)
            yield row

    def _introduce(self, update: Update, now_us: int) -> None:
        """Meet a member never heard of."""
        local = self._local
        identity = update.identity
        if update.status != ALIVE or identity is None:
            local.tally.drop("unknown_subject")
        elif local.table.size >= local.settings.members_max:
            local.tally.drop("table_full")
        elif self._is_admitted(identity):
            ordinal = local.table.add(identity, update.key, now_us)
            self._on_active_changed(now_us)
            local.spread(update, now_us)
            local.emit(EventKind.JOINED, ordinal)

    def _weigh(self, ordinal: int, known: int, update: Update, now_us: int) -> None:
        """Judge a claim whose key is larger than the known one."""
        local = self._local
        table = local.table
        leap = update.incarnation - (known >> STATUS_BITS)
        if leap > local.settings.incarnation_leap_max:
            local.tally.drop("incarnation_leap")
            return
        if update.status == ALIVE:
            if self._accepts_identity(ordinal, known, update, now_us):
                is_new = update.identity != table.identity(ordinal)
                if is_new and update.identity is not None:
                    table.set_identity(ordinal, update.identity)
                self._set(ordinal, update.key, update.by, now_us, update, is_new=is_new)
            return
        if update.by != update.name and table.find(update.by) < 0:
            local.tally.drop("unknown_accuser")
            return
        if update.status == LEFT and update.by != update.name and known & STATUS_MASK < DEAD:
            # only a member itself says that it leaves; of another it is an accusation
            key = update.incarnation << STATUS_BITS | SUSPECT
            update = make_update(update.name, key, update.by)
            if key <= known:
                return
        self._set(ordinal, update.key, update.by, now_us, update)

    def _accepts_identity(self, ordinal: int, known: int, update: Update, now_us: int) -> bool:
        local, identity = self._local, update.identity
        if identity is None:
            local.tally.drop("no_identity")
            return False
        believed = local.table.identity(ordinal)
        if identity is believed or identity == believed:
            return True
        if identity.address != believed.address and known & STATUS_MASK < DEAD:
            self._on_conflict(update, now_us)
            return False
        return self._is_admitted(identity)

    def _hear_again(self, ordinal: int, update: Update, now_us: int) -> None:
        """Judge a claim of the very key we know: it may bring another accuser who counts, or
        claim the member's name for another address, as an impostor does.
        """
        key = update.key
        status = key & STATUS_MASK
        known: Update | int = update
        if status == SUSPECT:
            suspicion = self.suspicions[ordinal]
            if suspicion.is_news(update.by):
                self._confirm(ordinal, update, now_us)
                return
            if suspicion.is_confirmed:
                known = key
        elif status == ALIVE:
            identity, believed = update.identity, self._local.table.identity(ordinal)
            if identity is not None and identity.address != believed.address:
                self._on_conflict(update, now_us)
                return
        else:
            known = key
        if len(self._heard) < HEARD_MAX:
            self._heard[update.name] = known

    def _on_conflict(self, claim: Update, now_us: int) -> None:
        """Keep the member we know, but look soon whether it still lives."""
        name = claim.name
        self._local.tally.name_conflicts += 1
        self._local.tally.drop("name_conflict")
        if name not in self.doubts and len(self.doubts) < DOUBTFUL_MAX:
            self.doubts.append(name)
            self._local.has_doubts = True
        best, _ = self._claims.pop(name, (claim, 0))
        while len(self._claims) >= DOUBTFUL_MAX:
            del self._claims[next(iter(self._claims))]
        self._claims[name] = (max(best, claim, key=_KEY), now_us)

    def _reconsider(self, name: str, now_us: int) -> None:
        """A member is gone: who claimed its name of late may have it, if it outbids the death.

        So one who moved is not missed until the next push-pull, where its first words from
        the new address came too early.
        """
        claim, heard_us = self._claims.pop(name, (None, 0))
        if claim is not None and now_us - heard_us <= CLAIM_KEPT_US:
            self._take([claim], now_us)

    def doubtful(self) -> int:
        """Return the ordinal of a member whose name another one claimed, or -1."""
        local, table = self._local, self._local.table
        while local.has_doubts:
            ordinal = table.find(self.doubts.pop(0))
            local.has_doubts = bool(self.doubts)
            if ordinal >= 0 and table.key(ordinal) & STATUS_MASK < DEAD:
                return ordinal
        return -1

    def _is_admitted(self, identity: Identity) -> bool:
        return not self._refusal(identity)

    def _refusal(self, identity: Identity) -> str:
        """Ask the owner; a refusal is counted and told."""
        reason = "" if self._admit is None else self._admit(identity)
        if reason:
            self._local.tally.drop("not_admitted")
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
        self._local.tally.drop("refused_by_peer")
        if row.identity is not None:
            self._local.opened().refusals.append((row.identity, f"it refuses us: {reason}"))

    def rest(self) -> None:
        """Nothing more is told: what was heard in the meantime need not be kept in mind."""
        self._heard.clear()

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
            if local.settings.buddy:
                # the suspect before all others: who is slow needs all the time there is
                told = Packet(GOSSIP, 0, local.name, "", (local.accusation(ordinal),))
                local.send(local.table.identity(ordinal).address, told)
        elif status == SUSPECT:
            self._confirm(ordinal, make_update(name, key, local.name), now_us)

    def _confirm(self, ordinal: int, update: Update, now_us: int) -> None:
        local = self._local
        suspicion = self.suspicions[ordinal]
        if local.table.find(update.by) < 0:
            local.tally.drop("unknown_accuser")
            return
        if not suspicion.confirm(update.by):
            return
        overdue_us = now_us - suspicion.armed_us
        if overdue_us >= local.settings.probe_interval_us:
            pass  # we slept, and the timer will say so
        elif (end_us := self._end_us(suspicion)) <= now_us:
            self._declare_dead(ordinal, now_us)
            return
        elif end_us < suspicion.armed_us:
            self._arm_suspicion(ordinal, suspicion, end_us)
        # the others need it too: their clocks of this suspicion run as ours does
        local.spread(update, now_us)

    def on_suspicion_due(self, ordinal: int, due_us: int, now_us: int) -> None:
        suspicion = self.suspicions.get(ordinal)
        if suspicion is None or suspicion.armed_us != due_us:
            return
        interval_us = self._local.settings.probe_interval_us
        if now_us - due_us >= interval_us:
            # we slept: a refutation may lie unread in a queue
            suspicion.defer(now_us + interval_us)
        end_us = self._end_us(suspicion)
        if end_us > now_us:
            self._arm_suspicion(ordinal, suspicion, end_us)
        else:
            self._declare_dead(ordinal, now_us)

    def _end_us(self, suspicion: Suspicion) -> int:
        """Return when a suspicion ends here: later by an interval for each point of our health.

        Whoever misses answers misses refutations too. Lifeguard stretches the probe alone, and
        leaves it to the others to outlive the verdicts of the slow.
        """
        local = self._local
        return suspicion.deadline_us + local.awareness.score * local.settings.probe_interval_us

    def _arm_suspicion(self, ordinal: int, suspicion: Suspicion, due_us: int) -> None:
        suspicion.armed_us = due_us
        self._local.arm(due_us, timers.SUSPICION, ordinal)

    def _declare_dead(self, ordinal: int, now_us: int) -> None:
        local = self._local
        key = local.table.key(ordinal) & ~STATUS_MASK | DEAD
        self._set(ordinal, key, local.name, now_us)

    # -- those who are gone ----------------------------------------------------------

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
        self._forget(ordinal)
        return True

    def _forget(self, ordinal: int) -> None:
        self._heard.clear()  # of one who comes back, all is news
        local = self._local
        local.emit(EventKind.REAPED, ordinal)
        local.table.forget(ordinal)
        local.is_accusing = local.table.accused > 0

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
            self._forget(ordinal)
        return failed

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
        local.is_accusing = table.accused > 0
        self.suspicions.pop(ordinal, None)
        if status >= DEAD and len(self._heard) < HEARD_MAX:
            self._heard[table.identity(ordinal).name] = key
        elif status == SUSPECT:
            local.tally.suspicions += 1
            suspicion = Suspicion(by, now_us, local.settings, table.active)
            self.suspicions[ordinal] = suspicion
            self._arm_suspicion(ordinal, suspicion, suspicion.armed_us)
        if (was < DEAD) != (status < DEAD):
            self._on_active_changed(now_us)
        if update is None:
            identity = table.identity(ordinal)
            update = make_update(identity.name, key, by, identity if status == ALIVE else None)
        local.spread(update, now_us)
        kind = _event_kind(was, status, is_new)
        if kind is not None:
            local.emit(kind, ordinal)
        if self._claims and status >= DEAD:
            self._reconsider(table.identity(ordinal).name, now_us)

    def _on_active_changed(self, now_us: int) -> None:
        active = self._local.table.active
        self._local.rumours.resize(active)
        if active == 1:
            self.on_alone(now_us)


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
