"""The inside of a string or heredoc: text, `${expression}` and `%{if}`/`%{for}`."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Final, cast

from core.jobspec.diagnostics import Source, Span
from core.jobspec.hcl import limits
from core.jobspec.hcl.lexer import Heredoc, sequence_end
from core.jobspec.hcl.tree import Node, Template, TemplateFor, TemplateIf

_QUOTED_STEP = re.compile(
    r"""[^\\$%]+
      | \\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}
      | \\u[0-9a-fA-F]{4} | \\U[0-9a-fA-F]{8} | \\.
      | [$%]{2}\{ | [$%]\{ | [$%]""",
    re.DOTALL | re.VERBOSE,
)
_HEREDOC_STEP = re.compile(r"[^$%\n]+|\n|[$%]{2}\{|[$%]\{|[$%]")
_FOR = re.compile(r"\s*([^\W\d][\w-]*)\s*(?:,\s*([^\W\d][\w-]*)\s*)?\s+in\b")
_WORD = re.compile(r"\s*([a-z]+)\b")
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_JSON_ESCAPES: Final = {"/": "/", "b": "\b", "f": "\f"}


@dataclass(slots=True)
class _Sequence:
    """One `${...}` or `%{...}`. `inner` is what stands between the braces and markers."""

    opener: str
    span: Span
    inner: Span
    trims_before: bool
    trims_after: bool


_Piece = str | _Sequence


def parse_template(source: Source, span: Span, inner: Span, heredoc: Heredoc | None) -> Template:
    """Return the template at `inner`; `span` covers its quotes or markers too.

    Raises:
        SourceError: an unknown escape, or sequences that don't fit each other.
    """
    pieces = _trim(_split(source, inner, is_quoted=heredoc is None))
    if heredoc is not None and heredoc.is_flush:
        pieces = _unindent(pieces)
    parts = _Assembler(source, span, heredoc is None).run(_joined(pieces))
    parts.depth = max((part.depth for part in parts.parts if isinstance(part, Node)), default=0) + 1
    if parts.depth > limits.EXPRESSION_DEPTH:
        raise source.error(span, f"this template is more than {limits.EXPRESSION_DEPTH} deep")
    return parts


def _split(source: Source, inner: Span, *, is_quoted: bool) -> list[_Piece]:
    """Return text and sequences in a row; in a heredoc no piece of text crosses a line.

    That is what `~` and `<<-` go by in HCL: a marker strips no further than to the end
    of its line, the newline included.
    """
    text, at, end = source.text, inner.start, inner.end
    step_at = (_QUOTED_STEP if is_quoted else _HEREDOC_STEP).match
    pieces: list[_Piece] = []
    literal: list[str] = []
    while at < end:
        match = step_at(text, at, end)
        assert match is not None  # the lexer closed every escape
        step = match.group()
        if step in {"${", "%{"}:
            if literal:
                pieces.append("".join(literal))
                literal = []
            close = sequence_end(source, at, end, 1)
            pieces.append(_sequence(source, at, close))
            at = close + 1
            continue
        if step in {"$${", "%%{"}:
            literal.append(step[1:])
        elif step[0] == "\\" and is_quoted:
            literal.append(_unescape(source, step, Span(at, match.end())))
        else:
            literal.append(step)
        at = match.end()
        if step == "\n" and not is_quoted:
            pieces.append("".join(literal))
            literal = []
    if literal:
        pieces.append("".join(literal))
    return pieces


def _sequence(source: Source, at: int, close: int) -> _Sequence:
    text = source.text
    start, end = at + 2, close
    trims_before = text[start : start + 1] == "~"
    trims_after = end > start + trims_before and text[end - 1] == "~"
    inner = Span(start + trims_before, end - trims_after)
    return _Sequence(text[at : at + 2], Span(at, close + 1), inner, trims_before, trims_after)


def _unescape(source: Source, step: str, span: Span) -> str:
    if len(step) == 12:  # a pair of surrogates, as JSON writes what lies beyond U+FFFF
        high, low = int(step[2:6], 16), int(step[8:], 16)
        return chr(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00))
    if step[1] in "uU" and len(step) > 2:
        code = int(step[2:], 16)
        if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise source.error(span, f"{step} is not a character")
        return chr(code)
    char = _ESCAPES.get(step[1]) or (_JSON_ESCAPES.get(step[1]) if source.is_json else None)
    if char is None:
        raise source.error(
            span,
            f"there is no escape {step} in a string",
            hint=f"a backslash itself is written twice: \\{step}",
        )
    return char


def _trim(pieces: list[_Piece]) -> list[_Piece]:
    trimmed: list[_Piece] = []
    for index, piece in enumerate(pieces):
        if isinstance(piece, str):
            before = pieces[index - 1] if index else None
            after = pieces[index + 1] if index + 1 < len(pieces) else None
            if isinstance(before, _Sequence) and before.trims_after:
                piece = piece.lstrip()
            if isinstance(after, _Sequence) and after.trims_before:
                piece = piece.rstrip()
        trimmed.append(piece)
    return trimmed


def _unindent(pieces: list[_Piece]) -> list[_Piece]:
    """Take away the indentation that all lines of a `<<-` heredoc share.

    A blank line neither counts nor changes. A newline that `~` has taken away begins no
    line, so the text after it keeps its indentation, as in HCL.
    """
    line_starts: list[int] = []
    indents: list[int] = []
    is_line_start = True
    for index, piece in enumerate(pieces):
        if isinstance(piece, _Sequence):
            if is_line_start:
                indents.append(0)
            is_line_start = False
            continue
        if is_line_start and not (piece.isspace() and piece.endswith("\n")):
            line_starts.append(index)
            indents.append(len(piece) - len(piece.lstrip()))
        is_line_start = piece.endswith("\n")
    width = min(indents, default=0)
    cut = list(pieces)
    for index in line_starts:
        line = cut[index]
        assert isinstance(line, str)
        cut[index] = line[width:]
    return cut


def _joined(pieces: list[_Piece]) -> list[_Piece]:
    """Return the pieces with neighbouring text in one."""
    joined: list[_Piece] = []
    for is_text, run in groupby(pieces, lambda piece: isinstance(piece, str)):
        if is_text:
            joined.append("".join(cast(Iterator[str], run)))
        else:
            joined += run
    return joined


@dataclass(slots=True)
class _Frame:
    """An open directive: what it began with, and the parts gathered so far."""

    sequence: _Sequence | None
    parts: list[str | Node]
    kind: str = ""
    condition: Node | None = None
    if_true: Template | None = None
    key_name: str | None = None
    value_name: str = ""


class _Assembler:
    """Pieces in a row -> parts in which directives hold what stands between them."""

    def __init__(self, source: Source, span: Span, is_quoted: bool) -> None:
        self.source = source
        self.span = span
        self.is_quoted = is_quoted
        self.frames: list[_Frame] = [_Frame(None, [])]

    def run(self, pieces: list[_Piece]) -> Template:
        for piece in pieces:
            if isinstance(piece, str):
                self.frames[-1].parts.append(piece)
            elif piece.opener == "${":
                self.frames[-1].parts.append(self._expression(piece.inner, piece.span))
            else:
                self._directive(piece)
        frame = self.frames[-1]
        if frame.sequence is not None:
            raise self.source.error(
                frame.sequence.span, f'this "%{{ {frame.kind} }}" has no "%{{ end{frame.kind} }}"'
            )
        return Template(self.span, 1, frame.parts, self.is_quoted)

    def _expression(self, inner: Span, shown: Span) -> Node:
        from core.jobspec.hcl.parser import parse_expression

        if not self.source.slice(inner).strip():
            raise self.source.error(shown, f"{self.source.slice(shown)} holds no expression")
        return parse_expression(self.source, inner)

    def _directive(self, sequence: _Sequence) -> None:
        inner = sequence.inner
        match = _WORD.match(self.source.text, inner.start, inner.end)
        word = match.group(1) if match else ""
        rest = Span(match.end() if match else inner.start, inner.end)
        if word == "if":
            self._open(_Frame(sequence, [], "if", self._expression(rest, sequence.span)))
        elif word == "for":
            self._open_for(sequence, rest)
        elif word == "else" and self.frames[-1].kind == "if" and not self.frames[-1].if_true:
            frame = self.frames[-1]
            frame.if_true, frame.parts = self._template(frame.parts), []
        elif word in {"endif", "endfor"} and self.frames[-1].kind == word[3:]:
            self._close(self.frames.pop())
        elif word in {"else", "endif", "endfor"}:
            raise self.source.error(sequence.span, f'"%{{ {word} }}" without its beginning')
        else:
            raise self.source.error(
                sequence.span,
                "a directive is if, else, endif, for or endfor",
                hint='to mean the two characters themselves, write "%%{"',
            )

    def _open(self, frame: _Frame) -> None:
        if len(self.frames) > limits.TEMPLATE_DEPTH:
            assert frame.sequence is not None
            raise self.source.error(
                frame.sequence.span,
                f"directives are nested more than {limits.TEMPLATE_DEPTH} deep, which is the limit",
            )
        self.frames.append(frame)

    def _open_for(self, sequence: _Sequence, rest: Span) -> None:
        match = _FOR.match(self.source.text, rest.start, rest.end)
        if match is None:
            raise self.source.error(sequence.span, "a loop is written %{ for value in list }")
        first, second = match.groups()
        collection = self._expression(Span(match.end(), rest.end), sequence.span)
        self._open(
            _Frame(
                sequence, [], "for", collection,
                key_name=first if second else None, value_name=second or first,
            )
        )  # fmt: skip

    def _template(self, parts: list[str | Node]) -> Template:
        depth = 1 + max((part.depth for part in parts if isinstance(part, Node)), default=0)
        return Template(self.span, depth, parts, False)

    def _close(self, frame: _Frame) -> None:
        assert frame.sequence is not None and frame.condition is not None
        last = self._template(frame.parts)
        span = frame.sequence.span
        node: Node
        if frame.kind == "if":
            if_true, if_false = (frame.if_true, last) if frame.if_true else (last, None)
            depth = 1 + max(frame.condition.depth, if_true.depth, last.depth)
            node = TemplateIf(span, depth, frame.condition, if_true, if_false)
        else:
            depth = 1 + max(frame.condition.depth, last.depth)
            node = TemplateFor(span, depth, frame.key_name, frame.value_name, frame.condition, last)
        self.frames[-1].parts.append(node)
