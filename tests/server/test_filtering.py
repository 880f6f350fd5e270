"""The filter language: go-bexpr's, on JSON records."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.server.filtering import FilterError, compile_filter

ROW: dict[str, Any] = {
    "ID": "web", "Priority": 50, "Stop": False, "Datacenters": ["dc1", "eu-1"],
    "Meta": {"owner": "ann", "a.b": "dotted"}, "Tags": None,
    "TaskGroups": [{"Name": "app", "Count": 3}, {"Name": "db", "Count": 1}],
}  # fmt: skip


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ('ID == "web"', True), ("ID == web", True), ('ID != "web"', False),
        ("Priority == 50", True), ("Stop == false", True), ("Stop == true", False),
        ('"dc1" in Datacenters', True), ("dc9 not in Datacenters", True),
        ('Datacenters contains "eu-1"', True), ('ID contains "e"', True),
        ('ID not contains "z"', True), ('ID matches "^w.b$"', True),
        ('ID not matches "^w"', False), ("Tags is empty", True), ("ID is not empty", True),
        ('Meta.owner == "ann"', True), ('Meta["a.b"] == "dotted"', True),
        ("Meta contains owner", True), ('TaskGroups.Name == "db"', True),
        ('"/Meta/owner" == "ann"', True), ("/Meta/owner == ann", True),
        ('ID == "web" and Priority == 50', True), ('ID == "x" or Priority == 50', True),
        ('not (ID == "web" and Stop == true)', True), ("Missing == 1", False),
        ('ID == "x" or ID == "web" and Priority == 1', False), ("ID == `web`", True),
    ],
)  # fmt: skip
def test_expression(expression: str, holds: bool) -> None:
    assert compile_filter(expression)(ROW) is holds


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("ID ==", "expected a value"), ("ID", "expected an operator"), ("(ID == x", "')'"),
        ("ID ~ x", "unknown operator"), ("ID == x y", "unexpected 'y'"),
        ('ID matches "("', "regular expression"), ("ID is full", "'empty'"), ("== x", "field"),
        ("(" * 100 + "ID == x", "nested"), ("not " * 100 + "ID == x", "nested"),
        ("a" * 5000, "longer"),
    ],
)  # fmt: skip
def test_what_does_not_parse_is_told_with_its_place(expression: str, words: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(expression)
    assert words in str(caught.value)


@given(st.text(alphabet='ID=!()[]". andornotinscempty`/x1', max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(FilterError):
        compile_filter(text)(ROW)
