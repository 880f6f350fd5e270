"""Text to tree: the one place where lexer, grammar and builder meet."""

import json

from core.jobspec.diagnostics import Source, SourceError, Span
from core.jobspec.hcl import limits
from core.jobspec.hcl.build import CURRENT_SOURCE
from core.jobspec.hcl.lexer import tokenize
from core.jobspec.hcl.tree import BodyNode, Node, ObjectNode

_BYTE_ORDER_MARK = "\ufeff"


def check_text(text: str, filename: str) -> str:
    """Return the text without a byte order mark, if it may be parsed at all.

    Raises:
        SourceError: it is too long, or holds what is no character.
    """
    if len(text) > limits.SOURCE_CHARS:
        raise SourceError.of_file(
            filename,
            f"the file has {len(text)} characters; the limit is {limits.SOURCE_CHARS} "
            f"({limits.megabytes(limits.SOURCE_CHARS)})",
        )
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        raise SourceError.of_file(filename, f"line {line} is not valid UTF-8") from None
    if "\0" in text[:4096]:
        raise SourceError.of_file(filename, "this is a binary file, not text")
    return text.removeprefix(_BYTE_ORDER_MARK)


def parse_file(text: str, filename: str) -> tuple[Source, BodyNode]:
    """Return the tree of a whole HCL file.

    Raises:
        SourceError: the text is not HCL.
    """
    from core.jobspec.hcl.grammar import parse_tokens

    source = Source(check_text(text, filename), filename)
    token = CURRENT_SOURCE.set(source)
    try:
        tokens = tokenize(source, 0, len(source.text), is_inside=False)
        body = parse_tokens(source, tokens, len(source.text), is_expression=False)
    except SourceError as error:
        raise _in_other_words(source, error) from None
    finally:
        CURRENT_SOURCE.reset(token)
    assert isinstance(body, BodyNode)
    return source, body


def _in_other_words(source: Source, error: SourceError) -> SourceError:
    """Return what to say of a text that is no HCL: it may be a template that makes some."""
    from core.jobspec.hcl.syntax_errors import placeholder_at

    line = error.diagnostics[0].line
    found = placeholder_at(source, line) if line else None
    if found is None:
        return error
    span, hint = found
    what = source.slice(span)
    return source.error(
        span, f"this is a template, not HCL yet: {what} is not filled in", hint=hint
    )


def parse_json_file(text: str, filename: str) -> tuple[Source, ObjectNode]:
    """Return the tree of a JSON file: its syntax is a part of HCL's, so the places are kept.

    Raises:
        SourceError: the text is not a JSON object.
    """
    source = Source(check_text(text, filename), filename, is_json=True)
    try:
        json.loads(source.text)
    except json.JSONDecodeError as error:
        raise source.error(
            Span(error.pos, error.pos + 1), f"this is not JSON: {error.msg}"
        ) from None
    except (RecursionError, ValueError):
        raise SourceError.of_file(filename, "this JSON is nested too deeply") from None
    node = parse_expression(source, Span(0, len(source.text)))
    if not isinstance(node, ObjectNode):
        raise source.error(node.span, "a JSON object is needed here")
    return source, node


def is_json_text(text: str) -> bool:
    return text.removeprefix(_BYTE_ORDER_MARK).lstrip()[:1] == "{"


def parse_expression(source: Source, span: Span) -> Node:
    """Return the tree of the expression at `span` of a source.

    Raises:
        SourceError: it is not an expression.
    """
    from core.jobspec.hcl.grammar import parse_tokens

    tokens = tokenize(source, span.start, span.end, is_inside=True)
    token = CURRENT_SOURCE.set(source)
    try:
        node = parse_tokens(source, tokens, span.end, is_expression=True)
    finally:
        CURRENT_SOURCE.reset(token)
    assert isinstance(node, Node)
    return node
