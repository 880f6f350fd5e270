"""Where the allocations of one group are: share index -> newest row and generation.

Derived from the allocation columns, except for indices whose allocations were all
collected: their last generation must not be given out again (the id would come back to
life), so the table keeps those apart (`AllocTable.retired`).
"""

from typing import Final

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
_GENERATIONS: Final = 1 << 16
NO_ROW: Final = -1
_GAPS: Final = -1


class GroupIndex:
    """Sorted arrays; a group whose indices are a range without gaps is found by offset.

    Invariant: `indices` ascends strictly; `rows[k]` is the newest row of `indices[k]`
    or NO_ROW; `generations[k]` is the last generation given to it.
    """

    __slots__ = ("_first", "generations", "indices", "rows")

    def __init__(self) -> None:
        self.indices = np.zeros(0, dtype=np.int32)
        self.rows = np.zeros(0, dtype=np.int32)
        self.generations = np.zeros(0, dtype=np.uint16)
        self._first = _GAPS  # the first index, when they are a range without gaps

    @classmethod
    def begun(
        cls,
        indices: npt.NDArray[np.int32],
        rows: npt.NDArray[np.int32],
        generations: npt.NDArray[np.uint16],
    ) -> "GroupIndex":
        """Return the index of a group that has none yet; `indices` are distinct."""
        index = cls()
        if len(indices) > 1 and not (indices[1:] > indices[:-1]).all():
            wide = (column.astype(np.int64) for column in (indices, rows, generations))
            index.put(*wide)
            return index
        index.indices, index.rows, index.generations = indices, rows, generations
        index._look_for_gaps()
        return index

    def positions(self, indices: Ints) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Return where `indices` stand and whether they are known at all."""
        count = len(self.indices)
        if count == 0:
            return np.zeros(len(indices), dtype=np.int64), np.zeros(len(indices), dtype=bool)
        if self._first != _GAPS:
            places = indices.astype(np.int64) - self._first
            known = (places >= 0) & (places < count)
            return np.where(known, places, 0), known
        places = np.searchsorted(self.indices, indices).astype(np.int64)
        places[places == count] = 0
        return places, self.indices[places] == indices

    def newest(self, index: int) -> int:
        """Return the newest row of one index, NO_ROW when there is none."""
        if self._first != _GAPS:
            place = index - self._first
            return self.rows.item(place) if 0 <= place < len(self.rows) else NO_ROW
        place = int(np.searchsorted(self.indices, index))
        if place < len(self.indices) and self.indices[place] == index:
            return self.rows.item(place)
        return NO_ROW

    def put(self, indices: Ints, rows: Ints, generations: Ints) -> Ints:
        """Make `rows` the newest of `indices` (distinct); return the rows they follow."""
        if not len(self.indices):
            order = np.argsort(indices, kind="stable")
            self.indices = indices[order].astype(np.int32)
            self.rows = rows[order].astype(np.int32)
            self.generations = generations[order].astype(np.uint16)
            self._look_for_gaps()
            return np.full(len(indices), NO_ROW, dtype=np.int64)
        places, known = self.positions(indices)
        followed = np.full(len(indices), NO_ROW, dtype=np.int64)
        followed[known] = self.rows[places[known]]
        self.rows[places[known]] = rows[known]
        self._raise_generations(places[known], generations[known])
        fresh = ~known
        if fresh.any():
            order = np.argsort(indices[fresh], kind="stable")
            added = indices[fresh][order]
            at = np.searchsorted(self.indices, added)
            self.indices = np.insert(self.indices, at, added)
            self.rows = np.insert(self.rows, at, rows[fresh][order])
            self.generations = np.insert(self.generations, at, generations[fresh][order])
            self._look_for_gaps()
        return followed

    def _look_for_gaps(self) -> None:
        first, last = self.indices.item(0), self.indices.item(-1)
        self._first = first if last - first + 1 == len(self.indices) else _GAPS

    def set_generations(self, indices: Ints, generations: Ints) -> None:
        """After a restore: these were the last generations given to `indices`."""
        _, known = self.positions(indices)
        missing = ~known
        none = np.full(int(missing.sum()), NO_ROW, dtype=np.int64)
        self.put(indices[missing], none, generations[missing])
        places, _ = self.positions(indices)
        self.generations[places] = generations

    def _raise_generations(self, places: Ints, generations: Ints) -> None:
        ahead = (generations - self.generations[places].astype(np.int64)) % _GENERATIONS
        raised = ahead < _GENERATIONS // 2
        self.generations[places[raised]] = generations[raised]

    def next_generations(self, indices: Ints) -> npt.NDArray[np.uint16]:
        """Return the generation that the next allocation of each index gets."""
        places, known = self.positions(indices)
        result = np.zeros(len(indices), dtype=np.uint16)
        result[known] = self.generations[places[known]] + np.uint16(1)
        return result

    def is_newer(self, indices: Ints, generations: Ints) -> npt.NDArray[np.bool_]:
        """Return whether each generation was not given out yet (serial-number arithmetic)."""
        places, known = self.positions(indices)
        result = np.ones(len(indices), dtype=bool)
        given = self.generations[places[known]].astype(np.int64)
        ahead = (generations[known] - given) % _GENERATIONS
        result[known] = (ahead >= 1) & (ahead < _GENERATIONS // 2)
        return result
