"""hcl2json and json2hcl: the article's example, what stays an expression, the identity."""

import json
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.jobspec import SourceError
from core.jobspec.hcl.convert import hcl_to_json, json_to_hcl
from core.jobspec.hcl.format import format_text

ARTICLE = """\
io_mode = "async"

service "http" "web_proxy" {
  listen_addr = "127.0.0.1:8080"

  process "main" {
    command = ["/usr/local/bin/awesome-app", "server"]
  }

  process "mgmt" {
    command = ["/usr/local/bin/awesome-app", "mgmt"]
  }
}
"""
ARTICLE_JSON = {
    "io_mode": "async",
    "service": {
        "http": {
            "web_proxy": {
                "listen_addr": "127.0.0.1:8080",
                "process": {
                    "main": {"command": ["/usr/local/bin/awesome-app", "server"]},
                    "mgmt": {"command": ["/usr/local/bin/awesome-app", "mgmt"]},
                },
            }
        }
    },
}


def plain(text: str) -> Any:
    return json.loads(hcl_to_json(text, "f.hcl"))


def refusal(convert: Any, text: str) -> str:
    with pytest.raises(SourceError) as caught:
        convert(text, "f")
    return str(caught.value)


def test_the_articles_example_is_nested_json_both_ways() -> None:
    assert plain(ARTICLE) == ARTICLE_JSON
    assert json_to_hcl(json.dumps(ARTICLE_JSON), "f.json") == ARTICLE


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a {}", {"a": {}}),
        ("a {}\na {}", {"a": [{}, {}]}),
        ('a "x" {}\na "x" {}\na "y" {}', {"a": {"x": [{}, {}], "y": {}}}),
        # A block without label beside one with: two different things, hence a list.
        ('a { b = 1 }\na "x" { c = 2 }', {"a": [{"b": 1}, {"x": {"c": 2}}]}),
        ("a = null", {"a": None}),
        ("a = 1 + 2 * 3", {"a": 7}),
        ('a = upper("x${1 + 1}")', {"a": "X2"}),
        ("a = [for k, v in { x = 1 } : k]", {"a": ["x"]}),
        ('a = "$${b}"', {"a": "${b}"}),
        ("a = 007", {"a": 7}),
        ("a = <<EOT\none\ntwo\nEOT", {"a": "one\ntwo\n"}),
        ("dynamic \"x\" {\n for_each = [1]\n content {}\n}",
         {"dynamic": {"x": {"for_each": [1], "content": {}}}}),
    ],
)  # fmt: skip
def test_constants_become_plain_values(text: str, value: Any) -> None:
    assert plain(text) == value


@pytest.mark.parametrize(
    ("expression", "kept"),
    [
        ("var.x", "${var.x}"),
        ("var.x + 1", "${var.x + 1}"),
        ('upper(var.x["a"])', '${upper(var.x["a"])}'),
        ("unknown_function(1)", "${unknown_function(1)}"),
        ('"a-${var.x}-b\\n"', "a-${var.x}-b\n"),
        ('"$${a}${var.x}"', "$${a}${var.x}"),
        ('"%{if var.x}y%{else}n%{endif}"', "%{ if var.x }y%{ else }n%{ endif }"),
        ("[for x in var.l : x]", "${[for x in var.l : x]}"),
        ("true ? 1 : var.x", "${true ? 1 : var.x}"),
    ],
)
def test_what_is_known_elsewhere_stays_an_expression_both_ways(expression: str, kept: str) -> None:
    assert plain(f"a = {expression}") == {"a": kept}
    again = json_to_hcl(json.dumps({"a": kept}), "f.json")
    assert "$${var" not in again, "it would mean the text now"
    assert plain(again) == {"a": kept}


def test_only_the_unknown_items_of_a_list_or_map_stay_expressions() -> None:
    assert plain("a = [1, var.x, { b = var.y, c = 2 }]") == {
        "a": [1, "${var.x}", {"b": "${var.y}", "c": 2}]
    }


@pytest.mark.parametrize("number", ["1.0", "1e300", "-0", "0.1", "1e-9", "9" * 300, "-12.50"])
def test_numbers_keep_their_spelling(number: str) -> None:
    text = hcl_to_json(json_to_hcl(f'{{"a": {number}}}', "f"), "f")
    assert text == f'{{\n  "a": {number}\n}}\n'


def test_mistakes_have_their_place() -> None:
    assert "f:1:7" in refusal(json_to_hcl, '{"a": x}')
    assert "stands twice" in refusal(json_to_hcl, '{"a": 1, "a": 2}')
    assert "NaN is not JSON" in refusal(json_to_hcl, '{"a": NaN}')
    assert "JSON object is needed" in refusal(json_to_hcl, "[1]")
    assert "surrogate" in refusal(json_to_hcl, '{"a": "\\ud800"}')
    assert "JSON already" in refusal(hcl_to_json, "{}")
    assert "f:2:1" in refusal(hcl_to_json, "a = 1\na = 2")
    assert "division by zero" in refusal(hcl_to_json, "a = 1 / 0")
    assert "1e400 is too large" in refusal(json_to_hcl, '{"a": 1e400}')
    assert "too large" in refusal(json_to_hcl, '{"a": ' + "1" * 10_000 + "}")
    deep = 5000
    assert "deep" in refusal(json_to_hcl, '{"a":' * deep + "1" + "}" * deep)
    assert "the limit is" in refusal(json_to_hcl, " " * 10_000_000 + "{}")
    assert "the limit is" in refusal(hcl_to_json, "#" * 10_000_000)


_TEXT = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.text("ab${}%\"\\\n\r\t -~.\u2028é"),
    st.sampled_from(["${a}", "$${a}", "$$${a}", "${", "%{if x}", "%{ if a }b%{ endif }", "a\nEOT\n",
                     "${var.x}-$${y}", "${var.x+1}", "${[for a in b:a  if a]}-", "${ c }",
                     "$%{a}", "one\ntwo\n", "#${x}\n$\n", '${"a"}', "${1}"]),
)  # fmt: skip
_NUMBERS = st.one_of(
    st.integers(), st.integers(-(10**60), 10**60), st.floats(allow_nan=False, allow_infinity=False)
)
_KEYS = st.one_of(
    st.sampled_from(["a", "b", "for", "if", "in", "null", "true", "dynamic", "__keys__", "a-b",
                     "_", "content", "endfor"]),
    _TEXT,
)  # fmt: skip
_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), _NUMBERS, _TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(_KEYS, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=250, deadline=None)
@given(st.dictionaries(_KEYS, _VALUES, max_size=4))
def test_json_to_hcl_to_json_is_the_identity(value: dict[str, Any]) -> None:
    hcl = json_to_hcl(json.dumps(value), "f.json")
    again = hcl_to_json(hcl, "f.hcl")
    assert _exact(again) == _exact(json.dumps(value))
    assert format_text(hcl, "f.hcl", keeps_strings=True) == hcl
    formatted = format_text(hcl, "f.hcl")
    assert format_text(formatted, "f.hcl") == formatted


def _exact(text: str) -> Any:
    """JSON with numbers by their digits: 1, 1.0 and 10**30 all differ from what rounds to them."""
    return json.loads(text, parse_float=Decimal)


def test_exactness_tells_numbers_apart() -> None:
    assert _exact("1e-400") != _exact("0") and _exact("1e300") != _exact("1e300" + "1")
