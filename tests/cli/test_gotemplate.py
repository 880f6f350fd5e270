"""The supported part of Go's templates."""

from typing import Any

import pytest

from core.cli.gotemplate import Template, TemplateError

JOB = {
    "ID": "web",
    "Priority": 50,
    "Stop": False,
    "Meta": {"b": "2", "a": "1"},
    "Groups": [{"Name": "front", "Count": 2}, {"Name": "back", "Count": 0}],
    "Nothing": None,
}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{{.ID}} {{.Priority}} {{.Stop}}", "web 50 false"),
        ("{{range .Groups}}{{.Name}};{{end}}", "front;back;"),
        ("{{range $i, $g := .Groups}}{{$i}}={{$g.Name}} {{end}}", "0=front 1=back "),
        ("{{range $k, $v := .Meta}}{{$k}}{{$v}}{{end}}", "a1b2"),
        ("{{range .Groups}}{{$.ID}}/{{.Name}} {{end}}", "web/front web/back "),
        ("{{range .Missing}}x{{else}}none{{end}}", "none"),
        ("{{if .Stop}}stopped{{else if .ID}}there{{else}}gone{{end}}", "there"),
        ("{{if not .Stop}}runs{{end}}", "runs"),
        ("{{if and .ID (eq .Priority 50)}}yes{{end}}", "yes"),
        ("{{with .Meta}}{{.a}}{{end}}", "1"),
        ("{{with .Nothing}}x{{else}}nothing{{end}}", "nothing"),
        ('{{printf "%s=%d %q %05.1f" .ID .Priority .ID 2.5}}', 'web=50 "web" 002.5'),
        ("{{.Meta | toJSON}}", '{"b": "2", "a": "1"}'),
        ('{{len .Groups}} {{(index .Groups 0).Name}} {{index .Meta "b"}}', "2 front 2"),
        ("{{$n := .ID}}{{$n}}{{/* a comment */}}!", "web!"),
        ("a  {{- .ID -}}  b", "awebb"),
        ("{{.Missing}} {{.Missing.Deeper}}", "<no value> <no value>"),
        ("{{.Meta}} {{.Groups}}", "map[a:1 b:2] [map[Count:2 Name:front] map[Count:0 Name:back]]"),
        ("{{range .Groups}}{{if gt .Count 1}}{{.Name}}{{end}}{{end}}", "front"),
        ('{{.ID | printf "<%s>"}}', "<web>"),
        ("{{or .Nothing .ID}}", "web"),
        ("{{slice .ID 0 2}}", "we"),
    ],
)
def test_renders_as_go_does(source: str, expected: str) -> None:
    assert Template(source).render(JOB) == expected


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{{.ID", "without }}"),
        ("{{if .ID}}x", "no {{end}}"),
        ("{{end}}", "without anything to end"),
        ("{{ID}}", r"no function \"ID\".*\.ID"),
        ('{{template "x"}}', "not supported"),
        ("{{.ID.Name}}", "has no field .Name"),
        ("{{.Groups.Name}}", "a list has no field"),
        ("{{index .Groups 9}}", "index"),
        ("{{(len .Groups}}", "not closed"),
        ("{{$x}}", "not set"),
        ("{{.ID |}}", "a value is missing"),
        ("{{range .ID}}{{end}}", "lists and maps"),
    ],
)
def test_what_is_wrong_or_beyond_is_said(source: str, message: str) -> None:
    with pytest.raises(TemplateError, match=message):
        Template(source).render(JOB)


def test_a_list_is_a_value_too() -> None:
    jobs: list[Any] = [JOB, {"ID": "db"}]
    assert Template('{{range .}}{{.ID}}{{"\\n"}}{{end}}').render(jobs) == "web\ndb\n"
