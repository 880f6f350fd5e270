"""`variable`, `variables` and `locals` of a job file, and where their values come from.

Weakest first: the default, the environment (`SERAI_VAR_x`, `NOMAD_VAR_x`), variable
files in order, `-var`. Locals may stand in any order; each is evaluated when it is
first needed, and one that needs itself is an error. What a sensitive variable holds is
taken out of every message (`Secrets`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from core.jobspec.diagnostics import Diagnostic, Severity, Source, SourceError, Span, did_you_mean
from core.jobspec.hcl import tree
from core.jobspec.hcl.evaluate import Evaluator
from core.jobspec.hcl.expand import evaluate_text
from core.jobspec.hcl.parser import parse_expression
from core.jobspec.hcl.types import ANY, Type, convert, parse_type, type_of
from core.jobspec.hcl.values import ValueProblem, to_string

ENVIRONMENT_PREFIXES: Final = ("NOMAD_VAR_", "SERAI_VAR_")
_KEYS: Final = ("type", "default", "description", "sensitive", "nullable", "validation")
_MAX_MISSING: Final = 30
_SHORT_SECRET: Final = 4  # a shorter one is only taken out where it stands in quotes


@dataclass(slots=True)
class Declaration:
    """`variable "name" { ... }`. `type` is None where neither it nor a default is written."""

    name: str
    span: Span
    type: Type | None = None
    default: Any = None
    has_default: bool = False
    is_sensitive: bool = False
    is_nullable: bool = True
    validations: list[tree.BodyNode] = field(default_factory=list)


@dataclass(slots=True)
class Declarations:
    variables: dict[str, Declaration] = field(default_factory=dict)
    locals: dict[str, tree.AttributeNode] = field(default_factory=dict)

    def add(self, evaluator: Evaluator, block: tree.BlockNode) -> None:
        """Take up one `variable`, `variables` or `locals` block.

        Raises:
            SourceError: it is malformed, or declares what is declared already.
        """
        if block.type == "variable":
            self._add_variable(evaluator, block)
        elif block.type == "locals":
            for item in _attributes(evaluator.source, block.body, "locals"):
                self._check_new(evaluator.source, item.name, item.name_span, self.locals)
                self.locals[item.name] = item
        else:
            for item in _attributes(evaluator.source, block.body, "variables"):
                self._check_new(evaluator.source, item.name, item.name_span, self.variables)
                default = evaluator.value(item.value)
                self.variables[item.name] = Declaration(
                    item.name, item.name_span, type_of(default), default, has_default=True
                )

    def _check_new(self, source: Source, name: str, span: Span, known: Mapping[str, Any]) -> None:
        if name in known:
            raise source.error(span, f'"{name}" is declared twice')

    def _add_variable(self, evaluator: Evaluator, block: tree.BlockNode) -> None:
        source = evaluator.source
        if len(block.labels) != 1:
            raise source.error(block.type_span, 'a variable has one name: variable "name" { }')
        name, span = block.labels[0]
        self._check_new(source, name, span, self.variables)
        made = Declaration(name, span)
        for item in block.body.items:
            if isinstance(item, tree.BlockNode):
                if item.type != "validation":
                    raise source.error(item.type_span, f'a variable has no block "{item.type}"')
                made.validations.append(item.body)
            elif item.name == "type":
                made.type = parse_type(source, item.value)
            elif item.name == "default":
                made.default, made.has_default = evaluator.value(item.value), True
            elif item.name == "sensitive":
                made.is_sensitive = evaluator.boolean(item.value)
            elif item.name == "nullable":
                made.is_nullable = evaluator.boolean(item.value)
            elif item.name not in _KEYS:
                hint = did_you_mean(item.name, _KEYS)
                raise source.error(
                    item.name_span, f'a variable has no attribute "{item.name}"', hint=hint
                )
        if made.has_default and made.type is not None:
            made.default = _converted(source, span, made, made.default, "the default")
        elif made.has_default:
            made.type = type_of(made.default)
        self.variables[name] = made


def _attributes(source: Source, body: tree.BodyNode, where: str) -> Iterator[tree.AttributeNode]:
    for item in body.items:
        if isinstance(item, tree.BlockNode):
            hint = f"write {item.type} = {{ ... }}"
            raise source.error(item.type_span, f"{where} holds attributes only", hint=hint)
        yield item


def _converted(source: Source, span: Span, declaration: Declaration, value: Any, what: str) -> Any:
    try:
        return convert(value, declaration.type or ANY)
    except ValueProblem as problem:
        if declaration.is_sensitive:
            message = f'{what} of variable "{declaration.name}" is not a {declaration.type}'
            raise SourceError.of_file(source.filename, message) from None
        raise source.error(
            span, f'{what} of variable "{declaration.name}": {problem}', hint=problem.hint
        ) from None


class VariableValues:
    """Decides the value of each declared variable."""

    def __init__(
        self, source: Source, declared: Mapping[str, Declaration], *, is_strict: bool
    ) -> None:
        self.source = source
        self.declared = declared
        self.is_strict = is_strict
        self.warnings: list[Diagnostic] = []
        self.values = {n: d.default for n, d in declared.items() if d.has_default}

    def take_environment(self, env: Mapping[str, str]) -> None:
        for name in self.declared:
            for prefix in ENVIRONMENT_PREFIXES:
                if prefix + name in env:
                    self._take_text(name, env[prefix + name], prefix + name)

    def take_file(self, filename: str, text: str) -> None:
        body = evaluate_text(text, filename, {}, None, is_closed=True)
        for block in body.blocks:
            raise body.error(block.span, "a variable file holds attributes only")
        for attribute in body.attributes.values():
            declaration = self.declared.get(attribute.name)
            if declaration is None:
                hint = did_you_mean(attribute.name, self.declared)
                error = body.error(
                    attribute.span, f'the job has no variable "{attribute.name}"', hint=hint
                )
                self._unknown(error)
                continue
            self._set(declaration, attribute.value, body.source, attribute.value_span)

    def take_options(self, options: Mapping[str, str]) -> None:
        for name, text in options.items():
            if name not in self.declared:
                hint = did_you_mean(name, self.declared)
                self._unknown(
                    SourceError.of_file(
                        self.source.filename, f"-var {name}: the job has no such variable", hint
                    )
                )
                continue
            self._take_text(name, text, f"-var {name}")

    def _unknown(self, error: SourceError) -> None:
        if self.is_strict:
            raise error
        self.warnings += [replace(d, severity=Severity.WARNING) for d in error.diagnostics]

    def _take_text(self, name: str, text: str, where: str) -> None:
        declaration = self.declared[name]
        value: Any = text
        source = Source(text, where)
        whole = Span(0, len(text))
        if declaration.type is not None and not declaration.type.is_text:
            try:
                node = parse_expression(source, whole)
                value = Evaluator(source, {}, is_closed=True).value(node)
            except SourceError as error:
                if declaration.is_sensitive:
                    raise SourceError.of_file(where, "the value is no expression of HCL") from None
                raise error
        self._set(declaration, value, source, whole)

    def _set(self, declaration: Declaration, value: Any, source: Source, span: Span) -> None:
        if value is None and not declaration.is_nullable:
            if not declaration.has_default:
                raise source.error(span, f'variable "{declaration.name}" may not be null')
            value = declaration.default
        self.values[declaration.name] = _converted(source, span, declaration, value, "the value")

    def finish(self) -> dict[str, Any]:
        """Return every variable's value.

        Raises:
            SourceError: some have none; one finding for each.
        """
        missing = [d for name, d in self.declared.items() if name not in self.values]
        if missing:
            raise SourceError(
                [
                    self.source.diagnostic(
                        d.span,
                        f'variable "{d.name}" has no value',
                        hint=f"give it by -var {d.name}=..., NOMAD_VAR_{d.name}, "
                        "a -var-file or a default",
                    )
                    for d in missing[:_MAX_MISSING]
                ]
            )
        return self.values


def check_validations(evaluator: Evaluator, declared: Mapping[str, Declaration]) -> None:
    """Raise SourceError for the first validation that a value does not pass."""
    for declaration in declared.values():
        for body in declaration.validations:
            parts = {i.name: i for i in body.items if isinstance(i, tree.AttributeNode)}
            condition, message = parts.get("condition"), parts.get("error_message")
            if condition is None or message is None:
                raise evaluator.source.error(
                    body.span, "a validation has a condition and an error_message"
                )
            if not evaluator.boolean(condition.value):
                raise evaluator.source.error(
                    condition.value.span,
                    f'variable "{declaration.name}": {evaluator.string(message.value)}',
                )


class Locals(Mapping[str, Any]):
    """The root `local`: evaluates each value when it is first asked for."""

    def __init__(self, nodes: Mapping[str, tree.AttributeNode]) -> None:
        self.nodes = nodes
        self.evaluator: Evaluator | None = None  # set once its roots, ourselves included, exist
        self.known: dict[str, Any] = {}
        self.pending: list[str] = []

    def __getitem__(self, name: str) -> Any:
        if name in self.known:
            return self.known[name]
        node, evaluator = self.nodes[name], self.evaluator
        assert evaluator is not None
        if name in self.pending:
            circle = " -> ".join([*self.pending[self.pending.index(name) :], name])
            raise evaluator.source.error(
                node.name_span, f"these local values need each other: {circle}"
            )
        self.pending.append(name)
        try:
            self.known[name] = evaluator.value(node.value)
        finally:
            self.pending.pop()
        return self.known[name]

    def evaluate_all(self) -> None:
        """Evaluate those nobody asked for too: a mistake in one is a mistake of the file."""
        for name in self.nodes:
            self[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.nodes)

    def __len__(self) -> int:
        return len(self.nodes)


@dataclass(slots=True)
class Roots:
    """What job files may refer to. The caller gives the Locals their evaluator."""

    var: Mapping[str, Any]
    local: Locals
    warnings: list[Diagnostic]

    def scope(self) -> dict[str, Any]:
        return {"var": self.var, "local": self.local}


def roots_of(
    source: Source,
    declarations: Declarations,
    *,
    options: Mapping[str, str],
    files: Sequence[tuple[str, str]],
    env: Mapping[str, str],
    is_strict: bool,
) -> Roots:
    """Return the roots `var` and `local`.

    Raises:
        SourceError: a variable has no value, or one that its type doesn't take.
    """
    values = VariableValues(source, declarations.variables, is_strict=is_strict)
    values.take_environment(env)
    for filename, text in files:
        values.take_file(filename, text)
    values.take_options(options)
    return Roots(values.finish(), Locals(declarations.locals), values.warnings)


class Secrets:
    """What sensitive variables hold, taken out of messages."""

    def __init__(self, declared: Mapping[str, Declaration], values: Mapping[str, Any]) -> None:
        self.texts: list[str] = []
        pending = [values[name] for name, d in declared.items() if d.is_sensitive]
        while pending:
            value = pending.pop()
            if isinstance(value, (list, dict)):
                pending += value.values() if isinstance(value, dict) else value
            elif value is not None and not isinstance(value, bool) and value != "":
                self.texts.append(to_string(value))
        self.texts.sort(key=len, reverse=True)  # one may hold another

    def hide(self, text: str) -> str:
        for secret in self.texts:
            for line in dict.fromkeys([secret, *secret.splitlines()]):
                if len(line) >= _SHORT_SECRET:
                    text = text.replace(line, "(sensitive)")
                elif line:
                    text = text.replace(f'"{line}"', "(sensitive)")
        return text

    def hidden(self, diagnostics: list[Diagnostic]) -> list[Diagnostic]:
        """Return the diagnostics without what is secret."""
        if not self.texts:
            return diagnostics
        return [
            replace(
                d,
                message=self.hide(d.message),
                hint=self.hide(d.hint),
                source_line=self.hide(d.source_line),
            )
            for d in diagnostics
        ]
