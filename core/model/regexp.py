"""Regular expressions in time linear in the text, whatever the expression.

A job's `regexp` constraint runs on the leader, so a backtracking matcher would let one job
file stop a datacenter (`(a+)+$`). Here the standard library only parses; the match is a
Thompson automaton that keeps the set of live states. As in Go's RE2 there are no
back-references and no look-around, and a counted repeat may not unfold beyond a bound.

Prior art: Russ Cox, "Regular Expression Matching Can Be Simple And Fast" (2007).
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

# The parser of `re` has no public name; its tree has been stable since Python 2.
from re import _constants as _op  # isort: skip
from re import _parser  # isort: skip

STATES_MAX: Final = 10_000
TEXT_MAX: Final = 4_096  # characters of an attribute that are looked at
_EXPRESSION_MAX: Final = 2_048

_Test = Callable[[str], bool]
_MATCH: Final = -1


class BadExpression(ValueError):
    """The expression can't be read, or is beyond what is run here."""


class Expression:
    """A compiled expression.

    States are ("char", test, next), ("split", one, other) or ("at", where, next).
    """

    def __init__(self, pattern: str) -> None:
        """Compile `pattern`.

        Raises:
            BadExpression: It does not parse, needs backtracking, or is too large.
        """
        if len(pattern) > _EXPRESSION_MAX:
            raise BadExpression(f"regular expression longer than {_EXPRESSION_MAX} characters")
        try:
            tree = _parser.parse(pattern)
        except (re.error, OverflowError, RecursionError) as error:
            raise BadExpression(f"regular expression {pattern!r}: {error}") from None
        self._flags: int = tree.state.flags
        self._states: list[tuple[str, Any, int]] = []
        try:
            self._start = self._sequence(tree, _MATCH)
        except RecursionError:
            raise BadExpression(
                f"regular expression {pattern[:40]!r}... nests too deeply"
            ) from None

    def is_found_in(self, text: str) -> bool:
        """Whether the expression matches somewhere in `text`."""
        text = text[:TEXT_MAX]
        live: dict[int, None] = {}
        for position in range(len(text) + 1):
            if self._follow(self._start, text, position, live):
                return True
            if position == len(text):
                return False
            character = text[position]
            following: dict[int, None] = {}
            for state in live:
                _, test, target = self._states[state]
                if test(character) and self._follow(target, text, position + 1, following):
                    return True
            live = following
        return False

    def _follow(self, state: int, text: str, position: int, live: dict[int, None]) -> bool:
        # Adds all states reachable without a character; True when the end is among them.
        waiting, seen = [state], set(live)
        while waiting:
            state = waiting.pop()
            if state == _MATCH:
                return True
            if state in seen:
                continue
            seen.add(state)
            kind, argument, target = self._states[state]
            if kind == "char":
                live[state] = None
            elif kind == "split":
                waiting += (argument, target)
            elif _is_at(argument, text, position, self._flags):
                waiting.append(target)
        return False

    def _add(self, kind: str, argument: Any, target: int) -> int:
        if len(self._states) >= STATES_MAX:
            raise BadExpression("regular expression unfolds to too many states")
        self._states.append((kind, argument, target))
        return len(self._states) - 1

    def _sequence(self, items: Any, target: int) -> int:
        for operation, argument in reversed(list(items)):
            target = self._one(operation, argument, target)
        return target

    def _one(self, operation: Any, argument: Any, target: int) -> int:
        if operation is _op.AT:
            return self._add("at", argument, target)
        if operation is _op.SUBPATTERN:
            return self._sequence(argument[3], target)
        if operation is _op.BRANCH:
            entry = self._sequence(argument[1][-1], target)
            for branch in reversed(argument[1][:-1]):
                entry = self._add("split", self._sequence(branch, target), entry)
            return entry
        if operation in (_op.MAX_REPEAT, _op.MIN_REPEAT):
            return self._repeat(argument, target)
        return self._add("char", self._test(operation, argument), target)

    def _repeat(self, argument: Any, target: int) -> int:
        least, most, items = argument
        if most == _op.MAXREPEAT:
            loop = self._add("split", target, target)
            self._states[loop] = ("split", self._sequence(items, loop), target)
            target = loop
        else:
            after = target
            for _ in range(most - least):
                target = self._add("split", self._sequence(items, target), after)
        for _ in range(least):
            target = self._sequence(items, target)
        return target

    def _test(self, operation: Any, argument: Any) -> _Test:
        ignore_case = bool(self._flags & re.IGNORECASE)
        if operation is _op.LITERAL:
            if ignore_case:
                return lambda character: character.lower() == chr(argument).lower()
            return lambda character: ord(character) == argument
        if operation is _op.NOT_LITERAL:
            return lambda character: ord(character) != argument
        if operation is _op.ANY:
            if self._flags & re.DOTALL:
                return lambda character: True
            return lambda character: character != "\n"
        if operation is _op.IN:
            return _set_test(argument, ignore_case=ignore_case)
        raise BadExpression(f"regular expression uses {operation}, which needs backtracking")


@lru_cache(maxsize=1024)
def is_match(pattern: str, text: str) -> bool:
    """Whether `pattern` matches somewhere in `text`; an expression that can't run never does."""
    expression = _compiled(pattern)
    return expression is not None and expression.is_found_in(text)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> Expression | None:
    try:
        return Expression(pattern)
    except BadExpression:
        return None


def _set_test(items: Any, *, ignore_case: bool) -> _Test:
    negated = bool(items) and items[0][0] is _op.NEGATE
    tests = [_member_test(operation, argument) for operation, argument in items[negated:]]

    def test(character: str) -> bool:
        cases = (character.lower(), character.upper()) if ignore_case else (character,)
        return any(one(case) for one in tests for case in cases) != negated

    return test


def _member_test(operation: Any, argument: Any) -> _Test:
    if operation is _op.LITERAL:
        return lambda character: ord(character[0]) == argument
    if operation is _op.RANGE:
        return lambda character: argument[0] <= ord(character[0]) <= argument[1]
    if operation is _op.CATEGORY:
        return _CATEGORIES[str(argument)]
    raise BadExpression(f"regular expression uses {operation} in a set")


def _is_digit(character: str) -> bool:
    return "0" <= character <= "9"


def _is_word(character: str) -> bool:
    return character == "_" or (character.isascii() and character.isalnum())


def _is_space(character: str) -> bool:
    return character in " \t\n\f\r"


_CATEGORIES: Final[dict[str, _Test]] = {
    "CATEGORY_DIGIT": _is_digit,
    "CATEGORY_NOT_DIGIT": lambda character: not _is_digit(character),
    "CATEGORY_WORD": _is_word,
    "CATEGORY_NOT_WORD": lambda character: not _is_word(character),
    "CATEGORY_SPACE": _is_space,
    "CATEGORY_NOT_SPACE": lambda character: not _is_space(character),
}


def _is_at(where: Any, text: str, position: int, flags: int) -> bool:
    name = str(where)
    is_multiline = bool(flags & re.MULTILINE)
    if name in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
        line = is_multiline and name == "AT_BEGINNING" and text[position - 1 : position] == "\n"
        return position == 0 or line
    if name in ("AT_END", "AT_END_STRING"):
        line = is_multiline and name == "AT_END" and text[position : position + 1] == "\n"
        return position == len(text) or line
    before = position > 0 and _is_word(text[position - 1])
    after = position < len(text) and _is_word(text[position])
    return (before != after) == (name == "AT_BOUNDARY")
