"""The words for a token that does not fit: what was found, and what was probably meant."""

from typing import Final

from core.jobspec.diagnostics import Source
from core.jobspec.hcl.lexer import Token

_NAMES: Final = {
    "NL_OR_COMMENT": "the end of the line", "$END": "the end of the file",
    "DBLQUOTE": "a string", "INT_LITERAL": "a number", "FLOAT_LITERAL": "a number",
    "HEREDOC_TEMPLATE": "a heredoc", "HEREDOC_TEMPLATE_TRIM": "a heredoc",
}  # fmt: skip
_VALUE_STARTS: Final = frozenset(
    {"DBLQUOTE", "INT_LITERAL", "FLOAT_LITERAL", "LSQB", "TRUE", "FALSE", "NULL"}
)
_BINARY: Final = frozenset(
    {
        "DOUBLE_EQ", "NEQ", "LT", "GT", "LEQ", "GEQ", "ASTERISK", "SLASH", "PERCENT", "PLUS",
        "DOUBLE_AMP", "DOUBLE_PIPE",
    }
)  # fmt: skip


def explain(source: Source, tokens: list[Token], index: int, expected: set[str]) -> tuple[str, str]:
    """Return (message, hint) for the token at `index`, which none of `expected` allows."""
    token = tokens[index] if index < len(tokens) else Token("$END", "", 0, 0)
    before = tokens[index - 1] if index else None
    found = describe(source, token)
    if before is not None:
        name = before.value if before.type == "NAME" or before.type.isupper() else ""
        # After the name of an attribute or block: its value or body must begin.
        if {"EQ", "LBRACE", "DBLQUOTE"} <= expected and isinstance(name, str) and name:
            return _after_name(name, token, found)
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
        return (
            "the name of an attribute or block takes no quotes",
            'in a block write name = value; quoted keys stand in maps: x = { "key" = 1 }',
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


def _after_name(name: str, token: Token, found: str) -> tuple[str, str]:
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
            "the name of an attribute holds no dots; in a map put it in quotes",
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
