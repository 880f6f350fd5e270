"""Who waits for a replicated log: for the fate of what was proposed, for reads to be safe.

An index alone names no entry: when leadership changed meanwhile, another one may come to
stand there. So "done" is said only for an entry of the term in which it was proposed; for
any other, and when leadership ends, "lost", which means that nobody knows.

A read is asked for under a ticket. Once Raft says up to which index a state must be to
answer it, it waits for that state.
"""

from collections.abc import Sequence
from typing import Generic, TypeVar

P = TypeVar("P")
R = TypeVar("R")


class Waiting(Generic[P, R]):
    """Invariant: whoever is taken in comes out once, and only once."""

    def __init__(self) -> None:
        self._proposed: dict[int, tuple[int, P]] = {}  # index -> (term, who)
        self._asked: dict[int, R] = {}  # ticket -> who
        self._ready: list[tuple[int, R]] = []  # (state must be up to, who)

    def __len__(self) -> int:
        return len(self._proposed) + len(self._asked) + len(self._ready)

    # --- entries ----------------------------------------------------------------------

    def propose(self, first: int, term: int, waiters: Sequence[P]) -> None:
        """The leader of `term` put their entries at `first` and the places that follow."""
        for number, waiter in enumerate(waiters):
            self._proposed[first + number] = (term, waiter)

    def settle(self, index: int, term: int) -> tuple[P | None, bool]:
        """An entry was applied: return who waits for its place, and whether it is theirs."""
        proposed_term, waiter = self._proposed.pop(index, (0, None))
        return waiter, proposed_term == term

    def lose(self) -> list[P]:
        """Leadership ended: return all whose entries' fate is open from now on."""
        lost = [waiter for _, waiter in self._proposed.values()]
        self._proposed.clear()
        return lost

    # --- reads ------------------------------------------------------------------------

    def ask(self, ticket: int, reader: R) -> None:
        self._asked[ticket] = reader

    def refuse(self, ticket: int) -> R:
        """Leadership ended before the read was safe: return whose it was."""
        return self._asked.pop(ticket)

    def allow(self, ticket: int, index: int) -> R:
        """Any state up to `index` or later may answer it; return whose it is."""
        reader = self._asked.pop(ticket)
        self._ready.append((index, reader))
        return reader

    def serve(self, applied_index: int) -> list[R]:
        """Return whom a state up to `applied_index` may answer."""
        if not self._ready:
            return []
        served = [reader for index, reader in self._ready if index <= applied_index]
        self._ready = [one for one in self._ready if one[0] > applied_index]
        return served
