"""Any HCL file to plain JSON, and any JSON object to HCL.

    service "http" "web_proxy" {            {"service": {"http": {"web_proxy":
      listen_addr = "127.0.0.1:8080"    <->      {"listen_addr": "127.0.0.1:8080"}}}}
    }

HCL to JSON: a block is an object below its type and labels; blocks of the same type and
labels are a list of them. Expressions of constants are computed. What is known only
elsewhere (`var.x`, an unknown function) stays an expression: the string `"${var.x}"`. In a
string that holds such a part, literal `${` is written `$${`, as in HCL itself.

JSON to HCL: an object becomes a block, whose labels are the keys down to the first object
that holds a value; two or more objects in a list become blocks of the same name; all else
is an attribute. Strings become text, but for those that are an expression of the kind
above. So JSON -> HCL -> JSON is the identity, numbers to the last digit. HCL can't name
attributes of a file freely: such members stand in one attribute, `__keys__ = { ... }`.
"""

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from core.jobspec.diagnostics import Source, SourceError, Span
from core.jobspec.hcl import limits, tree
from core.jobspec.hcl.evaluate import Evaluator
from core.jobspec.hcl.format import format_text
from core.jobspec.hcl.functions import FUNCTIONS
from core.jobspec.hcl.lexer import sequence_end
from core.jobspec.hcl.parser import check_text, is_json_text, parse_expression, parse_file
from core.jobspec.hcl.write import Number, Segment, expression, header, is_name, quoted

ODD_KEYS: Final = "__keys__"

_JSON_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_OPENER = re.compile(r"([$%]{2}\{)|[$%]\{")
_LABEL = re.compile(r"[^\"\\$%\x00-\x1f]*")


def hcl_to_json(text: str, filename: str) -> str:
    """Return the JSON of an HCL text, indented by two, with a line end.

    Raises:
        SourceError: the text is not HCL, or a constant expression has no value.
    """
    if is_json_text(text):
        raise SourceError.of_file(filename, "this is JSON already")
    source, body = parse_file(text, filename)
    value = _Reader(source).file(body)
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode() + "\n"


def json_to_hcl(text: str, filename: str) -> str:
    """Return the HCL of a JSON text, in the layout of `format_text`; expressions as they stand.

    Raises:
        SourceError: the text is not a JSON object, or holds what HCL can't.
    """
    value = _load_json(check_text(text, filename), filename)
    try:
        lines = [*_file_lines(value)]
    except ValueError as error:
        raise SourceError.of_file(filename, f"HCL can't hold this: {error}") from None
    return format_text("\n".join([*lines, ""]), filename, keeps_strings=True)


# --- HCL to JSON --------------------------------------------------------------------------


@dataclass(slots=True)
class _Place:
    """What stands at one type or label: the bodies of its blocks, and further labels."""

    bodies: list[Any] = field(default_factory=list)
    labels: "dict[str, _Place]" = field(default_factory=dict)

    def add(self, path: Sequence[str], body: Any) -> None:
        place = self
        for label in path:
            place = place.labels.setdefault(label, _Place())
        place.bodies.append(body)

    def value(self) -> Any:
        found = list(self.bodies)
        if self.labels:
            found.append({label: place.value() for label, place in self.labels.items()})
        return found[0] if len(found) == 1 else found


class _Reader:
    """Makes plain values of the nodes of one source."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.evaluator = Evaluator(source, {})

    def file(self, body: tree.BodyNode) -> dict[str, Any]:
        result = self.body(body)
        if isinstance(odd := result.get(ODD_KEYS), dict):
            twice = odd.keys() & result.keys() - {ODD_KEYS}
            if twice:
                raise self.source.error(body.span, f'"{min(twice)}" stands here twice')
            del result[ODD_KEYS]
            result |= odd
        return result

    def body(self, body: tree.BodyNode) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for item in body.items:
            if isinstance(item, tree.BlockNode):
                place = result.setdefault(item.type, _Place())
                if not isinstance(place, _Place):
                    raise self._double(item.type_span, item.type)
                place.add([label for label, _ in item.labels], self.body(item.body))
            elif item.name in result:
                raise self._double(item.name_span, item.name)
            else:
                result[item.name] = self.value(item.value)
        return {
            name: value.value() if isinstance(value, _Place) else value
            for name, value in result.items()
        }

    def _double(self, span: Span, name: str) -> SourceError:
        return self.source.error(span, f'"{name}" stands here twice, not both times as a block')

    def value(self, node: tree.Node) -> Any:
        """Return plain data; numbers as msgspec.Raw, so that they keep their spelling."""
        match node:
            case tree.Literal() if _is_number(node):
                return self._number(node)
            case tree.Unary(operator="-", operand=tree.Literal()) if _is_number(node.operand):
                return self._number(node)
            case tree.TupleNode():
                return [self.value(item) for item in node.items]
            case tree.ObjectNode() if all(_is_key(key) for key, _ in node.items):
                return {self._key(key): self.value(value) for key, value in node.items}
        if is_constant(node):
            return _with_raw_numbers(self.evaluator.value(node))
        if isinstance(node, tree.Template):
            return self.template(node)
        return "${" + self.source.slice(node.span) + "}"

    def _number(self, node: tree.Node) -> Any:
        text = self.source.slice(node.span)
        if _JSON_NUMBER.fullmatch(text):
            return msgspec.Raw(text.encode())
        return _with_raw_numbers(self.evaluator.value(node))

    def _key(self, node: tree.Node) -> str:
        if isinstance(node, tree.Reference):
            return node.name
        if isinstance(node, tree.Literal):
            return self.source.slice(node.span)
        return self.evaluator.string(node)

    # --- templates that stay templates ------------------------------------------------

    def template(self, node: tree.Template) -> str:
        return "".join(
            _OPENER.sub(lambda m: m.group()[0] + m.group(), part)
            if isinstance(part, str)
            else self._sequence(part)
            for part in node.parts
        )

    def _sequence(self, part: tree.Node) -> str:
        if isinstance(part, tree.TemplateIf):
            condition = self.source.slice(part.condition.span)
            text = f"%{{ if {condition} }}{self.template(part.if_true)}"
            if part.if_false is not None:
                text += f"%{{ else }}{self.template(part.if_false)}"
            return text + "%{ endif }"
        if isinstance(part, tree.TemplateFor):
            names = ", ".join(name for name in (part.key_name, part.value_name) if name)
            collection = self.source.slice(part.collection.span)
            return f"%{{ for {names} in {collection} }}{self.template(part.body)}%{{ endfor }}"
        return "${" + self.source.slice(part.span) + "}"


def _is_number(node: tree.Node) -> bool:
    return (
        isinstance(node, tree.Literal)
        and isinstance(node.value, (int, float))
        and not isinstance(node.value, bool)
    )


def _is_key(node: tree.Node) -> bool:
    return isinstance(node, (tree.Reference, tree.Literal)) or is_constant(node)


def _with_raw_numbers(value: Any) -> Any:
    """Let whole numbers beyond 64 bits pass msgspec."""
    if isinstance(value, int) and not isinstance(value, bool):
        return msgspec.Raw(str(value).encode())
    if isinstance(value, list):
        return [_with_raw_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: _with_raw_numbers(item) for key, item in value.items()}
    return value


def is_constant(node: tree.Node, known: frozenset[str] = frozenset()) -> bool:
    """Whether an expression needs nothing from outside of its file.

    `known` are the names that loops around it bind.
    """
    match node:
        case tree.Reference():
            return node.name in known
        case tree.Call() if node.name not in FUNCTIONS and node.name not in {"try", "can"}:
            return False
        case tree.For() | tree.TemplateFor():
            names = {node.value_name, *([node.key_name] if node.key_name else [])}
            inner = known | names
            parts = [node.body] if isinstance(node, tree.TemplateFor) else _loop_parts(node)
            return is_constant(node.collection, known) and all(
                is_constant(part, inner) for part in parts
            )
        case tree.ObjectNode():
            # A bare word before "=" is a key, no reference.
            return all(
                (isinstance(key, tree.Reference) or is_constant(key, known))
                and is_constant(value, known)
                for key, value in node.items
            )
    return all(is_constant(part, known) for part in _parts(node))


def _loop_parts(node: tree.For) -> list[tree.Node]:
    return [part for part in (node.key, node.value, node.condition) if part is not None]


def _parts(node: tree.Node) -> Iterable[tree.Node]:
    match node:
        case tree.GetAttr():
            return [node.object]
        case tree.Index():
            return [node.object, node.key]
        case tree.Splat():
            return [node.object, *(step for step in node.steps if isinstance(step, tree.Node))]
        case tree.Call():
            return node.arguments
        case tree.Unary():
            return [node.operand]
        case tree.Binary():
            return [node.left, node.right]
        case tree.Conditional():
            return [node.condition, node.if_true, node.if_false]
        case tree.Parenthesis():
            return [node.inner]
        case tree.TupleNode():
            return node.items
        case tree.Template():
            return [part for part in node.parts if isinstance(part, tree.Node)]
        case tree.TemplateIf():
            return [p for p in (node.condition, node.if_true, node.if_false) if p is not None]
    return []


# --- JSON to HCL --------------------------------------------------------------------------


def _load_json(text: str, filename: str) -> dict[str, Any]:
    source = Source(text, filename, is_json=True)

    def refuse(name: str) -> Any:
        raise SourceError.of_file(filename, f"{name} is not JSON")

    def number(text: str) -> Number:
        if len(text) > limits.NUMBER_CHARS or math.isinf(float(text)):
            raise SourceError.of_file(filename, f"the number {text[:40]} is too large for HCL")
        return Number(text)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, item in pairs:
            if key in result:
                raise SourceError.of_file(
                    filename, f'the key "{key[:60]}" stands twice in an object'
                )
            result[key] = item
        return result

    try:
        value = json.loads(
            text,
            parse_int=number,
            parse_float=number,
            parse_constant=refuse,
            object_pairs_hook=unique,
        )
        depth = _depth(value)
    except json.JSONDecodeError as error:
        raise source.error(
            Span(error.pos, error.pos + 1), f"this is not JSON: {error.msg}"
        ) from None
    except RecursionError:
        depth = limits.BRACKETS + 1
    if depth > limits.BRACKETS:
        raise SourceError.of_file(
            filename, f"this JSON is nested more than {limits.BRACKETS} deep, which is the limit"
        )
    if not isinstance(value, dict):
        raise SourceError.of_file(
            filename, "a JSON object is needed: a file of HCL holds attributes and blocks"
        )
    return value


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, (dict, list))]:
        depth += 1
        level = [i for item in level for i in (item.values() if isinstance(item, dict) else item)]
    return depth


def _file_lines(value: Mapping[str, Any]) -> Iterable[str]:
    odd = {key: item for key, item in value.items() if not is_name(key) or key == ODD_KEYS}
    yield from _body_lines({key: item for key, item in value.items() if key not in odd})
    if odd:
        yield f"{ODD_KEYS} = {expression(odd, split_template)}"


def _body_lines(value: Mapping[str, Any]) -> Iterable[str]:
    is_first, is_after_block = True, False
    for key, item in value.items():
        blocks = _blocks(item, ())
        if (blocks or is_after_block) and not is_first:
            yield ""
        is_first, is_after_block = False, bool(blocks)
        if not blocks:
            yield f"{key} = {expression(item, split_template)}"
        for number, (labels, body) in enumerate(blocks or ()):
            if number:
                yield ""
            yield header(key, labels)
            yield from _body_lines(body)
            yield "}"


_Blocks = list[tuple[tuple[str, ...], Mapping[str, Any]]]


def _blocks(value: Any, labels: tuple[str, ...]) -> _Blocks | None:
    """Return the labels and bodies of the blocks that a value can be, None where none."""
    if isinstance(value, dict):
        if value and all(_is_blocks(item) for item in value.values()):
            inner = [_blocks(v, (*labels, k)) if _is_label(k) else None for k, v in value.items()]
            if all(inner):
                return [block for blocks in inner for block in blocks or ()]
        return [(labels, value)] if _is_body(value) else None
    if isinstance(value, list) and len(value) > 1 and all(_is_body(item) for item in value):
        return [(labels, item) for item in value]
    return None


def _is_blocks(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) > 1 and all(isinstance(item, dict) for item in value)
    return isinstance(value, dict)


def _is_body(value: Any) -> bool:
    return isinstance(value, dict) and all(is_name(key) for key in value)


def _is_label(text: str) -> bool:
    return _LABEL.fullmatch(text) is not None and text.isprintable()


def split_template(text: str) -> Sequence[Segment]:
    """Return the parts of a string that `_Reader` made of a template; else all is text."""
    if _OPENER.search(text) is None:
        return (Segment(text, False),)
    try:
        segments = _template_segments(text)
        literal = quoted(text, lambda _: segments)
        source = Source(literal, "")
        node = parse_expression(source, Span(0, len(literal)))
        if not is_constant(node) and _Reader(source).value(node) == text:
            return segments
    except SourceError:
        pass  # "${" that opens nothing is text
    return (Segment(text, False),)


def _template_segments(text: str) -> list[Segment]:
    source = Source(text, "")
    segments: list[Segment] = []
    at = 0
    while opener := _OPENER.search(text, at):
        if opener.start() > at:
            segments.append(Segment(text[at : opener.start()], False))
        end = opener.end()
        if opener[1] is None:
            end = sequence_end(source, opener.start(), len(text), 1) + 1
        segments.append(Segment(text[opener.start() : end], True))
        at = end
    return [*segments, Segment(text[at:], False)] if at < len(text) else segments
