"""Following an agent's log from afar: taps on the journal, read in turns.

A tap gathers the lines of its level from when it was opened; whoever follows reads what came
since and waits a little when there is nothing. A tap holds at most `LINES` lines: a slow
reader loses the oldest and is told how many. One that nobody reads is closed.
"""

import json
from collections import deque
from typing import Any, Final

import structlog
import trio

from core.agent.journal import LEVELS, follow

LINES: Final = 2048
WAIT_S: Final = 5.0
IDLE_S: Final = 60.0
TAPS: Final = 32


class MonitorError(Exception):
    """A log can't be followed; the text says why."""


class _Tap:
    def __init__(self, level: int, *, as_json: bool) -> None:
        self.level = level
        self.as_json = as_json
        self.lines: deque[str] = deque(maxlen=LINES)
        self.lost = 0
        self.wake = trio.Event()
        self.read_s = trio.current_time()

    def add(self, line: str) -> None:
        self.lost += len(self.lines) == LINES
        self.lines.append(line)
        self.wake.set()

    def take(self) -> bytes:
        text = f"({self.lost} lines were lost: they came too fast)\n" if self.lost else ""
        text += "".join(f"{line}\n" for line in self.lines)
        self.lines.clear()
        self.lost = 0
        self.wake = trio.Event()
        return text.encode()


class Monitors:
    """The taps of one agent."""

    def __init__(self) -> None:
        self._taps: dict[str, _Tap] = {}
        self._render: Any = structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0)

    async def read(self, key: str, level: str, *, as_json: bool) -> bytes:
        """Return the lines since the last reading, b"" when none came within `WAIT_S`.

        Args:
            key: The follower's, drawn by it; the first reading opens the tap.

        Raises:
            MonitorError: The level is none, or too many follow.
        """
        if level.lower() not in LEVELS:
            raise MonitorError(f'log level "{level}" is not one of trace, debug, info, warn, error')
        tap = self._taps.get(key)
        if tap is None:
            self._forget_idle()
            if len(self._taps) >= TAPS:
                raise MonitorError(f"{TAPS} follow this agent's log already: end one of them")
            tap = self._taps[key] = _Tap(LEVELS[level.lower()], as_json=as_json)
            self._listen()
            return b""  # at once, so that the follower knows that it does follow
        tap.read_s = trio.current_time()
        with trio.move_on_after(WAIT_S):
            await tap.wake.wait()
        return tap.take()

    def close(self, key: str) -> None:
        if self._taps.pop(key, None) is not None:
            self._listen()

    def _forget_idle(self) -> None:
        now_s = trio.current_time()
        for key in [key for key, tap in self._taps.items() if now_s - tap.read_s > IDLE_S]:
            del self._taps[key]

    def _listen(self) -> None:
        """Have the journal call us, from the least level that anybody follows."""
        follow(self._on_line, min((tap.level for tap in self._taps.values()), default=None))

    def _on_line(self, level: int, event: dict[str, Any]) -> None:
        for tap in self._taps.values():
            if level >= tap.level:
                shown = dict(event)
                tap.add(
                    json.dumps(shown, default=str) if tap.as_json else self._render(None, "", shown)
                )
