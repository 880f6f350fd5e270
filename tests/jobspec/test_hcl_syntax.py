"""The form of HCL: what is accepted, where it is refused, and in which words."""

from collections.abc import Callable

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core.jobspec import SourceError, parse_body, parse_job

SyntaxErrorOf = Callable[[str], str]


def test_a_body_keeps_labels_order_and_places() -> None:
    body = parse_body('a = 1\nservice "http" web { port = 80 }\nservice "b" {}\n', "f.hcl")
    assert [block.labels for block in body.blocks] == [["http", "web"], ["b"]]
    service = body.blocks[0]
    assert service.body.attributes["port"].value == 80
    assert body.position(service.body.attributes["port"].value_span) == (2, 29)
    assert body.get("a") == 1 and body.get("b", 7) == 7


def test_a_body_becomes_plain_data() -> None:
    text = """
    io_mode = "async"
    service "http" "web_proxy" {
      listen_addr = "127.0.0.1:8080"
      process "main" { command = ["/usr/local/bin/awesome-app", "server"] }
      process "mgmt" { command = ["/usr/local/bin/awesome-app", "mgmt"] }
    }
    """
    assert parse_body(text, "f.hcl").to_plain() == {
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


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffa = 1",
        "a = 1\r\nb = 2\r\n",
        "größe = 1\nβ = größe",
        "a = 1 # comment\n// another\n/* and\n one */ b = 2",
        "a = /* here */ 1",
        "in {}\nfor = 1\ntrue = 2",
        "a {\n}\n\n\nb {}",
        "a = max(1,\n 2,\n)",
        'x = "a" == "b" ? { a = 1 } : { a = 2 }',
        "a = [for x in [1]: x]",
        "a = <<EOF \t\nx\n  EOF\t\nb = 1",
        "a = !!false",
        'dynamic "p" {\n for_each = [1]\n content {}\n}',
        "",
        "\n\n# nothing\n",
    ],
)
def test_what_hcl_allows_is_accepted(text: str) -> None:
    parse_body(text, "f.hcl")


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("a =", "1:", '"a =" has no value'),
        ("a = \nb = 1", "1:", "found the end of the line"),
        ("a: 1", "1:2", "HCL writes a = value"),
        ("a == 1", "1:3", "one sign"),
        ("a 1", "1:3", "write a = value"),
        ("a", "1:2", "stands alone"),
        ("a b = 1", "1:5", "holds no spaces"),
        ("a.b = 1", "1:2", "holds no dots"),
        ('"a" = 1', "1:1", "takes no quotes"),
        ("a = 1 b = 2", "1:7", "a new line must come before"),
        ("a { b = 1 c = 2 }", "1:11", "a new line must come before"),
        ("a = 1,", "1:6", "no comma here"),
        ("a = 1;", "1:6", "no semicolons"),
        ("a = 'x'", "1:5", "double quotes"),
        ("a = “x”", "1:5", "typographic quote"),
        ("a = ${b}", "1:5", "stands alone"),
        ("a = b & c", "1:7", '"&&"'),
        ("a\n{\n}", "2:1", "on the line of its name"),
        ('g "x"\n{\n}', "2:1", "write g { on line 1"),
        ('g "x" = 1', "1:7", 'expected "{" after the label'),
        ("a {", "1:3", "never closed"),
        ("a {\n b = [1\n}", "3:1", 'can\'t close the "[" of line 2'),
        ("}", "1:1", "closes nothing"),
        ("a = [1 2]", "1:8", 'expected "," or "]"'),
        ("a = [b = 1]", "1:8", "a list holds values"),
        ("a = { b = 1 c = 2 }", "1:13", "a comma or a new line"),
        ('a = { "b" 1 }', "1:11", "after the key of this map"),
        ("a = max(1 2)", "1:11", 'expected "," or ")"'),
        ("a = true ? 1", "1:13", "a second value"),
        ("a = 1 +", "1:8", "expected a value"),
        ('a = "x', "1:5", "not closed on its line"),
        ('a = "x\ny"', "1:5", "heredoc"),
        ('a = "${x"', "1:9", "not closed"),
        ('a = "%{ while }"', "1:6", "if, else, endif, for or endfor"),
        ('a = "%{ if true }x"', "1:6", "endif"),
        ('a = "${}"', "1:6", "holds no expression"),
        ("a = <<EOF\nx", "1:5", "no line holds EOF alone"),
        ('a = <<"EOF"\nEOF', "1:5", "takes no quotes"),
        ("/* x", "1:1", "never closed"),
        ("a = 1\na = 2", "2:1", "the first time on line 1"),
        ('a "${x}" {}', "1:3", "can't be computed"),
        ('{"a": 1,}', "1:", "not JSON"),
        ("[1]", "1:1", "no place here"),
        ("a = \x01", "1:5", "U+0001"),
        ('dynamic "a" {\n content {}\n}', "1:1", "has no for_each"),
        ('dynamic "a" {\n for_each = 1\n content {}\n}', "2:13", "takes a list or a map"),
        ('dynamic "a" {\n for_each = []\n x = 1\n content {}\n}', "3:2", "inside content"),
    ],
)
def test_a_mistake_is_named_at_its_place(
    syntax_error_of: SyntaxErrorOf, text: str, place: str, message: str
) -> None:
    error = syntax_error_of(text)
    assert error.startswith(f"f.hcl:{place}"), error
    assert message in error, error


def test_an_error_shows_the_line_with_a_caret(syntax_error_of: SyntaxErrorOf) -> None:
    assert syntax_error_of('\tx = uper("a")') == (
        'f.hcl:1:6: error: there is no function "uper"\n'
        '  1 | \tx = uper("a")\n'
        "    | \t    ^^^^^^^^^\n"
        '  did you mean "upper"?'
    )


def test_a_block_unfolds_for_each_item() -> None:
    text = """
    dynamic "port" {
      for_each = { http = 80, api = 81 }
      iterator = it
      labels   = [it.key]
      content { static = it.value }
    }
    """
    ports = parse_body(text, "f.hcl").blocks
    assert [(p.type, p.labels, p.body.get("static")) for p in ports] == [
        ("port", ["api"], 81),
        ("port", ["http"], 80),
    ]


PIECES = [
    "a", "job", '"x"', "=", "{", "}", "[", "]", "(", ")", "\n", " ", ",", "${", "%{", '"', "<<E\n",
    "E\n", "1", "1.5", "-", "!", "?", ":", ".", "*", "[*]", "for", "in", "if", "=>", "...", "#",
    "/*", "*/", "\\", "~", "$${", "null", "true", "var.a", "upper(", "&&", "==", "é", "\x00",
    "endif", "else", "'", ";", "group", "task", "dynamic", "content", "for_each",
]  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=30).map("".join)))
@example('job "x" { group "g" { task "t" { config { a = "${"${1}"}" } } } }')
@example("a = <<-E\n${\nE\n}\nE\n")
@example('{"job": {"x": [1]}}')
@example('{"Job": null}')
@example('{"Job": {"TaskGroups": [1]}}')
@example('variable "a" { type = list(list(')
@example("\ud800")
@example("job = 1")
@example('locals { a = "${local.a}" }\njob "x" { name = local.a }')
def test_any_text_gives_a_job_or_a_source_error(text: str) -> None:
    for parse in (lambda: parse_job(text, filename="f"), lambda: parse_body(text, "f")):
        try:
            parse()
        except SourceError as error:
            assert str(error)


@settings(max_examples=150, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.text(max_size=12),
        lambda inner: (
            st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_json_data_is_read_as_itself(value: object) -> None:
    import json

    for as_ascii in (True, False):
        # In HCL's JSON form a string is a template, so its sequences are escaped.
        text = json.dumps({"x": value}, ensure_ascii=as_ascii)
        text = text.replace("${", "$${").replace("%{", "%%{")
        if "$$${" in text or "%%%{" in text:
            return
        assert parse_body(text, "f.json").attributes["x"].value == value


@pytest.mark.parametrize(
    ("text", "place", "shown", "remedy"),
    [
        ('name = "[[ var "id" . ]]"\n', ":1:9:", '[[ var "id" . ]]', "nomad-pack render"),
        ("job [[ .app.name | toJson ]] {\n}\n", ":1:5:", "[[ .app.name | toJson ]]", "levant"),
        ("[[- if .on ]]\nx = 1\n[[- end ]]\n", ":1:1:", "[[- if .on ]]", "nomad-pack render"),
        ("count = {{ replicas }}\n", ":1:9:", "{{ replicas }}", "render it first"),
        ("x = 1\ncount = #{Replicas}\n", ":2:9:", "#{Replicas}", "render it first"),
        ("env {\n  %{~ for k in keys }\n}\n", ":2:3:", "%{~ for k in keys }", "render it first"),
    ],
)
def test_a_template_that_is_not_rendered_yet_is_called_one(
    text: str, place: str, shown: str, remedy: str, syntax_error_of: Callable[[str], str]
) -> None:
    error = syntax_error_of(text)
    assert place in error
    assert f"{shown} is not filled in" in error
    assert remedy in error


@pytest.mark.parametrize(
    "text",
    [
        "x = [[1], [2 3]]\n",
        "data = <<EOT\nif [[ $x ]]; then ${y:-z}\nEOT\n",
        'data = <<EOT\n{{ key "x" }}\nEOT\ny = = 2\n',
        "# [[ .a ]]\nx = = 1\n",
    ],
)
def test_what_only_looks_like_a_template_is_not_called_one(
    text: str, syntax_error_of: Callable[[str], str]
) -> None:
    assert "not filled in" not in syntax_error_of(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("x = 0x10\n", ":1:6:"),
        ('x = "a" b "c"\n', ":1:9:"),
        ("x = 1\ny = [1, 2] z\n", ":2:12:"),
        ('x = "1" unit = "s"\n', ":1:9:"),
    ],
)
def test_a_second_item_of_a_line_is_named_where_it_stands(
    text: str, place: str, syntax_error_of: SyntaxErrorOf
) -> None:
    error = syntax_error_of(text)
    assert place in error and "a new line must come before this" in error


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ('env {\n  "A.B" = "1"\n}\n', 'env = { "name" = ... }'),
        ('a "b" {\n  meta {\n    x = { y = 1 }\n    "k" = 1\n  }\n}\n', "meta = {"),
        ('sysctl {\n  net.core.somaxconn = "1"\n}\n', 'sysctl = { "net..." = ... }'),
    ],
)
def test_a_name_that_only_a_map_takes_is_shown_in_one(
    text: str, remedy: str, syntax_error_of: Callable[[str], str]
) -> None:
    assert remedy in syntax_error_of(text)
