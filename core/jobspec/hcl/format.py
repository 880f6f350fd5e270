"""The canonical layout of an HCL text: what `serai fmt` writes.

The layout is that of HCL's own formatter, which `nomad fmt` and `terraform fmt` use, so
that a file may pass through either. Only white space changes:

- two spaces for each line that leaves brackets open, whatever their number;
- one space around operators, inside braces and after commas; none inside parentheses and
  square brackets, around dots, or behind a function's name;
- the `=` of attributes on neighbouring lines stand below each other, and so do the
  comments behind them; a blank line or a value over several lines ends such a row;
- heredocs, comments and line breaks stay as they are; blanks at the end of a line go.

It works on tokens and the text between them, never on the tree: what the tree does not
hold (comments, blank lines) can't be lost.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from core.jobspec.diagnostics import Source, SourceError
from core.jobspec.hcl.lexer import sequence_end, tokenize
from core.jobspec.hcl.parser import is_json_text, parse_file

INDENT: Final = 2

_GAP = re.compile(r"[ \t\r]*(?P<newline>\n)|[ \t\r]+|(?P<line>(?:\#|//)[^\n]*)|(?P<block>/\*)")
_STRING_STEP = re.compile(r"\\.|[$%]{2}\{|(?P<opening>\$\{)|%\{", re.DOTALL)

_COMMENT: Final = "COMMENT"
_STRING: Final = "STRING"
_HEREDOC: Final = "HEREDOC"
_OPENING: Final = frozenset({"LPAR", "LBRACE", "LSQB"})
_CLOSING: Final = frozenset({"RPAR", "RBRACE", "RSQB"})
_NUMBERS: Final = frozenset({"INT_LITERAL", "FLOAT_LITERAL"})
# What an operand may end with: a minus behind one subtracts, any other negates.
_OPERAND_ENDS: Final = _CLOSING | _NUMBERS | {"NAME", _STRING, _HEREDOC, "FULL_SPLAT_START",
                                              "ATTR_SPLAT"}  # fmt: skip
_WORDS_BEFORE_VALUES: Final = frozenset({"in", "if", "else"})


class _Piece(NamedTuple):
    """What is printed as one: a token, a whole string or heredoc, a comment."""

    kind: str
    text: str
    is_apart: bool  # white space stood before it


@dataclass(slots=True)
class _Line:
    """One line in three cells: what stands first, ` = value`, and the comment behind."""

    lead: list[_Piece] = field(default_factory=list)
    ending: str = ""
    assign: list[_Piece] = field(default_factory=list)
    comment: _Piece | None = None
    texts: list[str] = field(default_factory=lambda: ["", "", ""])  # of the three cells
    indent: int = 0


def format_text(text: str, filename: str, *, keeps_strings: bool = False) -> str:
    """Return `text` in canonical layout; it means the same, and formatting again changes nothing.

    Args:
        text: HCL.
        filename: For messages only.
        keeps_strings: The expressions in strings keep their spelling, for who compares it.

    Raises:
        SourceError: the text is not HCL, so nothing is known of its layout.
    """
    if is_json_text(text):
        raise SourceError.of_file(filename, "this is JSON; only HCL is formatted")
    source, _ = parse_file(text, filename)
    lines = _lines(source, keeps_strings)
    _set_indents(lines)
    for line in lines:
        _split_cells(line)
    _align(lines)
    return "".join(_text_of(line) for line in lines)


# --- tokens to lines ----------------------------------------------------------------------


def _lines(source: Source, keeps_strings: bool) -> list[_Line]:
    lines = [_Line()]
    is_apart = False
    for piece in _pieces(source, keeps_strings):
        if isinstance(piece, str):
            if "\n" in piece:
                lines[-1].ending = "\r\n" if piece.endswith("\r\n") else "\n"
                lines.append(_Line())
            is_apart = True
            continue
        lines[-1].lead.append(piece._replace(is_apart=is_apart))
        is_apart = False
    return lines


def _pieces(source: Source, keeps_strings: bool) -> Iterator[_Piece | str]:
    """Yield what is to be printed, and the white space between as plain strings."""
    text, at = source.text, 0
    tokens = iter(tokenize(source, 0, len(text), is_inside=False))
    for token in tokens:
        if token.type == "NL_OR_COMMENT":
            continue
        yield from _gap(text, at, token.start)
        at = token.end
        if token.type == "DBLQUOTE":
            at = next(tokens).end
            span = token.start, at
            shown = text[slice(*span)] if keeps_strings else _string_text(source, *span)
            yield _Piece(_STRING, shown, False)
        elif token.type.startswith("HEREDOC"):
            yield _Piece(_HEREDOC, text[token.start : at], False)
        else:
            yield _Piece(token.type, text[token.start : at], False)
    yield from _gap(text, at, len(text))


def _gap(text: str, at: int, end: int) -> Iterator[_Piece | str]:
    while at < end:
        match = _GAP.match(text, at, end)
        assert match is not None, "the lexer left out more than blanks and comments"
        at = match.end()
        if match["line"] is not None:
            yield _Piece(_COMMENT, match["line"].rstrip(), False)
        elif match["block"] is not None:
            start, at = match.start(), text.index("*/", at) + 2
            yield _Piece(_COMMENT, text[start:at], False)
        else:
            yield match.group()


def _string_text(source: Source, start: int, end: int) -> str:
    """Return a quoted string with the expressions in it formatted; directives stay."""
    text, at = source.text, start
    parts: list[str] = []
    while step := _STRING_STEP.search(text, at, end):
        if step["opening"] is None:
            is_directive = step.group() == "%{"
            until = sequence_end(source, step.start(), end, 1) if is_directive else step.end()
            parts.append(text[at:until])
            at = until
            continue
        close = sequence_end(source, step.start(), end, 1)
        parts += [text[at : step.end()], _sequence_text(source, step.end(), close), "}"]
        at = close + 1
    return "".join([*parts, text[at:end]])


def _sequence_text(source: Source, start: int, end: int) -> str:
    """Return the inside of `${...}`; over several lines, or with a `~`, it stays as it is."""
    inner = source.text[start:end]
    if "\n" in inner or "/*" in inner or inner[:1] == "~" or inner[-1:] == "~":
        return inner
    pieces: list[_Piece] = []
    tokens = iter(tokenize(source, start, end, is_inside=True))
    at = start
    for token in tokens:
        is_apart, at = token.start > at, token.end
        if token.type == "DBLQUOTE":
            at = next(tokens).end
            pieces.append(_Piece(_STRING, _string_text(source, token.start, at), is_apart))
        else:
            pieces.append(_Piece(token.type, source.text[token.start : at], is_apart))
    shown = _joined(pieces)
    is_object = bool(pieces) and "BRACE" in pieces[0].kind + pieces[-1].kind
    return f" {shown} " if is_object else shown  # "${{" is hard to read


# --- indentation --------------------------------------------------------------------------


def _net_brackets(pieces: Sequence[_Piece]) -> int:
    return sum((piece.kind in _OPENING) - (piece.kind in _CLOSING) for piece in pieces)


def _set_indents(lines: list[_Line]) -> None:
    """A line that opens brackets is one step for all of them; its closers take it back."""
    open_: list[int] = []
    for line in lines:
        net = _net_brackets(line.lead)
        closed = max(0, -net)
        while closed and open_:
            taken = min(closed, open_[-1])
            closed -= taken
            open_[-1] -= taken
            if not open_[-1]:
                open_.pop()
        line.indent = INDENT * len(open_)
        if net > 0:
            open_.append(net)


# --- cells --------------------------------------------------------------------------------


def _split_cells(line: _Line) -> None:
    if len(line.lead) > 1 and line.lead[-1].kind == _COMMENT:
        line.comment = line.lead.pop()
    for index, piece in enumerate(line.lead):
        if index and piece.kind == "EQ":
            # A value that goes on over further lines is no cell: it ends the row.
            if _net_brackets(line.lead[index:]) == 0:
                line.lead, line.assign = line.lead[:index], line.lead[index:]
            break
    line.texts = [
        _joined(line.lead),
        _joined(line.assign),
        "" if line.comment is None else line.comment.text,
    ]


def _align(lines: list[_Line]) -> None:
    for row in _rows(lines, 1):
        width = max(_width(line.texts[0]) for line in row)
        for line in row:
            line.texts[0] += " " * (width - _width(line.texts[0]) + 1)
    for row in _rows(lines, 2):
        width = max(line.indent + _width(line.texts[0] + line.texts[1]) for line in row)
        for line in row:
            own = line.indent + _width(line.texts[0] + line.texts[1])
            line.texts[1] += " " * (width - own + 1)


def _rows(lines: list[_Line], cell: int) -> Iterator[list[_Line]]:
    """Yield the runs of neighbouring lines that have something in a cell."""
    row: list[_Line] = []
    for line in lines:
        if line.texts[cell]:
            row.append(line)
        if row and (not line.texts[cell] or "\n" in line.texts[cell]):
            yield row
            row = []
    if row:
        yield row


def _width(text: str) -> int:
    return len(text) - text.rfind("\n") - 1


def _text_of(line: _Line) -> str:
    shown = "".join(line.texts)
    return (" " * line.indent + shown if shown else "") + line.ending


# --- spaces -------------------------------------------------------------------------------


def _joined(pieces: Sequence[_Piece]) -> str:
    parts: list[str] = []
    before: _Piece | None = None
    for index, piece in enumerate(pieces):
        if index:
            left = pieces[index - 1]
            if _is_apart(before, left, piece):
                parts.append(" ")
            before = left
        parts.append(piece.text)
    return "".join(parts)


def _is_apart(before: _Piece | None, left: _Piece, right: _Piece) -> bool:
    """Whether a space stands between two neighbours; `before` stands left of both."""
    a, b = left.kind, right.kind
    if a in _NUMBERS and b == "DOT":
        return right.is_apart  # "1 .x" is no fraction
    if _COMMENT in {a, b}:
        return True
    if "COLONS" in {a, b} or "DOT" in {a, b} or b in {"ATTR_SPLAT", "FULL_SPLAT_START"}:
        return False
    if b in {"COMMA", "ELLIPSIS"}:
        return False
    if a == "COMMA":
        return True
    if left.text in _WORDS_BEFORE_VALUES and before is not None and before.kind not in _OPENING:
        return True
    if b == "LPAR" and a == "NAME":
        return False
    if b == "LSQB" and (a in _CLOSING or a in _NUMBERS or a == "NAME"):
        return False
    if a == "NOT":
        return False
    if a == "MINUS":
        return before is not None and before.kind in _OPERAND_ENDS
    if a == "LBRACE" or b == "RBRACE":
        return not (a == "LBRACE" and b == "RBRACE")
    return a not in _OPENING and b not in _CLOSING
