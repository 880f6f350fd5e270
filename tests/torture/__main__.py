"""Real servers under real faults: `python -m tests.torture --seed N --rounds N`.

With `--regions 3` a federation of three regions is tortured instead, and what is counted
are the processes that run (tests/torture/regions.py).

Half of the rounds torture three servers, half five: plain `serai agent` processes with
their default settings. In every round clients write over HTTP while faults drawn from the
seed strike (tests/torture/faults.py); then all is mended, and every server must show every
acknowledged write, and all of them the same (checks.py). At the end every round's writes
are looked up once more.

It stands under tests/ because it is one, of the whole product; it is no part of the fast
suite since it takes about ten seconds a round.

Prints a line per round, a table, and as the last line one JSON object. Exit codes:

    0    at least FULL_ROUNDS rounds, nothing lost, every kind of fault had its effect
    1    an acknowledged write was lost, servers differ, or a server ended by itself
    2    it can't run here (no disks to be had)
    3    clean, but fewer rounds: `"reduced": true`
    4    a kind of fault stayed at zero
    130  interrupted

The seed fixes who is struck, how, and when; what the processes make of it is up to the
kernel, so a run repeats in kind and not bit for bit (the simulator does that).
"""

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import trio

from core.devcluster.supervisor import StartFailed
from sim.lastline import last_line
from tests.torture import regions
from tests.torture.checks import Findings, check
from tests.torture.cluster import Cluster, ClusterError, failure_of, open_cluster
from tests.torture.disks import DiskError, enter_own_namespace
from tests.torture.faults import FAULTS, SITUATIONS
from tests.torture.writers import Ledger, Writers

FULL_ROUNDS: Final = 30  # fewer prove nothing about what stayed at zero
SIZES: Final = (3, 5)
_BEFORE_S: Final = (0.2, 1.5)  # of writing before the first fault
_AFTER_S: Final = 0.5  # of writing after the last is mended
_SECOND_SHARE: Final = 0.35  # of rounds in which a second fault strikes meanwhile
_SHOWN: Final = 10


class Run:
    """Everything counted so far."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.rounds = 0
        self.faults: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.lost: list[str] = []
        self.wrong: list[str] = []

    def deck(self, servers: int) -> list[str]:
        """Return the kinds in the order they are dealt: each comes once in any seven rounds."""
        rng = random.Random(f"{self.seed}/deck {servers}")
        return [name for _ in range(1000) for name in rng.sample(sorted(FAULTS), len(FAULTS))]

    def take(self, ledger: Ledger, findings: Findings) -> None:
        self.outcomes += ledger.outcomes
        self.reasons += ledger.reasons
        self.lost += findings.lost
        self.wrong += findings.wrong

    def zeros(self) -> list[str]:
        return [name for name in (*FAULTS, *SITUATIONS) if not self.faults[name]]


async def torture(run: Run, servers: int, rounds: int, folder: Path) -> None:
    """Run so many rounds on a fresh datacenter.

    Raises:
        ClusterError: It did not come back after a round.
    """
    print(f"{servers} servers", flush=True)
    async with open_cluster(servers, folder, lambda line: print(f"    {line}")) as cluster:
        await cluster.until_ready()
        deck = run.deck(servers)
        total = Ledger()
        try:
            for number in range(1, rounds + 1):
                name = f"{servers}r{number:04d}"
                ledger = await play(run, cluster, name, deck[number - 1])
                total.add(ledger)
        except ClusterError:
            print(await cluster.views(), file=sys.stderr, flush=True)
            raise
        findings = await check(cluster, total, "marker-end", f"{servers}r")
        total.outcomes.clear()
        total.reasons.clear()
        run.take(total, findings)


async def play(run: Run, cluster: Cluster, name: str, kind: str) -> Ledger:
    """Play one round: write, strike, mend, look."""
    began_s = time.monotonic()
    rng = random.Random(f"{run.seed}/{name}")
    kinds = [kind]
    if rng.random() < _SECOND_SHARE:
        kinds.append(rng.choice([other for other in sorted(FAULTS) if other != kind]))
    tally: Counter[str] = Counter()
    writers = Writers(cluster, name, f"{run.seed}/{name}")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writers.run)
        async with trio.open_nursery() as striking:
            for number, one in enumerate(kinds):
                drawn = random.Random(f"{run.seed}/{name}/{number}")
                striking.start_soon(_strike, cluster, writers, one, drawn, tally)
        await cluster.heal()
        await trio.sleep(_AFTER_S)
        writers.finish()
    await cluster.until_ready()
    ledger = writers.ledger
    findings = await check(cluster, ledger, f"marker-{name}", name)
    run.take(ledger, findings)
    run.faults += tally
    run.rounds += 1
    verdict = (
        "" if findings.is_clean else f"  LOST {len(findings.lost)} WRONG {len(findings.wrong)}"
    )
    print(
        f"  {name}  {' + '.join(kinds):38} acknowledged {ledger.acknowledged:5} "
        f"unknown {ledger.outcomes['unknown']:4} unsent {ledger.outcomes['unsent']:4} "
        f"{time.monotonic() - began_s:6.1f} s{verdict}",
        flush=True,
    )
    for text in (findings.lost + findings.wrong)[:_SHOWN]:
        print(f"    {text}", flush=True)
    return ledger


async def _strike(
    cluster: Cluster, writers: Writers, kind: str, rng: random.Random, tally: Counter[str]
) -> None:
    await trio.sleep(rng.uniform(*_BEFORE_S))
    await FAULTS[kind](cluster, writers, rng, tally)
    for server in cluster.servers:
        if server.has_failed:
            raise ClusterError(failure_of(server))


async def torture_all(run: Run, rounds: int, folder: Path) -> None:
    """Torture each size in turn, until done or told to stop.

    Raises:
        ClusterError: A server ended by itself, or the servers did not come back.
    """
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_signals, nursery.cancel_scope)
        for position, servers in enumerate(SIZES):
            share = rounds // len(SIZES) + (position < rounds % len(SIZES))
            if share:
                await torture(run, servers, share, folder / str(servers))
        nursery.cancel_scope.cancel()


async def _watch_signals(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async for _ in signals:
            scope.cancel()
            return


def report(run: Run, asked: int) -> int:
    """Print the table and the last line; return the exit code."""
    print("\nfault                               times it had its effect")
    for name in FAULTS:
        print(f"  {name:45} {run.faults[name]:>10}")
    print("situation")
    for name in SITUATIONS:
        print(f"  {name:45} {run.faults[name]:>10}")
    print("writes")
    for name in ("acknowledged", "unknown", "unsent"):
        print(f"  {name:45} {run.outcomes[name]:>10}")
    print(f"  {'reads after an acknowledgement':45} {run.outcomes['reads']:>10}")
    print(f"  {'lost':45} {len(run.lost):>10}")
    print(f"  {'wrong otherwise':45} {len(run.wrong):>10}")
    for reason, count in run.reasons.most_common(_SHOWN):
        print(f"  unknown for: {reason} ({count})")
    is_reduced = run.rounds < FULL_ROUNDS
    zeros = run.zeros()
    figures: dict[str, Any] = {
        "program": "tests.torture",
        "seed": run.seed,
        "rounds": run.rounds,
        "faults": {name: run.faults[name] for name in FAULTS},
        "situations": {name: run.faults[name] for name in SITUATIONS},
        "acknowledged": run.outcomes["acknowledged"],
        "lost": len(run.lost),
        "wrong": (run.lost + run.wrong)[:100],
        "zero": zeros,
    }
    sizes = {"rounds": asked, "servers": list(SIZES)}
    print(last_line(figures, sizes=sizes, samples=run.rounds, is_reduced=is_reduced))
    if run.lost or run.wrong:
        return 1
    if run.rounds < asked:
        return 130
    if is_reduced:
        return 3
    return 4 if zeros or not run.outcomes["acknowledged"] else 0


def _refusal(error: BaseException) -> str:
    """Return the text of what stopped us, out of the nurseries' groups; "" = a bug."""
    if isinstance(error, BaseExceptionGroup):
        return next(filter(None, map(_refusal, error.exceptions)), "")
    return str(error) if isinstance(error, ClusterError | DiskError | StartFailed) else ""


def _over_regions(options: argparse.Namespace, folder: Path) -> int:
    trials: list[regions.Trial] = []
    failure = ""
    try:
        trio.run(_until_told, regions.torture, options.seed, options.rounds, folder, trials)
    except (ClusterError, StartFailed, BaseExceptionGroup) as error:
        failure = _refusal(error)
        if not failure:
            raise
        print(f"Error: {failure}", file=sys.stderr)
        if not trials:
            return 2
    finally:
        if options.keep:
            print(f"logs are in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return regions.report(options.seed, options.rounds, trials, failure)


async def _until_told(program: Callable[..., Awaitable[None]], *arguments: Any) -> None:
    """Run a program until it is done, or a signal ends it."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_watch_signals, nursery.cancel_scope)
        await program(*arguments)
        nursery.cancel_scope.cancel()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=100, help="default 100; 30 are a full run")
    parser.add_argument("--regions", type=int, default=1, choices=(1, 3),
                        help="3: jobs over three regions (tests/torture/regions.py)")  # fmt: skip
    parser.add_argument("--keep", action="store_true", help="keep the agents' logs")
    options = parser.parse_args()
    run = Run(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="serai-torture-"))
    if options.regions > 1:
        return _over_regions(options, folder)
    try:
        enter_own_namespace()
        trio.run(torture_all, run, options.rounds, folder)
    except (ClusterError, DiskError, StartFailed, BaseExceptionGroup) as error:
        text = _refusal(error)
        if not text:
            raise
        print(f"Error: {text}", file=sys.stderr)
        if not run.rounds:
            return 2
        run.wrong.append(text)
    finally:
        if options.keep:
            print(f"logs are in {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return report(run, options.rounds)


if __name__ == "__main__":
    sys.exit(main())
