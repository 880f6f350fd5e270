"""How fast is this datacenter's log? Commits of random bytes, measured by its leader.

`serai operator raft measure` asks: are these disks and this network good enough for a
quorum? The leader proposes entries that change nothing, keeps `window` of them under way
for `duration_us`, and times each from the moment it was due: with a rate that is its place
on the timetable, else the moment its predecessor in the window was applied. An entry that
a stalled server proposes late is counted late.

They are entries like any other: they cost disk, network and a place in the log until the
next snapshot, and they stand in the same queue as everybody's writes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from core.server.outbox import Timer
from core.server.proposal import Outcome
from core.state.commands import Measure
from core.state.result import Change

if TYPE_CHECKING:
    from core.server.context import Server

MAX_WINDOW: Final = 4096
MAX_BYTES: Final = 4 << 20  # of one entry
MAX_DURATION_US: Final = 60_000_000
_SPARE_BYTES: Final = 4096  # so many different pieces
_DRAIN_US: Final = 5_000_000  # what is under way at the end may take so long
_SHARES: Final = {"P50": 0.5, "P90": 0.9, "P99": 0.99, "P999": 0.999}


@dataclass(frozen=True, slots=True)
class Load:
    """What to propose. `rate` is entries a second; 0 = as many as the window lets through."""

    size: int
    window: int
    duration_us: int
    rate: int = 0

    def problem(self) -> str:
        """Return why this can't be measured, "" when it can."""
        if not 0 <= self.size <= MAX_BYTES:
            return f"Size {self.size}: an entry has 0 to {MAX_BYTES} bytes"
        if not 1 <= self.window <= MAX_WINDOW:
            return f"Window {self.window}: 1 to {MAX_WINDOW} entries may be under way"
        if not 0 < self.duration_us <= MAX_DURATION_US:
            return f"Duration: more than 0 and at most {MAX_DURATION_US // 1_000_000} s"
        if self.rate < 0:
            return f"Rate {self.rate}: entries a second, 0 = as many as the window allows"
        return ""


@dataclass(slots=True)
class _Run:
    load: Load
    done: Callable[[dict[str, Any]], None]
    began_us: int
    due_us: float  # of the next entry, when there is a rate
    timer: Timer  # of the end
    wake: Timer  # of the next entry, when there is a rate
    under_way: int = 0
    proposed: int = 0
    took_us: list[int] = field(default_factory=list)
    random: bytes = b""  # each entry is a piece of it
    last_us: int = 0  # when the last one was applied
    refusals: dict[str, int] = field(default_factory=dict)
    is_over: bool = False


class Measuring:
    """At most one measurement at a time."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._run: _Run | None = None

    @property
    def is_busy(self) -> bool:
        return self._run is not None

    def start(self, load: Load, done: Callable[[dict[str, Any]], None]) -> None:
        """Measure and call `done` with the figures, once."""
        assert self._run is None, "ask is_busy first"
        outbox, now_us = self._server.outbox, self._server.now.mono_us
        timer = outbox.at(now_us + load.duration_us, self._on_end)
        wake = Timer(now_us, lambda: None)
        run = _Run(load, done, now_us, float(now_us), timer, wake, last_us=now_us)
        # Drawn once: to draw a megabyte anew takes longer than to encrypt it.
        run.random = self._server.rng.randbytes(load.size + _SPARE_BYTES)
        self._run = run
        self._fill(run)

    def on_leadership(self, is_leader: bool) -> None:
        if not is_leader and self._run is not None:
            self._run.is_over = True  # what is under way comes back as lost
            self._settle(self._run)

    def on_applied(self, changes: list[Change]) -> None:
        return

    # --- inside -------------------------------------------------------------------------

    def _fill(self, run: _Run) -> None:
        """Propose what is due and has room in the window."""
        now_us = self._server.now.mono_us
        while not run.is_over and run.under_way < run.load.window:
            if not run.load.rate:
                self._propose(run, now_us)
                continue
            if run.due_us > now_us:
                run.wake.cancel()
                run.wake = self._server.outbox.at(int(run.due_us) + 1, lambda: self._fill(run))
                return
            self._propose(run, int(run.due_us))
            run.due_us += 1e6 / run.load.rate

    def _propose(self, run: _Run, due_us: int) -> None:
        run.under_way += 1
        run.proposed += 1

        def then(outcome: Outcome) -> None:
            run.under_way -= 1
            if outcome.applied is None:
                run.refusals[outcome.reason] = run.refusals.get(outcome.reason, 0) + 1
                run.is_over = True
            else:
                run.last_us = self._server.now.mono_us
                run.took_us.append(run.last_us - due_us)
            self._fill(run)
            self._settle(run)

        start = run.proposed % _SPARE_BYTES
        data = run.random[start : start + run.load.size]
        self._server.consensus.propose([Measure(data=data)], then)

    def _on_end(self) -> None:
        run = self._run
        if run is None:
            return
        if run.is_over:
            run.under_way = 0  # it did not come back in time
        else:
            run.is_over = True
            run.timer = self._server.outbox.after(_DRAIN_US, self._on_end)
        self._settle(run)

    def _settle(self, run: _Run) -> None:
        """Answer once it is over and nothing is under way."""
        if not run.is_over or run.under_way or self._run is not run:
            return
        run.timer.cancel()
        run.wake.cancel()
        self._run = None
        run.done(self._figures(run))

    def _figures(self, run: _Run) -> dict[str, Any]:
        consensus = self._server.consensus
        seconds = max(1, run.last_us - run.began_us) / 1e6
        took = sorted(run.took_us)
        return {
            "Engine": self._server.config.raft_engine,
            "Voters": len(consensus.voters()),
            "Size": run.load.size,
            "Window": run.load.window,
            "Rate": run.load.rate,
            "Proposed": run.proposed,
            "Committed": len(took),
            "Refused": run.refusals,
            "Seconds": round(seconds, 3),
            "CommitsPerSecond": round(len(took) / seconds, 1),
            "Milliseconds": {
                **{name: _at(took, share) for name, share in _SHARES.items()},
                "Max": _at(took, 1.0),
            },
        }


def _at(ordered: list[int], share: float) -> float:
    """Return the value below which `share` of them lie, in milliseconds; 0 for none."""
    if not ordered:
        return 0.0
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] / 1000
