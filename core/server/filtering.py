"""The `filter` parameter: a boolean expression over a record's JSON fields.

    expression = or
    or         = and { "or" and }
    and        = unary { "and" unary }
    unary      = "not" unary | "(" expression ")" | match
    match      = selector ("==" | "!=") value
               | selector ["not"] "contains" value
               | selector ["not"] "matches" value
               | selector "is" ["not"] "empty"
               | value ["not"] "in" selector
    selector   = name { "." name | '["' text '"]' }     also "/name/name" (JSON pointer)
    value      = "quoted", `raw`, or a bare word

The language is go-bexpr's, that Nomad uses; fields are named as in Nomad's JSON. On a
list, a selector part that is not a number is looked up in each element, and the match
holds when it holds for any. Values compare as text, numbers as numbers, "true" and
"false" as booleans. A field that a record lacks matches nothing (and is empty).
"""

import re
from collections.abc import Callable
from typing import Any, Final

from core.model.regexp import BadExpression, Expression

Predicate = Callable[[Any], bool]

_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)
      | (?P<operator>==|!=|\(|\)|\[|\]|\.)
      | (?P<word>[^\s"`()\[\].=!]+)
    )""",
    re.VERBOSE,
)
_MAX_LENGTH: Final = 4_096
_MAX_DEPTH: Final = 32


class FilterError(ValueError):
    """The expression does not parse; the text names the place."""


def compile_filter(expression: str) -> Predicate:
    """Return a test of records in their JSON form (dicts with Nomad's names).

    Raises:
        FilterError: With the position and what was expected there.
    """
    if len(expression) > _MAX_LENGTH:
        raise FilterError(f"filter is longer than {_MAX_LENGTH} characters")
    parser = _Parser(expression)
    predicate = parser.either(0)
    parser.end()
    return predicate


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str, int]] = []  # kind, text, position
        self.at = 0
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None:
                raise FilterError(f"filter: cannot read from character {position + 1}")
            kind = match.lastgroup or ""
            self.tokens.append((kind, match.group(kind), match.start(kind)))
            position = match.end()
        self.length = len(text)

    def either(self, depth: int) -> Predicate:
        if depth > _MAX_DEPTH:
            raise FilterError("filter: nested too deeply")
        terms = [self.both(depth)]
        while self.accept("or"):
            terms.append(self.both(depth))
        return terms[0] if len(terms) == 1 else lambda it: any(term(it) for term in terms)

    def both(self, depth: int) -> Predicate:
        terms = [self.unary(depth)]
        while self.accept("and"):
            terms.append(self.unary(depth))
        return terms[0] if len(terms) == 1 else lambda it: all(term(it) for term in terms)

    def unary(self, depth: int) -> Predicate:
        if self.accept("not"):
            inner = self.unary(depth + 1)
            if depth > _MAX_DEPTH:
                raise FilterError("filter: nested too deeply")
            return lambda it: not inner(it)
        if self.accept("("):
            inner = self.either(depth + 1)
            self.expect(")")
            return inner
        return self.match()

    def match(self) -> Predicate:
        kind, text, place = self.take("a field or a value")
        if kind == "string" and text[1:2] == "/" and not self.peek_is_membership():
            return self.comparison(self.selector_from(_unquote(text)))
        if kind == "string" or self.peek_is_membership():
            value = _unquote(text) if kind == "string" else text
            is_negated = self.accept("not")
            self.expect("in")
            inside = _contains(self.selector(), value)
            return (lambda it: not inside(it)) if is_negated else inside
        if kind != "word":
            raise FilterError(f"filter: expected a field at character {place + 1}, got {text!r}")
        return self.comparison(self.selector_from(text))

    def comparison(self, path: list[str]) -> Predicate:
        if self.accept("=="):
            return _equals(path, self.value())
        if self.accept("!="):
            equal = _equals(path, self.value())
            return lambda it: not equal(it)
        if self.accept("is"):
            is_negated = self.accept("not")
            self.expect("empty")
            return lambda it: _is_empty(it, path) != is_negated
        is_negated = self.accept("not")
        if self.accept("contains"):
            inner = _contains(path, self.value())
        elif self.accept("matches"):
            inner = self.pattern(path)
        else:
            _, text, place = self.take("an operator")
            raise FilterError(
                f"filter: unknown operator {text!r} at character {place + 1}; there are"
                " ==, !=, in, contains, matches, is empty and their 'not' forms"
            )
        return (lambda it: not inner(it)) if is_negated else inner

    def pattern(self, path: list[str]) -> Predicate:
        text = self.value()
        try:
            pattern = Expression(text)
        except BadExpression as error:
            raise FilterError(f"filter: {error}") from None
        return lambda it: any(
            isinstance(found, str) and pattern.is_found_in(found) for found in _leaves(it, path)
        )

    # --- tokens ---------------------------------------------------------------------

    def peek_is_membership(self) -> bool:
        following = [text for _, text, _ in self.tokens[self.at : self.at + 2]]
        return following[:1] == ["in"] or following == ["not", "in"]

    def selector(self) -> list[str]:
        kind, text, place = self.take("a field")
        if kind == "operator":
            raise FilterError(f"filter: expected a field at character {place + 1}, got {text!r}")
        return self.selector_from(_unquote(text) if kind == "string" else text)

    def selector_from(self, first: str) -> list[str]:
        if first.startswith("/"):
            return [part for part in first.split("/") if part]
        path = [first]
        while True:
            if self.accept("."):
                path.append(self.take("a field")[1])
            elif self.accept("["):
                path.append(_unquote(self.take("a key")[1]))
                self.expect("]")
            else:
                return path

    def value(self) -> str:
        kind, text, place = self.take("a value")
        if kind == "operator":
            raise FilterError(f"filter: expected a value at character {place + 1}, got {text!r}")
        if kind == "string":
            return _unquote(text)
        while self.accept("."):  # a bare 1.5 or a.b
            text += "." + self.take("the rest of a value")[1]
        return text

    def accept(self, text: str) -> bool:
        if self.at < len(self.tokens):
            kind, found, _ = self.tokens[self.at]
            if kind != "string" and found == text:
                self.at += 1
                return True
        return False

    def expect(self, text: str) -> None:
        if not self.accept(text):
            _, found, place = self.take(repr(text))
            raise FilterError(f"filter: expected {text!r} at character {place + 1}, got {found!r}")

    def take(self, wanted: str) -> tuple[str, str, int]:
        if self.at == len(self.tokens):
            raise FilterError(f"filter: expected {wanted} at its end (character {self.length})")
        token = self.tokens[self.at]
        self.at += 1
        return token

    def end(self) -> None:
        if self.at < len(self.tokens):
            _, text, place = self.tokens[self.at]
            raise FilterError(f"filter: unexpected {text!r} at character {place + 1}")


def _unquote(text: str) -> str:
    if text[:1] == "`":
        return text[1:-1]
    if text[:1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def _leaves(item: Any, path: list[str]) -> list[Any]:
    """Return every value that `path` reaches; lists on the way fan out."""
    found = [item]
    for part in path:
        reached: list[Any] = []
        for value in found:
            for element in value if isinstance(value, list) else [value]:
                if isinstance(element, dict) and part in element:
                    reached.append(element[part])
        found = reached
    return found


def _equals(path: list[str], wanted: str) -> Predicate:
    return lambda item: any(_is_same(found, wanted) for found in _leaves(item, path))


def _contains(path: list[str], wanted: str) -> Predicate:
    def test(item: Any) -> bool:
        for found in _leaves(item, path):
            if isinstance(found, str):
                if wanted in found:
                    return True
            elif isinstance(found, (list, dict)):
                if any(_is_same(element, wanted) for element in found):
                    return True
        return False

    return test


def _is_empty(item: Any, path: list[str]) -> bool:
    return all(found is None or found in ("", [], {}) for found in _leaves(item, path))


def _is_same(found: Any, wanted: str) -> bool:
    if isinstance(found, bool):
        return wanted.lower() == ("true" if found else "false")
    if isinstance(found, (int, float)):
        try:
            return float(wanted) == found
        except ValueError:
            return False
    return isinstance(found, str) and found == wanted
