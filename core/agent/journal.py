"""The agent's own log: structlog, one line an event, plain or JSON, to stderr or a file."""

import logging
import sys
from typing import Any, Final, TextIO

import structlog

LEVELS: Final = {"trace": 10, "debug": 10, "info": 20, "warn": 30, "warning": 30, "error": 40}


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
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS.get(level.lower(), 20)),
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
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS.get(level.lower(), 20))
    )
    return structlog.get_logger()
