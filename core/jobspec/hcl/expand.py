"""Trees to evaluated bodies: attributes get their values, `dynamic` blocks unfold."""

from collections.abc import Mapping
from typing import Any

from core.jobspec.diagnostics import Source, SourceError
from core.jobspec.hcl import tree
from core.jobspec.hcl.body import Attribute, Block, Body
from core.jobspec.hcl.evaluate import Evaluator, Scope, pairs_of
from core.jobspec.hcl.json_form import parse_any
from core.jobspec.hcl.values import ValueProblem, to_string, type_name, without_sets
from core.jobspec.schema import BlockSchema


def evaluate_body(evaluator: Evaluator, node: tree.BodyNode, scope: Scope | None = None) -> Body:
    """Return the body with all values known.

    Raises:
        SourceError: an expression has no value, or an attribute is given twice.
    """
    body = Body(evaluator.source, node.span)
    for item in node.items:
        if isinstance(item, tree.AttributeNode):
            _add_attribute(evaluator, body, item, scope)
        elif item.type == "dynamic":
            _unfold(evaluator, body, item, scope)
        else:
            inner = evaluate_body(evaluator, item.body, scope)
            labels = [label for label, _ in item.labels]
            spans = [span for _, span in item.labels]
            body.blocks.append(Block(item.type, labels, inner, item.type_span, spans))
    return body


def _add_attribute(
    evaluator: Evaluator, body: Body, item: tree.AttributeNode, scope: Scope | None
) -> None:
    earlier = body.attributes.get(item.name)
    if earlier is not None:
        line = evaluator.source.line_of(earlier.span.start)
        raise evaluator.source.error(
            item.name_span, f'"{item.name}" is set twice; the first time on line {line}'
        )
    value = evaluator.value(item.value, scope)
    evaluator.budget.weigh(evaluator.source, item.value.span, value)
    plain = without_sets(value) if isinstance(value, (list, dict)) else value
    body.attributes[item.name] = Attribute(item.name, plain, item.name_span, item.value.span)


def _unfold(evaluator: Evaluator, body: Body, block: tree.BlockNode, scope: Scope | None) -> None:
    """Add one block per item of a `dynamic` block's `for_each`."""
    source = evaluator.source
    if len(block.labels) != 1:
        raise source.error(
            block.type_span, "a dynamic block has one label: the type of the blocks it makes"
        )
    type_, type_span = block.labels[0]
    parts = _DynamicParts(source, block)
    if parts.for_each is None or parts.content is None:
        missing = "for_each attribute" if parts.for_each is None else "content block"
        raise source.error(block.type_span, f'dynamic "{type_}" has no {missing}')
    collection = evaluator.value(parts.for_each, scope)
    pairs = pairs_of(collection)
    if pairs is None:
        raise source.error(
            parts.for_each.span,
            f"for_each takes a list or a map, this is a {type_name(collection)}",
        )
    iterator = parts.iterator or type_
    for key, value in pairs:
        inner = {**(evaluator.roots if scope is None else scope)}
        inner[iterator] = {"key": key, "value": value}
        labels = _labels(evaluator, parts.labels, inner)
        made = evaluate_body(evaluator, parts.content.body, inner)
        body.blocks.append(Block(type_, labels, made, type_span, [type_span] * len(labels)))


def _labels(evaluator: Evaluator, node: tree.Node | None, scope: Scope) -> list[str]:
    if node is None:
        return []
    value = evaluator.value(node, scope)
    if not isinstance(value, list):
        raise evaluator.source.error(node.span, "labels takes a list of strings")
    try:
        return [to_string(label) for label in value]
    except ValueProblem as problem:
        raise evaluator.source.error(node.span, str(problem)) from None


def _word(source: Source, node: tree.Node) -> str:
    """Return the name that stands alone; in JSON it stands in quotes."""
    if isinstance(node, tree.Reference):
        return node.name
    if source.is_json and isinstance(node, tree.Template) and len(node.parts) == 1:
        if isinstance(node.parts[0], str):
            return node.parts[0]
    raise source.error(node.span, "an iterator is a name without quotes", hint="iterator = item")


class _DynamicParts:
    """What a `dynamic` block may hold; anything else is an error."""

    def __init__(self, source: Source, block: tree.BlockNode) -> None:
        self.for_each: tree.Node | None = None
        self.labels: tree.Node | None = None
        self.iterator = ""
        self.content: tree.BlockNode | None = None
        for item in block.body.items:
            if isinstance(item, tree.BlockNode) and item.type == "content":
                self.content = item
            elif isinstance(item, tree.AttributeNode) and item.name == "for_each":
                self.for_each = item.value
            elif isinstance(item, tree.AttributeNode) and item.name == "labels":
                self.labels = item.value
            elif isinstance(item, tree.AttributeNode) and item.name == "iterator":
                self.iterator = _word(source, item.value)
            else:
                span = item.name_span if isinstance(item, tree.AttributeNode) else item.type_span
                raise source.error(
                    span,
                    "a dynamic block holds for_each, iterator, labels and content",
                    hint="attributes of the blocks it makes stand inside content { ... }",
                )


def evaluate_text(
    text: str,
    filename: str,
    variables: Mapping[str, Any],
    schema: BlockSchema | None,
    *,
    is_closed: bool = False,
) -> Body:
    """See core.jobspec.hcl.body.parse_body; `is_closed`: unknown references are errors."""
    source, root = parse_any(text, filename, schema)
    try:
        return evaluate_body(Evaluator(source, variables, is_closed=is_closed), root)
    except RecursionError:
        raise SourceError.of_file(filename, "expressions refer to each other too deeply") from None
