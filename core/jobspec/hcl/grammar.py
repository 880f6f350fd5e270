"""python-hcl2's grammar as LALR tables, driven by our own tokens.

Building the tables takes about 1.8 s; loading them from lark's cache 0.05 s. The cache
lies in the user's own cache folder, never beside the package (which may be read-only)
and never in a shared temporary folder (it is a pickle). Where it can't be written the
first parse of each process is slow, and nothing else.
"""

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import lark
from lark.exceptions import UnexpectedToken

from core.jobspec.diagnostics import Source, SourceError, Span
from core.jobspec.hcl import syntax_errors
from core.jobspec.hcl.build import Builder
from core.jobspec.hcl.lexer import KEYWORDS, Token

# Where python-hcl2's rules are narrower than HCL: (theirs, HCL's).
_CORRECTIONS: Final = (
    # Operators of one operand may follow each other: !!x, -(-x), !-x.
    ("!unary_op : (MINUS | NOT) expr_term", "!unary_op : (MINUS | NOT) unary_expr"),
    # A keyword is a fine attribute name: x.for, x.in.
    (
        "get_attr : DOT (identifier | literal_value)",
        "get_attr : DOT (identifier | literal_value | keyword)",
    ),
)
_START_FILE: Final = "start"
_START_EXPRESSION: Final = "expression"


class OwnTokens(lark.lexer.Lexer):
    """Stands where lark wants a lexer; tokens are fed by `parse_tokens` instead."""

    def __init__(self, lexer_conf: Any) -> None:
        pass

    def lex(self, lexer_state: Any, parser_state: Any) -> Any:
        raise NotImplementedError("tokens are fed one by one")


def _grammar_text() -> str:
    spec = importlib.util.find_spec("hcl2")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("python-hcl2 is not installed: pip install 'python-hcl2>=8.1,<9'")
    # Read as a file: importing the package would load parsers we don't use.
    folder = spec.submodule_search_locations[0]
    text = Path(folder, "hcl2.lark").read_text(encoding="utf-8")
    for theirs, ours in _CORRECTIONS:
        if theirs not in text:
            raise RuntimeError(f"python-hcl2's grammar changed where it says {theirs!r}")
        text = text.replace(theirs, ours)
    return text


def _cache_file() -> str | bool:
    """Return where lark keeps the tables, False when there is no place for them."""
    try:
        folder = Path.home() / ".cache" / "serai"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, RuntimeError):
        return False
    return str(folder / "hcl-tables.bin")


@lru_cache(maxsize=1)
def _tables() -> lark.Lark:
    return lark.Lark(
        _grammar_text(),
        parser="lalr",
        lexer=OwnTokens,
        start=[_START_FILE, _START_EXPRESSION],
        cache=_cache_file(),
        transformer=Builder(),
    )


def parse_tokens(source: Source, tokens: list[Token], end: int, *, is_expression: bool) -> Any:
    """Return what the Builder made of the tokens: a BodyNode, or an expression's Node.

    Raises:
        SourceError: the tokens are not HCL, in words of syntax_errors.
    """
    start = _START_EXPRESSION if is_expression else _START_FILE
    state = _tables().parse_interactive(start=start).parser_state
    states, stack = state.parse_conf.states, state.state_stack
    feed: Any = state.feed_token  # takes whatever has the attributes of lark's Token
    fed = 0
    try:
        for token in tokens:
            if token.type == "NAME":
                # HCL reserves no word: a keyword is one only where the grammar wants it.
                keyword = KEYWORDS.get(token.value)
                if keyword is not None and keyword in states[stack[-1]]:
                    token.type = keyword
            feed(token)
            fed += 1
        return feed(Token("$END", "", end, end), True)
    except UnexpectedToken:
        raise _unexpected(source, tokens, fed, end, set(states[stack[-1]])) from None


def _unexpected(
    source: Source, tokens: list[Token], index: int, end: int, expected: set[str]
) -> SourceError:
    token = tokens[index] if index < len(tokens) else Token("$END", "", end, end)
    message, hint = syntax_errors.explain(source, tokens, index, expected)
    return source.error(Span(token.start, max(token.end, token.start + 1)), message, hint=hint)
