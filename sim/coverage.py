"""`python -m sim.coverage [SCENARIO...]`: which lines of the machines the scenarios reach.

    python -m sim.coverage                  the scenarios of examples/ and tests/sim, made small
    python -m sim.coverage -missing -until 5m -var scale=0.01 examples/scenarios/storm.hcl

Measured are the modules that the import contract of pyproject.toml names as machines, so
nobody forgets one here. What they lack is then known: it is either never simulated, or
never used. The last line is JSON; exit 1 when less than `-least` percent (85) are reached.
"""

import argparse
import sys
import time
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from coverage import Coverage

ROOT: Final = Path(__file__).parents[1]
LEAST: Final = 85.0
CONTRACT: Final = "machines know no clock"
# Another engine that is an option, and what only command lines and agents' files use.
NOT_SIMULATED: Final = (
    "core.jobspec", "raft.pysyncobj_engine", "raft.pysyncobj_parts", "core.scheduler.kernel",
    "core.scheduler.compiled",
)  # fmt: skip
WHOLE: Final = (
    "examples/small.hcl", "examples/operators.hcl", "tests/sim/fuzz.hcl", "tests/sim/lost.hcl",
    "tests/sim/succession.hcl",
)  # fmt: skip
WIRED: Final = "small.hcl"
LARGE: Final = "examples/scenarios/*.hcl"  # these as far as `SLICE` says
SLICE: Final = "15m"
SCALE: Final = ("scale=0.01",)


class NoContract(Exception):
    """This is no source tree, or its import contract has another name."""


def machine_modules(root: Path = ROOT) -> list[Path]:
    """Return the files of all machines, in order.

    Raises:
        NoContract: pyproject.toml has no contract of theirs.
    """
    try:
        project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    except OSError as error:
        raise NoContract(f"{error.filename}: {error.strerror}; run it in a source tree") from error
    contracts = project.get("tool", {}).get("importlinter", {}).get("contracts", [])
    named = [one["source_modules"] for one in contracts if one["name"].startswith(CONTRACT)]
    if not named:
        raise NoContract(f"pyproject.toml has no import contract {CONTRACT!r}")
    found: dict[Path, None] = {}
    for module in named[0]:
        place = root / module.replace(".", "/")
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
        for file in files:
            name = ".".join(file.relative_to(root).with_suffix("").parts)
            if not name.startswith(NOT_SIMULATED):
                found[file] = None
    return list(found)


class Reached(dict[Path, tuple[set[int], set[int]]]):
    """By file: the lines that can be reached, and those that were."""

    @classmethod
    def of(cls, measured: "Coverage", files: Iterable[Path]) -> "Reached":
        reached = cls()
        for file in files:
            _, lines, _, missing, _ = measured.analysis2(str(file))
            reached[file] = (set(lines), set(lines) - set(missing))
        return reached

    @property
    def lines(self) -> int:
        return sum(len(lines) for lines, _ in self.values())

    @property
    def hit(self) -> int:
        return sum(len(hit) for _, hit in self.values())

    @property
    def percent(self) -> float:
        return 100.0 * self.hit / max(1, self.lines)

    def by_folder(self, root: Path = ROOT) -> dict[str, "Reached"]:
        folders: dict[str, Reached] = {}
        for file, lines in self.items():
            folder = ".".join(file.relative_to(root).parent.parts)
            folders.setdefault(folder, Reached())[file] = lines
        return folders


def main(args: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m sim.coverage", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO")
    parser.add_argument("-until", metavar="DURATION", help="stop each at this virtual time")
    parser.add_argument("-var", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("-least", type=float, default=LEAST, help="percent wanted (85)")
    parser.add_argument("-missing", action="store_true", help="name the lines never reached")
    options = parser.parse_args(args)
    try:
        from coverage import Coverage

        files = machine_modules()
    except ImportError:
        print("sim.coverage needs the package coverage: make setup installs it", file=sys.stderr)
        return 2
    except NoContract as error:
        print(f"sim.coverage: {error}", file=sys.stderr)
        return 2
    measured = Coverage(data_file=None, config_file=False, include=[str(file) for file in files])
    measured.start()  # before the machines are imported: their definitions count
    played: list[str] = []
    is_clean = True
    try:
        chosen = [(path, options.var, options.until) for path in options.scenarios]
        for path, variables, until in chosen or _default_scenarios(options.until):
            is_clean = _play(path, variables, until) and is_clean
            measured.stop()
            percent = Reached.of(measured, files).percent
            print(f"        {percent:5.1f}% of the machines' lines so far", flush=True)
            measured.start()
            played.append(Path(path).name)
    finally:
        measured.stop()
    reached = Reached.of(measured, files)
    _print(reached, has_missing=options.missing)
    from sim.lastline import last_line

    figures: dict[str, Any] = {
        "program": "sim.coverage",
        "percent": round(reached.percent, 2),
        "least": options.least,
        "folders": {name: round(one.percent, 1) for name, one in reached.by_folder().items()},
    }
    sizes = {"lines": reached.lines, "reached": reached.hit, "files": len(files)}
    print(last_line(figures, sizes={**sizes, "scenarios": played}, samples=len(played)))
    return 0 if is_clean and reached.percent >= options.least else 1


def _default_scenarios(until: str | None) -> list[tuple[str, Sequence[str], str | None]]:
    large = [(str(path), SCALE, until or SLICE) for path in sorted(ROOT.glob(LARGE))]
    return [*((str(ROOT / path), (), until) for path in WHOLE), *large]


def _play(path: str, variables: Sequence[str], until: str | None) -> bool:
    """Run one scenario; what it found is printed, for lines reached in a failure prove little."""
    from core.jobspec.durations import parse_duration_ns
    from sim.run import Run
    from sim.scenario import read_scenario

    text = Path(path).read_text(encoding="utf-8")
    given = dict(one.split("=", 1) for one in variables)
    plan = read_scenario(text, path, str(Path(path).resolve().parent), given)
    if until is not None:
        plan.until_us = parse_duration_ns(until) // 1000
    began_s = time.process_time()
    # One over real bytes: reading and writing them is the machines' work too.
    summary = Run(plan, is_wire=Path(path).name == WIRED).play()
    took_s = time.process_time() - began_s
    mark = "ok" if summary.is_ok or until is not None else "FAILED"
    print(f"{mark:7} {path}: {summary.sim_s:g} s simulated in {took_s:.0f} CPU-s", flush=True)
    for problem in [*summary.violations, *summary.halts][:5]:
        print(f"        {problem}")
    return mark == "ok"


def _print(reached: Reached, *, has_missing: bool) -> None:
    print(f"{'folder':28} {'lines':>7} {'reached':>8}")
    for name, part in reached.by_folder().items():
        print(f"{name:28} {part.lines:7,} {part.percent:7.1f}%")
        for file, (lines, hit) in part.items() if has_missing else ():
            if missing := ", ".join(_ranges(sorted(lines - hit))):
                print(f"    {file.name}: {missing}")
    print(f"{'all machines':28} {reached.lines:7,} {reached.percent:7.1f}%")


def _ranges(numbers: list[int]) -> Iterator[str]:
    """Yield runs of numbers as "first-last"."""
    first = last = -1
    for number in [*numbers, -1]:
        if number == last + 1 and first >= 0:
            last = number
            continue
        if first >= 0:
            yield f"{first}-{last}" if last > first else f"{first}"
        first = last = number


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
