"""Characters to the tokens of python-hcl2's grammar.

Why not python-hcl2's own lexer: it refuses what HCL allows (a space after a heredoc
marker, `<<_EOF`, unicode identifiers, `${~ x ~}`), its patterns for strings can't nest
and its heredoc pattern is quadratic. Here a string or heredoc is one unit, found by
counting brackets; template.py looks inside. Newlines inside parentheses and brackets
mean nothing in HCL, so they are dropped here instead of being allowed in every rule.

Linear in the length of the text; nesting is bounded by limits.BRACKETS.
"""

import re
from typing import Any, Final

from core.jobspec.diagnostics import Source, SourceError, Span
from core.jobspec.hcl import limits


class Token:
    """One token. `value` is its text, or the Heredoc it stands for."""

    __slots__ = ("end", "start", "type", "value")

    def __init__(self, type_: str, value: Any, start: int, end: int) -> None:
        self.type = type_
        self.value = value
        self.start = start
        self.end = end

    @property
    def span(self) -> Span:
        return Span(self.start, self.end)


_OPERATORS: Final = {
    "==": "DOUBLE_EQ", "!=": "NEQ", "<": "LT", ">": "GT", "<=": "LEQ", ">=": "GEQ",
    "-": "MINUS", "*": "ASTERISK", "/": "SLASH", "%": "PERCENT", "+": "PLUS",
    "&&": "DOUBLE_AMP", "||": "DOUBLE_PIPE", "!": "NOT", "?": "QMARK",
    "(": "LPAR", ")": "RPAR", "{": "LBRACE", "}": "RBRACE", "[": "LSQB", "]": "RSQB",
    ",": "COMMA", ".": "DOT", "=": "EQ", ":": "COLON", ".*": "ATTR_SPLAT",
    "[*]": "FULL_SPLAT_START", "=>": "FOR_OBJECT_ARROW", "...": "ELLIPSIS", "::": "COLONS",
}  # fmt: skip
KEYWORDS: Final = {
    "if": "IF", "in": "IN", "for": "FOR", "for_each": "FOR_EACH", "else": "ELSE",
    "endif": "ENDIF", "endfor": "ENDFOR", "null": "NULL", "true": "TRUE", "false": "FALSE",
}  # fmt: skip

_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r]+)
    | (?P<newline>\n[ \t\r\n]*)
    | (?P<comment>(?:\#|//)[^\n]*)
    | (?P<block_comment>/\*)
    | (?P<name>[^\W\d][\w-]*)
    | (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?)
    | (?P<heredoc><<)
    | (?P<string>")
    | (?P<operator>\.\.\.|\[\*\]|=>|==|!=|<=|>=|&&|\|\||::|\.\*|[-+*/%<>!?:,.=(){}\[\]])
    """,
    re.VERBOSE,
)
_HEREDOC_OPENING = re.compile(r"<<(-?)([^\W\d][\w.-]*)[ \t]*\r?\n")
_FOR_OBJECT = re.compile(r"\s*for\s+[^\W\d][\w-]*\s*(?:,|in\b)")
_STRING_STEP = re.compile(r'[^"\\$%\n]+|\\.|[$%]{2}\{|[$%]\{|[$%]|"|\n', re.DOTALL)
_SEQUENCE_STEP = re.compile(r'["{}\n]|/\*|//|#')

_CLOSES: Final = {")": "(", "]": "[", "}": "{"}
_ADVICE: Final = {
    "'": 'strings take double quotes: "..."',
    "`": 'strings take double quotes: "..."',
    ";": "attributes end with the line; there are no semicolons",
    "&": 'the logical operator is "&&"',
    "|": 'the logical operator is "||"',
    "“": 'this is a typographic quote; strings take plain double quotes: "..."',
    "”": 'this is a typographic quote; strings take plain double quotes: "..."',
    "‘": 'this is a typographic quote; strings take plain double quotes: "..."',
    "’": 'this is a typographic quote; strings take plain double quotes: "..."',
    "$": 'a reference stands alone, x = var.y, or in quotes, x = "${var.y}"',
}


class Heredoc:
    """What stands between `<<MARKER` and `MARKER`: the offsets of the lines of the body."""

    __slots__ = ("end", "is_flush", "start")

    def __init__(self, start: int, end: int, is_flush: bool) -> None:
        self.start = start
        self.end = end
        self.is_flush = is_flush


def tokenize(source: Source, start: int, end: int, *, is_inside: bool) -> list[Token]:
    """Return the tokens of `source.text[start:end]`.

    Args:
        source: The whole text; spans are offsets into it.
        start: First character.
        end: Past the last character.
        is_inside: It is an expression inside `${...}`: newlines mean nothing.

    Raises:
        SourceError: a character, string, comment or bracket that HCL does not know.
    """
    return _Lexer(source, start, end, is_inside).run()


class _Lexer:
    def __init__(self, source: Source, start: int, end: int, is_inside: bool) -> None:
        self.source = source
        self.text = source.text
        self.at = start
        self.end = end
        self.tokens: list[Token] = []
        # Open brackets: (character, offset, whether newlines inside are dropped).
        self.open: list[tuple[str, int, bool]] = []
        self.drops_newlines = is_inside
        self.is_inside = is_inside

    def run(self) -> list[Token]:
        text, end, tokens, match_at = self.text, self.end, self.tokens, _TOKEN.match
        while self.at < end:
            at = self.at
            match = match_at(text, at, end)
            if match is None:
                raise self._unknown_character(at)
            kind = match.lastgroup
            self.at = match.end()
            if kind in {"space", "comment"}:
                continue
            if kind == "name":
                tokens.append(Token("NAME", match.group(), at, self.at))
            elif kind == "operator":
                self._operator(match.group(), at)
            elif kind == "newline":
                if not self.drops_newlines:
                    tokens.append(Token("NL_OR_COMMENT", "\n", at, self.at))
            elif kind == "string":
                self.at = string_end(self.source, at, end)
                tokens.append(Token("DBLQUOTE", None, at, at + 1))
                tokens.append(Token("DBLQUOTE", None, self.at - 1, self.at))
            elif kind == "number":
                self._number(match.group(), at)
            elif kind == "heredoc":
                self._heredoc(at)
            else:
                self._block_comment(at)
        if self.open:
            char, at, _ = self.open[-1]
            raise self.source.error(Span(at, at + 1), f'this "{char}" is never closed')
        return tokens

    def _operator(self, text: str, at: int) -> None:
        if text in {"(", "[", "{", "[*]"}:
            if text != "[*]":
                self._push(text, at)
        elif text in _CLOSES:
            self._pop(text, at)
        self.tokens.append(Token(_OPERATORS[text], text, at, self.at))

    def _push(self, char: str, at: int) -> None:
        if len(self.open) >= limits.BRACKETS:
            raise self.source.error(
                Span(at, at + 1),
                f"brackets are nested more than {limits.BRACKETS} deep, which is the limit",
            )
        self.open.append((char, at, self.drops_newlines))
        # A `for` in braces is one expression; elsewhere a newline in braces separates.
        self.drops_newlines = char != "{" or _FOR_OBJECT.match(self.text, at + 1) is not None

    def _pop(self, char: str, at: int) -> None:
        if not self.open:
            raise self.source.error(Span(at, at + 1), f'this "{char}" closes nothing')
        opened, opened_at, self.drops_newlines = self.open.pop()
        if opened != _CLOSES[char]:
            line = self.source.line_of(opened_at)
            raise self.source.error(
                Span(at, at + 1), f'this "{char}" can\'t close the "{opened}" of line {line}'
            )

    def _number(self, text: str, at: int) -> None:
        if len(text) > limits.NUMBER_CHARS:
            raise self.source.error(
                Span(at, self.at), f"a number has at most {limits.NUMBER_CHARS} digits"
            )
        kind = "INT_LITERAL" if text.isdigit() else "FLOAT_LITERAL"
        self.tokens.append(Token(kind, text, at, self.at))

    def _block_comment(self, at: int) -> None:
        close = self.text.find("*/", at + 2, self.end)
        if close < 0:
            raise self.source.error(Span(at, at + 2), 'this comment is never closed with "*/"')
        self.at = close + 2

    def _heredoc(self, at: int) -> None:
        opening = _HEREDOC_OPENING.match(self.text, at, self.end)
        if opening is None:
            raise self.source.error(
                Span(at, at + 2),
                "a heredoc begins with << or <<- and a marker, and then a new line",
                hint="for example <<EOF; a marker takes no quotes and nothing after it",
            )
        marker = opening.group(2)
        body = opening.end()
        closing = re.compile(rf"^[ \t]*{re.escape(marker)}[ \t]*\r?$", re.MULTILINE)
        match = closing.search(self.text, body, self.end)
        if match is None:
            raise self.source.error(
                Span(at, at + 2 + len(opening.group(1)) + len(marker)),
                f"this heredoc is never closed: no line holds {marker} alone",
            )
        kind = "HEREDOC_TEMPLATE_TRIM" if opening.group(1) else "HEREDOC_TEMPLATE"
        self.at = match.end()
        value = Heredoc(body, match.start(), bool(opening.group(1)))
        self.tokens.append(Token(kind, value, at, self.at))

    def _unknown_character(self, at: int) -> SourceError:
        char = self.text[at]
        shown = char if char.isprintable() else f"U+{ord(char):04X}"
        return self.source.error(
            Span(at, at + 1),
            f"the character {shown} has no meaning here",
            hint=_ADVICE.get(char, ""),
        )


def string_end(source: Source, start: int, end: int, depth: int = 0) -> int:
    """Return the offset past the quote that closes the string beginning at `start`."""
    text, at = source.text, start + 1
    while at < end:
        match = _STRING_STEP.match(text, at, end)
        if match is None:
            break
        step = match.group()
        at = match.end()
        if step == '"':
            return at
        if step == "\n":
            break
        if step in {"${", "%{"}:
            at = sequence_end(source, match.start(), end, depth + 1) + 1
    raise source.error(
        Span(start, start + 1),
        "this string is not closed on its line",
        hint="text over several lines takes a heredoc: <<EOF ... EOF",
    )


def sequence_end(source: Source, start: int, end: int, depth: int) -> int:
    """Return the offset of the `}` that closes the `${` or `%{` at `start`."""
    if depth > limits.TEMPLATE_DEPTH:
        raise source.error(
            Span(start, start + 2),
            f"templates are nested more than {limits.TEMPLATE_DEPTH} deep, which is the limit",
        )
    text, at, braces = source.text, start + 2, 0
    while match := _SEQUENCE_STEP.search(text, at, end):
        step = match.group()
        at = match.end()
        if step == '"':
            at = string_end(source, match.start(), end, depth)
        elif step == "{":
            braces += 1
        elif step == "}":
            if braces == 0:
                return match.start()
            braces -= 1
        elif step == "/*":
            close = text.find("*/", at, end)
            at = end if close < 0 else close + 2
        elif step != "\n":
            close = text.find("\n", at, end)
            at = end if close < 0 else close
    raise source.error(
        Span(start, start + 2),
        f'this "{text[start : start + 2]}" is never closed with "}}"',
        hint=f'to mean the two characters themselves, write "{text[start]}{text[start]}{{"',
    )
