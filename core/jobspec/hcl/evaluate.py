"""Nodes to values, and whole files to bodies.

A reference whose root nobody knows is not an error: it is re-emitted as the literal
`${attr.kernel.name}`, because the client resolves it where the task runs. Any other
mistake is a `SourceError` at the node that made it.

What an input may cost is bounded: every evaluated node takes a step of a budget that
is shared by the whole file (limits.EVALUATION_STEPS).
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from core.jobspec.diagnostics import Source, SourceError, Span, did_you_mean
from core.jobspec.hcl import limits, tree
from core.jobspec.hcl.functions import FUNCTIONS, UNAVAILABLE, Function
from core.jobspec.hcl.values import (
    SetValue,
    ValueProblem,
    check_size,
    is_equal,
    tidy,
    to_bool,
    to_number,
    to_string,
    type_name,
)

Scope = Mapping[str, Any]


class BudgetExhausted(SourceError):
    """The file asks for more evaluation than limits allow; `try()` does not catch it."""


class Budget:
    """Steps left for all expressions of one file."""

    def __init__(self, steps: int = limits.EVALUATION_STEPS) -> None:
        self.left = steps

    def spend(self, source: Source, span: Span, steps: int = 1) -> None:
        self.left -= steps
        if self.left < 0:
            message = (
                f"evaluating this file takes more than {limits.EVALUATION_STEPS} steps, "
                "which is the limit"
            )
            raise BudgetExhausted([source.diagnostic(span, message)])

    def weigh(self, source: Source, span: Span, value: Any) -> None:
        """Spend a step per item of `value`, inner ones too.

        Lists that share their items are small in memory and huge once written out or
        compared, so whoever walks a whole value pays for it first.
        """
        pending = [value]
        while pending:
            current = pending.pop()
            if isinstance(current, str):
                self.spend(source, span, len(current) >> 6)
            elif isinstance(current, (list, dict)):
                self.spend(source, span, 1 + len(current))
                pending.extend(current.values() if isinstance(current, dict) else current)


class Evaluator:
    """Evaluates the expressions of one source."""

    def __init__(
        self,
        source: Source,
        roots: Scope,
        *,
        functions: Mapping[str, Function] = FUNCTIONS,
        budget: Budget | None = None,
        is_closed: bool = False,
    ) -> None:
        """`is_closed`: nothing is left for the client, so an unknown reference is an error."""
        self.source = source
        self.roots = roots
        self.functions = functions
        self.budget = budget or Budget()
        self.is_closed = is_closed

    def value(self, node: tree.Node, scope: Scope | None = None) -> Any:
        """Return the value of an expression; `scope` holds names beside the roots.

        Raises:
            SourceError: it has none.
        """
        self.budget.spend(self.source, node.span)
        try:
            return _EVALUATE[type(node)](self, node, self.roots if scope is None else scope)
        except ValueProblem as problem:
            raise self.source.error(node.span, str(problem), hint=problem.hint) from None
        except (OverflowError, ZeroDivisionError, MemoryError):
            raise self.source.error(node.span, "this number is too large") from None

    def string(self, node: tree.Node, scope: Scope | None = None) -> str:
        try:
            return to_string(self.value(node, scope))
        except ValueProblem as problem:
            raise self.source.error(node.span, str(problem), hint=problem.hint) from None

    def boolean(self, node: tree.Node, scope: Scope | None = None) -> bool:
        try:
            return to_bool(self.value(node, scope))
        except ValueProblem as problem:
            raise self.source.error(node.span, str(problem), hint=problem.hint) from None

    # --- references -----------------------------------------------------------------

    def literal(self, node: tree.Literal, scope: Scope) -> Any:
        return node.value

    def reference(self, node: tree.Reference, scope: Scope) -> Any:
        if node.name in scope:
            return scope[node.name]
        return self._runtime(node)

    def _runtime(self, node: tree.Node) -> str:
        if self.is_closed:
            name = self.source.slice(node.span)
            raise self.source.error(
                node.span, f"{name} is not known here", hint=f'a text takes quotes: "{name}"'
            )
        return "${" + self.source.slice(node.span) + "}"

    def _is_runtime(self, node: tree.Node, scope: Scope) -> bool:
        while isinstance(node, (tree.GetAttr, tree.Index, tree.Splat)):
            node = node.object
        return isinstance(node, tree.Reference) and node.name not in scope

    def get_attr(self, node: tree.GetAttr, scope: Scope) -> Any:
        if self._is_runtime(node, scope):
            return self._runtime(node)
        owner = self.value(node.object, scope)
        return self._attribute(owner, node.name, node)

    def _attribute(self, owner: Any, name: str, node: tree.Node) -> Any:
        if isinstance(owner, Mapping):
            try:
                return owner[name]
            except KeyError:
                raise self._missing(owner, name, node) from None
        if isinstance(owner, list) and name.isdigit():
            return self._item(owner, int(name))
        raise ValueProblem(f'a {type_name(owner)} has no attribute "{name}"')

    def _missing(self, owner: Mapping[str, Any], name: str, node: tree.Node) -> ValueProblem:
        hint = did_you_mean(name, [str(key) for key in owner])
        inner = node.object if isinstance(node, (tree.GetAttr, tree.Index)) else node
        what = inner.name if isinstance(inner, tree.Reference) else ""
        if what == "var":
            hint = hint or f'declare it: variable "{name}" {{ type = string }}'
            return ValueProblem(f'there is no variable "{name}"', hint)
        if what == "local":
            return ValueProblem(f'there is no local value "{name}"', hint)
        return ValueProblem(f'this map has no key "{name}"', hint)

    def index(self, node: tree.Index, scope: Scope) -> Any:
        if self._is_runtime(node, scope):
            return self._runtime(node)
        owner = self.value(node.object, scope)
        key = self.value(node.key, scope)
        if isinstance(owner, Mapping):
            return self._attribute(owner, to_string(key), node)
        return self._item(owner, key)

    def _item(self, owner: Any, key: Any) -> Any:
        if isinstance(owner, SetValue):
            raise ValueProblem("the items of a set have no numbers", "sort() makes a list of it")
        if not isinstance(owner, list):
            raise ValueProblem(f"a {type_name(owner)} can't be indexed")
        number = to_number(key)
        if not isinstance(number, int) or not 0 <= number < len(owner):
            raise ValueProblem(f"there is no item {to_string(key)} in a list of {len(owner)}")
        return owner[number]

    def splat(self, node: tree.Splat, scope: Scope) -> Any:
        if self._is_runtime(node, scope):
            return self._runtime(node)
        owner = self.value(node.object, scope)
        items = owner if isinstance(owner, list) else [] if owner is None else [owner]
        result = []
        for item in items:
            for step in node.steps:
                self.budget.spend(self.source, node.span)
                if isinstance(step, str):
                    item = self._attribute(item, step, node)
                elif isinstance(item, Mapping):
                    item = self._attribute(item, to_string(self.value(step, scope)), node)
                else:
                    item = self._item(item, self.value(step, scope))
            result.append(item)
        return result

    # --- operators ------------------------------------------------------------------

    def parenthesis(self, node: tree.Parenthesis, scope: Scope) -> Any:
        return self.value(node.inner, scope)

    def unary(self, node: tree.Unary, scope: Scope) -> Any:
        value = self.value(node.operand, scope)
        return -to_number(value) if node.operator == "-" else not to_bool(value)

    def binary(self, node: tree.Binary, scope: Scope) -> Any:
        operator = node.operator
        if operator in {"&&", "||"}:
            left = self.boolean(node.left, scope)
            # The right side is left alone where the left one decides.
            return self.boolean(node.right, scope) if left == (operator == "&&") else left
        left_value, right_value = self.value(node.left, scope), self.value(node.right, scope)
        if operator in {"==", "!="}:
            self.budget.weigh(self.source, node.span, [left_value, right_value])
            return is_equal(left_value, right_value) == (operator == "==")
        left_number, right_number = (
            self._number(left_value, node.left),
            self._number(right_value, node.right),
        )
        if operator in {"/", "%"} and right_number == 0:
            raise self.source.error(node.right.span, "division by zero")
        result = _ARITHMETIC[operator](left_number, right_number)
        return result if isinstance(result, bool) else tidy(result)

    def _number(self, value: Any, node: tree.Node) -> int | float:
        try:
            return to_number(value)
        except ValueProblem as problem:
            raise self.source.error(node.span, str(problem), hint=problem.hint) from None

    def conditional(self, node: tree.Conditional, scope: Scope) -> Any:
        chosen, other = node.if_true, node.if_false
        if not self.boolean(node.condition, scope):
            chosen, other = other, chosen
        value = self.value(chosen, scope)
        return self._of_one_type(value, self._other_side(other, scope), node)

    def _of_one_type(self, value: Any, other: Any, node: tree.Conditional) -> Any:
        """Return the chosen value as the type that it has in common with the other one."""
        if value is None or other is None or type(value) is type(other) in {str, int, float, bool}:
            return value
        from core.jobspec.hcl.types import convert
        from core.jobspec.hcl.unify import shape_of, unify

        self.budget.weigh(self.source, node.span, [value, other])
        try:
            return convert(value, unify(shape_of(value), shape_of(other)))
        except ValueProblem as problem:
            raise ValueProblem(
                f"the two values of a conditional must be of one type: {problem}",
                'a number or bool becomes text in quotes: "${...}"',
            ) from None

    def _other_side(self, node: tree.Node, scope: Scope) -> Any:
        """Return the value of the side that was not chosen, None when it has none."""
        try:
            return self.value(node, scope)
        except BudgetExhausted:
            raise
        except SourceError:
            return None

    # --- collections ----------------------------------------------------------------

    def tuple_(self, node: tree.TupleNode, scope: Scope) -> list[Any]:
        return [self.value(item, scope) for item in node.items]

    def object_(self, node: tree.ObjectNode, scope: Scope) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in node.items:
            result[self._key(key, scope)] = self.value(value, scope)
        return result

    def _key(self, node: tree.Node, scope: Scope) -> str:
        if isinstance(node, tree.Reference):
            return node.name
        if isinstance(node, tree.Literal) and not isinstance(node.value, (int, float, str)):
            return "null" if node.value is None else str(node.value).lower()
        if isinstance(node, (tree.GetAttr, tree.Index)) and _is_path(node):
            text = self.source.slice(node.span)
            raise self.source.error(
                node.span,
                f"the key {text} of this map may be a text or a reference",
                hint=f'write "{text}" in quotes to mean the text, ({text}) to mean the reference',
            )
        return self.string(node, scope)

    def for_(self, node: tree.For, scope: Scope) -> Any:
        pairs = self._pairs(self.value(node.collection, scope), node.collection)
        items: list[Any] = []
        result: dict[str, Any] = {}
        for key, value in pairs:
            inner = {**scope, node.value_name: value}
            if node.key_name is not None:
                inner[node.key_name] = key
            if node.condition is not None and not self.boolean(node.condition, inner):
                continue
            if node.key is None:
                items.append(self.value(node.value, inner))
                continue
            name, made = self.string(node.key, inner), self.value(node.value, inner)
            if node.is_grouped:
                result.setdefault(name, []).append(made)
            elif name in result:
                hint = "two items have this key; with ... after the value they gather in a list"
                raise self.source.error(node.key.span, f'the key "{name}" comes twice', hint=hint)
            else:
                result[name] = made
        return items if node.key is None else result

    def _pairs(self, collection: Any, node: tree.Node) -> list[tuple[Any, Any]]:
        pairs = pairs_of(collection)
        if pairs is None:
            raise self.source.error(
                node.span, f"a list or a map is needed here, this is a {type_name(collection)}"
            )
        return pairs

    # --- templates ------------------------------------------------------------------

    def template(self, node: tree.Template, scope: Scope) -> Any:
        parts = node.parts
        if len(parts) == 1 and node.is_quoted and isinstance(parts[0], tree.Node):
            if not isinstance(parts[0], (tree.TemplateIf, tree.TemplateFor)):
                return self.value(parts[0], scope)
        return self._joined(self._text(part, scope) for part in parts)

    def _text(self, part: str | tree.Node, scope: Scope) -> str:
        return part if isinstance(part, str) else self.string(part, scope)

    def _joined(self, texts: Iterable[str]) -> str:
        """Return the texts in one; a text that grows too long is an error while it grows."""
        gathered: list[str] = []
        size = 0
        for text in texts:
            gathered.append(text)
            size += len(text)
            if size > limits.STRING_CHARS:
                break
        return str(check_size("".join(gathered)))

    def template_if(self, node: tree.TemplateIf, scope: Scope) -> str:
        if self.boolean(node.condition, scope):
            return self.string(node.if_true, scope)
        return self.string(node.if_false, scope) if node.if_false is not None else ""

    def template_for(self, node: tree.TemplateFor, scope: Scope) -> str:
        def bodies() -> Iterator[str]:
            for key, value in self._pairs(self.value(node.collection, scope), node.collection):
                inner = {**scope, node.value_name: value}
                if node.key_name is not None:
                    inner[node.key_name] = key
                yield self.string(node.body, inner)

        return self._joined(bodies())

    # --- calls ----------------------------------------------------------------------

    def call(self, node: tree.Call, scope: Scope) -> Any:
        if node.name in {"try", "can"}:
            return self._attempt(node, scope)
        if node.name == "convert" and len(node.arguments) == 2:
            from core.jobspec.hcl.types import convert, parse_type

            wanted = parse_type(self.source, node.arguments[1])
            value = self.value(node.arguments[0], scope)
            self.budget.weigh(self.source, node.span, value)
            return convert(value, wanted)
        function = self.functions.get(node.name)
        if function is None:
            raise self._unknown_function(node)
        arguments = [self.value(argument, scope) for argument in node.arguments]
        if node.expands_last:
            last = arguments.pop()
            if not isinstance(last, list):
                raise ValueProblem(f'"..." needs a list, this is a {type_name(last)}')
            arguments += last
        function.check_count(node.name, len(arguments))
        self.budget.weigh(self.source, node.span, arguments)
        if function.steps is not None:
            self.budget.spend(self.source, node.span, function.steps(*arguments))
        try:
            return check_size(function.call(*arguments))
        except ValueProblem as problem:
            raise ValueProblem(f"{node.name}(): {problem}", problem.hint) from None

    def _attempt(self, node: tree.Call, scope: Scope) -> Any:
        for argument in node.arguments:
            try:
                value = self.value(argument, scope)
            except BudgetExhausted:
                raise
            except SourceError:
                if node.name == "can":
                    return False
            else:
                return True if node.name == "can" else value
        raise ValueProblem(f"{node.name}(): none of the arguments has a value")

    def _unknown_function(self, node: tree.Call) -> SourceError:
        if node.name in UNAVAILABLE:
            return self.source.error(node.span, f"{node.name}(): {UNAVAILABLE[node.name]}")
        hint = did_you_mean(node.name, [*self.functions, "try", "can", "convert"])
        return self.source.error(node.span, f'there is no function "{node.name}"', hint=hint)


def _is_path(node: tree.Node) -> bool:
    """Whether a node is a name with attributes or items of it: `a.b["c"]`."""
    while isinstance(node, (tree.GetAttr, tree.Index)):
        node = node.object
    return isinstance(node, tree.Reference)


def pairs_of(collection: Any) -> list[tuple[Any, Any]] | None:
    """Return keys and values in the order of a loop, None for what is no collection."""
    if isinstance(collection, Mapping):
        return sorted(collection.items())
    if isinstance(collection, SetValue):
        return [(item, item) for item in collection]
    return list(enumerate(collection)) if isinstance(collection, list) else None


_ARITHMETIC: Final[dict[str, Callable[[Any, Any], Any]]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a // b if isinstance(a, int) and isinstance(b, int) and a % b == 0 else a / b,
    "%": lambda a, b: int(math.fmod(a, b)) if isinstance(a, int) and isinstance(b, int) and
    abs(a) < 1 << 53 and abs(b) < 1 << 53 else math.fmod(a, b),
    "<": lambda a, b: a < b,
    ">": lambda a, b: a > b,
    "<=": lambda a, b: a <= b,
    ">=": lambda a, b: a >= b,
}  # fmt: skip

_EVALUATE: Final[dict[type, Callable[..., Any]]] = {
    tree.Literal: Evaluator.literal,
    tree.Reference: Evaluator.reference,
    tree.GetAttr: Evaluator.get_attr,
    tree.Index: Evaluator.index,
    tree.Splat: Evaluator.splat,
    tree.Parenthesis: Evaluator.parenthesis,
    tree.Unary: Evaluator.unary,
    tree.Binary: Evaluator.binary,
    tree.Conditional: Evaluator.conditional,
    tree.TupleNode: Evaluator.tuple_,
    tree.ObjectNode: Evaluator.object_,
    tree.For: Evaluator.for_,
    tree.Template: Evaluator.template,
    tree.TemplateIf: Evaluator.template_if,
    tree.TemplateFor: Evaluator.template_for,
    tree.Call: Evaluator.call,
}
