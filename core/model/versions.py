"""Versions and what is asked of them: the operands `version` and `semver`.

`version` is HashiCorp's lenient reading ("1.2", "v1.2.3-beta"), with the pessimistic `~>`,
and where an asked release never accepts a pre-release. `semver` is Semantic Versioning 2.0.0:
three numbers, strict precedence, no `~>`.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

_LENIENT: Final = re.compile(
    r"v?([0-9]{1,18}(?:\.[0-9]{1,18}){0,15})(?:-([0-9A-Za-z.~-]{1,128}))?(?:\+[0-9A-Za-z.~-]{1,128})?"
)
_STRICT: Final = re.compile(
    r"v?([0-9]{1,18}\.[0-9]{1,18}\.[0-9]{1,18})"
    r"(?:-([0-9A-Za-z.-]{1,128}))?(?:\+[0-9A-Za-z.-]{1,128})?"
)
_TERM: Final = re.compile(r"\s*(>=|<=|!=|~>|=|>|<)?\s*(\S+)\s*")


class Version(NamedTuple):
    segments: tuple[int, ...]  # at least three
    prerelease: tuple[str, ...]  # identifiers, () for a release
    said: int  # segments that the text gave: "1.2" says two

    def compare(self, other: "Version") -> int:
        """Return -1, 0 or 1 as this version precedes, equals or follows `other`."""
        width = max(len(self.segments), len(other.segments))
        mine = self.segments + (0,) * (width - len(self.segments))
        theirs = other.segments + (0,) * (width - len(other.segments))
        if mine != theirs:
            return -1 if mine < theirs else 1
        return _compare_prerelease(self.prerelease, other.prerelease)


@lru_cache(maxsize=4096)
def parse_version(text: str, *, is_strict: bool = False) -> Version | None:
    """Return the version that `text` names, None when it names none."""
    match = (_STRICT if is_strict else _LENIENT).fullmatch(text.strip())
    if match is None:
        return None
    numbers = tuple(int(part) for part in match[1].split("."))
    padded = numbers + (0,) * (3 - len(numbers))
    return Version(padded, tuple((match[2] or "").split(".")) if match[2] else (), len(numbers))


@lru_cache(maxsize=4096)
def is_version_allowed(text: str, wanted: str, *, is_strict: bool = False) -> bool:
    """Whether version `text` meets all comma-separated terms of `wanted`, as ">= 1.2, < 2".

    What can't be read is not met.
    """
    version = parse_version(text, is_strict=is_strict)
    if version is None:
        return False
    for term in wanted.split(","):
        match = _TERM.fullmatch(term)
        if match is None:
            return False
        bound = parse_version(match[2], is_strict=is_strict)
        operator = match[1] or "="
        if bound is None or not _is_met(version, operator, bound, is_strict=is_strict):
            return False
    return True


def unreadable_term(wanted: str, *, is_strict: bool = False) -> str:
    """Return the first term of `wanted` that says nothing, as "~> x"; "" when all can be read."""
    for term in wanted.split(","):
        match = _TERM.fullmatch(term)
        if (
            match is None
            or parse_version(match[2], is_strict=is_strict) is None
            or (is_strict and match[1] == "~>")
        ):
            return term.strip() or '""'
    return ""


def _is_met(version: Version, operator: str, bound: Version, *, is_strict: bool) -> bool:
    order = version.compare(bound)
    if operator == "=":
        return order == 0
    if operator == "!=":
        return order != 0
    if operator == "~>" and is_strict:
        return False
    if not is_strict and not _may_compare(version, bound):
        return False
    if operator == "~>":
        return _is_pessimistic(version, bound)
    return {">": order > 0, ">=": order >= 0, "<": order < 0, "<=": order <= 0}[operator]


def _may_compare(version: Version, bound: Version) -> bool:
    # A pre-release satisfies an order only when the bound is one of the same version.
    if not version.prerelease:
        return True
    return bool(bound.prerelease) and version.segments == bound.segments


def _is_pessimistic(version: Version, bound: Version) -> bool:
    # "~> 1.2.3" lets only the last segment said grow: at least 1.2.3 and below 1.3.
    if bound.prerelease and not version.prerelease:
        return False
    if version.compare(bound) < 0:
        return False
    fixed = bound.said - 1
    if version.segments[:fixed] != bound.segments[:fixed]:
        return False
    return len(version.segments) <= fixed or version.segments[fixed] >= bound.segments[fixed]


def _compare_prerelease(mine: tuple[str, ...], theirs: tuple[str, ...]) -> int:
    if mine == theirs:
        return 0
    if not mine or not theirs:
        return 1 if not mine else -1  # a release follows its pre-releases
    for left, right in zip(mine, theirs):
        if left == right:
            continue
        if left.isdigit() and right.isdigit():
            if int(left) == int(right):
                continue
            return -1 if int(left) < int(right) else 1
        if left.isdigit() != right.isdigit():
            return -1 if left.isdigit() else 1  # numbers precede words
        return -1 if left < right else 1
    return -1 if len(mine) < len(theirs) else int(len(mine) > len(theirs))
