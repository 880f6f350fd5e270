"""Constraints: targets, operands, versions, and expressions that would stop a backtracker."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.model.job import Constraint
from core.model.node import Node
from core.model.regexp import BadExpression, Expression, is_match
from core.model.versions import is_version_allowed
from core.scheduler.constraints import does_escape, is_constraint_met, resolve_target
from core.scheduler.feasibility import is_glob_match

NODE = Node(
    id="the-id",
    name="the-name",
    datacenter="dc1",
    node_class="big",
    node_pool="gpu",
    attributes={"cpu.numcores": "9", "kernel.version": "5.10.3", "drivers": "a, b,c"},
    meta={"rack": "r1", "empty": ""},
)


@pytest.mark.parametrize(
    ("target", "value"),
    [
        ("${node.unique.id}", "the-id"),
        ("${node.unique.name}", "the-name"),
        ("${node.datacenter}", "dc1"),
        ("${node.class}", "big"),
        ("${node.pool}", "gpu"),
        ("${attr.cpu.numcores}", "9"),
        ("${meta.rack}", "r1"),
        ("${meta.none}", None),
        ("${nonsense}", None),
        ("${broken", None),
        ("plain", "plain"),
    ],
)
def test_targets(target: str, value: str | None) -> None:
    assert resolve_target(target, NODE) == value


@pytest.mark.parametrize(
    ("left", "operand", "right", "is_met"),
    [
        ("${meta.rack}", "=", "r1", True),
        ("${meta.rack}", "", "r1", True),
        ("${meta.rack}", "is", "r2", False),
        ("${meta.none}", "=", "r1", False),
        ("${meta.none}", "!=", "r1", True),
        ("${meta.rack}", "not", "r1", False),
        ("${attr.cpu.numcores}", "<", "10", True),  # numbers, not letters
        ("${attr.cpu.numcores}", ">=", "9.5", False),
        ("${meta.rack}", ">", "q", True),
        ("${meta.none}", "<", "1", False),
        ("${meta.empty}", "is_set", "", True),
        ("${meta.none}", "is_set", "", False),
        ("${meta.none}", "is_not_set", "", True),
        ("${attr.drivers}", "set_contains", "c,a", True),
        ("${attr.drivers}", "set_contains_all", "c,d", False),
        ("${attr.drivers}", "set_contains_any", "d, b", True),
        ("${attr.kernel.version}", "regexp", "^5\\.1[0-9]", True),
        ("${attr.kernel.version}", "regexp", "(unclosed", False),
        ("${attr.kernel.version}", "version", ">= 5.4, < 6", True),
        ("${attr.kernel.version}", "semver", ">= 5.4.0", True),
        ("${meta.rack}", "unheard_of", "r1", False),
        ("", "distinct_hosts", "true", True),
    ],
)
def test_operands(left: str, operand: str, right: str, is_met: bool) -> None:
    assert is_constraint_met(Constraint(l_target=left, operand=operand, r_target=right), NODE) == (
        is_met
    )


@pytest.mark.parametrize(
    ("version", "wanted", "is_allowed"),
    [
        ("1.2.3", "1.2.3", True),
        ("v1.2", "= 1.2.0", True),
        ("1.2.3", "!= 1.2.3", False),
        ("1.10", "> 1.9", True),
        ("1.2.9", "~> 1.2.3", True),
        ("1.3.0", "~> 1.2.3", False),
        ("1.9", "~> 1.2", True),
        ("2.0", "~> 1.2", False),
        ("1.7.0-beta", ">= 1.6.0", False),  # a pre-release needs one of its own version
        ("1.7.0-beta.2", ">= 1.7.0-beta.1", True),
        ("1.7.0", "> 1.7.0-rc1", True),
        ("nonsense", "> 1", False),
        ("1.0", "> nonsense", False),
        ("1.0", ">> 1", False),
    ],
)
def test_versions(version: str, wanted: str, is_allowed: bool) -> None:
    assert is_version_allowed(version, wanted) == is_allowed


@pytest.mark.parametrize(
    ("version", "wanted", "is_allowed"),
    [
        ("1.7.0-beta", ">= 1.6.0", True),  # precedence alone
        ("1.7.0-beta", ">= 1.7.0", False),
        ("1.0.0-2", "< 1.0.0-10", True),
        ("1.0.0-alpha", "> 1.0.0-1", True),
        ("1.0", ">= 1.0.0", False),  # two numbers are no semantic version
        ("1.2.3", "~> 1.2", False),
    ],
)
def test_semantic_versions(version: str, wanted: str, is_allowed: bool) -> None:
    assert is_version_allowed(version, wanted, is_strict=True) == is_allowed


@pytest.mark.timeout(10)
@pytest.mark.parametrize("bomb", ["(a+)+$", "^(a|a)*$", "(.*a){20}$", "a?" * 100 + "a" * 100])
def test_an_expression_that_would_stop_a_backtracker_is_answered(bomb: str) -> None:
    assert not is_match(bomb, "a" * 90 + "b")


@pytest.mark.parametrize(
    "pattern", [r"(a)\1", "(?=a)b", "((((a{999}){999}){999}){999})", "(" * 5000, "a" * 5000]
)
def test_an_expression_beyond_what_is_run_is_refused_in_words(pattern: str) -> None:
    with pytest.raises(BadExpression, match="regular expression"):
        Expression(pattern)


@settings(max_examples=150, deadline=None)
@given(
    pattern=st.recursive(
        st.sampled_from(["a", "b", ".", "[ab]", "[^a]", "^", "$", r"\d", r"\w", r"\b", "1"]),
        lambda inner: st.one_of(
            st.tuples(inner, inner).map("".join),
            st.tuples(inner, inner).map("|".join),
            inner.map(lambda one: f"({one})*"),
            inner.map(lambda one: f"({one})+"),
            inner.map(lambda one: f"({one})?"),
            inner.map(lambda one: f"({one}){{1,2}}"),
        ),
        max_leaves=6,
    ),
    text=st.text("ab1 ", max_size=8),
)
def test_matches_what_the_library_matches(pattern: str, text: str) -> None:
    assert is_match(pattern, text) == bool(re.search(pattern, text))


@pytest.mark.parametrize(
    ("pattern", "text", "is_met"),
    [
        ("dc1", "dc1", True),
        ("dc*", "dc1", True),
        ("*", "", True),
        ("*-eu-*", "a-eu-b", True),
        ("a*a", "a", False),
        ("dc1", "dc10", False),
        ("d?1", "dc1", False),
    ],
)
def test_datacenter_globs(pattern: str, text: str, is_met: bool) -> None:
    assert is_glob_match(pattern, text) == is_met


def test_only_unique_targets_escape_the_class() -> None:
    assert does_escape(Constraint(l_target="${attr.unique.hostname}"))
    assert does_escape(Constraint(l_target="x", r_target="${node.unique.name}"))
    assert not does_escape(Constraint(l_target="${attr.kernel.name}", r_target="linux"))
