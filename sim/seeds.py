"""What every seed program shares: many seeds through one world, a table, a verdict.

A seed program plays one world per seed, with faults drawn from the seed, and lets checkers
look at it from outside. It describes itself as a `Program` and hands over to `main`:

    PROGRAM = Program(name="sim.raft", ..., run_seed=run_seed)
    if __name__ == "__main__":
        sys.exit(main(PROGRAM))

`run_seed(seed, options)` returns an `Outcome`; `options.has_faults` is False under
`--faults none`. It must be a function of a module (worker processes import it), and the
outcome a function of the seed and the options alone.

Exit codes:
    0    at least `FULL_SEEDS` seeds, no violation, nothing declared stayed at zero
    1    a violation
    2    wrong arguments
    3    clean, but fewer seeds than that: the last line says `"reduced": true`
    4    a declared fault or situation, or the acknowledged commands, stayed at zero, or a
         situation that a share of all seeds is to have (`Program.least`) had a smaller one: the
         seeds tested too little. So `--faults none` fails by the same rule.
    130  interrupted

Violations by checker "invariant" are the shipped code's own assertions. They are
violations like any other, but `--first` (used by `sim.mutants`) goes on to look for one
that a checker finds.
"""

import argparse
import gc
import multiprocessing
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

from sim.lastline import last_line

FULL_SEEDS: Final = 200  # fewer prove nothing about what stayed at zero
SHOWN_VIOLATIONS: Final = 20
LISTED_VIOLATIONS: Final = 1000  # in the last line
PROGRESS_S: Final = 10.0
# A world makes many small records and few cycles: looking for these so seldom saves a tenth.
GC_THRESHOLDS: Final = (50_000, 20, 20)
INVARIANT: Final = "invariant"


class Violation(Exception):
    """A promise was broken. `checker` names which, the text says who and when."""

    def __init__(self, checker: str, text: str) -> None:
        super().__init__(f"{checker}: {text}")
        self.checker = checker
        self.text = text

    def __reduce__(self) -> tuple[type["Violation"], tuple[str, str]]:
        return Violation, (self.checker, self.text)


@dataclass(slots=True)
class Outcome:
    """What came of one seed. Counters hold only what really happened."""

    violations: list[tuple[str, str]] = field(default_factory=list)  # (checker, text)
    faults: Counter[str] = field(default_factory=Counter)
    situations: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0

    @property
    def is_caught(self) -> bool:
        """A checker, and not only an assertion of the shipped code, found something."""
        return any(checker != INVARIANT for checker, _ in self.violations)


def _no_arguments(_: argparse.ArgumentParser) -> None:
    return None


def _no_sizes(_: argparse.Namespace) -> dict[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Program:
    """A seed program. Whatever is declared must happen within `FULL_SEEDS` seeds."""

    name: str  # as run by `python -m`
    about: str  # one sentence
    faults: Sequence[str]
    situations: Sequence[str]
    run_seed: Callable[[int, argparse.Namespace], Outcome]
    least: Mapping[str, float] = field(default_factory=dict)  # situation -> share of the seeds
    add_arguments: Callable[[argparse.ArgumentParser], None] = _no_arguments
    sizes: Callable[[argparse.Namespace], dict[str, Any]] = _no_sizes  # for the last line


@dataclass(slots=True)
class _Total:
    seeds: int = 0
    violations: list[tuple[int, str, str]] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    situations: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0

    def add(self, seed: int, outcome: Outcome) -> None:
        self.seeds += 1
        self.violations += [(seed, checker, text) for checker, text in outcome.violations]
        self.faults += outcome.faults
        self.situations += outcome.situations
        self.acknowledged += outcome.acknowledged


def main(program: Program, arguments: Sequence[str] | None = None) -> int:
    """Run the program as its command line says; return the exit code."""
    options = _parse(program, arguments)
    gc.set_threshold(*GC_THRESHOLDS)
    total = _Total()
    began_s, cpu_s = time.monotonic(), 0.0
    shown_s = began_s
    try:
        for seed, outcome, took_s in _outcomes(program, options):
            total.add(seed, outcome)
            cpu_s += took_s
            for checker, text in outcome.violations:
                if len(total.violations) <= SHOWN_VIOLATIONS:
                    print(f"seed {seed}: {checker}: {text}", flush=True)
            if options.first and outcome.is_caught:
                break
            if time.monotonic() - shown_s > PROGRESS_S:
                shown_s = time.monotonic()
                print(
                    f"{total.seeds} of {options.seeds} seeds, {len(total.violations)} violations",
                    file=sys.stderr,
                )
    except KeyboardInterrupt:
        print(f"interrupted after {total.seeds} seeds", file=sys.stderr)
        return 130
    zeros = _zeros(program, total)
    _print_table(program, total, zeros, cpu_s, time.monotonic() - began_s)
    is_reduced = total.seeds < FULL_SEEDS
    figures = {
        "program": program.name,
        "seeds": total.seeds,
        "start": options.start,
        "violations": [
            {"seed": seed, "checker": checker, "text": text}
            for seed, checker, text in total.violations[:LISTED_VIOLATIONS]
        ],
        "faults": {name: total.faults[name] for name in program.faults},
        "situations": {name: total.situations[name] for name in program.situations},
        "acknowledged": total.acknowledged,
        "zero": zeros,
        "cpu_s_per_seed": round(cpu_s / max(1, total.seeds), 4),
    }
    sizes = {"seeds": options.seeds, "faults": options.faults, **program.sizes(options)}
    print(last_line(figures, sizes=sizes, samples=total.seeds, is_reduced=is_reduced))
    if total.violations:
        return 1
    if is_reduced:
        return 3
    return 4 if zeros else 0


def _parse(program: Program, arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog=f"python -m {program.name}",
        description=program.about,
        epilog="Exit code: 0 clean, 1 a violation, 3 clean but fewer than "
        f"{FULL_SEEDS} seeds, 4 something that was to happen never did.",
    )
    parser.add_argument("--seeds", type=_count, default=FULL_SEEDS, help="how many (default 200)")
    parser.add_argument("--start", type=_natural, default=0, help="the first seed (default 0)")
    parser.add_argument("--workers", type=_count, default=1, help="processes (default 1)")
    parser.add_argument(
        "--faults",
        choices=["all", "none"],
        default="all",
        help="`none` plays the same world undisturbed",
    )
    parser.add_argument(
        "--first", action="store_true", help="stop at the first seed that a checker rejects"
    )
    program.add_arguments(parser)
    options = parser.parse_args(arguments)
    options.has_faults = options.faults != "none"
    return options


def _count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: want at least 1")
    return number


def _natural(text: str) -> int:
    number = int(text)
    if number < 0:
        raise argparse.ArgumentTypeError(f"{text}: want 0 or more")
    return number


def _outcomes(
    program: Program, options: argparse.Namespace
) -> Iterator[tuple[int, Outcome, float]]:
    """Yield (seed, outcome, CPU seconds) in the order of the seeds."""
    seeds = range(options.start, options.start + options.seeds)
    judge = partial(_judge, program.run_seed, options)
    if options.workers == 1:
        yield from map(judge, seeds)
        return
    with multiprocessing.get_context("fork").Pool(options.workers) as pool:
        yield from pool.imap(judge, seeds, chunksize=1 if options.first else 4)


def _judge(
    run_seed: Callable[[int, argparse.Namespace], Outcome], options: argparse.Namespace, seed: int
) -> tuple[int, Outcome, float]:
    began_s = time.process_time()
    try:
        outcome = run_seed(seed, options)
    except Violation as violation:
        outcome = Outcome([(violation.checker, violation.text)])
    except Exception as error:
        # Assertions of the shipped code that its host did not expect, and plain bugs.
        where = traceback.extract_tb(error.__traceback__)[-1]
        text = f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
        outcome = Outcome([(INVARIANT, text)])
    return seed, outcome, time.process_time() - began_s


def _zeros(program: Program, total: _Total) -> list[str]:
    """Return what was to happen and never did."""
    names = [f"fault: {name}" for name in program.faults if not total.faults[name]]
    names += [f"situation: {name}" for name in program.situations if not total.situations[name]]
    names += [
        f"situation: {name} in {total.situations[name]} of the seeds, not in {part:.0%}"
        for name, part in program.least.items()
        if 0 < total.situations[name] < part * total.seeds
    ]
    return names if total.acknowledged else [*names, "acknowledged"]


def _print_table(
    program: Program, total: _Total, zeros: list[str], cpu_s: float, took_s: float
) -> None:
    if len(total.violations) > SHOWN_VIOLATIONS:
        print(f"... and {len(total.violations) - SHOWN_VIOLATIONS} more violations")
    for title, declared, found in (
        ("faults", program.faults, total.faults),
        ("situations", program.situations, total.situations),
    ):
        print(f"\n{title}")
        for name in declared:
            print(f"  {name:45} {found[name]:>10}")
    by_checker = Counter(checker for _, checker, _ in total.violations)
    print("\nviolations")
    for checker, count in sorted(by_checker.items()):
        print(f"  {checker:45} {count:>10}")
    print(f"  {'total':45} {len(total.violations):>10}")
    print(f"\nseeds {total.seeds}, acknowledged {total.acknowledged}, ", end="")
    print(f"{cpu_s / max(1, total.seeds):.3f} CPU-s a seed, {took_s:.1f} s")
    if zeros and total.seeds >= FULL_SEEDS:
        print(f"never happened: {', '.join(zeros)}")
