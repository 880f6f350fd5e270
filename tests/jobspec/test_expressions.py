"""Expressions: each row is an expression and its value as Nomad's HCL has it."""

from typing import Any

import pytest

from core.jobspec import SourceError, parse_body
from core.jobspec.hcl import limits


def value_of(expression: str, **variables: Any) -> Any:
    return parse_body(f"x = {expression}\n", "x.hcl", variables=variables).attributes["x"].value


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("10 / 4", 2.5),
        ("10 / 5", 2),
        ("7 % 3", 1),
        ("-7 % 3", -1),
        ("-(-2)", 2),
        ("!!true", True),
        ("!true || true", True),
        ("true && false || true", True),
        ("1 < 2 && 2 <= 2", True),
        ('1 == "1"', False),
        ("true == 1", False),
        ("[1, [2]] == [1, [2]]", True),
        ('"5" + 1', 6),
        ('false ? 1 : "b"', "b"),
        ('true ? [1, "a"] : ["b"]', ["1", "a"]),
        ("true ? [1, true] : [2, false]", [1, True]),
        ('true ? [1] : ["b"]', ["1"]),
        ("true ? [] : [1]", []),
        ('true ? { a = 1 } : { b = "x" }', {"a": "1"}),
        ('false ? {} : { a = 1, b = "x" }', {"a": "1", "b": "x"}),
        ("true ? { a = 1, b = [] } : { a = 2, b = [1] }", {"a": 1, "b": []}),
        ("false ? null : [1]", [1]),
        ("true ? [{ a = 1 }, { b = null }] : []", [{"a": 1}, {"b": None}]),
        ("true ? 1 : false ? 2 : 3", 1),
        ("1e3", 1000),
        ("0.1 + 0.2 < 0.31", True),
        ("null == null", True),
        ("[1, 2,]", [1, 2]),
        ('{ a = 1, "b c" = 2, (upper("d")) = 3 }', {"a": 1, "b c": 2, "D": 3}),
        ("{ in = 1, for = 2, true = 3 }", {"in": 1, "for": 2, "true": 3}),
        ("[for x in [1, 2, 3] : x * 2 if x != 2]", [2, 6]),
        ("[for i, x in [5, 6] : i + x]", [5, 7]),
        ("{ for k, v in { a = 1 } : v => upper(k) }", {"1": "A"}),
        (
            '{ for x in ["aa", "ab", "b"] : substr(x, 0, 1) => x... }',
            {"a": ["aa", "ab"], "b": ["b"]},
        ),
        ("{\n for x in [1] :\n x => x\n}", {"1": 1}),
        ("[{ a = 1 }, { a = 2 }][*].a", [1, 2]),
        ("[{ a = [7] }].*.a[0]", [7]),
        ("[[1, 2], [3]][0][1]", 2),
        ('{ a = { b = "c" } }.a["b"]', "c"),
        ("max([1, 5, 3]...)", 5),
        ("try([1][3], 4)", 4),
        ("can([1][3])", False),
        ('convert("5", number) + 1', 6),
        ("[\n 1,\n 2\n]", [1, 2]),
        ("(1 +\n 2)", 3),
    ],
)
def test_an_expression_has_its_value(expression: str, value: Any) -> None:
    assert value_of(expression) == value
    assert type(value_of(expression)) is type(value)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ('"a${1 + 1}b"', "a2b"),
        ('"${1}"', 1),  # alone, it keeps its type
        ('" ${~ 1 ~} "', "1"),
        ('"$${x} %%{y}"', "${x} %{y}"),
        ('"$$ % $1 100%"', "$$ % $1 100%"),
        (r'"\t\"\\\u00e9"', '\t"\\é'),
        ('"${"nested ${"deep"}"}"', "nested deep"),
        ('"${{ a = "}" }.a}"', "}"),
        ('"%{ if 1 > 2 }a%{ else }b%{ endif }"', "b"),
        ('"%{ for x in ["a", "b"] }<${x}>%{ endfor }"', "<a><b>"),
        ('"%{ for k, v in { a = 1 } ~} ${k}=${v} %{~ endfor }"', "a=1"),
        ("<<EOF\n  keeps\n indent\nEOF", "  keeps\n indent\n"),
        ("<<-EOF\n    a\n      b\n\n    c\n  EOF", "a\n  b\n\nc\n"),
        ("<<-EOF\n    ${1}\n      b\n  EOF", "1\n  b\n"),
        ('<<_EOF  \nno \\n escapes ""\n_EOF', 'no \\n escapes ""\n'),
        ("<<E\n%{ if true }\nx\n%{ endif }\nE", "\nx\n\n"),
        ("<<E\nE", ""),
        # A marker strips to the end of its own line; the next line keeps its indentation.
        ('<<E\n%{ for x in ["a", "b"] ~}\n  - ${x}\n%{ endfor ~}\nE', "  - a\n  - b\n"),
        ("<<E\na\n  %{~ if true }b%{ endif }\nE", "a\nb\n"),
        ("<<E\na \n%{~ if true }b%{ endif }\nE", "ab\n"),
        # ... and begins no line of a flush heredoc.
        ("<<-E\n    %{ if true ~}\n    a\n    %{ endif ~}\n  E", "    a\n"),
        ("<<-E\n    a\n  \n      \n    b\n  E", "a\n  \n      \nb\n"),  # blank lines stay
        ("<<-E\n      ${1}\n    b\n  E", "  1\nb\n"),
        ("<<-E\n  a\n${1}\n  E", "  a\n1\n"),
    ],
)
def test_a_template_makes_its_text(template: str, text: Any) -> None:
    assert value_of(template) == text


@pytest.mark.parametrize(
    "reference",
    [
        "attr.kernel.name",
        "node.unique.id",
        'env["X"]',
        "NOMAD_PORT_http",
        "meta.rack",
        "device.attr.memory[0]",
    ],
)
def test_what_only_the_client_knows_stays_literal(reference: str) -> None:
    literal = "${" + reference + "}"
    assert value_of(reference) == literal
    assert value_of(f'"{literal}"') == literal
    assert value_of(f'"a-{literal}-b"') == f"a-{literal}-b"
    assert value_of(f"<<E\n{literal}\nE") == literal + "\n"


@pytest.mark.parametrize(
    ("call", "value"),
    [
        ('format("%05.1f|%-4s|%4d|%q|%t|%v|%%|%x", 3.14159, "a", 7, "q", true, [1], 255)',
         '003.1|a   |   7|"q"|true|[1]|%|ff'),
        ('join("-", ["a", "b"], ["c"])', "a-b-c"),
        ('split(",", "a,b")', ["a", "b"]),
        ('replace("a.b", ".", "/")', "a/b"),
        ('regex_replace("abc", "(b)", "<$1>")', "a<b>c"),
        ('substr("hello", -3, 2)', "ll"),
        ('title("big dog")', "Big Dog"),
        ('trimprefix("v1", "v")', "1"),
        ('indent(2, "a\\nb")', "a\n  b"),
        ('formatlist("%s-%d", ["a", "b"], [1, 2])', ["a-1", "b-2"]),
        ("chunklist([1, 2, 3], 2)", [[1, 2], [3]]),
        ("coalesce(null, 2)", 2),
        ("compact([\"a\", \"\", \"b\"])", ["a", "b"]),
        ("distinct([1, 2, 1])", [1, 2]),
        ("element([1, 2], 3)", 2),
        ("flatten([1, [2, [3]]])", [1, 2, 3]),
        ("keys({ b = 1, a = 2 })", ["a", "b"]),
        ("values({ b = 1, a = 2 })", [2, 1]),
        ('lookup({ a = 1 }, "b", 9)', 9),
        ("merge({ a = 1 }, { a = 2, b = 3 })", {"a": 2, "b": 3}),
        ("range(1, 8, 3)", [1, 4, 7]),
        ("range(3, 0)", [3, 2, 1]),
        ('setproduct(["a"], [1, 2])', [["a", 1], ["a", 2]]),
        ('setunion(["b"], ["a", "b"])', ["a", "b"]),
        ('zipmap(["a"], [1])', {"a": 1}),
        ("slice([1, 2, 3], 1, 3)", [2, 3]),
        ("ceil(1.2) + floor(1.8)", 3),
        ("pow(2, 10)", 1024),
        ('parseint("ff", 16)', 255),
        ("signum(-3)", -1),
        ('jsonencode({ b = [1, null], a = "<" })', '{"a":"\\u003c","b":[1,null]}'),
        ('jsondecode("{\\"a\\": 1}").a', 1),
        ('yamlencode({ a = [1, "x y"] })', '"a":\n- 1\n- "x y"\n'),
        ('base64decode(base64encode("é"))', "é"),
        ('sha256("")', "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ('uuidv5("dns", "example.com")', "cfbff0d1-9375-5685-968c-48ce8b15ae17"),
        ('urlencode("a b&c")', "a+b%26c"),
        ('csvdecode("a,b\\n1,2")', [{"a": "1", "b": "2"}]),
        ('timeadd("2024-02-28T23:30:00Z", "45m")', "2024-02-29T00:15:00Z"),
        ('formatdate("EEE, DD MMM YYYY hh:mm:ss ZZZ", "2018-01-02T23:12:01Z")',
         "Tue, 02 Jan 2018 23:12:01 UTC"),
        ("formatdate(\"h 'o''clock' aa\", \"2018-01-02T03:12:01+02:00\")", "3 o'clock am"),
        ('cidrhost("10.12.127.0/20", 16)', "10.12.112.16"),
        ('cidrnetmask("172.16.0.0/12")', "255.240.0.0"),
        ('cidrsubnet("172.16.0.0/12", 4, 2)', "172.18.0.0/16"),
        ('cidrsubnets("10.1.0.0/16", 4, 4, 8, 4)',
         ["10.1.0.0/20", "10.1.16.0/20", "10.1.32.0/24", "10.1.48.0/20"]),
    ],
)  # fmt: skip
def test_a_function_gives_what_nomads_does(call: str, value: Any) -> None:
    assert value_of(call) == value


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("uper(1)", 'did you mean "upper"'),
        ('file("/etc/passwd")', "files can't be read here"),
        ("uuidv4()", "nothing random is made here"),
        ("1 / 0", "division by zero"),
        ('"a" * 2', 'this is the string "a"'),
        ("attr.cpu * 2", "known only where the task runs"),
        ("[1][1]", "no item 1 in a list of 1"),
        ("{ abcd = 1 }.abce", 'did you mean "abcd"'),
        ('"${[1]}-"', "this is a list"),
        ("upper()", "takes 1 argument(s), 0 given"),
        ("{ for x in [1, 1] : x => x }", "comes twice"),
        ("1 ? 2 : 3", "true or false is needed"),
        (r'"\d+"', "backslash itself is written twice"),
        (r'"\ud800"', "is not a character"),
        ("pow(10, 500)", "too large"),
        ("[for x in 5 : x]", "a list or a map is needed"),
        ("true ? 1 : false", "must be of one type: one is a number, one a bool"),
        ("true ? [1] : {}", "must be of one type: one is a list, one a map"),
        ("true ? { a = 1, b = [] } : {}", "must be of one type"),
        ('{ net.core.somaxconn = "1" }', 'write "net.core.somaxconn" in quotes'),
        ('length("abc")', "strlen() counts"),
        ('regex("(a+)+b", "aaa")', "does not match"),
        ('regex("(", "aaa")', "not a regular expression: missing )"),
    ],
)
def test_an_expression_without_a_value_says_why(expression: str, message: str) -> None:
    with pytest.raises(SourceError) as caught:
        value_of(expression)
    assert message in str(caught.value)
    assert caught.value.diagnostics[0].line == 1


def test_variables_are_roots() -> None:
    assert value_of("var.a[1] + 1", var={"a": [1, 2]}) == 3


@pytest.mark.parametrize(
    "bomb",
    [
        "[for a in range(1000) : [for b in range(1000) : [for c in range(1000) : 1]]]",
        'join("", [for a in range(1000) : join("", [for b in range(1000) : format("%1000d", b)])])',
        "flatten([for a in range(1000) : [for b in range(1000) : b]])",
    ],
)
def test_a_costly_expression_is_stopped(bomb: str) -> None:
    with pytest.raises(SourceError, match=r"limit|at most"):
        value_of(bomb)


def test_doubling_through_references_is_stopped() -> None:
    lines = ["l0 = [1, 1]"] + [f"l{n} = [local.l{n - 1}, local.l{n - 1}]" for n in range(1, 60)]
    text = (
        "locals {\n" + "\n".join(lines) + '\n}\njob "x" {\n meta { a = jsonencode(local.l59) }\n}'
    )
    from core.jobspec import parse_job

    with pytest.raises(SourceError, match="limit"):
        parse_job(text, filename="bomb.hcl")


def test_limits_are_named() -> None:
    with pytest.raises(SourceError, match=str(limits.SOURCE_CHARS)):
        parse_body("#" * (limits.SOURCE_CHARS + 1), "big.hcl")
    with pytest.raises(SourceError, match=str(limits.BRACKETS)):
        parse_body("x = " + "[" * 1_000_000, "deep.hcl")
    with pytest.raises(SourceError, match=str(limits.EXPRESSION_DEPTH)):
        parse_body("x = " + "1 + " * 1000 + "1", "long.hcl")
    with pytest.raises(SourceError, match="limit"):
        parse_body("x = " + '"${' * 500, "nested.hcl")
