"""`fmt`: the layout, and that nothing but the layout changes."""

import re
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.jobspec import SourceError, parse_body
from core.jobspec.hcl.format import format_text


def formatted(text: str) -> str:
    once = format_text(text, "f.hcl")
    assert format_text(once, "f.hcl") == once
    return once


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a=1", "a = 1"),
        ("a  =   1\nbcd=2\n", "a   = 1\nbcd = 2\n"),
        ("a=1\n\nbcd=2\n", "a = 1\n\nbcd = 2\n"),
        ("a=1\nbcd={\n}\nef=2\n", "a = 1\nbcd = {\n}\nef = 2\n"),
        ("a=1 # x\nbcd=2      // y\n", "a   = 1 # x\nbcd = 2 // y\n"),
        ("a { # x\n  b=1 # y\n}\n", "a {     # x\n  b = 1 # y\n}\n"),
        ('job   "x"{\n}\n', 'job "x" {\n}\n'),
        ("a{b=1}", "a { b = 1 }"),
        ("a {  }", "a {}"),
        ("a = [ 1,2 , 3 ]", "a = [1, 2, 3]"),
        ("a = { b=1,c = 2 }", "a = { b = 1, c = 2 }"),
        ("a = f ( x,y... )", "a = f(x, y...)"),
        ("a = b [ 0 ] . c [*] . d", "a = b[0].c[*].d"),
        ("a = ! b && ( c||d )", "a = !b && (c || d)"),
        ("a = -1- -b", "a = -1 - -b"),
        ("a = x?-1:- 2", "a = x ? -1 : -2"),
        ("a = [for x in[1]:x if x>1]", "a = [for x in [1] : x if x > 1]"),
        ("a = {for k,v in b:k=>v...}", "a = { for k, v in b : k => v... }"),
        ('a = "${ b }-${c+1}"', 'a = "${b}-${c + 1}"'),
        ('a = "$${ b }"', 'a = "$${ b }"'),
        ('a = "%{ if  b ~}c%{ endif }${~ d ~}"', 'a = "%{ if  b ~}c%{ endif }${~ d ~}"'),
        ('a = "${ {b=1} }"', 'a = "${ { b = 1 } }"'),
        ("a = [{\n b = 1\n}]\n", "a = [{\n  b = 1\n}]\n"),
        ("a=<<EOT\n  x  =1   \nEOT\nbcd=1\n", "a = <<EOT\n  x  =1   \nEOT\nbcd = 1\n"),
        ("# c   \n\n\n   # d\n", "# c\n\n\n# d\n"),
        ("/* a\n   b   */\nc=1\n", "/* a\n   b   */\nc = 1\n"),
        ("a=1   \r\nb=2\r\n", "a = 1\r\nb = 2\r\n"),
        ("", ""),
    ],
)
def test_the_layout(before: str, after: str) -> None:
    assert formatted(before) == after


def test_blocks_are_indented_by_two() -> None:
    text = 'a {\nb "c" {\n        d = [\n 1,\n# two\n 2,\n]\n}\n}\n'
    assert formatted(text) == dedent(
        """\
        a {
          b "c" {
            d = [
              1,
              # two
              2,
            ]
          }
        }
        """
    )


def test_what_is_not_hcl_is_refused_with_its_place() -> None:
    with pytest.raises(SourceError, match=r"f.hcl:2:1"):
        format_text("a = 1\n}", "f.hcl")
    with pytest.raises(SourceError, match="JSON"):
        format_text("{}", "f.hcl")


def test_every_example_is_in_the_canonical_layout(examples: Path) -> None:
    for file in sorted(examples.glob("*.hcl")):
        text = file.read_text()
        assert format_text(text, file.name) == text, file.name


# --- random texts -------------------------------------------------------------------------

_BLANK = st.sampled_from(["", " ", "  ", "\t"])
_NAME = st.sampled_from(["a", "bc", "count", "for", "in", "a-b", "éa"])
_ATOM = st.sampled_from(
    ["1", "2.5", '"x"', '"${ a }"', "true", "null", "a . b", "b [0]", "a[*].b", '"# no"',
     'f( 1 ,2 )', '"a$${b}"', "[ ]", "{ }", "/* c */ 1"]
)  # fmt: skip


def _spaced(*parts: st.SearchStrategy[str] | str) -> st.SearchStrategy[str]:
    strategies = [st.just(part) if isinstance(part, str) else part for part in parts]
    between = [st.builds("{}{}".format, _BLANK, strategy) for strategy in strategies]
    return st.builds(lambda *found: "".join(found), *between)


_EXPRESSION = st.recursive(
    _ATOM,
    lambda inner: st.one_of(
        _spaced(inner, st.sampled_from(["+", " - ", "*", "==", "&&"]), inner),
        _spaced("(", inner, ")"),
        _spaced("!", inner),
        _spaced("-", inner),
        _spaced(inner, "?", inner, ":", inner),
        st.builds("[{}{},\n {} # item\n]".format, _BLANK, inner, inner),
        st.builds("{{\n{}  =  {}\n\n// end\n b:{} }}".format, _NAME.filter(lambda n: n != "for"),
                  inner, inner),
        st.builds("[ for x in [ {} ]:x if x!=2 ]".format, inner),
    ),
    max_leaves=5,
)  # fmt: skip
_COMMENT = st.sampled_from(["", "", "# one", "// two  ", "/* three */"])
_ATTRIBUTE = st.one_of(
    st.builds("{}{}={}{} {}\n".format, _NAME, _BLANK, _BLANK, _EXPRESSION, _COMMENT),
    st.builds("{} = <<-EOT\n\t x = ${{ a }}  \n # no comment\n\tEOT\n".format, _NAME),
)
_BODY = st.recursive(
    st.one_of(_ATTRIBUTE, st.builds("{}\n".format, _COMMENT)),
    lambda inner: st.builds(
        "{}{} \"l\"{}{{ {}\n{}{}}}{}\n".format,
        _BLANK, _NAME, _BLANK, _COMMENT, st.lists(inner, max_size=4).map("".join), _BLANK, _BLANK,
    ),
    max_leaves=8,
)  # fmt: skip
_FILE = st.lists(_BODY, max_size=5).map("".join)


def _tree(text: str) -> object:
    """The tree of a text without its places."""
    from core.jobspec.hcl.parser import parse_file

    _, body = parse_file(text, "f.hcl")
    return re.sub(r"(span|name_span|type_span)=Span\(start=\d+, end=\d+\)|\bend=\d+", "",
                  re.sub(r"Span\(start=\d+, end=\d+\)", "", repr(body)))  # fmt: skip


def _without_blanks(text: str) -> list[str]:
    return re.findall(r"\S", text)


@settings(max_examples=100, deadline=None)
@given(_FILE)
def test_only_white_space_changes_and_the_meaning_stays(text: str) -> None:
    once = formatted(text)
    assert _without_blanks(once) == _without_blanks(text), "comments and tokens survive"
    assert _tree(once) == _tree(text)


def test_the_tree_sees_more_than_names() -> None:
    assert _tree("a = 1 + 2") != _tree("a = 1 - 2")
    assert parse_body("a = 1", "f").to_plain() == {"a": 1}
