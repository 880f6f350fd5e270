"""The words for a token that does not fit: what was found, and what was probably meant."""

import re
from typing import Final

from core.jobspec.diagnostics import Source, Span
from core.jobspec.hcl.lexer import Token

NEW_LINE_MISSING: Final = (
    "a new line must come before this",
    "each attribute and block of a body stands on its own line",
)

_NAMES: Final = {
    "NL_OR_COMMENT": "the end of the line", "$END": "the end of the file",
    "DBLQUOTE": "a string", "INT_LITERAL": "a number", "FLOAT_LITERAL": "a number",
    "HEREDOC_TEMPLATE": "a heredoc", "HEREDOC_TEMPLATE_TRIM": "a heredoc",
}  # fmt: skip
_VALUE_STARTS: Final = frozenset(
    {"DBLQUOTE", "INT_LITERAL", "FLOAT_LITERAL", "LSQB", "TRUE", "FALSE", "NULL"}
)
_OPENING: Final = frozenset({"LPAR", "LSQB", "LBRACE"})
_CLOSING: Final = frozenset({"RPAR", "RSQB", "RBRACE"})
_VALUE_ENDS: Final = _CLOSING | {
    "DBLQUOTE", "INT_LITERAL", "FLOAT_LITERAL", "NAME", "TRUE", "FALSE", "NULL",
}  # fmt: skip
_BINARY: Final = frozenset(
    {
        "DOUBLE_EQ", "NEQ", "LT", "GT", "LEQ", "GEQ", "ASTERISK", "SLASH", "PERCENT", "PLUS",
        "DOUBLE_AMP", "DOUBLE_PIPE",
    }
)  # fmt: skip


# What is filled in before HCL is read: by Nomad Pack and Levant, by Go's templates, Jinja or
# Ansible, by Terraform's templatefile(), by Octopus.
_PLACEHOLDER: Final = re.compile(
    r"(?P<pack>\[\[-?[ \t]*(?:[.$]|[a-z]\w*\b)[^\]]*\]\])"
    r"|(?P<other>\{\{[^}]+\}\}|(?<==)[ \t]*\#\{[\w.]+\}"
    r"|^[ \t]*%\{~?[ \t]*(?:for|if|else|endfor|endif)\b[^}]*\})"
)
_RENDERED_BY: Final = {
    "pack": "render it first: nomad-pack render, or levant render",
    "other": "render it first, with the program that these signs are meant for",
}
_LONGEST_LINE: Final = 1000  # no line of a template that people write is longer
_HEREDOC_OPENING: Final = re.compile(r"<<-?([^\W\d][\w.-]*)[ \t]*$")


def placeholder_at(source: Source, line: int) -> tuple[Span, str] | None:
    """Return what in a line, where the text stopped being HCL, waits to be rendered, and how.

    The text of heredocs is left out: there such signs are the task's own.
    """
    marker = ""
    for number in range(1, line):
        text = source.line_text(number)
        if marker:
            marker = "" if text.strip() == marker else marker
        elif opening := _HEREDOC_OPENING.search(text):
            marker = opening.group(1)
    text = source.line_text(line)
    if marker or text.lstrip()[:1] == "#" or len(text) > _LONGEST_LINE:
        return None
    match = _PLACEHOLDER.search(text)
    if match is None:
        return None
    start = source.line_start(line)
    shown = len(match.group()) - len(match.group().lstrip())
    span = Span(start + match.start() + shown, start + match.end())
    return span, _RENDERED_BY[match.lastgroup or "other"]


def explain(source: Source, tokens: list[Token], index: int, expected: set[str]) -> tuple[str, str]:
    """Return (message, hint) for the token at `index`, which none of `expected` allows."""
    token = tokens[index] if index < len(tokens) else Token("$END", "", 0, 0)
    before = tokens[index - 1] if index else None
    found = describe(source, token)
    if before is not None:
        name = before.value if before.type == "NAME" or before.type.isupper() else ""
        # After the name of an attribute or block: its value or body must begin.
        if {"EQ", "LBRACE", "DBLQUOTE"} <= expected and isinstance(name, str) and name:
            return _after_name(name, token, found, _block_around(tokens, index))
        if before.type == "EQ":
            return _after_equals(tokens, index, found)
        if before.type == "DBLQUOTE" and "LBRACE" in expected and "EQ" not in expected:
            return (
                f'expected "{{" after the label, found {found}',
                'a block is written: type "label" { ... }',
            )
    if token.type == "COLON" and source.text[token.end : token.end + 1] in {"-", "=", "?", "+"}:
        hint = 'what is meant for the shell is written with two dollars: "$${NAME:-default}"'
        return f"{found} has no place here", hint
    if token.type == "COMMA" and "COMMA" not in expected:
        return (
            "there is no comma here",
            "attributes of a block end with the line; commas stand in lists and maps only",
        )
    if token.type == "EQ" and ("RSQB" in expected or "RPAR" in expected):
        return "there is no = here", "a list holds values; name = value stands in { }"
    if token.type == "EQ" and before is not None and before.type == "NAME" and index >= 2:
        if tokens[index - 2].type == "NAME":
            return "there is no = here", "the name of an attribute holds no spaces"
    if token.type == "EQ":
        return "there is no = here", 'to compare two values write "=="'
    if token.type == "DBLQUOTE" and "NAME" in expected and "LPAR" not in expected:
        block = _block_around(tokens, index) or "x"
        return (
            "the name of an attribute or block takes no quotes",
            f'names in quotes stand in a map, not in a block: {block} = {{ "name" = ... }}',
        )
    if token.type in _BINARY:
        return f"{found} has no value on its left", ""
    if "COMMA" in expected and "RSQB" in expected:
        return f'expected "," or "]", found {found}', "the values of a list stand between commas"
    if "COMMA" in expected and "RPAR" in expected:
        return f'expected "," or ")", found {found}', ""
    if "EQ" in expected and "COLON" in expected:
        return f'expected "=" after the key of this map, found {found}', ""
    if "COLON" in expected and "LBRACE" not in expected and "NAME" not in expected:
        return f'expected ":" and a second value, found {found}', "condition ? yes : no"
    if "LPAR" in expected and "INT_LITERAL" in expected:
        return f"expected a value, found {found}", ""
    return f"{found} has no place here", ""


def second_on_line(tokens: list[Token], index: int) -> Token | None:
    """Return the name that follows the whole value of an attribute on the same line, if any.

    The grammar takes it as the start of a block and stumbles only later, at `index`.
    """
    end = index
    while end and tokens[end - 1].type == "NL_OR_COMMENT":
        end -= 1
    start = end
    while start and tokens[start - 1].type != "NL_OR_COMMENT":
        start -= 1
    if start + 3 > end or tokens[start].type != "NAME" or tokens[start + 1].type != "EQ":
        return None
    depth = 0
    for at in range(start + 2, end):
        token = tokens[at]
        if token.type == "NAME" and not depth and tokens[at - 1].type in _VALUE_ENDS:
            return token
        depth += (token.type in _OPENING) - (token.type in _CLOSING)
    return None


def _block_around(tokens: list[Token], index: int) -> str:
    """Return the type of the block without labels that the token at `index` stands in."""
    depth = 0
    for at in range(index - 1, 0, -1):
        kind = tokens[at].type
        depth += (kind == "RBRACE") - (kind == "LBRACE")
        if depth < 0:
            return str(tokens[at - 1].value) if tokens[at - 1].type == "NAME" else ""
    return ""


def _after_name(name: str, token: Token, found: str, block: str) -> tuple[str, str]:
    if token.type == "COLON":
        return 'expected "=", found ":"', f"HCL writes {name} = value"
    if token.type == "DOUBLE_EQ":
        return 'expected "=", found "=="', f"a value is given with one sign: {name} = value"
    if token.type in _VALUE_STARTS:
        return f'expected "=" after "{name}", found {found}', f"write {name} = value"
    if token.type in {"NL_OR_COMMENT", "$END"}:
        return (
            f'"{name}" stands alone: it takes a value or a body',
            f"write {name} = value, or {name} {{ ... }} with the brace on the same line",
        )
    if token.type == "DOT":
        return (
            f'expected "=" or "{{" after "{name}", found "."',
            "the name of an attribute holds no dots; in a map it takes quotes: "
            f'{block or "x"} = {{ "{name}..." = ... }}',
        )
    return f'expected "=" or "{{" after "{name}", found {found}', ""


def _after_equals(tokens: list[Token], index: int, found: str) -> tuple[str, str]:
    name = tokens[index - 2].value if index >= 2 else None
    if isinstance(name, str) and name:
        return f'"{name} =" has no value', f"found {found} where the value should be"
    return f"expected a value, found {found}", ""


def describe(source: Source, token: Token) -> str:
    known = _NAMES.get(token.type)
    if known is not None:
        return known
    return f'"{source.text[token.start : token.end]}"'
