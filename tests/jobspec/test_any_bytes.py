"""No text makes fmt, hcl2json or json2hcl raise anything but their own error, or run away."""

import json
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.jobspec import SourceError
from core.jobspec.hcl.convert import hcl_to_json, json_to_hcl
from core.jobspec.hcl.format import format_text

Work = Callable[[str, str], str]
WORK: list[Work] = [format_text, hcl_to_json, json_to_hcl]

_PIECES = st.sampled_from(
    ["a", '"', "{", "}", "[", "]", "(", ")", "=", "\n", "${", "%{", "}", "<<EOT", "EOT", " ", "#",
     "/*", "*/", "//", "1", ".", "*", "for", "in", ":", ",", "=>", "...", "\\", "?", "-", "!",
     "null", "\r\n", "\t", "~", "$${", "if", "endif", "\x00", "é", "\ud800", "1e999", "::"]
)  # fmt: skip


@pytest.mark.parametrize("work", WORK)
@settings(max_examples=100, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(_PIECES, max_size=30).map("".join)))
def test_any_text(work: Work, text: str) -> None:
    for tried in (text, f"a = {text}", f"{{{text}}}"):
        try:
            work(tried, "f")
        except SourceError as error:
            assert "f" in str(error)


@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize(
    "text",
    [
        "[" * 10**6, '{"a":' * 10**4, "a {\n" * 10**4, 'a = "${' * 10**4, "a = " + "(" * 10**4,
        "a = " + "!" * 10**4 + "x", "a = " + "-" * 10**4 + "1", "a = 1" + "+1" * 10**4,
        "a = x" + ".y" * 10**4, "a = x" + "[0]" * 10**4, "<<E\n" * 10**4, 'a = "' + "\\" * 10**4,
        "a = " + "${" * 10**4, '{"a":"' + "${" * 10**4 + '"}', '{"a":"' + "$" * 10**4 + '{"}',
        "/*" * 10**4, "a = <<E\n" + "${x}\n" * 10**4 + "E\n", "a=1\n" * 10**4, '{"a' * 10**4,
    ],
    ids=lambda text: text[:12],
)  # fmt: skip
def test_hard_texts_end_soon(work: Work, text: str) -> None:
    began = time.process_time()
    try:
        work(text, "f")
    except SourceError as error:
        assert len(str(error)) < 2000
    assert time.process_time() - began < 5


def test_a_large_object_passes_in_linear_time() -> None:
    value = {f"k{n}": {"a": n, "b": [{"c": "${x}"}, {"c": "d\n" * 3}]} for n in range(500)}
    began = time.process_time()
    assert json.loads(hcl_to_json(json_to_hcl(json.dumps(value), "f"), "f")) == value
    assert time.process_time() - began < 8


def test_many_lines_cost_no_more_each_than_few() -> None:
    from core.jobspec.hcl.parser import parse_file

    def cost_s(lines: int) -> float:
        text = "a = 1\n" * lines
        began = time.process_time()
        parse_file(text, "f")
        return time.process_time() - began

    cost_s(100)
    assert cost_s(30_000) < 30 * max(cost_s(3000), 0.02), "ten times the lines, ten times the cost"
