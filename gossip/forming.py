"""Pools that begin as if they had been formed long ago, for hosts of thousands of members.

Ten thousand joins into one pool are a hundred million rows to compare, and as many rumours
to tell. A host that wants to see what comes after that gives the machines a `Formation`:

    formation = Formation()
    machine = GossipMachine(..., directory=formation.directory)
    formation.enter(machine, now_us)        each, as soon as it is built
    formation.complete(machines, now_us)    once all have entered

Each knows at once who entered before it; at the end all know all, and have no more to tell.
"""

from collections.abc import Sequence
from typing import Final

from gossip.directory import Directory
from gossip.dissemination import Rumours
from gossip.machine import GossipMachine
from gossip.messages import STATUS_BITS, Update, make_update
from gossip.table import Table

FIRST_KEY: Final = 1 << STATUS_BITS  # alive, of the first incarnation


class Formation:
    """Invariant: until it is complete, the pool's table holds exactly who entered."""

    def __init__(self) -> None:
        self.directory = Directory()
        self.is_complete = False
        self._pool = Table(self.directory)

    def __len__(self) -> int:
        """How many entered."""
        return self._pool.size

    def enter(self, machine: GossipMachine, now_us: int) -> None:
        """A machine was built that knows nobody yet; later ones join as any member does."""
        if self.is_complete or machine.table.key(machine.me) != FIRST_KEY:
            return
        identity = machine.table.identity(machine.me)
        if identity.name in self.directory.ordinals and self._pool.find(identity.name) >= 0:
            return  # another life of one that entered
        self._pool.add(identity, FIRST_KEY, now_us)
        self._teach(machine)

    def rows(self) -> tuple[Update, ...]:
        """Return all who entered, for members that are not built over our directory."""
        pool = self._pool
        found = []
        for ordinal in pool.ordinals():
            identity = pool.identity(ordinal)
            found.append(make_update(identity.name, pool.key(ordinal), identity.name, identity))
        return tuple(found)

    def complete(
        self, machines: Sequence[GossipMachine], others: Sequence[Update], now_us: int
    ) -> None:
        """Make all machines know all, and `others`, who are members as well."""
        pool = self._pool
        for update in others:
            assert update.identity is not None
            if pool.find(update.name) < 0:
                pool.add(update.identity, update.key, now_us)
        for machine in machines:
            self._teach(machine)
        self.is_complete = True

    def _teach(self, machine: GossipMachine) -> None:
        machine.table.adopt(self._pool)
        self.directory.share(self._pool.ordinals(), 1)
        hush(machine)


def hush(machine: GossipMachine) -> None:
    """Let a machine forget what it was about to tell."""
    machine.rumours = Rumours(machine.settings.retransmit_multiplier)
    machine.rumours.resize(machine.table.active)
