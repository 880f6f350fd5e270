"""HCL's JSON form: a JSON object becomes the same tree that HCL's own syntax makes.

Which members are blocks is the schema's to say. Labels are keys around the body, and
several blocks of one type a list.
"""

from core.jobspec.diagnostics import Source, SourceError, Span
from core.jobspec.hcl import tree
from core.jobspec.hcl.parser import is_json_text, parse_file, parse_json_file
from core.jobspec.schema import BlockSchema


def parse_any(text: str, filename: str, schema: BlockSchema | None) -> tuple[Source, tree.BodyNode]:
    """Return the tree of a text in either form.

    Raises:
        SourceError: the text is not HCL, nor JSON where it begins with "{".
    """
    if not is_json_text(text):
        return parse_file(text, filename)
    source, node = parse_json_file(text, filename)
    return source, body_of_object(source, node, schema)


def body_of_object(
    source: Source, node: tree.ObjectNode, schema: BlockSchema | None
) -> tree.BodyNode:
    body = tree.BodyNode(node.span)
    for key_node, value in node.items:
        name = _key(source, key_node)
        if name == "//":
            continue  # HCL's JSON form has its comments here
        child = schema.blocks.get(name) if schema is not None else None
        if child is None and name != "dynamic":
            body.items.append(tree.AttributeNode(name, key_node.span, value, value.span.end))
        elif child is None:
            _add_dynamic(source, body, key_node.span, value, schema)
        else:
            _Blocks(source, body, name, key_node.span, child.schema).add(value, [])
    return body


def _key(source: Source, node: tree.Node) -> str:
    if isinstance(node, tree.Template) and all(isinstance(part, str) for part in node.parts):
        return "".join(part for part in node.parts if isinstance(part, str))
    raise source.error(node.span, "a key here is plain text")


class _Blocks:
    """Adds the blocks of one member to a body."""

    def __init__(
        self, source: Source, body: tree.BodyNode, name: str, span: Span, schema: BlockSchema
    ) -> None:
        self.source = source
        self.body = body
        self.name = name
        self.span = span
        self.schema = schema

    def add(self, node: tree.Node, labels: list[tuple[str, Span]]) -> None:
        if isinstance(node, tree.TupleNode):
            for item in node.items:
                self.add(item, labels)
        elif not isinstance(node, tree.ObjectNode):
            raise self._not_an_object(node)
        elif len(labels) < bool(self.schema.label):
            for key, inner in node.items:
                self.add(inner, [*labels, (_key(self.source, key), key.span)])
        else:
            inner_body = body_of_object(self.source, node, self.schema)
            self.body.items.append(
                tree.BlockNode(self.name, self.span, labels, inner_body, node.span.end)
            )

    def _not_an_object(self, node: tree.Node) -> SourceError:
        return self.source.error(node.span, f'"{self.name}" is a block: an object is needed here')


def _add_dynamic(
    source: Source, body: tree.BodyNode, span: Span, node: tree.Node, schema: BlockSchema | None
) -> None:
    """Add `"dynamic": {"port": {"for_each": ..., "content": {...}}}`."""
    if not isinstance(node, tree.ObjectNode):
        raise source.error(node.span, '"dynamic" holds an object per type of block')
    for key, inner in node.items:
        name = _key(source, key)
        child = schema.blocks.get(name) if schema is not None else None
        if child is None or not isinstance(inner, tree.ObjectNode):
            raise source.error(key.span, f'there is no block "{name}" to make here')
        parts = tree.BodyNode(inner.span)
        for part_key, part in inner.items:
            part_name = _key(source, part_key)
            if part_name == "content" and isinstance(part, tree.ObjectNode):
                content = body_of_object(source, part, child.schema)
                parts.items.append(
                    tree.BlockNode("content", part_key.span, [], content, part.span.end)
                )
            else:
                parts.items.append(
                    tree.AttributeNode(part_name, part_key.span, part, part.span.end)
                )
        label = [(name, key.span)]
        body.items.append(tree.BlockNode("dynamic", span, label, parts, inner.span.end))
