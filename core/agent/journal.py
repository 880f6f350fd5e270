"""The agent's own log: structlog, one line an event, plain or JSON, to stderr or a file."""

import logging
import sys
from collections.abc import Callable
from typing import Any, Final, TextIO

import structlog
from structlog.typing import EventDict

LEVELS: Final = {"trace": 10, "debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40}


_NEVER: Final = 100


class _Gate:
    """Lets the journal have lines of its own level, and a follower those of another."""

    def __init__(self) -> None:
        self.level = 20  # of the journal
        self.followed = _NEVER  # least level that anybody follows
        self.follower: Callable[[int, dict[str, Any]], None] | None = None

    def __call__(self, logger: Any, name: str, event: EventDict) -> EventDict:
        level = LEVELS.get(name, 20)
        if self.follower is not None and level >= self.followed:
            self.follower(level, dict(event))
        if level < self.level:
            raise structlog.DropEvent
        return event

    def wrapper(self) -> Any:
        return structlog.make_filtering_bound_logger(min(self.level, self.followed))


_gate: Final = _Gate()


def follow(follower: Callable[[int, dict[str, Any]], None], level: int | None) -> None:
    """Have every line from `level` on handed to `follower` as well; None: nobody follows."""
    _gate.follower = None if level is None else follower
    _gate.followed = _NEVER if level is None else level
    structlog.configure(wrapper_class=_gate.wrapper())


def open_journal(level: str, *, as_json: bool, stream: TextIO | None = None) -> Any:
    """Configure logging for the process and return the logger.

    Args:
        level: trace, debug, info, warn or error, in any case.
        as_json: One JSON object a line, else `time [LEVEL] message key=value`.
        stream: Where lines go; stderr when None.
    """
    target = stream if stream is not None else sys.stderr
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=target.isatty(), pad_event_to=0)
    )
    _gate.level = LEVELS.get(level.lower(), 20)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _gate,
            renderer,
        ],
        wrapper_class=_gate.wrapper(),
        logger_factory=structlog.WriteLoggerFactory(target),
        cache_logger_on_first_use=False,
    )
    # Libraries log through the standard module; their warnings and errors are ours too.
    logging.basicConfig(
        level=max(logging.WARNING, LEVELS.get(level.lower(), 20)),
        stream=target,
        format="%(asctime)s [%(levelname)s] %(name)s: %(message)s",
        force=True,
    )
    return structlog.get_logger()


def set_level(level: str) -> Any:
    """Change the level of a running agent (SIGHUP) and return the new logger."""
    _gate.level = LEVELS.get(level.lower(), 20)
    structlog.configure(wrapper_class=_gate.wrapper())
    return structlog.get_logger()
