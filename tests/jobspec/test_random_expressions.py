"""Random expressions of every kind of value, each beside the value that plain Python gives it.

A `Maker` writes an expression and computes it at the same time, without a thought of how the
evaluator does it. Two seeds that differ make two expressions that differ, so a failure names
the seed, the expression and both values.
"""

import math
import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest

from core.jobspec import parse_body

_WORDS = ("", "a", "b", "ab", "ba", "a-b", "b,a", "Ab", "é", "x y", " a")
_KEYS = ("a", "b", "c", "k1", "zz")
_SEEDS_PER_TEST = 150
_DEPTH = 4


class Made(NamedTuple):
    """An expression's text and what it must be."""

    text: str
    value: Any


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


class Maker:
    """Makes expressions that are at most `depth` calls and operators deep."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def _one_of(self, depth: int, leaf: Callable[[], Made], more: Sequence[Any]) -> Made:
        if depth <= 0 or self.random.random() < 0.15:
            return leaf()
        return self.random.choice(more)(depth - 1)

    def _conditional(self, make: Callable[[int], Made], depth: int) -> Made:
        condition, yes, no = self.boolean(depth), make(depth), make(depth)
        text = f"({condition.text} ? {yes.text} : {no.text})"
        return Made(text, yes.value if condition.value else no.value)

    # --- numbers ----------------------------------------------------------------------

    def number(self, depth: int) -> Made:
        return self._one_of(
            depth,
            self._number_literal,
            [
                self._arithmetic,
                self._remainder,
                self._extreme,
                self._length,
                self._position,
                lambda d: self._conditional(self.number, d),
            ],
        )

    def _number_literal(self) -> Made:
        number = self.random.randint(-9, 30)
        return Made(f"({number})" if number < 0 else str(number), number)

    def _arithmetic(self, depth: int) -> Made:
        left, right = self.number(depth), self.number(depth)
        sign = self.random.choice("+-*")
        value = {"+": left.value + right.value, "-": left.value - right.value,
                 "*": left.value * right.value}[sign]  # fmt: skip
        return Made(f"({left.text} {sign} {right.text})", value)

    def _remainder(self, depth: int) -> Made:
        left, by = self.number(depth), self.random.randint(1, 9)
        return Made(f"({left.text} % {by})", int(math.fmod(left.value, by)))

    def _extreme(self, depth: int) -> Made:
        name, choose = self.random.choice([("max", max), ("min", min)])
        made = [self.number(depth) for _ in range(self.random.randint(1, 3))]
        if self.random.random() < 0.5:
            text = f"{name}([{', '.join(m.text for m in made)}]...)"
        else:
            text = f"{name}({', '.join(m.text for m in made)})"
        return Made(text, choose([m.value for m in made]))

    def _length(self, depth: int) -> Made:
        made = self.random.choice([self.strings, self.table])(depth)
        return Made(f"length({made.text})", len(made.value))

    def _position(self, depth: int) -> Made:
        words = self.strings(depth)
        if not words.value:
            return Made(f"length({words.text})", 0)
        wanted = self.random.choice(words.value)
        return Made(f"index({words.text}, {_quoted(wanted)})", words.value.index(wanted))

    # --- texts ------------------------------------------------------------------------

    def text(self, depth: int) -> Made:
        return self._one_of(
            depth,
            self._text_literal,
            [
                self._case,
                self._joined,
                self._replaced,
                self._part,
                self._formatted,
                self._template,
                self._template_if,
                self._template_for,
                self._looked_up,
                lambda d: self._conditional(self.text, d),
            ],
        )

    def _text_literal(self) -> Made:
        word = self.random.choice(_WORDS)
        return Made(_quoted(word), word)

    def _case(self, depth: int) -> Made:
        made = self.text(depth)
        name, change = self.random.choice(
            [("upper", str.upper), ("lower", str.lower), ("trimspace", str.strip)]
        )
        return Made(f"{name}({made.text})", change(made.value))

    def _joined(self, depth: int) -> Made:
        by, words = self.text(depth - 1), self.strings(depth)
        return Made(f"join({by.text}, {words.text})", by.value.join(words.value))

    def _replaced(self, depth: int) -> Made:
        made, new = self.text(depth), self.text(depth - 1)
        old = self.random.choice([word for word in _WORDS if word])
        text = f"replace({made.text}, {_quoted(old)}, {new.text})"
        return Made(text, made.value.replace(old, new.value))

    def _part(self, depth: int) -> Made:
        made = self.text(depth)
        start, length = self.random.randint(0, 3), self.random.randint(-1, 4)
        rest = made.value[start:]
        text = f"substr({made.text}, {start}, {length})"
        return Made(text, rest if length < 0 else rest[:length])

    def _formatted(self, depth: int) -> Made:
        word, number, flag = self.text(depth), self.number(depth), self.boolean(depth)
        text = f'format("%s|%d|%05d|%t|%%", {word.text}, {number.text}, {number.text}, {flag.text})'
        shown = "true" if flag.value else "false"
        return Made(text, f"{word.value}|{number.value}|{number.value:05d}|{shown}|%")

    def _template(self, depth: int) -> Made:
        made = [self.random.choice([self.text, self.number])(depth) for _ in range(2)]
        text = f'"<${{{made[0].text}}}$${{x}}${{ {made[1].text} }}>"'
        return Made(text, f"<{made[0].value}${{x}}{made[1].value}>")

    def _template_if(self, depth: int) -> Made:
        condition, yes, no = self.boolean(depth), self.text(depth), self.text(depth)
        text = (
            f'"[ %{{~ if {condition.text} ~}} ${{{yes.text}}}-'
            f'%{{ else }}+${{{no.text}}}%{{ endif ~}} ]"'
        )
        return Made(text, f"[{yes.value}-]" if condition.value else f"[+{no.value}]")

    def _template_for(self, depth: int) -> Made:
        if self.random.random() < 0.5:
            words = self.strings(depth)
            text = f'"(%{{ for i, w in {words.text} }}${{i}}${{w}};%{{ endfor }})"'
            inner = "".join(f"{i}{word};" for i, word in enumerate(words.value))
        else:
            table = self.table(depth)
            text = f'"(%{{ for k, v in {table.text} }}${{k}}=${{v}};%{{ endfor }})"'
            inner = "".join(f"{key}={table.value[key]};" for key in sorted(table.value))
        return Made(text, f"({inner})")

    def _looked_up(self, depth: int) -> Made:
        table, other = self.table(depth), self.text(depth - 1)
        key = self.random.choice(_KEYS)
        if key in table.value and self.random.random() < 0.5:
            return Made(f'({table.text})["{key}"]', table.value[key])
        text = f'lookup({table.text}, "{key}", {other.text})'
        return Made(text, table.value.get(key, other.value))

    # --- truth ------------------------------------------------------------------------

    def boolean(self, depth: int) -> Made:
        return self._one_of(
            depth,
            lambda: self.random.choice([Made("true", True), Made("false", False)]),
            [self._compared, self._equal, self._logic, self._contained, self._negated],
        )

    def _compared(self, depth: int) -> Made:
        left, right = self.number(depth), self.number(depth)
        sign, holds = self.random.choice(
            [("<", left.value < right.value), (">", left.value > right.value),
             ("<=", left.value <= right.value), (">=", left.value >= right.value)]
        )  # fmt: skip
        return Made(f"({left.text} {sign} {right.text})", holds)

    def _equal(self, depth: int) -> Made:
        make = self.random.choice([self.number, self.text, self.boolean, self.strings, self.table])
        left = make(depth)
        right = left if self.random.random() < 0.3 else make(depth)
        if self.random.random() < 0.5:
            return Made(f"({left.text} == {right.text})", left.value == right.value)
        return Made(f"({left.text} != {right.text})", left.value != right.value)

    def _logic(self, depth: int) -> Made:
        left, right = self.boolean(depth), self.boolean(depth)
        if self.random.random() < 0.5:
            return Made(f"({left.text} && {right.text})", left.value and right.value)
        return Made(f"({left.text} || {right.text})", left.value or right.value)

    def _contained(self, depth: int) -> Made:
        words, word = self.strings(depth), self.text(depth - 1)
        return Made(f"contains({words.text}, {word.text})", word.value in words.value)

    def _negated(self, depth: int) -> Made:
        made = self.boolean(depth)
        return Made(f"!{made.text}", not made.value)

    # --- lists of texts ---------------------------------------------------------------

    def strings(self, depth: int) -> Made:
        return self._one_of(
            depth,
            self._list_literal,
            [
                self._listed,
                self._split,
                self._chained,
                self._flattened,
                self._each_once,
                self._slice,
                self._reversed,
                self._counted,
                self._mapped,
                self._of_table,
                self._splat,
                lambda d: self._conditional(self.strings, d),
            ],
        )

    def _list_literal(self) -> Made:
        words = self.random.choices(_WORDS, k=self.random.randint(0, 3))
        return Made(f"[{', '.join(map(_quoted, words))}]", words)

    def _listed(self, depth: int) -> Made:
        made = [self.text(depth) for _ in range(self.random.randint(1, 3))]
        return Made(f"[{', '.join(m.text for m in made)}]", [m.value for m in made])

    def _split(self, depth: int) -> Made:
        made = self.text(depth)
        by = self.random.choice([",", "-", "a"])
        return Made(f'split("{by}", {made.text})', made.value.split(by))

    def _chained(self, depth: int) -> Made:
        left, right = self.strings(depth), self.strings(depth)
        return Made(f"concat({left.text}, {right.text})", left.value + right.value)

    def _flattened(self, depth: int) -> Made:
        words, more = self.strings(depth), self.strings(depth)
        text = f'flatten([{words.text}, "-", [[], [{more.text}]]])'
        return Made(text, [*words.value, "-", *more.value])

    def _each_once(self, depth: int) -> Made:
        words = self.strings(depth)
        if self.random.random() < 0.5:
            return Made(f"distinct({words.text})", list(dict.fromkeys(words.value)))
        return Made(f"compact({words.text})", [word for word in words.value if word])

    def _slice(self, depth: int) -> Made:
        words = self.strings(depth)
        end = self.random.randint(0, len(words.value))
        start = self.random.randint(0, end)
        return Made(f"slice({words.text}, {start}, {end})", words.value[start:end])

    def _reversed(self, depth: int) -> Made:
        words = self.strings(depth)
        return Made(f"reverse({words.text})", words.value[::-1])

    def _counted(self, depth: int) -> Made:
        start, end = self.random.randint(0, 3), self.random.randint(3, 6)
        word = self.text(depth)
        text = f'[for n in range({start}, {end}) : "${{n}}${{{word.text}}}" if n % 2 == 0]'
        return Made(text, [f"{n}{word.value}" for n in range(start, end) if n % 2 == 0])

    def _mapped(self, depth: int) -> Made:
        words = self.strings(depth)
        text = f'[for i, w in {words.text} : "${{i}}-${{upper(w)}}" if w != "a"]'
        return Made(text, [f"{i}-{w.upper()}" for i, w in enumerate(words.value) if w != "a"])

    def _of_table(self, depth: int) -> Made:
        table = self.table(depth)
        if self.random.random() < 0.5:
            return Made(f"keys({table.text})", sorted(table.value))
        return Made(f"values({table.text})", [table.value[key] for key in sorted(table.value)])

    def _splat(self, depth: int) -> Made:
        words = self.strings(depth)
        text = f"[for w in {words.text} : {{ n = w, more = [w] }}][*]"
        return Made(f"{text}.{self.random.choice(['n', 'more[0]'])}", words.value)

    # --- maps of texts ----------------------------------------------------------------

    def table(self, depth: int) -> Made:
        return self._one_of(
            depth,
            self._map_literal,
            [self._merged, self._keyed, lambda d: self._conditional(self.table, d)],
        )

    def _map_literal(self) -> Made:
        keys = self.random.sample(_KEYS, self.random.randint(0, 3))
        pairs = {key: self.random.choice(_WORDS) for key in keys}
        inner = ", ".join(f"{key} = {_quoted(word)}" for key, word in pairs.items())
        return Made(f"{{ {inner} }}" if inner else "{}", pairs)

    def _merged(self, depth: int) -> Made:
        left, right = self.table(depth), self.table(depth)
        return Made(f"merge({left.text}, {right.text})", {**left.value, **right.value})

    def _keyed(self, depth: int) -> Made:
        words = self.strings(depth)
        if self.random.random() < 0.5:
            text = f"{{ for w in distinct({words.text}) : w => upper(w) }}"
            return Made(text, {word: word.upper() for word in words.value})
        text = f'{{ for k, g in {{ for w in {words.text} : w => w... }} : k => join("+", g) }}'
        return Made(text, {w: "+".join([w] * words.value.count(w)) for w in words.value})


def _value_of(expression: str) -> Any:
    return parse_body(f"x = {expression}\n", "x.hcl").attributes["x"].value


@pytest.mark.parametrize("kind", ["number", "text", "boolean", "strings", "table"])
def test_a_random_expression_is_what_python_makes_of_it(kind: str) -> None:
    for seed in range(_SEEDS_PER_TEST):
        made: Made = getattr(Maker(seed), kind)(_DEPTH)
        found = _value_of(made.text)
        assert found == made.value, f"seed {seed}: {made.text}"
        assert type(found) is type(made.value), f"seed {seed}: {made.text}"


def test_the_random_expressions_use_all_that_the_maker_knows() -> None:
    kinds = ("number", "text", "boolean", "strings", "table")
    texts = " ".join(
        getattr(Maker(seed), kind)(_DEPTH).text for kind in kinds for seed in range(_SEEDS_PER_TEST)
    )
    for part in (
        "join(", "split(", "replace(", "substr(", "format(", "upper(", "lower(", "trimspace(",
        "concat(", "merge(", "lookup(", "contains(", "keys(", "values(", "flatten(", "distinct(",
        "compact(", "slice(", "reverse(", "range(", "index(", "max(", "]...)", "%{~ if", "%{ for",
        "%{ else }", "[*].n", "[*].more[0]", " ? ", "w...", " % ", "!=", "&&", "||", '["a"]',
    ):  # fmt: skip
        assert part in texts, part
