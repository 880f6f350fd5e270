"""How a simulation gets on, in place on a terminal (rich)."""

import time
from types import TracebackType
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sim.run import Progress

SHOWN_EVERY_S: Final = 0.25
WINDOW_S: Final = 5.0  # over which speed is measured
SHOWN_FAULTS: Final = 4


class LiveProgress:
    """Call it with each `Progress`; use it as a context so that the terminal is left whole."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._live = Live(console=Console(stderr=True), auto_refresh=False, transient=True)
        self._shown_s = 0.0
        # (wall, virtual, events)
        self._marks: list[tuple[float, float, int]] = [(time.monotonic(), 0.0, 0)]

    def __enter__(self) -> "LiveProgress":
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def __call__(self, now: Progress) -> None:
        wall_s = time.monotonic()
        if wall_s - self._shown_s < SHOWN_EVERY_S and now.sim_s < now.end_s:
            return
        self._shown_s = wall_s
        self._marks.append((wall_s, now.sim_s, now.events))
        while len(self._marks) > 2 and wall_s - self._marks[0][0] > WINDOW_S:
            del self._marks[0]
        self._live.update(self._view(now, wall_s), refresh=True)

    def _view(self, now: Progress, wall_s: float) -> RenderableType:
        first_s, first_sim_s, first_events = self._marks[0]
        span_s = max(wall_s - first_s, 1e-3)
        speed = (now.sim_s - first_sim_s) / span_s
        rate = (now.events - first_events) / span_s
        left_s = (now.end_s - now.sim_s) / speed if speed else 0.0
        rows = Table.grid(padding=(0, 2))
        rows.add_column(style="dim")
        rows.add_column()
        bar = ProgressBar(total=now.end_s, completed=now.sim_s, width=40)
        times = Text(f"{clock(now.sim_s)} of {clock(now.end_s)}")
        rows.add_row(self._title, bar)
        rows.add_row("time", times)
        rows.add_row("speed", f"{speed:,.1f} times real time, about {clock(left_s)} to go")
        rows.add_row("events", f"{now.events:,}, {rate:,.0f} a second")
        for name, value in self._state(now):
            rows.add_row(name, value)
        return Group(rows)

    def _state(self, now: Progress) -> list[tuple[str, RenderableType]]:
        run = now.run
        agents = run.world.agents.values()
        down = [agent.name for agent in agents if agent.machine is None]
        shown: list[tuple[str, RenderableType]] = [
            ("runs", f"{run.census.running:,} instances, {len(run.census.short):,} jobs short")
        ]
        if down:
            names = ", ".join(down[:SHOWN_FAULTS]) + (", ..." if len(down) > SHOWN_FAULTS else "")
            shown.append(("down", Text(f"{len(down):,} agents: {names}", style="yellow")))
        active = list(run.faults.active.values())
        if active:
            words = [f"{one.plan.kind} {one.plan.source or one.plan.target}" for one in active]
            more = f" and {len(words) - SHOWN_FAULTS} more" if len(words) > SHOWN_FAULTS else ""
            text = ", ".join(words[:SHOWN_FAULTS]) + more
            shown.append(("faults", Text(text, style="yellow")))
        checked = sum(run.checkers.checked.values())
        violations = len(run.checkers.violations) + len(run.world.halts)
        style = "red" if violations else "green"
        shown.append(("checked", Text(f"{checked:,}, {violations} violations", style=style)))
        return shown


def clock(seconds: float) -> str:
    """Return a span of time as people read it: 3m20s, 2h05m."""
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}h{minutes:02}m"
    if minutes:
        return f"{minutes}m{rest:02}s"
    return f"{seconds:.1f}s" if seconds < 10 else f"{rest}s"
