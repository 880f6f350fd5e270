"""No text costs more than it is worth: each ends soon, in its value or in the parser's own error.

What these would take unbounded is hours, or all memory. Time is the processor's, so that a
busy machine changes nothing.
"""

import time
from collections.abc import Callable

import pytest

from core.jobspec import SourceError, parse_body, parse_job

LIMIT_S = 8.0

TEXTS: dict[str, Callable[[int], str]] = {
    "brackets": lambda n: "x = " + "[" * n,
    "parentheses": lambda n: "x = " + "(" * n,
    "braces": lambda n: "x = " + "{" * n,
    "blocks": lambda n: "a {\n" * (n // 4),
    "bangs": lambda n: "x = " + "!" * n + "true",
    "minuses": lambda n: "x = " + "-" * n + "1",
    "templates": lambda n: "x = " + '"${' * (n // 3),
    "directives": lambda n: 'x = "' + "%{ if true }" * (n // 12) + '"',
    "attributes of attributes": lambda n: "x = a" + ".b" * (n // 2),
    "indexes": lambda n: "x = a" + "[0]" * (n // 3),
    "splats": lambda n: "x = a" + "[*]" * (n // 3),
    "legacy splats": lambda n: "x = a" + ".*" * (n // 2),
    "conditions": lambda n: "x = " + "true ? " * (n // 7),
    "sums": lambda n: "x = 1" + " + 1" * (n // 4),
    "calls": lambda n: "x = " + "max(" * (n // 4),
    "heredocs without end": lambda n: "x = <<A\n" * (n // 8),
    "one long heredoc": lambda n: "x = <<A\n" + "line\n" * (n // 5) + "A\n",
    "almost the marker": lambda n: "x = <<A\n" + " A A\n" * (n // 5),
    "quotes": lambda n: '"' * n,
    "backslashes": lambda n: 'x = "' + "\\\\" * (n // 2) + '"',
    "dollars": lambda n: 'x = "' + "$" * n + '{"',
    "comments": lambda n: "#\n" * (n // 2),
    "unclosed comments": lambda n: "/*" * (n // 2),
    "newlines": lambda n: "\n" * n,
    "a name": lambda n: "a" * n,
    "digits": lambda n: "x = " + "9" * n,
    "unknown names": lambda n: "\n".join(f"a{i} = 1" for i in range(n // 10)),
    "keys": lambda n: "x = {" + ",".join(f"k{i}=1" for i in range(n // 10)) + "}",
    "nul": lambda n: "\0" * n,
    "JSON brackets": lambda n: '{"a":' + "[" * n,
    "JSON objects": lambda n: '{"a":' * (n // 5),
}


def cost_s(text: str) -> float:
    """Parse a text; return the processor's seconds it took."""
    began = time.process_time()
    try:
        parse_body(text, "f.hcl")
    except SourceError as error:
        assert len(str(error)) < 60_000
    return time.process_time() - began


@pytest.mark.parametrize("name", TEXTS)
def test_the_cost_of_anything_grows_with_its_length_only(name: str) -> None:
    # Three times the length may cost three times as much; its square would be nine times, at
    # every try, while a processor that is taken away spoils only some.
    def grows_with_its_length() -> bool:
        return cost_s(TEXTS[name](60_000)) < 6 * cost_s(TEXTS[name](20_000)) + 0.2

    assert any(grows_with_its_length() for _ in range(5))


@pytest.mark.parametrize("name", ["brackets", "braces", "templates", "JSON brackets"])
def test_a_megabyte_of_openings_ends_soon(name: str) -> None:
    assert cost_s(TEXTS[name](1_000_000)) < LIMIT_S


@pytest.mark.parametrize(
    "expression",
    [
        "1e999999999",
        "1e-999999999 + 1",
        '"1e999999999" + 1',
        "pow(9, 999999999)",
        "pow(9.5, 1e300)",
        "parseint(join(\"\", [for i in range(1000) : \"zzzzzzzz\"]), 36)",
        "range(1e9)",
        "range(0, 1e308, 1e-300)",
        'format("%999999999d", 1)',
        'format("%.999999999f", 1)',
        'format("%1000d%s", 1, join("", [for i in range(1000) : "x"]))',
        'formatlist("%1000d", flatten([for a in range(1000) : [for b in range(9) : b]]))',
        "setproduct(range(1000), range(1000), range(1000))",
        'regex("(a|a)*b", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")',
        'regex_replace(join("", [for i in range(1000) : "aaaaaaaa"]), "x*y|a", "$0$0$0$0")',
        'regex("a{1000}{1000}", "a")',
        'replace(join("", [for i in range(1000) : "aaaaaaaa"]), "a", join("", [for i in range(1000) : "bbbbbbbb"]))',  # noqa: E501
        'indent(1000000, join("", [for i in range(1000) : "\\n\\n\\n\\n\\n\\n"]))',
        'join(join("", [for i in range(1000) : "bbbbbbbb"]), flatten([for a in range(1000) : range(90)]))',  # noqa: E501
        '"${join("", [for i in range(100) : "%{ for x in range(1000) }aaaaaaaaaaa%{ endfor }"])}"',
        'yamldecode("a: &a [x,x]\\nb: &b [*a,*a]\\nc: &c [*b,*b]\\nd: &d [*c,*c]\\ne: &e [*d,*d]\\nf: &f [*e,*e]\\ng: &g [*f,*f]\\nh: &h [*g,*g]\\ni: &i [*h,*h]\\nj: &j [*i,*i]\\nk: &k [*j,*j]\\nl: &l [*k,*k]\\nm: &m [*l,*l]\\nn: &n [*m,*m]\\no: &o [*n,*n]\\np: &p [*o,*o]")',  # noqa: E501
        'yamldecode("&a [*a]")',
        'yamldecode(join("", [for i in range(250) : "[[[["]))',
        'jsondecode(join("", [for i in range(1000) : "[[[["]))',
        'cidrsubnets("::/0", [for i in range(1000) : 128]...)',
        'cidrhost("::/0", 1e30)',
        'timeadd("9999-12-31T23:59:59Z", "2000000h")',
        'csvdecode("a\\n\\"x")',
        'try(try(try(range(1e9), range(1e9)), range(1e9)), 7)',
    ],
)  # fmt: skip
def test_an_expression_that_would_explode_ends_soon(expression: str) -> None:
    began = time.process_time()
    try:
        parse_body(f"x = {expression}\n", "f.hcl")
    except SourceError as error:
        assert len(str(error)) < 5_000
    assert time.process_time() - began < LIMIT_S


def test_a_file_of_ten_megabytes_is_refused_with_the_limit() -> None:
    with pytest.raises(SourceError, match="the limit is 2097152"):
        parse_job("#" * (10 << 20), filename="big.hcl")


def test_many_mistakes_and_many_warnings_cost_no_square() -> None:
    mistakes = "\n".join(f"unknwon{i} = 1" for i in range(10_000))
    began = time.process_time()
    with pytest.raises(SourceError) as caught:
        parse_job(f'job "j" {{\n{mistakes}\n}}', filename="f.hcl")
    assert len(caught.value.diagnostics) == 30
    services = "\n".join("service {\nconnect {}\n}" for _ in range(4_000))
    parsed = parse_job(f'job "j" {{\ngroup "g" {{\n{services}\n}}\n}}', filename="f.hcl")
    assert parsed.warnings
    assert time.process_time() - began < LIMIT_S
