"""Planted bugs: does the simulation find them? `python -m sim.mutants [--patch FILE]`

Each tests/mutants/*.patch breaks the shipped source in one place; its first lines say what.
For each one, the tracked files are copied to a temporary folder, the patch is applied, and
the seed programs that cover the touched files (`COVERAGE`) run there under `python -O` from
several starting points until a checker fires. So no assertion helps, and whoever doubts a
checker hands in a patch of their own:

    make mutants PATCH=/some/where/mine.patch

A patch is caught when from every starting point a checker fires within `--seeds` seeds on a
seed that the unpatched source passes. An assertion of the shipped code alone does not count.
The median seed is how many seeds it took, in the median of the starting points.

`--record` keeps what was measured of patches in tests/mutants, at the default starts and seeds, in
tests/mutants/found.json, of which docs/planted-bugs.md is made (`make pages`).

Exit codes: 0 all caught; 1 one survived; 2 a patch could not be judged; 3 all caught in a
reduced run (fewer starting points or seeds than the default).
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sim.lastline import last_line
from sim.seeds import INVARIANT

# Which programs judge a change of which files; the first that catches it from every
# starting point ends the search. Append a line for a new program.
COVERAGE: Final[tuple[tuple[str, str], ...]] = (
    ("raft/journal", "sim.raft"),  # and sim.powercut, which takes longer, after it
    *(
        (f"raft/{name}", "sim.powercut")
        for name in (
            "wal",
            "recovery",
            "records",
            "segment",
            "snapshots",
            "storage",
            "disk",
            "journal",
        )
    ),
    ("raft/", "sim.raft"),
    # What the replicas of a log share with those who use it: who waits for it, who is repeated.
    *(
        (path, "sim.raft")
        for path in (
            "core/server/waiting",
            "core/state/access",
            "core/state/columns",
            "core/state/intern",
            "core/state/snapshot",
            "core/state/state",
            "core/state/table",
        )
    ),
    *(
        (path, "sim.scheduler")
        for path in (
            "core/scheduler/",
            "core/state/",
            "core/server/planning",
            "core/server/deployments",
            "core/server/promotion",
            "core/server/draining",
            "core/server/evaluations",
            "core/server/liveness",
            "core/server/nodes",
            "core/server/launching",
            "core/server/children",
            "core/server/collection",
            "core/server/endpoints/dispatching",
            "core/model/regexp",
            "core/model/versions",
            "core/jobspec/cron",
            "core/client/health",
        )
    ),
    ("core/client/", "sim.client"),
    ("core/state/", "sim.raft"),  # its replicated state is the shipped one
    ("gossip/", "sim.gossip"),
    # The seeds are many worlds; the exploration is one small one, tried completely.
    ("core/federation/", "sim.federation"),
    ("core/federation/", "sim.federation explore"),
    # Lists over several logs, and who waits for them.
    *(
        (f"core/server/{name}", "sim.federation")
        for name in ("virtual_index", "gathering", "joining", "scatter")
    ),
)

# What is run by every agent and known to no program of its own.
ELSEWHERE: Final = ("core/client/", "core/jobspec/", "core/model/", "core/server/")
WHOLE: Final = "sim.whole"

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = Path("tests/mutants")
FOUND: Final = FOLDER / "found.json"  # patch -> [program, checker, seeds from each start]
STARTS: Final = (0, 100_000, 200_000)
SEEDS: Final = 1000
TIMEOUT_S: Final = 3600.0  # for one starting point; a mutant may make a world run forever


class MutantError(Exception):
    """A patch can't be judged; the text says why and what to do."""


@dataclass(slots=True)
class Verdict:
    """What became of one patch."""

    patch: str
    program: str
    takes: list[int] = field(default_factory=list)  # seeds until caught, a starting point each
    checkers: Counter[str] = field(default_factory=Counter)
    survived: str = ""  # from which starting point, in words

    @property
    def is_caught(self) -> bool:
        return not self.survived

    @property
    def checker(self) -> str:
        """The checker that fired at most starting points."""
        return self.checkers.most_common(1)[0][0] if self.checkers else ""

    @property
    def median(self) -> int:
        return int(statistics.median_low(self.takes)) if self.takes else 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge the patches; return the exit code."""
    options = _parse(arguments)
    patches = options.patch or sorted((ROOT / FOLDER).glob("*.patch"))
    if not patches:
        print(f"no patches in {FOLDER}", file=sys.stderr)
        return 2
    verdicts: list[Verdict] = []
    unjudged: list[str] = []
    print(f"{'patch':44} {'program':12} {'checker':32} {'median seed':>11}  seeds", flush=True)
    for patch in patches:
        try:
            verdict = judge(
                patch, starts=options.starts, seeds=options.seeds, workers=options.workers
            )
        except MutantError as error:
            print(f"{patch.stem:44} not judged: {error}", flush=True)
            unjudged.append(patch.stem)
            continue
        verdicts.append(verdict)
        found = verdict.checker if verdict.is_caught else f"SURVIVED: {verdict.survived}"
        print(
            f"{verdict.patch:44} {verdict.program:12} {found:32} "
            f"{verdict.median or '-':>11}  {' '.join(map(str, verdict.takes))}",
            flush=True,
        )
    survived = [verdict.patch for verdict in verdicts if not verdict.is_caught]
    is_reduced = len(options.starts) < len(STARTS) or options.seeds < SEEDS
    if options.record and not is_reduced:
        record([verdict for verdict in verdicts if verdict.is_caught])
    print(f"{len(verdicts) - len(survived)} caught, {len(survived)} survived", end="")
    print(f", {len(unjudged)} not judged" if unjudged else "")
    figures = {
        "program": "sim.mutants",
        "mutants": [
            {
                "patch": verdict.patch,
                "program": verdict.program,
                "checker": verdict.checker,
                "median_seed": verdict.median,
                "seeds": verdict.takes,
                "caught": verdict.is_caught,
            }
            for verdict in verdicts
        ],
        "survived": survived,
        "not_judged": unjudged,
    }
    sizes = {"starts": list(options.starts), "seeds": options.seeds}
    print(last_line(figures, sizes=sizes, samples=len(verdicts), is_reduced=is_reduced))
    if survived:
        return 1
    if unjudged:
        return 2
    return 3 if is_reduced else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m sim.mutants", description="Plant bugs and see which checker finds them."
    )
    parser.add_argument(
        "--patch",
        type=Path,
        action="append",
        help=f"a patch to judge; may be repeated (default: all of {FOLDER})",
    )
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"a start (default {SEEDS})")
    parser.add_argument(
        "--starts", type=int, nargs="+", default=list(STARTS), help="the first seeds"
    )
    parser.add_argument("--record", action="store_true", help=f"keep what was measured in {FOUND}")
    parser.add_argument("--workers", type=int, default=1, help="processes of a seed program")
    return parser.parse_args(arguments)


def judge(patch: Path, *, starts: Sequence[int], seeds: int, workers: int = 1) -> Verdict:
    """Apply one patch to a copy of the tree and run what covers it.

    Raises:
        MutantError: The patch does not apply, touches what no program covers, or breaks the
            program altogether.
    """
    if not patch.is_file():
        raise MutantError(f"{patch} is no file")
    with tempfile.TemporaryDirectory(prefix="serai-mutant-") as folder:
        tree = Path(folder) / "tree"
        copy_tracked(tree)
        programs = covering(touched(patch, tree))
        _git_apply(patch, tree)
        verdict = Verdict(patch.stem, programs[0])
        for program in programs:
            verdict = _try(patch.stem, program, tree, starts, seeds, workers)
            if verdict.is_caught:
                break
        return verdict


def _try(
    name: str, program: str, tree: Path, starts: Sequence[int], seeds: int, workers: int
) -> Verdict:
    verdict = Verdict(name, program)
    for start in starts:
        found = _first_caught(program, tree, start, seeds, workers)
        if found is None:
            verdict.survived = f"{seeds} seeds from {start}"
            break
        seed, checker = found
        verdict.takes.append(seed - start + 1)
        verdict.checkers[checker] += 1
    return verdict


def _first_caught(
    program: str, tree: Path, start: int, seeds: int, workers: int
) -> tuple[int, str] | None:
    """Return (seed, checker) of the first seed that only the broken source fails on."""
    begin = start
    while begin < start + seeds:
        result = _run(program, tree, begin, start + seeds - begin, workers, first=True)
        caught = [v for v in result["violations"] if v["checker"] != INVARIANT]
        if not caught:
            return None
        seed, checker = int(caught[0]["seed"]), str(caught[0]["checker"])
        control = _run(program, ROOT, seed, 1, 1, first=False)
        if not control["violations"]:
            return seed, checker
        begin = seed + 1  # the shipped source fails there too: that says nothing of the patch
    return None


def _run(
    program: str, tree: Path, start: int, seeds: int, workers: int, *, first: bool
) -> dict[str, Any]:
    command = [sys.executable, "-O", "-m", *program.split()]
    command += ["--start", str(start), "--seeds", str(seeds), "--workers", str(workers)]
    command += ["--first"] if first else []
    environment = {**os.environ, "PYTHONPATH": str(tree)}
    try:
        done = subprocess.run(
            command,
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise MutantError(
            f"{program} from seed {start} did not end in {TIMEOUT_S:.0f} s: judge it with "
            "fewer --seeds, or see where the world runs forever"
        ) from error
    lines = done.stdout.strip().splitlines()
    try:
        result: dict[str, Any] = json.loads(lines[-1])
        return result
    except (IndexError, ValueError) as error:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise MutantError(f"python -O -m {program} could not run: {reason}") from error


def record(verdicts: Sequence[Verdict]) -> None:
    """Keep who found the patches of this folder, and drop what is no patch any more."""
    path = ROOT / FOUND
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    found |= {one.patch: [one.program, one.checker, one.takes] for one in verdicts}
    kept = {name: found[name] for name in sorted(found) if (path.parent / f"{name}.patch").exists()}
    rows = ",\n".join(f"  {json.dumps(name)}: {json.dumps(kept[name])}" for name in kept)
    path.write_text(f"{{\n{rows}\n}}\n")


# --- the patch and the tree -----------------------------------------------------------


def copy_tracked(tree: Path) -> None:
    """Copy the files that git tracks, as they are in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False, text=True
    )
    if listed.returncode:
        raise MutantError(f"{ROOT} is no git working tree: {listed.stderr.strip()}")
    for name in filter(None, listed.stdout.split("\0")):
        source, target = ROOT / name, tree / name
        if source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def touched(patch: Path, tree: Path) -> list[str]:
    """Return the paths that a patch changes."""
    listed = _git(["apply", "--numstat", str(patch.resolve())], tree)
    if listed.returncode:
        raise MutantError(f"{patch} is no patch: {listed.stderr.strip()}")
    return [line.split("\t", 2)[2] for line in listed.stdout.splitlines()]


def covering(paths: Sequence[str]) -> list[str]:
    """Return the seed programs that judge a change of these files, in the order of COVERAGE.

    Raises:
        MutantError: None does.
    """
    found = [
        program for prefix, program in COVERAGE if any(path.startswith(prefix) for path in paths)
    ]
    if not found and any(path.startswith(ELSEWHERE) for path in paths):
        found = [WHOLE]
    if not found:
        known = ", ".join((*(prefix for prefix, _ in COVERAGE), *ELSEWHERE))
        raise MutantError(
            f"no seed program covers {', '.join(paths) or 'an empty patch'}; they cover {known}"
        )
    return list(dict.fromkeys(found))


def _git_apply(patch: Path, tree: Path) -> None:
    done = _git(["apply", str(patch.resolve())], tree)
    if done.returncode:
        raise MutantError(
            f"it does not apply to the working tree: {done.stderr.strip()}; make it anew "
            "against the source as it is"
        )


def _git(arguments: list[str], tree: Path) -> subprocess.CompletedProcess[str]:
    # The copy is no repository, and must not be taken for a part of one above it.
    environment = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tree.parent)}
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        environment.pop(name, None)
    return subprocess.run(
        ["git", *arguments], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )


if __name__ == "__main__":
    sys.exit(main())
