"""Go's durations as job files have them; see core.model.durations, which every floor reads."""

from core.model.durations import DurationError, duration_text, parse_duration_ns

__all__ = ["DurationError", "duration_text", "parse_duration_ns"]
