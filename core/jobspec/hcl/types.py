"""Type constraints: `string`, `list(number)`, `object({ a = string, b = optional(bool) })`."""

from dataclasses import dataclass, field
from typing import Any, Final

from core.jobspec.diagnostics import Source, Span, did_you_mean
from core.jobspec.hcl import tree
from core.jobspec.hcl.values import (
    ValueProblem,
    set_of,
    to_bool,
    to_number,
    to_string,
    type_name,
)

_PRIMITIVES: Final = ("string", "number", "bool", "any")
_COLLECTIONS: Final = ("list", "set", "map")


@dataclass(frozen=True, slots=True)
class Type:
    """A constraint. `members` of an object: name -> (type, whether optional, default)."""

    name: str
    item: "Type | None" = None
    items: tuple["Type", ...] = ()
    members: dict[str, tuple["Type", bool, Any]] = field(default_factory=dict)

    @property
    def is_text(self) -> bool:
        """Whether `-var name=text` is taken literally, and not as an expression."""
        return self.name in {"string", "number"}

    def __str__(self) -> str:
        return f"{self.name}({self.item})" if self.item is not None else self.name


ANY: Final = Type("any")


def parse_type(source: Source, node: tree.Node) -> Type:
    """Return the type that an expression names.

    Raises:
        SourceError: it names none.
    """
    if isinstance(node, tree.Template) and len(node.parts) == 1 and isinstance(node.parts[0], str):
        # The old way, type = "string"; Terraform's as well.
        if node.parts[0] in _PRIMITIVES:
            return Type(node.parts[0])
        if source.is_json:
            from core.jobspec.hcl.parser import parse_expression

            inner = Span(node.span.start + 1, node.span.end - 1)
            return parse_type(source, parse_expression(source, inner))
    if isinstance(node, tree.Reference):
        if node.name in _PRIMITIVES:
            return Type(node.name)
        if node.name in _COLLECTIONS:
            return Type(node.name, ANY)
        hint = did_you_mean(node.name, [*_PRIMITIVES, *_COLLECTIONS, "object", "tuple"])
        raise source.error(node.span, f'there is no type "{node.name}"', hint=hint)
    if isinstance(node, tree.Call) and len(node.arguments) == 1:
        argument = node.arguments[0]
        if node.name in _COLLECTIONS:
            return Type(node.name, parse_type(source, argument))
        if node.name == "tuple" and isinstance(argument, tree.TupleNode):
            return Type("tuple", None, tuple(parse_type(source, i) for i in argument.items))
        if node.name == "object" and isinstance(argument, tree.ObjectNode):
            return _object_type(source, argument)
    raise source.error(
        node.span,
        "a type is needed here",
        hint="string, number, bool, any, list(...), set(...), map(...), object({...}) or "
        "tuple([...])",
    )


def _object_type(source: Source, node: tree.ObjectNode) -> Type:
    from core.jobspec.hcl.evaluate import Evaluator

    members: dict[str, tuple[Type, bool, Any]] = {}
    for key, value in node.items:
        name = key.name if isinstance(key, tree.Reference) else Evaluator(source, {}).string(key)
        if isinstance(value, tree.Call) and value.name == "optional" and value.arguments:
            inner = parse_type(source, value.arguments[0])
            default = None
            if len(value.arguments) > 1:
                default = Evaluator(source, {}).value(value.arguments[1])
            members[name] = (inner, True, default)
        else:
            members[name] = (parse_type(source, value), False, None)
    return Type("object", members=members)


def convert(value: Any, wanted: Type) -> Any:
    """Return `value` as the type wants it.

    Raises:
        ValueProblem: it can't be made one.
    """
    if value is None or wanted.name == "any":
        return value
    if wanted.name == "string":
        return to_string(value)
    if wanted.name == "number":
        return to_number(value)
    if wanted.name == "bool":
        return to_bool(value)
    if wanted.name in {"list", "set", "tuple"}:
        if not isinstance(value, list):
            raise ValueProblem(f"a {wanted} is needed here, this is a {type_name(value)}")
        return _convert_items(value, wanted)
    if not isinstance(value, dict):
        raise ValueProblem(f"a {wanted} is needed here, this is a {type_name(value)}")
    if wanted.name == "map":
        inner = _item_type(list(value.values()), wanted)
        return {key: convert(item, inner) for key, item in value.items()}
    return _convert_object(value, wanted)


def _convert_items(values: list[Any], wanted: Type) -> list[Any]:
    if wanted.name == "tuple":
        if len(values) != len(wanted.items):
            raise ValueProblem(f"{len(wanted.items)} items are needed here, {len(values)} given")
        return [convert(v, t) for v, t in zip(values, wanted.items, strict=True)]
    inner = _item_type(values, wanted)
    items = [convert(value, inner) for value in values]
    return items if wanted.name == "list" else set_of(items)


def _item_type(values: list[Any], wanted: Type) -> Type:
    """Return the type of the items: what is `any` becomes one type for all of them."""
    if wanted.item is not None and wanted.item.name != "any":
        return wanted.item
    from core.jobspec.hcl.unify import common_type, shape_of

    try:
        return common_type(map(shape_of, values))
    except ValueProblem as problem:
        raise ValueProblem(
            f"the items of a {wanted.name} must be of one type: {problem}",
            "type = any takes items of several types",
        ) from None


def _convert_object(value: dict[str, Any], wanted: Type) -> dict[str, Any]:
    result = {}
    for name, (inner, is_optional, default) in wanted.members.items():
        if name not in value or (value[name] is None and default is not None):
            if not is_optional:
                raise ValueProblem(f'the object lacks "{name}"')
            result[name] = _convert_member(name, default, inner)
        else:
            result[name] = _convert_member(name, value[name], inner)
    return result


def _convert_member(name: str, value: Any, wanted: Type) -> Any:
    try:
        return convert(value, wanted)
    except ValueProblem as problem:
        raise ValueProblem(f'in "{name}": {problem}', problem.hint) from None


def type_of(value: Any) -> Type:
    """Return the type that an untyped variable has from its default."""
    if isinstance(value, (list, dict)):
        return Type("any")
    names = {"string": "string", "number": "number", "bool": "bool"}
    return Type(names.get(type_name(value), "any"))
