"""Our tokens through the LALR tables of python-hcl2's grammar.

tables.json is made from the grammar by generate_tables.py and shipped. So the first parse
of a process costs the reading of one file, wherever the package lies and whoever runs it.
"""

import json
import pkgutil
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, NamedTuple

from core.jobspec.diagnostics import Source, SourceError, Span
from core.jobspec.hcl import syntax_errors
from core.jobspec.hcl.build import Builder
from core.jobspec.hcl.lexer import KEYWORDS, Token

_START_FILE: Final = "start"
_START_EXPRESSION: Final = "expression"

Children = list[Any]
Reduce = Callable[[Children], Any]


class _Rule(NamedTuple):
    origin: str
    size: int
    reduce: Reduce


class _Tables(NamedTuple):
    starts: dict[str, tuple[int, int]]  # rule -> (first state, complete state)
    rules: list[_Rule]
    states: list[dict[str, int]]


@lru_cache(maxsize=1)
def _tables() -> _Tables:
    data = pkgutil.get_data(__package__ or "core.jobspec.hcl", "tables.json")
    if data is None:
        raise RuntimeError("tables.json is missing: this installation of Serai is not whole")
    read = json.loads(data)
    builder = Builder()
    rules = [
        _Rule(origin, size, _reduction(getattr(builder, callback or "_", _as_they_are), *shape))
        for origin, size, callback, *shape in read["rules"]
    ]
    starts = {start: (first, last) for start, (first, last) in read["starts"].items()}
    return _Tables(starts, rules, read["states"])


def _as_they_are(children: Children) -> Children:
    """The value of a rule that the grammar made up: its children, which nobody else holds."""
    return children


def _reduction(build: Reduce, kept: list[list[int]], after: int, unwraps: int) -> Reduce:
    """Return what turns a rule's children into its value."""
    plain = [[index, 0, 0] for index in range(len(kept))]
    if kept == plain and not after and not unwraps:
        return build

    def reduce(children: Children) -> Any:
        chosen: Children = []
        for index, splices, nones in kept:
            if splices and index == 0 and not nones:
                # A repetition grows by one each time: taken over, not copied.
                chosen = children[0]
                continue
            if nones:
                chosen += [None] * nones
            if splices:
                chosen += children[index]
            else:
                chosen.append(children[index])
        if after:
            chosen += [None] * after
        return chosen[0] if unwraps and len(chosen) == 1 else build(chosen)

    return reduce


def parse_tokens(source: Source, tokens: list[Token], end: int, *, is_expression: bool) -> Any:
    """Return what the Builder made of the tokens: a BodyNode, or an expression's Node.

    Raises:
        SourceError: the tokens are not HCL, in words of syntax_errors.
    """
    starts, rules, states = _tables()
    state, complete = starts[_START_EXPRESSION if is_expression else _START_FILE]
    path: list[int] = [state]
    values: list[Any] = []
    last = Token("$END", "", end, end)
    for index, token in enumerate([*tokens, last]):
        row = states[path[-1]]
        symbol = token.type
        if symbol == "NAME":
            # HCL reserves no word: a keyword is one only where the grammar wants it.
            keyword = KEYWORDS.get(token.value)
            if keyword is not None and keyword in row:
                token.type = symbol = keyword
        while (action := row.get(symbol)) is not None and action < 0:
            origin, size, reduce = rules[-action - 1]
            children: Children = []
            if size:
                children = values[-size:]
                del values[-size:], path[-size:]
            values.append(reduce(children))
            path.append(states[path[-1]][origin])
            if token is last and path[-1] == complete:
                return values[-1]
            row = states[path[-1]]
        if action is None:
            expected = {name for name in row if name.isupper()}
            raise _unexpected(source, tokens, index, end, expected)
        path.append(action)
        values.append(token)
    raise AssertionError("the end of the text completes a parse or refuses it")


def _unexpected(
    source: Source, tokens: list[Token], index: int, end: int, expected: set[str]
) -> SourceError:
    second = syntax_errors.second_on_line(tokens, index)
    if second is not None:
        message, hint = syntax_errors.NEW_LINE_MISSING
        return source.error(second.span, message, hint=hint)
    token = tokens[index] if index < len(tokens) else Token("$END", "", end, end)
    message, hint = syntax_errors.explain(source, tokens, index, expected)
    return source.error(Span(token.start, max(token.end, token.start + 1)), message, hint=hint)
