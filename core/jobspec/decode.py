"""An evaluated `job` body -> Nomad's API JSON, by the schema.

Findings are collected, not raised one by one: a file with three mistakes tells three.
What the schema can't say (shorthands, inheritance) stands in shorthand.py.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from core.jobspec.diagnostics import Diagnostic, Severity, Span, did_you_mean
from core.jobspec.durations import DurationError, parse_duration_ns
from core.jobspec.hcl.body import Attribute, Block, Body
from core.jobspec.hcl.values import ValueProblem, to_bool, to_int, to_string, type_name
from core.jobspec.nomad_schema import JOB
from core.jobspec.schema import Arity, AttributeSchema, BlockSchema, Kind
from core.jobspec.shorthand import SHORTHANDS, Shorthand
from core.jobspec.unsupported import NOT_CARRIED_OUT, missing_for_value

MAX_FINDINGS: Final = 30
_AS_BLOCK: Final = frozenset({Kind.MAP, Kind.LIST_MAP, Kind.FREE})
_SMALL_NS: Final = 1_000_000  # a bare number below 1 ms was hardly meant as nanoseconds


@dataclass(frozen=True, slots=True)
class Dialect:
    """What sets one kind of file apart from another, beside its schema.

    `missing` maps (block, name) to what is not carried out, `missing_value` finds the
    same by an attribute's value; both become warnings. A shorthand works on the wire
    form of its block. Durations are counted in units of `duration_unit_ns`.
    """

    root: BlockSchema
    missing: Mapping[tuple[str, str], str] = field(default_factory=dict)
    missing_value: Callable[[str, str, Any], str] = lambda block, name, value: ""
    shorthands: Mapping[str, Shorthand] = field(default_factory=dict)
    duration_unit_ns: int = 1


JOB_FILE: Final = Dialect(JOB, NOT_CARRIED_OUT, missing_for_value, SHORTHANDS)


class Decoder:
    """Decodes bodies; `errors` and `warnings` hold what it found."""

    def __init__(self, dialect: Dialect = JOB_FILE) -> None:
        self.dialect = dialect
        self.errors: list[Diagnostic] = []
        self.warnings: list[Diagnostic] = []
        self._warned: set[Diagnostic] = set()

    def error(self, body: Body, span: Span, message: str, hint: str = "") -> None:
        if len(self.errors) < MAX_FINDINGS:
            self.errors.append(body.source.diagnostic(span, message, hint=hint))

    def warn(
        self, body: Body, span: Span, message: str, hint: str = "", *, feature: str = ""
    ) -> None:
        found = body.source.diagnostic(
            span, message, hint=hint, severity=Severity.WARNING, feature=feature
        )
        if found not in self._warned:
            self._warned.add(found)
            self.warnings.append(found)

    def block(self, block: Block, schema: BlockSchema) -> dict[str, Any]:
        """Return the wire form of a block, its label included."""
        result: dict[str, Any] = {}
        if schema.label:
            if len(block.labels) == 1:
                result[schema.label] = block.labels[0]
            else:
                self._wrong_labels(block, schema)
        elif block.labels:
            hint = f'write name = "{block.labels[0]}" inside' if "name" in schema.attributes else ""
            self.error(block.body, block.label_spans[0], f"{_a(schema)} has no label", hint)
        result.update(self.body(block.body, schema))
        return result

    def _wrong_labels(self, block: Block, schema: BlockSchema) -> None:
        hint = f'{schema.name} "name" {{ ... }}'
        if not block.labels:
            self.error(block.body, block.span, f"this {schema.name} has no name", hint)
        else:
            self.error(block.body, block.label_spans[1], f"a {schema.name} has one name only", hint)

    def body(self, body: Body, schema: BlockSchema) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for attribute in body.attributes.values():
            self._attribute(result, body, attribute, schema)
        for block in body.blocks:
            self._child(result, body, block, schema)
        shorthand = self.dialect.shorthands.get(schema.name)
        if shorthand is not None:
            shorthand(self, body, result)
        if schema.is_plain:
            for known in schema.attributes.values():
                result.setdefault(known.wire, known.absent())
            for child in schema.blocks.values():
                result.setdefault(child.wire, None)
        return result

    # --- attributes -----------------------------------------------------------------

    def _attribute(
        self, result: dict[str, Any], body: Body, attribute: Attribute, schema: BlockSchema
    ) -> None:
        known = schema.attributes.get(attribute.name)
        if known is None:
            self._unknown_attribute(body, attribute, schema)
            return
        if attribute.value is None:
            return  # null means "not said"
        self._warn_missing(body, attribute.span, schema, attribute.name)
        try:
            value = _CONVERT[known.kind](attribute.value)
        except (ValueProblem, DurationError) as problem:
            hint = getattr(problem, "hint", "")
            self.error(body, attribute.value_span, f"{attribute.name}: {problem}", hint)
            return
        if known.kind is Kind.DURATION:
            self._check_bare_duration(body, attribute)
            value //= self.dialect.duration_unit_ns
        self._warn_bare_word(body, attribute)
        missing = self.dialect.missing_value(schema.name, attribute.name, value)
        if missing:
            feature = f"{attribute.name} {json.dumps(value, ensure_ascii=False)}"
            self.warn(body, attribute.value_span, missing, feature=feature)
        result[known.wire] = value

    def _warn_bare_word(self, body: Body, attribute: Attribute) -> None:
        """`type = service` is a reference to `service`, which no client will know."""
        value = attribute.value
        if not isinstance(value, str) or not value.startswith("${"):
            return
        word = body.source.slice(attribute.value_span)
        if value == f"${{{word}}}" and word.isidentifier() and not word.startswith("NOMAD_"):
            message = f"{word} without quotes is a reference, and no client knows this one"
            self.warn(body, attribute.value_span, message, f'a text takes quotes: "{word}"')

    def _check_bare_duration(self, body: Body, attribute: Attribute) -> None:
        value = attribute.value
        if isinstance(value, (int, float)) and 0 < value < _SMALL_NS:
            self.warn(
                body,
                attribute.value_span,
                f"{attribute.name} = {value} means {value} nanoseconds",
                f'write a unit: {attribute.name} = "{value}s"',
            )

    def _warn_missing(self, body: Body, span: Span, schema: BlockSchema, name: str) -> None:
        missing = self.dialect.missing.get((schema.name, name))
        if missing:
            self.warn(body, span, f"{name}: {missing}", feature=name)

    def _unknown_attribute(self, body: Body, attribute: Attribute, schema: BlockSchema) -> None:
        if len(self.errors) >= MAX_FINDINGS:
            return  # before a hint is looked for
        name = attribute.name
        if name in schema.blocks:
            label = ' "name"' if schema.blocks[name].schema.label else ""
            self.error(
                body,
                attribute.span,
                f'"{name}" is a block and takes no "="',
                f"write {name}{label} {{ ... }}",
            )
            return
        hint = did_you_mean(name, schema.known())
        hint = hint or _where_known(self.dialect.root, name, is_block=False)
        self.error(body, attribute.span, f'there is no attribute "{name}" in {_a(schema)}', hint)

    # --- blocks ---------------------------------------------------------------------

    def _child(self, result: dict[str, Any], body: Body, block: Block, schema: BlockSchema) -> None:
        as_attribute = schema.attributes.get(block.type)
        if as_attribute is not None:
            self._block_as_attribute(result, body, block, as_attribute, schema)
            return
        child = schema.blocks.get(block.type)
        if child is None and len(self.errors) >= MAX_FINDINGS:
            return
        if child is None:
            hint = did_you_mean(block.type, schema.known())
            hint = hint or _where_known(self.dialect.root, block.type, is_block=True)
            self.error(body, block.span, f'there is no block "{block.type}" in {_a(schema)}', hint)
            return
        self._warn_missing(body, block.span, schema, block.type)
        value = self.block(block, child.schema)
        if child.arity is Arity.MANY:
            result.setdefault(child.wire, []).append(value)
        elif child.arity is Arity.BY_LABEL:
            self._add_by_label(result.setdefault(child.wire, {}), body, block, value)
        elif child.wire in result:
            self.error(
                body, block.span, f'a {schema.name} has one "{block.type}" block; this is a second'
            )
        else:
            result[child.wire] = value

    def _add_by_label(
        self, found: dict[str, Any], body: Body, block: Block, value: dict[str, Any]
    ) -> None:
        label = block.labels[0] if block.labels else ""
        if label in found:
            self.error(body, block.label_spans[0], f'{block.type} "{label}" stands here twice')
        found[label] = value

    def _block_as_attribute(
        self,
        result: dict[str, Any],
        body: Body,
        block: Block,
        known: AttributeSchema,
        schema: BlockSchema,
    ) -> None:
        if known.kind not in _AS_BLOCK:
            self.error(
                body,
                block.span,
                f'"{block.type}" is an attribute, not a block',
                f"write {block.type} = ...",
            )
            return
        self._warn_missing(body, block.span, schema, block.type)
        plain = blocks_as_attributes(block.body)
        try:
            value = _CONVERT[known.kind](plain)
        except MemberProblem as problem:
            member = block.body.attributes.get(problem.key)
            span = block.span if member is None else member.value_span
            self.error(body, span, f"{block.type}: {problem}", problem.hint)
            return
        except ValueProblem as problem:
            self.error(body, block.span, f"{block.type}: {problem}", problem.hint)
            return
        if block.type in body.attributes:
            line = body.position(body.attributes[block.type].span).line
            message = f'"{block.type}" is given as an attribute already, on line {line}'
            self.error(body, block.span, message)
            return
        if known.wire in result:
            # Nomad merges several; so `meta { a = 1 }` may come from two dynamic blocks.
            value = {**result[known.wire], **value}
        result[known.wire] = value


def _a(schema: BlockSchema) -> str:
    article = "an" if schema.name[0] in "aeiou" else "a"
    return f"{article} {schema.name}" if " " in schema.name else f"{article} {schema.name} block"


def blocks_as_attributes(body: Body) -> dict[str, Any]:
    """Return a schema-less body: a block is a list of maps, its labels maps around it."""
    result: dict[str, Any] = {name: a.value for name, a in body.attributes.items()}
    for block in body.blocks:
        value: Any = [blocks_as_attributes(block.body)]
        for label in reversed(block.labels):
            value = [{label: value}]
        earlier = result.get(block.type)
        result[block.type] = [*earlier, *value] if isinstance(earlier, list) else value
    return result


class MemberProblem(ValueProblem):
    """What stands under `key` of a map does not do."""

    def __init__(self, key: str, problem: ValueProblem) -> None:
        super().__init__(f"{key}: {problem}", problem.hint)
        self.key = key


# --- values ------------------------------------------------------------------------------


def _string(value: Any) -> str:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], str):
        raise ValueProblem("a string is needed here, this is a list", f'write "{value[0]}"')
    return to_string(value)


def _duration(value: Any) -> int:
    if isinstance(value, str):
        return parse_duration_ns(value)
    return to_int(value)


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        raise ValueProblem("a list is needed here, this is a string", f'write ["{value}"]')
    if not isinstance(value, list):
        raise ValueProblem(f"a list is needed here, this is a {type_name(value)}")
    return [to_string(item) for item in value]


def _ints(value: Any) -> list[int]:
    if not isinstance(value, list):
        raise ValueProblem(f"a list is needed here, this is a {type_name(value)}")
    return [to_int(item) for item in value]


def _map(value: Any) -> dict[str, Any]:
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0]
    if not isinstance(value, dict):
        raise ValueProblem(f"a map is needed here, this is a {type_name(value)}")
    return value


def _string_map(value: Any) -> dict[str, str]:
    result = {}
    for key, item in _map(value).items():
        if item is None:
            continue  # null means "not said", here too
        try:
            result[key] = to_string(item)
        except ValueProblem as problem:
            raise MemberProblem(key, problem) from None
    return result


def _list_map(value: Any) -> dict[str, list[str]]:
    return {
        key: [to_string(i) for i in item] if isinstance(item, list) else [to_string(item)]
        for key, item in _map(value).items()
    }


_CONVERT: Final[dict[Kind, Callable[[Any], Any]]] = {
    Kind.STRING: _string,
    Kind.INT: to_int,
    Kind.BOOL: to_bool,
    Kind.DURATION: _duration,
    Kind.STRINGS: _strings,
    Kind.INTS: _ints,
    Kind.MAP: _string_map,
    Kind.LIST_MAP: _list_map,
    Kind.FREE: _map,
}


def _homes(root: BlockSchema, *, blocks: bool) -> dict[str, list[str]]:
    """Return the blocks that know each name: "port" -> ["network"] as a block."""
    homes: dict[str, list[str]] = {}
    pending, seen = [root], set()
    while pending:
        schema = pending.pop(0)
        if id(schema) in seen:
            continue
        seen.add(id(schema))
        for name in schema.blocks if blocks else schema.attributes:
            if schema.name not in homes.setdefault(name, []):
                homes[name].append(schema.name)
        pending += [child.schema for child in schema.blocks.values()]
    return homes


def _where_known(root: BlockSchema, name: str, *, is_block: bool) -> str:
    homes = _homes(root, blocks=is_block).get(name, [])
    if not homes:
        return ""
    return f'"{name}" belongs in a {" or ".join(homes[:3])} block'
