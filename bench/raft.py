"""What a datacenter's log can do: `python -m bench.raft [--only PART] [--reduced] [--dir FOLDER]`.

For each engine (the default, then PySyncObj) three `serai agent` servers run as processes
of their own, with mutual TLS between them and write-ahead logs on the disk of `--dir`, and
are driven over the doors that every operator has:

    commits     `PUT /v1/operator/raft/measure` (`serai operator raft measure`): the leader
                proposes entries of random bytes, keeps a window of them under way, and
                times each from the moment it was due until it is durable at a majority and
                applied. The load is made inside the leader, so HTTP and JSON are not in the
                figures; encoding, TLS, fdatasync, both followers and apply are. Best of
                several runs, the latencies being the same run's. `*_at_rate` is an open
                loop: entries are due by a timetable, whether or not earlier ones returned.
    failover    kill -9 of the leader, until one of the survivors accepted a job
                (`PUT /v1/jobs`, 200). Both are asked without a pause. The killed one is
                started again and must have caught up before the next kill.
    snapshot    the state is filled with jobs of 100 KB each; then entries of 6 KB are proposed,
                500 a second, until a snapshot was written. The stall is the longest that the
                leader's event loop kept its sockets waiting meanwhile, by its own account
                (the metric serai_event_loop_stall_seconds). A caller waits longer, behind
                several turns of the loop and for processors that all share: `snapshot_call_ms`
                is the longest answer to calls over RPC every 2 ms, on a timetable. Both
                stand beside what they are without a snapshot (`loaded_*`) and without the
                load (`idle_*`). Only for the default engine: snapshots are not the engine's.

After the commits the followers' applied index is compared with the leader's. The last line
is one JSON object; `load_1m` in it is what else the machine was doing. A reduced run says
so and exits 3: its figures are no claim.
"""

import argparse
import contextlib
import os
import queue
import random
import signal
import string
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.figures import counter
from bench.probe import Wait, probe
from bench.quorum import Quorum, Server, Unanswered
from bench.submission import percentile
from sim.lastline import last_line

FULL: Final = {
    "runs": 3, "seconds": 8.0, "failovers": 200, "state_mb": 500, "rate": 10_000,
}  # fmt: skip
REDUCED: Final = {
    "runs": 1, "seconds": 1.0, "failovers": 3, "state_mb": 20, "rate": 2_000,
}  # fmt: skip
ENGINES: Final = {"": "core", "pysyncobj_": "pysyncobj"}
PARTS: Final = ["commits", "failovers", "snapshot"]
CATCH_UP_LIMIT_S: Final = 60.0
FAILOVER_LIMIT_S: Final = 60.0
JOB_BYTES: Final = 100_000
LOADERS: Final = 4
SNAPSHOT_LIMIT_S: Final = 120.0
# One snapshot is wanted, at a moment of ours: not those that loading would cause.
SNAPSHOT_ENTRIES: Final = 20_000
SNAPSHOT_LOAD: Final = {"size": 2_000, "window": 64, "rate": 500}
# The agent's own account of its stalls reaches back for 15 to 30 s.
STALL_WINDOW_S: Final = 31.0
STALL_READ_S: Final = 5.0
PLAIN_S: Final = 20.0  # without a snapshot


Figures = dict[str, float]


class Shape(NamedTuple):
    """A load: the names of its figures, bytes of an entry, entries under way."""

    name: str
    size: int
    window: int


SHAPES: Final = (
    Shape("200b_w256", 200, 256),
    Shape("200b_w1", 200, 1),
    Shape("10kb_w64", 10 * 1024, 64),
    Shape("1mb_w4", 1024 * 1024, 4),
)


class BenchFailed(Exception):
    """What was measured can't be trusted; the text says why."""


def note(text: str) -> None:
    """Tell whoever waits how far it is."""
    print(f"{time.strftime('%X')} {text}", file=sys.stderr, flush=True)


# --- commits ----------------------------------------------------------------------------


def measure(leader: Server, *, seconds: float, **load: int) -> dict[str, Any]:
    """Return the figures of one run.

    Raises:
        BenchFailed: Something proposed was refused or lost.
    """
    body = {key.capitalize(): value for key, value in load.items()}
    path = "/v1/operator/raft/measure"
    found = leader.ask("PUT", path, {**body, "Seconds": seconds}, seconds + 20)
    if found["Refused"] or found["Committed"] != found["Proposed"]:
        raise BenchFailed(f"{leader.name}: {found}")
    return dict(found)


def commits(quorum: Quorum, sizes: dict[str, Any]) -> dict[str, float]:
    figures: dict[str, float] = {}
    for shape in SHAPES:
        leader = quorum.wait_ready()
        runs = [
            measure(leader, seconds=sizes["seconds"], size=shape.size, window=shape.window)
            for _ in range(sizes["runs"])
        ]
        best = max(runs, key=lambda run: run["CommitsPerSecond"])
        figures[f"commits_per_s_{shape.name}"] = best["CommitsPerSecond"]
        figures[f"p50_ms_{shape.name}"] = best["Milliseconds"]["P50"]
        figures[f"p99_ms_{shape.name}"] = best["Milliseconds"]["P99"]
        note(f"{shape.name}: {best['CommitsPerSecond']}/s")
        wait_until_equal(quorum, leader)
    leader = quorum.wait_ready()
    load = {"size": 200, "window": 256, "rate": sizes["rate"]}
    opened = [measure(leader, seconds=sizes["seconds"], **load) for _ in range(sizes["runs"])]
    figures["rate_200b_at_rate"] = sizes["rate"]
    figures["p99_ms_200b_at_rate"] = min(run["Milliseconds"]["P99"] for run in opened)
    return figures


def applied_index(server: Server) -> int:
    stats = server.ask("GET", "/v1/agent/self")["stats"]["raft"]
    return int(stats["applied_index"])


def wait_until_equal(quorum: Quorum, leader: Server) -> None:
    """Wait until every server applied what the leader has applied now.

    Raises:
        BenchFailed: One of them does not get there.
    """
    wanted = applied_index(leader)
    give_up = time.monotonic() + CATCH_UP_LIMIT_S
    for server in quorum.servers:
        while True:
            with contextlib.suppress(Unanswered):
                if applied_index(server) >= wanted:
                    break
            if time.monotonic() > give_up:
                raise BenchFailed(f"{server.name} did not catch up with {leader.name} at {wanted}")
            time.sleep(0.01)


# --- failover ---------------------------------------------------------------------------


def job(name: str, payload: str = "") -> dict[str, Any]:
    task = {"Name": "t", "Driver": "raw_exec", "Config": {"command": "true"}}
    group = {"Name": "g", "Count": 0, "Tasks": [task]}
    wanted = {"ID": name, "Name": name, "Type": "batch", "TaskGroups": [group]}
    return {"Job": {**wanted, "Meta": {"payload": payload}} if payload else wanted}


def failovers(quorum: Quorum, count: int) -> list[float]:
    """Kill the leader `count` times; return how long writes were refused, seconds each."""
    took = []
    for number in range(count):
        leader = quorum.wait_ready()
        wait_until_equal(quorum, leader)
        time.sleep(random.uniform(0.0, 0.2))  # anywhere between two heartbeats
        survivors = [server for server in quorum.servers if server is not leader]
        began = time.perf_counter()
        leader.stop(signal.SIGKILL)
        took.append(first_accepted(survivors, f"failover-{number}") - began)
        leader.start()
        if (number + 1) % 20 == 0:
            note(f"{number + 1} of {count} failovers, the longest {max(took):.2f} s")
    return took


def first_accepted(servers: list[Server], name: str) -> float:
    """Return when the first of the servers accepted a write.

    Raises:
        BenchFailed: None of them did.
    """
    accepted: queue.Queue[float] = queue.Queue()
    is_over = threading.Event()

    def work(server: Server) -> None:
        while not is_over.is_set():
            with contextlib.suppress(Unanswered):
                server.ask("PUT", "/v1/jobs", job(name), timeout_s=5.0)
                accepted.put(time.perf_counter())
                return

    threads = [threading.Thread(target=work, args=[server]) for server in servers]
    for thread in threads:
        thread.start()
    try:
        return accepted.get(timeout=FAILOVER_LIMIT_S)
    except queue.Empty:
        raise BenchFailed(f"no write was accepted {FAILOVER_LIMIT_S:g} s after a kill") from None
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


# --- snapshot ---------------------------------------------------------------------------


def fill(leader: Server, megabytes: int) -> None:
    """Register jobs of random text until the state holds that much."""
    letters = string.ascii_letters + string.digits
    numbers: Iterator[int] = iter(range(megabytes * 1_000_000 // JOB_BYTES))
    lock = threading.Lock()
    problems: list[str] = []

    def work(seed: int) -> None:
        rng = random.Random(seed)
        while not problems:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            payload = "".join(rng.choices(letters, k=JOB_BYTES))
            try:
                leader.ask("PUT", "/v1/jobs", job(f"payload-{number}", payload))
            except Unanswered as error:
                problems.append(str(error))

    threads = [threading.Thread(target=work, args=[seed]) for seed in range(LOADERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise BenchFailed(problems[0])


def saved(server: Server) -> int:
    """Return how many snapshots it has written."""
    for line in str(server.ask("GET", "/v1/metrics?format=prometheus")).splitlines():
        name, _, value = line.rpartition(" ")
        if name.partition("{")[0] in ("serai_raft_snapshots_total", "serai_raft_snapshots"):
            return int(float(value))
    raise BenchFailed("the agent exports no serai_raft_snapshots")


def snapshot_stall(quorum: Quorum, megabytes: int) -> dict[str, float]:
    """Return the leader's longest stalls and answers, milliseconds, with a snapshot and without."""
    leader = quorum.wait_ready()
    fill(leader, megabytes)
    wait_until_quiet(quorum)
    leader = quorum.wait_ready()
    before = saved(leader)
    time.sleep(STALL_WINDOW_S)  # until the filling is forgotten
    figures: dict[str, float] = {}
    for name, load in (("idle", None), ("loaded", SNAPSHOT_LOAD)):
        end = time.monotonic() + PLAIN_S
        figures |= watched(name, leader, load, lambda end=end: time.monotonic() > end)
        if saved(leader) != before:
            raise BenchFailed("a snapshot was written while none was due")
    figures |= watched("snapshot", leader, SNAPSHOT_LOAD, lambda: saved(leader) > before)
    newest = max(leader.folder.glob(f"{leader.name}/server/raft/snapshot-*.snap"))
    return figures | {"snapshot_mb": round(newest.stat().st_size / 1e6, 1)}


def watched(
    name: str, leader: Server, load: dict[str, int] | None, is_over: Callable[[], bool]
) -> dict[str, float]:
    """Return the longest stall of the loop and the longest answer until something is over.

    Raises:
        BenchFailed: It is not over in time.
    """
    stop = threading.Event()
    results: queue.Queue[list[Wait] | BaseException] = queue.Queue()

    def call() -> None:
        try:
            results.put(probe(leader, seconds=SNAPSHOT_LIMIT_S, stop=stop))
        except BaseException as error:  # told to whoever waits
            results.put(error)

    caller = threading.Thread(target=call)
    caller.start()
    stalls_ms = [0.0]
    try:
        while caller.is_alive() and not is_over():
            if load:
                measure(leader, seconds=STALL_READ_S, **load)
            else:
                time.sleep(STALL_READ_S)
            stalls_ms.append(_stall_ms(leader))
    finally:
        stop.set()
        caller.join()
    found = results.get()
    if isinstance(found, BaseException):
        raise found
    if not is_over():
        raise BenchFailed(f"no snapshot was written in {SNAPSHOT_LIMIT_S:g} s")
    return {
        f"{name}_stall_ms": round(max(stalls_ms), 1),
        f"{name}_call_ms": round(max(wait.ms for wait in found), 1),
        f"{name}_call_own_ms": round(max(wait.own_ms for wait in found), 1),
    }


def _stall_ms(server: Server) -> float:
    text = str(server.ask("GET", "/v1/metrics?format=prometheus"))
    return counter(text, "serai_event_loop_stall_seconds") * 1e3


def wait_until_quiet(quorum: Quorum) -> None:
    """Wait until no server has begun or ended a snapshot for a while."""
    quiet_since, counts = time.monotonic(), [-1]
    while time.monotonic() - quiet_since < 3.0:
        now = [saved(server) for server in quorum.servers]
        writing = [*quorum.servers[0].folder.glob("*/server/raft/saving.new")]
        if now != counts or writing:
            quiet_since, counts = time.monotonic(), now
        time.sleep(0.2)


# --- all of it --------------------------------------------------------------------------


def run_engine(folder: Path, engine: str, sizes: dict[str, Any], parts: list[str]) -> Figures:
    figures: Figures = {}
    if "commits" in parts:
        with Quorum(folder / f"{engine}-commits", engine=engine) as quorum:
            figures |= commits(quorum, sizes)
    if "failovers" in parts:
        with Quorum(folder / f"{engine}-failover", engine=engine) as quorum:
            took = failovers(quorum, sizes["failovers"])
        figures["failovers"] = len(took)
        figures["failover_s_p50"] = round(percentile(took, 0.5), 3)
        figures["failover_s_p99"] = round(percentile(took, 0.99), 3)
        figures["failover_s_max"] = round(max(took), 3)
    if "snapshot" in parts and engine == "core":
        threshold = f"raft_snapshot_threshold = {SNAPSHOT_ENTRIES}"
        with Quorum(folder / "snapshot", engine=engine, settings=threshold) as quorum:
            figures |= snapshot_stall(quorum, sizes["state_mb"])
    return figures


def table(figures: dict[str, Any]) -> None:
    print(f"{'':28} {'core':>12} {'pysyncobj':>12}")
    for name in [key for key in figures if not key.startswith("pysyncobj_")]:
        other = figures.get(f"pysyncobj_{name}", "")
        print(f"{name:28} {figures[name]:>12} {other:>12}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reduced", action="store_true", help="a short run that proves nothing")
    parser.add_argument("--dir", help="a folder on the disk to be measured (the temporary one)")
    parser.add_argument("--only", choices=PARTS, help="this part; a reduced run")
    given = parser.parse_args()
    is_reduced = given.reduced or bool(given.only)
    sizes = REDUCED if given.reduced else FULL
    figures: dict[str, Any] = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped
    try:
        with tempfile.TemporaryDirectory(prefix="serai-bench-", dir=given.dir) as name:
            folder = Path(name)
            for prefix, engine in ENGINES.items():
                note(f"engine {engine}")
                found = run_engine(folder, engine, sizes, [given.only] if given.only else PARTS)
                figures |= {f"{prefix}{key}": value for key, value in found.items()}
    except (BenchFailed, Unanswered) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    figures["load_1m"] = round(os.getloadavg()[0], 2)
    table(figures)
    samples = len(ENGINES) * (len(SHAPES) + 1) * sizes["runs"]
    print(last_line(figures, sizes=sizes, samples=samples, is_reduced=is_reduced))
    return 3 if is_reduced else 0


if __name__ == "__main__":
    sys.exit(main())
