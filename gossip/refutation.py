"""What others claim of this member, and what it says of itself.

A claim about this member is never believed; it is outbid by a higher incarnation, which
nobody else may raise (SWIM, section 4.2).
"""

from typing import Final

from gossip.local import Local
from gossip.messages import (
    ALIVE,
    LEFT,
    STATUS_BITS,
    STATUS_MASK,
    Identity,
    Update,
    make_update,
)

RETELL_INTERVAL_US: Final = 1_000_000


class Refutation:
    __slots__ = ("_local", "_retold_us")

    def __init__(self, local: Local, now_us: int) -> None:
        self._local = local
        self._retold_us = now_us - RETELL_INTERVAL_US

    def on_claim(self, update: Update, now_us: int) -> None:
        """Outbid a claim about this member, unless it leaves."""
        local = self._local
        mine = local.table.key(local.me)
        if local.is_leaving:
            return
        if update.incarnation - (mine >> STATUS_BITS) > local.settings.incarnation_leap_max:
            # to outbid it would make our own keys unbelievable to everybody else
            local.tally.drop("incarnation_leap")
            return
        if update.status == ALIVE:
            self._on_alive(update, mine, now_us)
        elif update.key > mine:
            local.tally.refutations += 1
            if update.status != LEFT:
                # somebody waited for us in vain (Lifeguard, "LHA-Probe")
                local.doubt_timing(1)
            self._raise_incarnation(update.incarnation, now_us)
            self._tell(now_us)
        elif now_us - self._retold_us >= RETELL_INTERVAL_US:
            # outbid long ago, but somebody has not heard of it
            self._tell(now_us)

    def _on_alive(self, update: Update, mine: int, now_us: int) -> None:
        local = self._local
        identity = local.table.identity(local.me)
        if update.key < mine or update.identity is None:
            return
        if update.identity.address != identity.address:
            # An earlier life of ours, or an impostor. We can't know: so be ready to be
            # believed when the other is dead, but tell nobody and start no war.
            local.tally.name_conflicts += 1
            self._raise_incarnation(update.incarnation, now_us)
        elif update.key > mine or update.identity != identity:
            # an earlier life at this address: what it said last must not outlive it
            self._raise_incarnation(update.incarnation, now_us)
            self._tell(now_us)

    def _raise_incarnation(self, outbid: int, now_us: int) -> None:
        table, me = self._local.table, self._local.me
        incarnation = max(outbid, table.key(me) >> STATUS_BITS) + 1
        table.put(me, incarnation << STATUS_BITS | ALIVE, now_us)

    def _tell(self, now_us: int) -> None:
        """Spread our own row."""
        local = self._local
        self._retold_us = now_us
        identity = local.table.identity(local.me)
        key = local.table.key(local.me)
        is_alive = key & STATUS_MASK == ALIVE
        local.spread(
            make_update(local.name, key, local.name, identity if is_alive else None), now_us
        )

    # -- what the owner wants to be said --------------------------------------------

    def change_identity(self, identity: Identity, now_us: int) -> None:
        """Say something new about ourselves; only a new incarnation is heard."""
        self._local.table.set_identity(self._local.me, identity)
        self._raise_incarnation(0, now_us)
        self._tell(now_us)

    def insist(self, now_us: int) -> None:
        """Say the same once more, as a new rumour."""
        if not self._local.is_leaving:
            self._raise_incarnation(0, now_us)
            self._tell(now_us)

    def leave(self, now_us: int) -> None:
        """Say that we leave; from here on nothing is refuted."""
        local = self._local
        local.is_leaving = True
        local.table.put(local.me, local.table.key(local.me) | LEFT, now_us)
        self._tell(now_us)
