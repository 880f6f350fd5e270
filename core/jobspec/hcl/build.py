"""One method per rule of python-hcl2's grammar: children in, a node of tree.py out.

grammar.py calls them bottom-up while it reduces, so no tree of its own is made and nothing
recurses. Here too stand the rules that python-hcl2's grammar leaves out: a new line
between two attributes, a brace on the line of its block, a separator between the
elements of a map.
"""

from contextvars import ContextVar
from itertools import pairwise
from typing import Any, Final

from core.jobspec.diagnostics import Source, SourceError, Span
from core.jobspec.hcl import limits
from core.jobspec.hcl.lexer import Token
from core.jobspec.hcl.syntax_errors import NEW_LINE_MISSING
from core.jobspec.hcl.tree import (
    AttributeNode,
    Binary,
    BlockNode,
    BodyNode,
    Call,
    Conditional,
    For,
    GetAttr,
    Index,
    Literal,
    Node,
    ObjectNode,
    Parenthesis,
    Reference,
    Splat,
    Template,
    TupleNode,
    Unary,
)
from core.jobspec.hcl.values import ValueProblem, number_of_text

_WORDS: Final = {"true": True, "false": False, "null": None}
Children = list[Any]
# Named here, because inside Builder `tuple` is a rule of the grammar.
Pair = tuple[Node, Node]
Term = tuple[Token, Node]
Arguments = tuple[list[Node], bool]
AttrAccess = tuple[str, str, Span]
IndexAccess = tuple[str, Node, Span, bool]  # whether in brackets
Steps = tuple[list[Any], Span]
ForIntro = tuple[str | None, str, Node]
Condition = tuple[Node]


# The text that is being parsed: the callbacks are handed children and nothing else.
# A context variable, so that two threads may parse two files.
CURRENT_SOURCE: Final[ContextVar[Source]] = ContextVar("CURRENT_SOURCE")


def _error(span: Span, message: str, hint: str = "") -> SourceError:
    return CURRENT_SOURCE.get().error(span, message, hint=hint)


def _present(children: Children) -> Children:
    return [child for child in children if child is not None]


def _nodes(children: Children) -> list[Node]:
    return [child for child in children if isinstance(child, Node)]


def _deepen(span: Span, *nodes: Node) -> int:
    depth = 1 + max((node.depth for node in nodes), default=0)
    if depth > limits.EXPRESSION_DEPTH:
        raise _error(
            span,
            f"this expression is more than {limits.EXPRESSION_DEPTH} deep, which is the limit",
        )
    return depth


def _around(children: Children) -> Span:
    return Span(children[0].span.start, children[-1].span.end)


class Builder:
    """The callbacks. Names are those of the grammar's rules."""

    def new_line_or_comment(self, _: Children) -> None:
        return None

    # --- bodies ---------------------------------------------------------------------

    def start(self, children: Children) -> BodyNode:
        body: BodyNode = children[0]
        return body

    def body(self, children: Children) -> BodyNode:
        items = _present(children)
        line_of = CURRENT_SOURCE.get().line_of
        for earlier, later in pairwise(items):
            span = later.name_span if isinstance(later, AttributeNode) else later.type_span
            if line_of(span.start) <= line_of(max(0, earlier.end - 1)):
                raise _error(span, *NEW_LINE_MISSING)
        start = 0
        if items:
            first = items[0]
            start = (first.name_span if isinstance(first, AttributeNode) else first.type_span)[0]
        return BodyNode(Span(start, items[-1].end if items else start), items)

    def attribute(self, children: Children) -> AttributeNode:
        name, _, value = _present(children)
        return AttributeNode(_word(name), name.span, value, value.span.end)

    def block(self, children: Children) -> BlockNode:
        head, *rest = _present(children)
        brace_at = next(
            i for i, child in enumerate(rest) if isinstance(child, Token) and child.type == "LBRACE"
        )
        labels: list[tuple[str, Span]] = []
        for label in rest[:brace_at]:
            labels.append((_label(label), label.span))
        brace, body, close = rest[brace_at], rest[brace_at + 1], rest[-1]
        source = CURRENT_SOURCE.get()
        header_end = labels[-1][1].end if labels else head.span.end
        if source.line_of(header_end - 1) != source.line_of(brace.start):
            raise _error(
                brace.span,
                'the "{" of a block stands on the line of its name',
                f"write {_word(head)} {{ on line {source.line_of(head.span.start)}",
            )
        _check_lines(body, brace, close, _word(head))
        body.span = Span(brace.start, close.end)
        return BlockNode(_word(head), head.span, labels, body, close.end)

    # --- words and literals ---------------------------------------------------------

    def identifier(self, children: Children) -> Reference:
        token: Token = children[0]
        return Reference(token.span, 1, token.value)

    keyword = identifier

    def literal_value(self, children: Children) -> Literal:
        token: Token = children[0]
        return Literal(token.span, 1, _WORDS[token.value])

    def int_lit(self, children: Children) -> Literal:
        token: Token = children[0]
        return Literal(token.span, 1, int(token.value))

    def float_lit(self, children: Children) -> Literal:
        token: Token = children[0]
        try:
            return Literal(token.span, 1, number_of_text(token.value))
        except ValueProblem as problem:
            raise _error(token.span, str(problem)) from None

    def string(self, children: Children) -> Node:
        from core.jobspec.hcl.template import parse_template

        start, end = children[0].start, children[-1].end
        return parse_template(
            CURRENT_SOURCE.get(), Span(start, end), Span(start + 1, end - 1), None
        )

    def heredoc_template(self, children: Children) -> Node:
        from core.jobspec.hcl.template import parse_template

        token: Token = children[0]
        inner = Span(token.value.start, token.value.end)
        return parse_template(CURRENT_SOURCE.get(), token.span, inner, token.value)

    heredoc_template_trim = heredoc_template

    # --- expressions ----------------------------------------------------------------

    def expr_term(self, children: Children) -> Node:
        items = _present(children)
        if len(items) == 1:
            node: Node = items[0]
            return node
        span = _around(items)
        inner: Node = items[1]
        return Parenthesis(span, _deepen(span, inner), inner)

    def conditional(self, children: Children) -> Conditional:
        condition, if_true, if_false = _nodes(children)
        span = Span(condition.span.start, if_false.span.end)
        return Conditional(
            span, _deepen(span, condition, if_true, if_false), condition, if_true, if_false
        )

    def binary_operator(self, children: Children) -> Token:
        token: Token = children[0]
        return token

    def binary_term(self, children: Children) -> Term:
        operator, operand = _present(children)
        return operator, operand

    def binary_op(self, children: Children) -> Binary:
        left, (operator, right) = _present(children)
        span = Span(left.span.start, right.span.end)
        return Binary(span, _deepen(span, left, right), operator.value, left, right)

    def unary_op(self, children: Children) -> Unary:
        operator, operand = _present(children)
        span = Span(operator.start, operand.span.end)
        return Unary(span, _deepen(span, operand), operator.value, operand)

    def tuple(self, children: Children) -> TupleNode:
        span, items = _around(_present(children)), _nodes(children)
        return TupleNode(span, _deepen(span, *items), items)

    def object_elem_key(self, children: Children) -> Node:
        node: Node = children[0]
        return node

    def object_elem(self, children: Children) -> Pair:
        key, _, value = _present(children)
        return key, value

    def object(self, children: Children) -> ObjectNode:
        items = _present(children)
        span = _around([items[0], items[-1]])
        pairs: list[tuple[Node, Node]] = []
        line_of = CURRENT_SOURCE.get().line_of
        is_separated = True
        for child in items[1:-1]:
            if isinstance(child, Token):
                is_separated = True
                continue
            key, value = child
            if not is_separated and line_of(pairs[-1][1].span.end - 1) == line_of(key.span.start):
                raise _error(key.span, "a comma or a new line must come before this key")
            pairs.append((key, value))
            is_separated = False
        nodes = [node for pair in pairs for node in pair]
        return ObjectNode(span, _deepen(span, *nodes), pairs)

    def arguments(self, children: Children) -> Arguments:
        expands = any(isinstance(c, Token) and c.type == "ELLIPSIS" for c in children)
        return _nodes(children), expands

    def function_call(self, children: Children) -> Call:
        items = _present(children)
        names = [item.name for item in items if isinstance(item, Reference)]
        arguments, expands = next((i for i in items if isinstance(i, tuple)), ([], False))
        span = _around([items[0], items[-1]])
        return Call(span, _deepen(span, *arguments), "::".join(names), arguments, expands)

    # --- access ---------------------------------------------------------------------

    def get_attr(self, children: Children) -> AttrAccess:
        dot, name = children
        return "attr", _word(name), Span(dot.start, name.span.end)

    def short_index(self, children: Children) -> IndexAccess:
        dot, number = children
        span = Span(dot.start, number.end)
        return "index", Literal(number.span, 1, int(number.value)), span, False

    def braces_index(self, children: Children) -> IndexAccess:
        opening, key, closing = _present(children)
        return "index", key, Span(opening.start, closing.end), True

    def get_attr_expr_term(self, children: Children) -> GetAttr:
        node, (_, name, end) = children
        span = Span(node.span.start, end.end)
        return GetAttr(span, _deepen(span, node), node, name)

    def index_expr_term(self, children: Children) -> Index:
        node, (_, key, end, _) = children
        span = Span(node.span.start, end.end)
        return Index(span, _deepen(span, node, key), node, key)

    def full_splat(self, children: Children) -> Steps:
        token, *steps = children
        return steps, token.span

    attr_splat = full_splat

    def full_splat_expr_term(self, children: Children) -> Splat:
        node, (accesses, last) = children
        return _splat(node, accesses, last)

    def attr_splat_expr_term(self, children: Children) -> Node:
        """`x.*.a[0]` is `x[*].a` and then its first item; the other splat goes on inside."""
        node, (accesses, last) = children
        inside = next(
            (n for n, step in enumerate(accesses) if step[0] == "index" and step[3]),
            len(accesses),
        )
        made: Node = _splat(node, accesses[:inside], last)
        for step in accesses[inside:]:
            access = self.index_expr_term if step[0] == "index" else self.get_attr_expr_term
            made = access([made, step])
        return made

    # --- for ------------------------------------------------------------------------

    def for_intro(self, children: Children) -> ForIntro:
        nodes = _nodes(children)
        names = [node for node in nodes[:-1] if isinstance(node, Reference)]
        key = names[0].name if len(names) == 2 else None
        return key, names[-1].name, nodes[-1]

    def for_cond(self, children: Children) -> Condition:
        return (_nodes(children)[0],)

    def for_tuple_expr(self, children: Children) -> For:
        items = _present(children)
        (key_name, value_name, collection) = items[1]
        value = _nodes(items)[0]
        return self._for(items, key_name, value_name, collection, None, value, False)

    def for_object_expr(self, children: Children) -> For:
        items = _present(children)
        (key_name, value_name, collection) = items[1]
        key, value = _nodes(items)[:2]
        grouped = any(isinstance(i, Token) and i.type == "ELLIPSIS" for i in items)
        return self._for(items, key_name, value_name, collection, key, value, grouped)

    def _for(
        self,
        items: Children,
        key_name: str | None,
        value_name: str,
        collection: Node,
        key: Node | None,
        value: Node,
        is_grouped: bool,
    ) -> For:
        span = _around([items[0], items[-1]])
        conditions = [item[0] for item in items if isinstance(item, tuple) and len(item) == 1]
        condition: Node | None = conditions[0] if conditions else None
        depth = _deepen(span, *[n for n in (collection, key, value, condition) if n is not None])
        return For(span, depth, key_name, value_name, collection, key, value, condition, is_grouped)


def _check_lines(body: BodyNode, brace: Token, close: Token, name: str) -> None:
    """Refuse what HCL refuses: on one line a block holds one attribute, or nothing.

    Otherwise the brace ends its line, and what closes the body stands on a line of its own.
    """
    if not body.items:
        return
    line_of = CURRENT_SOURCE.get().line_of
    first, last = body.items[0], body.items[-1]
    is_attribute = isinstance(first, AttributeNode)
    span = first.name_span if isinstance(first, AttributeNode) else first.type_span
    is_beside = line_of(span.start) == line_of(brace.start)
    ends_beside = line_of(max(0, last.end - 1)) == line_of(close.start)
    if is_beside and not (len(body.items) == 1 and is_attribute and ends_beside):
        raise _error(
            span,
            f'a new line must come after the "{{" of {name}',
            "on one line, a block holds a single attribute: update { canary = 1 }",
        )
    if ends_beside and not is_beside:
        raise _error(close.span, 'a new line must come before this "}"')


def _splat(node: Node, accesses: list[Any], last: Span) -> Splat:
    steps = [access[1] for access in accesses]
    span = Span(node.span.start, accesses[-1][2].end if accesses else last.end)
    return Splat(span, _deepen(span, node, *_nodes(steps)), node, steps)


def _word(node: Node) -> str:
    if isinstance(node, Reference):
        return node.name
    assert isinstance(node, Literal)  # true, false and null may be names as well
    return {True: "true", False: "false", None: "null"}[node.value]


def _label(node: Node) -> str:
    if isinstance(node, Template):
        if not node.parts:
            return ""
        if len(node.parts) == 1 and isinstance(node.parts[0], str):
            return node.parts[0]
        raise _error(
            node.span,
            "a label is plain text and can't be computed",
            'an identifier that depends on a variable goes into an attribute, e.g. id = "${...}"',
        )
    return _word(node)
