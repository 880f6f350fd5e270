"""python-hcl2's grammar -> tables.json: `python -m core.jobspec.hcl.generate_tables [--check]`.

Building LALR tables takes about 1.8 s, so it is done once, here, and the tables are shipped;
who parses needs neither lark nor python-hcl2, and no place to keep a cache. The form:

    starts   start rule -> [first state, state in which the text is complete]
    rules    [rule, children on the stack, callback, kept, nones at the end, unwraps]
    states   per state, symbol -> n: go to state n, or, below zero, reduce by rule -n - 1

`kept` says which children a callback gets: [index, whether it is a list to splice in, how
many Nones come before it]. States are numbered in the order of a walk from the starts, so
that equal grammars give equal files.
"""

import argparse
import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any, Final

import lark
from lark.parsers.lalr_analysis import Shift

# Where python-hcl2's rules are narrower than HCL: (theirs, HCL's).
CORRECTIONS: Final = (
    # Operators of one operand may follow each other: !!x, -(-x), !-x.
    ("!unary_op : (MINUS | NOT) expr_term", "!unary_op : (MINUS | NOT) unary_expr"),
    # A keyword is a fine attribute name: x.for, x.in.
    (
        "get_attr : DOT (identifier | literal_value)",
        "get_attr : DOT (identifier | literal_value | keyword)",
    ),
)
STARTS: Final = ("start", "expression")
TABLES: Final = Path(__file__).with_name("tables.json")


class _NoLexer(lark.lexer.Lexer):
    """lark wants a lexer; ours is lexer.py, which feeds grammar.py."""

    def __init__(self, lexer_conf: Any) -> None:
        pass

    def lex(self, lexer_state: Any, parser_state: Any) -> Any:
        raise NotImplementedError("nothing is parsed here")


def grammar_text() -> str:
    """Return python-hcl2's grammar with our corrections.

    Raises:
        RuntimeError: it is not installed, or lacks what we correct.
    """
    spec = importlib.util.find_spec("hcl2")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError("python-hcl2 is not installed: pip install 'python-hcl2>=8.1,<9'")
    # Read as a file: importing the package would load parsers we don't use.
    folder = spec.submodule_search_locations[0]
    text = Path(folder, "hcl2.lark").read_text(encoding="utf-8")
    for theirs, ours in CORRECTIONS:
        if theirs not in text:
            raise RuntimeError(f"python-hcl2's grammar changed where it says {theirs!r}")
        text = text.replace(theirs, ours)
    return text


def build() -> dict[str, Any]:
    """Return the tables, as the module's text describes them."""
    text = grammar_text()
    built = lark.Lark(text, parser="lalr", lexer=_NoLexer, start=list(STARTS))
    table: Any = built.parser.parser._parse_table
    numbers: dict[Any, int] = {}
    rules: dict[Any, int] = {}
    pending = [state for start in STARTS for state in _ends(table, start)]
    for state in pending:
        numbers.setdefault(state, len(numbers))
    states: list[dict[str, int]] = []
    for state in pending:  # grows while it is walked
        row: dict[str, int] = {}
        for symbol, (action, target) in sorted(table.states[state].items()):
            if action is not Shift:
                row[symbol] = -rules.setdefault(target, len(rules)) - 1
                continue
            if target not in numbers:
                numbers[target] = len(numbers)
                pending.append(target)
            row[symbol] = numbers[target]
        states.append(row)
    return {
        "grammar": hashlib.sha256(text.encode()).hexdigest(),
        "starts": {start: [numbers[s] for s in _ends(table, start)] for start in STARTS},
        "rules": [_rule(rule) for rule in rules],
        "states": states,
    }


def _ends(table: Any, start: str) -> tuple[Any, Any]:
    return table.start_states[start], table.end_states[start]


def _rule(rule: Any) -> list[Any]:
    """Return how a rule's children become what its callback gets; lark's rules of the matter."""
    options, name = rule.options, rule.origin.name
    nones = [0] * (len(rule.expansion) + 1)
    if options.empty_indices:
        runs = "".join(str(int(is_empty)) for is_empty in options.empty_indices).split("0")
        nones = [len(run) for run in runs]
    kept: list[list[int]] = []
    before = 0
    for index, symbol in enumerate(rule.expansion):
        before += nones[index]
        if options.keep_all_tokens or not (symbol.is_term and symbol.filter_out):
            splices = not symbol.is_term and symbol.name.startswith("_")
            kept.append([index, int(splices), before])
            before = 0
    after = before + nones[-1]
    unwraps = bool(options.expand1 and not rule.alias)
    callback = "" if name.startswith("_") else rule.alias or name
    return [name, len(rule.expansion), callback, kept, after, int(unwraps)]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare only; exit 1 when stale")
    options = parser.parse_args(arguments)
    text = json.dumps(build(), separators=(",", ":"), sort_keys=True) + "\n"
    if not options.check:
        TABLES.write_text(text, encoding="utf-8")
        print(f"{TABLES.name}: {len(text)} characters")
        return 0
    if TABLES.exists() and TABLES.read_text(encoding="utf-8") == text:
        return 0
    print(f"{TABLES.name} is not what the grammar gives: run this without --check", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
