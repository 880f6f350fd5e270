"""The part of Go's text/template that people use with `-t`.

Actions: `{{.Field.Inner}}`, `{{range}}`, `{{if}}`, `{{with}}`, `{{else}}`, `{{else if}}`,
`{{end}}`, variables (`{{$x := .ID}}`, `{{range $i, $v := .List}}`), comments, trim marks
(`{{-`, `-}}`), pipes and parentheses. Functions: see `_FUNCTIONS`. What is beyond that,
or misspelt, is an error that names it.

A template is parsed once into nodes; `render` walks them. A field that a map lacks is
`<no value>`, as in Go; a field of something that has none is an error.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from core.cli.errors import CliError


class TemplateError(CliError):
    def __init__(self, message: str) -> None:
        super().__init__(f"-t: {message}")


_ACTION = re.compile(r"\{\{(-(?=\s))?(.*?)((?<=\s)-)?\}\}", re.DOTALL)
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*"|`[^`]*`)
      | (?P<number>-?\d+(?:\.\d+)?)
      | (?P<variable>\$\w*)
      | (?P<field>\.[A-Za-z_]\w*)
      | (?P<dot>\.)
      | (?P<word>[A-Za-z_]\w*)
      | (?P<assign>:=|=)
      | (?P<mark>[|(),])
    )""",
    re.VERBOSE,
)
_LITERALS = {"true": True, "false": False, "nil": None}


@dataclass
class Token:
    kind: str
    text: str
    is_attached: bool  # no space before it: `$x.ID`, `(index . 0).ID`


@dataclass
class Operand:
    """A value and the fields taken from it. `kind`: dot, variable, literal, pipe, call."""

    kind: str
    value: Any
    fields: list[str]


@dataclass
class Pipe:
    """Commands, each fed to the next as its last argument; `targets` are variables set."""

    commands: list[list[Operand]]
    targets: list[str] = field(default_factory=list)


@dataclass
class Node:
    """`kind`: text, pipe, if, range, with."""

    kind: str
    text: str = ""
    pipe: Pipe | None = None
    body: list["Node"] = field(default_factory=list)
    otherwise: list["Node"] = field(default_factory=list)


class Template:
    def __init__(self, source: str) -> None:
        self._nodes = _parse(source)

    def render(self, value: Any) -> str:
        """Return the text for `value`, the JSON of the API as Python data."""
        out: list[str] = []
        _Run(out).walk(self._nodes, value, {"$": value})
        return "".join(out)


# --- parsing ------------------------------------------------------------------------


def _parse(source: str) -> list[Node]:
    root: list[Node] = []
    current = root
    open_blocks: list[tuple[Node, list[Node], bool]] = []  # node, list around it, is chained
    for is_action, text in _split(source):
        if not is_action:
            current.append(Node("text", text=text))
            continue
        word, _, rest = text.strip().partition(" ")
        if text.startswith("/*"):
            continue
        if word in {"if", "range", "with"}:
            node = Node(word, pipe=_Parser(rest).pipe())
            current.append(node)
            open_blocks.append((node, current, False))
            current = node.body
        elif word == "else":
            if not open_blocks:
                raise TemplateError("{{else}} without {{if}}, {{range}} or {{with}}")
            node = open_blocks[-1][0]
            current = node.otherwise
            inner, _, condition = rest.strip().partition(" ")
            if inner in {"if", "with"}:
                chained = Node(inner, pipe=_Parser(condition).pipe())
                current.append(chained)
                open_blocks.append((chained, current, True))
                current = chained.body
            elif inner:
                raise TemplateError(f"{{{{else {inner}}}}} is not known")
        elif word == "end":
            if not open_blocks:
                raise TemplateError("{{end}} without anything to end")
            while True:
                _, current, is_chained = open_blocks.pop()
                if not is_chained:
                    break
        elif word in {"template", "define", "block", "break", "continue"}:
            raise TemplateError(f"{{{{{word}}}}} is not supported")
        else:
            current.append(Node("pipe", pipe=_Parser(text).pipe()))
    if open_blocks:
        raise TemplateError(f"{{{{{open_blocks[0][0].kind}}}}} has no {{{{end}}}}")
    return root


def _split(source: str) -> list[tuple[bool, str]]:
    """Return (is an action, text) in order, spaces trimmed where marks ask for it."""
    parts: list[tuple[bool, str]] = []
    at, trims_next = 0, False
    for match in _ACTION.finditer(source):
        text = source[at : match.start()]
        text = text.lstrip() if trims_next else text
        text = text.rstrip() if match[1] else text
        if text:
            parts.append((False, text))
        parts.append((True, match[2].strip()))
        trims_next, at = bool(match[3]), match.end()
    rest = source[at:].lstrip() if trims_next else source[at:]
    if "{{" in rest:
        raise TemplateError("{{ without }}")
    if rest:
        parts.append((False, rest))
    return parts


class _Parser:
    """Reads one action's pipeline."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = _tokens(text)
        self.at = 0

    def pipe(self) -> Pipe:
        targets = self._targets()
        result = self._pipe_until(None)
        result.targets = targets
        return result

    def _targets(self) -> list[str]:
        names: list[str] = []
        for position, token in enumerate(self.tokens):
            if token.kind == "assign":
                self.at = position + 1
                return names
            if token.kind == "variable":
                names.append(token.text)
            elif token.text != ",":
                break
        return []

    def _pipe_until(self, closing: str | None) -> Pipe:
        commands: list[list[Operand]] = [[]]
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            if token.text == closing and token.kind == "mark":
                break
            if token.kind == "mark" and token.text == "|":
                self.at += 1
                commands.append([])
                continue
            commands[-1].append(self._operand())
        if closing is not None:
            if self.at >= len(self.tokens):
                raise TemplateError(f'"(" is not closed in {{{{{self.text}}}}}')
            self.at += 1
        if any(not command for command in commands):
            raise TemplateError(f"a value is missing in {{{{{self.text}}}}}")
        return Pipe(commands)

    def _operand(self) -> Operand:
        token = self.tokens[self.at]
        self.at += 1
        if token.kind == "field":
            return Operand("dot", None, [token.text[1:], *self._fields()])
        if token.kind == "dot":
            return Operand("dot", None, [])
        if token.kind == "variable":
            return Operand("variable", token.text, self._fields())
        if token.kind == "string":
            return Operand("literal", _unquote(token.text), [])
        if token.kind == "number":
            number = float(token.text) if "." in token.text else int(token.text)
            return Operand("literal", number, [])
        if token.kind == "word" and token.text in _LITERALS:
            return Operand("literal", _LITERALS[token.text], [])
        if token.kind == "word":
            if token.text not in _FUNCTIONS and token.text not in {"and", "or"}:
                raise TemplateError(
                    f'there is no function "{token.text}"; fields begin with a dot (.{token.text})'
                )
            return Operand("call", token.text, [])
        if token.text == "(":
            return Operand("pipe", self._pipe_until(")"), self._fields())
        raise TemplateError(f'"{token.text}" is out of place in {{{{{self.text}}}}}')

    def _fields(self) -> list[str]:
        names = []
        while self.at < len(self.tokens):
            token = self.tokens[self.at]
            if token.kind != "field" or not token.is_attached:
                break
            names.append(token.text[1:])
            self.at += 1
        return names


def _tokens(text: str) -> list[Token]:
    tokens, at = [], 0
    while text[at:].strip():
        match = _TOKEN.match(text, at)
        if match is None:
            raise TemplateError(f'"{text[at:].strip()}" is not understood')
        kind = match.lastgroup or ""
        word = match[kind]
        # `.A.B` comes as two field tokens; the second hangs on the first.
        tokens.append(Token(kind, word, match.start(kind) == at and at > 0))
        at = match.end()
    return tokens


def _unquote(text: str) -> str:
    if text[0] == "`":
        return text[1:-1]
    try:
        return str(json.loads(text))
    except ValueError as error:
        raise TemplateError(f"the text {text} has a wrong escape") from error


# --- running ------------------------------------------------------------------------

Scope = dict[str, Any]


class _Run:
    def __init__(self, out: list[str]) -> None:
        self.out = out

    def walk(self, nodes: Sequence[Node], dot: Any, scope: Scope) -> None:
        scope = dict(scope)
        for node in nodes:
            if node.kind == "text":
                self.out.append(node.text)
                continue
            assert node.pipe is not None
            value = self._pipe(node.pipe, dot, scope)
            if node.kind == "pipe":
                if node.pipe.targets:
                    scope[node.pipe.targets[0]] = value
                else:
                    self.out.append(show(value))
            elif node.kind == "range":
                self._range(node, value, dot, scope)
            else:
                inner = dict(scope)
                if node.pipe.targets:
                    inner[node.pipe.targets[0]] = value
                if not is_true(value):
                    self.walk(node.otherwise, dot, inner)
                else:
                    self.walk(node.body, value if node.kind == "with" else dot, inner)

    def _range(self, node: Node, value: Any, dot: Any, scope: Scope) -> None:
        assert node.pipe is not None
        pairs: list[tuple[Any, Any]]
        if isinstance(value, Mapping):
            pairs = sorted(value.items())
        elif isinstance(value, list):
            pairs = list(enumerate(value))
        elif value is None or value is NO_VALUE:
            pairs = []
        else:
            raise TemplateError(f"range goes over lists and maps, not over {show(value)}")
        if not pairs:
            self.walk(node.otherwise, dot, scope)
        for key, item in pairs:
            inner = dict(scope)
            names = node.pipe.targets
            if len(names) == 1:
                inner[names[0]] = item
            elif len(names) == 2:
                inner[names[0]], inner[names[1]] = key, item
            self.walk(node.body, item, inner)

    def _pipe(self, pipe: Pipe, dot: Any, scope: Scope) -> Any:
        value: Any = None
        for number, command in enumerate(pipe.commands):
            piped = [value] if number else []
            value = self._command(command, piped, dot, scope)
        return value

    def _command(self, command: list[Operand], piped: list[Any], dot: Any, scope: Scope) -> Any:
        first = command[0]
        if first.kind != "call":
            if len(command) > 1 or piped:
                raise TemplateError("only a function takes arguments")
            return self._value(first, dot, scope)
        args = (self._value(operand, dot, scope) for operand in command[1:])
        name = first.value
        if name in {"and", "or"}:
            return _choose(name, [*args, *piped])
        values = [*args, *piped]
        try:
            return _FUNCTIONS[name](*values)
        except (TypeError, ValueError, KeyError, IndexError) as error:
            shown = " ".join(show(value) for value in values)
            raise TemplateError(f"{name} {shown}: {error}") from error

    def _value(self, operand: Operand, dot: Any, scope: Scope) -> Any:
        value: Any
        if operand.kind == "dot":
            value = dot
        elif operand.kind == "literal":
            value = operand.value
        elif operand.kind == "variable":
            if operand.value not in scope:
                raise TemplateError(f"the variable {operand.value} is not set")
            value = scope[operand.value]
        elif operand.kind == "pipe":
            value = self._pipe(operand.value, dot, scope)
        else:
            value = self._command([operand], [], dot, scope)
        for name in operand.fields:
            value = _field(value, name)
        return value


class _NoValue:
    """What a map lacks: prints as Go prints it and is false."""


NO_VALUE = _NoValue()


def _field(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return value.get(name, NO_VALUE)
    if value is None or value is NO_VALUE:
        return NO_VALUE
    if isinstance(value, list):
        raise TemplateError(
            f"a list has no field .{name}; go over it with {{{{range .}}}} or take (index . 0)"
        )
    raise TemplateError(f"{show(value)} has no field .{name}")


def is_true(value: Any) -> bool:
    return value is not NO_VALUE and bool(value)


def show(value: Any) -> str:
    """Return a value as Go's %v prints it."""
    if value is None or value is NO_VALUE:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return f"map[{' '.join(f'{key}:{show(item)}' for key, item in sorted(value.items()))}]"
    if isinstance(value, list):
        return f"[{' '.join(show(item) for item in value)}]"
    return str(value)


def _choose(name: str, values: list[Any]) -> Any:
    for value in values[:-1]:
        if is_true(value) == (name == "or"):
            return value
    return values[-1] if values else None


def _printf(pattern: str, *values: Any) -> str:
    """Go's verbs %s %v %d %q %f %x %t with flags and width; %% is a percent sign."""
    rest = list(values)

    def put(match: re.Match[str]) -> str:
        flags, verb = match[1], match[2]
        if verb == "%":
            return "%"
        if not rest:
            return f"%!{verb}(MISSING)"
        value = rest.pop(0)
        if verb in "dfx" and isinstance(value, (int, float)):
            return f"%{flags}{verb}" % value
        if verb == "q":
            return f"%{flags}s" % json.dumps(show(value), ensure_ascii=False)
        return f"%{flags}s" % show(value)

    return re.sub(r"%([-+# 0]*\d*(?:\.\d+)?)([svdqfxt%])", put, pattern)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, Mapping):
            value = value.get(key, NO_VALUE)
        else:
            value = value[key]
    return value


def _equal(first: Any, *others: Any) -> bool:
    return any(first == other for other in others)


def _slice(value: Any, start: int = 0, end: int | None = None) -> Any:
    return value[start:end]


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": _equal,
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "index": _index,
    "join": lambda items, mark: mark.join(show(item) for item in items),
    "json": lambda value: json.dumps(value, ensure_ascii=False),
    "le": lambda a, b: a <= b,
    "len": lambda value: len(value or []),
    "lt": lambda a, b: a < b,
    "ne": lambda a, b: a != b,
    "not": lambda value: not is_true(value),
    "print": lambda *values: "".join(show(value) for value in values),
    "printf": _printf,
    "println": lambda *values: " ".join(show(value) for value in values) + "\n",
    "slice": _slice,
    "toJSON": lambda value: json.dumps(value, ensure_ascii=False),
    "toPrettyJSON": lambda value: json.dumps(value, ensure_ascii=False, indent=4),
}
