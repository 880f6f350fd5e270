"""What went wrong in a text, and where: errors as a good compiler prints them.

    web.nomad.hcl:4:5: error: there is no attribute "dateacenters" in a job block
      4 |     dateacenters = ["dc1"]
        |     ^^^^^^^^^^^^
      did you mean "datacenters"?

A `Source` is one text with its name; a `Span` two offsets into it. Nothing here knows
HCL: job files, agent configuration and scenarios all report through it.
"""

import difflib
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Severity(StrEnum):
    ERROR = "error"
    WARNING = "warning"


class Span(NamedTuple):
    """Characters `start` (inclusive) to `end` (exclusive) of a source."""

    start: int
    end: int


class Position(NamedTuple):
    """Both count from 1; columns count characters, not bytes."""

    line: int
    column: int


class Source:
    """A text and where its lines begin."""

    __slots__ = ("_line_starts", "filename", "is_json", "text")

    def __init__(self, text: str, filename: str, *, is_json: bool = False) -> None:
        self.text = text
        self.filename = filename
        self.is_json = is_json
        self._line_starts: list[int] | None = None

    def _starts(self) -> list[int]:
        if self._line_starts is None:
            starts = [0]
            find = self.text.find
            at = find("\n")
            while at >= 0:
                starts.append(at + 1)
                at = find("\n", at + 1)
            self._line_starts = starts
        return self._line_starts

    def line_of(self, offset: int) -> int:
        """Return the line, from 1, that holds the character at `offset`."""
        return bisect_right(self._starts(), offset)

    def position(self, offset: int) -> Position:
        line = self.line_of(offset)
        return Position(line, offset - self._starts()[line - 1] + 1)

    def line_start(self, line: int) -> int:
        return self._starts()[line - 1]

    def line_text(self, line: int) -> str:
        start = self.line_start(line)
        end = self.text.find("\n", start)
        return self.text[start : len(self.text) if end < 0 else end].rstrip("\r")

    def slice(self, span: Span) -> str:
        return self.text[span.start : span.end]

    def diagnostic(
        self,
        span: Span,
        message: str,
        *,
        hint: str = "",
        severity: Severity = Severity.ERROR,
        feature: str = "",
    ) -> "Diagnostic":
        """Return `message` bound to the place `span`; `hint` says what to do about it."""
        start = max(0, min(span.start, len(self.text)))
        line, column = self.position(start)
        shown = self.line_text(line)
        width = max(1, min(span.end - start, len(shown) - column + 1))
        return Diagnostic(
            severity=severity,
            message=_clipped(message),
            hint=_clipped(hint),
            filename=self.filename,
            line=line,
            column=column,
            source_line=shown,
            width=width,
            feature=_clipped(feature),
        )

    def error(self, span: Span, message: str, *, hint: str = "") -> "SourceError":
        return SourceError([self.diagnostic(span, message, hint=hint)])


_SHOWN_LINE_LENGTH = 160  # a minified file must not fill the terminal
_SHOWN_TEXT_LENGTH = 400  # nor a name of a megabyte


def _clipped(text: str) -> str:
    return text if len(text) <= _SHOWN_TEXT_LENGTH else text[:_SHOWN_TEXT_LENGTH] + "..."


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding. `line` 0 means that it concerns the file as a whole.

    `feature` names what a warning says is not carried out: `template`, `driver "docker"`.
    """

    severity: Severity
    message: str
    hint: str = ""
    filename: str = ""
    line: int = 0
    column: int = 0
    source_line: str = ""
    width: int = 1
    feature: str = ""

    def summary(self) -> str:
        """Return it as one line, the form that editors can jump from."""
        place = self.filename
        if self.line:
            place = f"{place}:{self.line}:{self.column}"
        text = f"{place}: {self.severity}: {self.message}" if place else self.message
        return f"{text} ({self.hint})" if self.hint else text

    def render(self) -> str:
        """Return it with the source line and a caret under the place."""
        place = f"{self.filename}:{self.line}:{self.column}" if self.line else self.filename
        lines = [f"{place}: {self.severity}: {self.message}"]
        if self.line and self.source_line.strip():
            lines += self._excerpt()
        if self.hint:
            lines.append(f"  {self.hint}")
        return "\n".join(lines)

    def _excerpt(self) -> list[str]:
        text, column = self.source_line, self.column
        if len(text) > _SHOWN_LINE_LENGTH:
            cut = max(0, column - _SHOWN_LINE_LENGTH // 2)
            text, column = text[cut : cut + _SHOWN_LINE_LENGTH], column - cut
        number = str(self.line)
        # Tabs stay tabs in the padding so that the caret stands under its character.
        padding = "".join("\t" if char == "\t" else " " for char in text[: column - 1])
        carets = "^" * max(1, min(self.width, len(text) - column + 1))
        return [f"  {number} | {text}", f"  {' ' * len(number)} | {padding}{carets}"]

    def __str__(self) -> str:
        return self.render()


class SourceError(Exception):
    """A text cannot be read as what it should be. Holds at least one diagnostic."""

    def __init__(self, diagnostics: list[Diagnostic]) -> None:
        assert diagnostics
        super().__init__("\n".join(diagnostic.render() for diagnostic in diagnostics))
        self.diagnostics = diagnostics

    @classmethod
    def of_file(cls, filename: str, message: str, hint: str = "") -> "SourceError":
        return cls([Diagnostic(Severity.ERROR, message, hint=hint, filename=filename)])


class JobFileError(SourceError):
    """A job file cannot be turned into a job."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `did you mean "x"?` for the nearest known word, "" when none is near."""
    names = sorted(set(known))
    folded = {name.lower().replace("-", "_"): name for name in reversed(names)}
    near = difflib.get_close_matches(word.lower().replace("-", "_"), list(folded), 1, 0.7)
    return f'did you mean "{folded[near[0]]}"?' if near else ""
