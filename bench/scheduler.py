"""The scheduler of a datacenter under load: `python -m bench.scheduler [--reduced] [--only CASE]`.

Three `serai agent` servers run as processes of their own, with mutual TLS between them and
write-ahead logs on the disk of `--dir`. Nodes and jobs are those of bench.fleet. All of it
goes through the doors that every agent has: nodes are registered by `Node.Register`, jobs
by `Job.Register`, reports come by `Node.Update`, over RPC, pipelined on a few connections
(bench.calls). Nodes do not follow their allocations by blocking queries: what is measured
is the scheduler, its log and its state.

    c2m         2,000 jobs of 1,000 instances, with constraints and spreads, until all are
                placed and the plans are applied on all three servers; 1,000 random
                allocations are read by `/v1/allocation/:id`, and each server's summaries
                have to add up. Then every allocation is reported as running by its node
                (`running_reports_s`), a snapshot is taken (`snapshot_s`), and a follower is
                stopped and started (`restore_s`: until it holds all again)
    tiny        100,000 jobs of 1 to 5, in an open loop: `tiny_p99_ms` is from the moment a
                job was due until its plan is committed (every 50th is watched by a blocking
                query), `tiny_register_p99_ms` until its registration is (all of them). Then
                a tenth as many at half the rate that was reached: `tiny_half_p99_ms`, ...
    kube_like   5,000 nodes and 300,000 jobs of one instance
    scale       the planner alone: one placement's cost by number of nodes
    packing     the planner alone: nodes used and instances placed, against Nomad's algorithm

`*_cpu_s` is the processor time of the leader's process and of one follower's in that case: it
says what the figures would be on a machine that does nothing else, `load_1m` what this one
did. Loop lag is what the leader itself exports, over its whole run. The last line is one
JSON object. A reduced run (`--reduced`, or fewer jobs) says so and exits 3: its figures are no
claim.
"""

import argparse
import gc
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import trio

from bench import fleet, placing
from bench.calls import Call, Callers, CallsFailed, connect, drive
from bench.figures import counter, lag, peak_rss_mb, processor_s
from bench.quorum import Quorum, Server, Unanswered
from bench.submission import percentile
from core.model.allocation import ClientStatus, TaskEvent, TaskState, TaskStateName
from core.model.node import Node
from core.model.query import Query
from core.state.commands import AllocUpdate
from sim.lastline import last_line

FULL: Final = {
    "nodes": 10_000, "huge_jobs": 2_000, "huge_count": 1_000, "read_back": 1_000,
    "tiny_jobs": 100_000, "tiny_rate": 5_000, "kube_nodes": 5_000, "kube_jobs": 300_000,
    "scale_nodes": [1_000, 5_000, 10_000, 50_000], "scale_jobs": 1_000,
    "packing_nodes": 1_000, "packing_jobs": 5_000,
}  # fmt: skip
REDUCED: Final = {
    "nodes": 200, "huge_jobs": 20, "huge_count": 100, "read_back": 20,
    "tiny_jobs": 200, "tiny_rate": 100, "kube_nodes": 100, "kube_jobs": 200,
    "scale_nodes": [100, 500], "scale_jobs": 100,
    "packing_nodes": 50, "packing_jobs": 200,
}  # fmt: skip
SETTINGS: Final = 'serves = ["dc2", "dc3"]'
WINDOW: Final = 512
WATCHED: Final = 50  # one job of so many is followed until it is planned
PLACING_LIMIT_S: Final = 3600.0
RENEW_S: Final = 60.0
FETCH_WINDOW: Final = 16
REPORT_WINDOW: Final = 64  # of up to 512 updates: beyond 64 MiB the log refuses more


class BenchFailed(Exception):
    """What was measured can't be trusted; the text says why."""


class Site:
    """The quorum of one case, its connections and its nodes."""

    def __init__(self, quorum: Quorum, leader: Server, callers: Callers) -> None:
        self.quorum, self.leader, self.callers = quorum, leader, callers
        self.nodes: list[Node] = []

    async def ask(self, server: Server, path: str, timeout_s: float = 300.0) -> Any:
        return await trio.to_thread.run_sync(partial(server.ask, "GET", path, timeout_s=timeout_s))

    async def register_nodes(self, count: int) -> float:
        """Register nodes and return how many a second."""
        hello = await self.callers.ask("Node.Hello", {})
        self.nodes = fleet.nodes(count, hello["datacenter_id"])
        calls = [Call("Node.Register", {"node": node}) for node in self.nodes]
        done = await drive(self.callers, calls, window=WINDOW)
        return count / done.took_s

    async def keep_alive(self) -> None:
        """Have each node call once a minute, as clients do; for ever."""
        while True:
            began = trio.current_time()
            for node in self.nodes:
                body = {"node_id": node.id, "secret_id": node.secret_id, "updates": []}
                self.callers.post("Node.Update", body, lambda body, error: None)
                await trio.sleep(RENEW_S / max(1, len(self.nodes)))
            await trio.sleep_until(began + RENEW_S)

    async def wait_placed(self, wanted: int) -> None:
        """Wait until all is placed, on all servers.

        Raises:
            BenchFailed: It does not come to that.
        """
        give_up = trio.current_time() + PLACING_LIMIT_S
        while True:
            text = await self.ask(self.leader, "/v1/metrics?format=prometheus")
            placed = counter(text, "serai_scheduler_placements_total")
            if placed >= wanted:
                break
            if not counter(text, "serai_raft_is_leader"):
                raise BenchFailed(f"{self.leader.name} did not lead to the end")
            if trio.current_time() > give_up:
                raise BenchFailed(f"{placed:g} of {wanted} placed after {PLACING_LIMIT_S:g} s")
            await trio.sleep(0.25)
        index = counter(text, "serai_raft_applied_index")
        for server in self.quorum.servers:
            while await self._applied(server) < index:
                await trio.sleep(0.05)

    async def _applied(self, server: Server) -> float:
        text = await self.ask(server, "/v1/metrics?format=prometheus")
        return counter(text, "serai_raft_applied_index")

    async def wait_applied(self, server: Server) -> None:
        """Wait until a server has applied what the leader has applied now."""
        index = await self._applied(self.leader)
        while True:
            try:
                if await self._applied(server) >= index:
                    return
            except Unanswered:
                pass
            await trio.sleep(0.05)

    async def check_summaries(self, wanted: int, status: str = "") -> None:
        """Compare what each server counts for its jobs with what was placed.

        Raises:
            BenchFailed: One of them counts otherwise.
        """
        for server in self.quorum.servers:
            await self.wait_applied(server)
            jobs = await self.ask(server, "/v1/jobs?stale")
            counts = [group for job in jobs for group in job["JobSummary"]["Summary"].values()]
            held = ("Starting", "Running", "Complete") if not status else (status,)
            found = sum(group[name] for group in counts for name in held)
            if found != wanted:
                raise BenchFailed(f"{server.name} counts {found} allocations, not {wanted}")

    def processor_s(self) -> list[float]:
        """Return the processor time so far: the leader's, and the mean follower's."""
        own = processor_s(self.leader)
        others = [processor_s(one) for one in self.quorum.servers if one is not self.leader]
        return [own, sum(others) / len(others)]


def note(figures: dict[str, Any]) -> None:
    """Say what is known already: a case of minutes may yet fail."""
    print(f"... {figures}", file=sys.stderr, flush=True)


def submission(job: dict[str, Any], then: Callable[[Any], None] | None = None) -> Call:
    return Call("Query", Query(method="Job.Register", body=job), then)


# --- two million ------------------------------------------------------------------------


async def c2m(site: Site, sizes: dict[str, Any]) -> dict[str, Any]:
    wanted = sizes["huge_jobs"] * sizes["huge_count"]
    jobs = fleet.huge_jobs(sizes["huge_jobs"], sizes["huge_count"])
    before, began = site.processor_s(), trio.current_time()
    await drive(site.callers, map(submission, jobs), window=WINDOW)
    await site.wait_placed(wanted)
    took_s = trio.current_time() - began
    figures: dict[str, Any] = {"c2m_seconds": round(took_s, 2), "c2m_placed": wanted}
    figures |= spent("c2m", before, site)
    note(figures)
    await site.check_summaries(wanted)
    held = await allocations_by_node(site)
    if (found := sum(map(len, held.values()))) != wanted:
        raise BenchFailed(f"the nodes were told of {found} allocations, not {wanted}")
    await read_back(site, held, sizes["read_back"])
    before = site.processor_s()
    done = await drive(site.callers, reports(site, held), window=REPORT_WINDOW)
    figures["running_reports_s"] = round(done.took_s, 2)
    figures["reports_repeated"] = done.repeated
    figures |= spent("running_reports", before, site)
    note(figures)
    await site.check_summaries(wanted, "Running")
    figures["rss_mb"] = round(max(peak_rss_mb(server) for server in site.quorum.servers))
    figures["snapshot_s"], figures["snapshot_mb"] = await take_snapshot(site)
    figures["restore_s"], figures["restore_cpu_s"] = await restart_follower(site)
    await site.check_summaries(wanted, "Running")
    return figures


async def allocations_by_node(site: Site) -> dict[str, list[str]]:
    """Return what each node is told to run: its id -> ids of allocations."""
    held: dict[str, list[str]] = {}

    def call(node: Node) -> Call:
        def keep(body: Any) -> None:
            held[node.id] = list(body["allocs"])

        body = {"node_id": node.id, "secret_id": node.secret_id, "min_index": 0}
        return Call("Node.Allocations", body, keep)

    await drive(site.callers, map(call, site.nodes), window=FETCH_WINDOW)
    return held


async def read_back(site: Site, held: dict[str, list[str]], count: int) -> None:
    """Read random allocations by id over HTTP, and check that they are where they should be."""
    rng = random.Random(7)
    occupied = [node_id for node_id, ids in held.items() if ids]
    for _ in range(count):
        node_id = rng.choice(occupied)
        alloc_id = rng.choice(held[node_id])
        alloc = await site.ask(site.leader, f"/v1/allocation/{alloc_id}")
        if alloc["ID"] != alloc_id or alloc["NodeID"] != node_id:
            raise BenchFailed(f"allocation {alloc_id} of node {node_id} reads {alloc['ID']}")


def reports(site: Site, held: dict[str, list[str]]) -> Iterator[Call]:
    """Yield each node's report that all of its allocations run, as clients make them."""
    at_ns = time.time_ns()
    words = ("Received", "Task Setup", "Started")
    events = [TaskEvent(type=word, time_ns=at_ns, display_message=word) for word in words]
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    states = {"work": TaskState(state=TaskStateName.RUNNING, started_at=started, events=events)}
    for node in site.nodes:
        ids = held[node.id]
        for start in range(0, len(ids), 512):
            updates = [
                AllocUpdate(alloc_id=one, client_status=ClientStatus.RUNNING, task_states=states)
                for one in ids[start : start + 512]
            ]
            body = {"node_id": node.id, "secret_id": node.secret_id, "updates": updates}
            yield Call("Node.Update", body, is_repeated=True)


async def take_snapshot(site: Site) -> tuple[float, float]:
    """Return how long `operator snapshot save` takes, and the file's size in MB."""
    began = trio.current_time()
    size = await trio.to_thread.run_sync(site.leader.download, "/v1/operator/snapshot")
    return round(trio.current_time() - began, 2), round(size / 1e6, 1)


async def restart_follower(site: Site) -> tuple[float, float]:
    """Return how long a follower takes from its start until it holds all again.

    And its processor time: what it did itself, its start as an agent included.
    """
    follower = next(one for one in site.quorum.servers if one is not site.leader)
    await trio.to_thread.run_sync(follower.stop, signal.SIGTERM)
    began = trio.current_time()
    follower.start()
    await site.wait_applied(follower)
    took_s = trio.current_time() - began
    return round(took_s, 2), round(processor_s(follower), 2)


# --- many small jobs --------------------------------------------------------------------


async def tiny(site: Site, sizes: dict[str, Any]) -> dict[str, Any]:
    """Offer more than is taken, then some at half the rate at which it was taken."""
    jobs, later = sizes["tiny_jobs"], max(1, sizes["tiny_jobs"] // 10)
    before = site.processor_s()
    figures, rate = await offer(site, list(fleet.tiny_jobs(jobs)), sizes["tiny_rate"], 0)
    figures |= spent("tiny", before, site)
    note(figures)
    placed = sum(map(fleet.instances, fleet.tiny_jobs(jobs)))
    more = list(fleet.tiny_jobs(later, seed=4, first=jobs))
    steady, _ = await offer(site, more, max(1.0, rate / 2), placed)
    figures |= {key.replace("tiny", "tiny_half"): value for key, value in steady.items()}
    return figures


async def offer(
    site: Site, given: list[dict[str, Any]], rate: float, placed: int
) -> tuple[dict[str, Any], float]:
    """Submit jobs by a timetable and follow them; return figures, and jobs taken a second.

    Args:
        placed: Instances of all jobs before these.
    """
    planned_ms: list[float] = []
    began = trio.current_time()

    def call(number: int, job: dict[str, Any]) -> Call:
        due = began + number / rate
        is_watched = number % WATCHED == 0
        return submission(job, partial(watch, site, due, planned_ms) if is_watched else None)

    calls = (call(number, job) for number, job in enumerate(given))
    done = await drive(site.callers, calls, window=WINDOW, rate=rate)
    await site.wait_placed(placed + sum(map(fleet.instances, given)))
    took_s = trio.current_time() - began
    watched = len(range(0, len(given), WATCHED))
    while len(planned_ms) < watched:
        await trio.sleep(0.01)
    figures = {
        "tiny_jobs_per_s": round(len(given) / took_s, 1),
        "tiny_p50_ms": round(percentile(planned_ms, 0.5), 1),
        "tiny_p99_ms": round(percentile(planned_ms, 0.99), 1),
        "tiny_register_p50_ms": round(percentile(done.latencies_ms, 0.5), 1),
        "tiny_register_p99_ms": round(percentile(done.latencies_ms, 0.99), 1),
    }
    return figures, len(given) / took_s


def watch(site: Site, due: float, planned_ms: list[float], answer: Any) -> None:
    """Follow a job's evaluation by blocking queries until it is complete."""
    eval_id = answer["body"]["EvalID"]

    def ask(index: int) -> None:
        query = Query(
            method="Eval.Get", params={"eval_id": eval_id}, min_index=index, wait_us=60_000_000
        )
        site.callers.post("Query", query, answered)

    def answered(body: Any, error: str) -> None:
        if error or body.get("status", 200) >= 400:
            raise CallsFailed(f"Eval.Get: {error or body}")
        if body["body"]["Status"] == "complete":
            planned_ms.append((trio.current_time() - due) * 1e3)
        else:
            ask(body["index"])

    ask(answer["index"])


async def kube_like(site: Site, sizes: dict[str, Any]) -> dict[str, Any]:
    jobs = sizes["kube_jobs"]
    before, began = site.processor_s(), trio.current_time()
    await drive(site.callers, map(submission, fleet.single_jobs(jobs)), window=WINDOW)
    await site.wait_placed(jobs)
    took_s = trio.current_time() - began
    return {"kube_like_s": round(took_s, 2)} | spent("kube_like", before, site)


def spent(case: str, before: Iterable[float], site: Site) -> dict[str, Any]:
    used = [round(now - then, 1) for now, then in zip(site.processor_s(), before, strict=True)]
    return {f"{case}_cpu_s": used}


# --- all of it --------------------------------------------------------------------------

Case = Callable[[Site, dict[str, Any]], Any]
CASES: Final[dict[str, tuple[Case, str]]] = {
    "c2m": (c2m, "nodes"),
    "tiny": (tiny, "nodes"),
    "kube_like": (kube_like, "kube_nodes"),
}


async def run_case(folder: Path, name: str, sizes: dict[str, Any]) -> dict[str, Any]:
    """Run a case on a quorum of its own."""
    case, nodes = CASES[name]
    with Quorum(folder / name, engine="core", settings=SETTINGS) as quorum:
        leader = quorum.wait_ready()
        async with connect(leader) as callers, trio.open_nursery() as nursery:
            site = Site(quorum, leader, callers)
            rate = await site.register_nodes(sizes[nodes])
            nursery.start_soon(site.keep_alive)
            figures: dict[str, Any] = await case(site, sizes)
            text = await site.ask(leader, "/v1/metrics?format=prometheus")
            p99_ms, max_ms = lag(text)
            changes = counter(text, "serai_raft_leader_changes_total")
            nursery.cancel_scope.cancel()
    lags = {f"{name}_loop_lag_p99_ms": p99_ms, f"{name}_loop_lag_max_ms": max_ms}
    lags[f"{name}_leader_changes"] = changes - 1  # its own election is none
    return figures | lags | {"nodes_registered_per_s": round(rate)}


def alone(name: str, sizes: dict[str, Any]) -> dict[str, Any]:
    """Run a case that needs no agent."""
    if name == "scale":
        return {"scale": placing.scale(sizes["scale_nodes"], sizes["scale_jobs"])}
    return dict(placing.against_nomad(sizes["packing_nodes"], sizes["packing_jobs"]))


def the_only(error: BaseException) -> BaseException:
    """Return what a group of nurseries wrapped, if it is one thing."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reduced", action="store_true", help="a short run that proves nothing")
    parser.add_argument("--dir", help="a folder on the disk to be measured (the temporary one)")
    names = [*CASES, "scale", "packing"]
    parser.add_argument("--only", choices=names, action="append", help="this case; repeatable")
    parser.add_argument("--rate", type=int, help="jobs a second that tiny offers")
    for name in ("huge", "tiny", "kube"):
        parser.add_argument(f"--{name}-jobs", type=int, help="fewer of them: a reduced run")
    given = parser.parse_args()
    sizes: dict[str, Any] = dict(REDUCED if given.reduced else FULL)
    fewer = {f"{name}_jobs": getattr(given, f"{name}_jobs") for name in ("huge", "tiny", "kube")}
    sizes |= {name: jobs for name, jobs in fewer.items() if jobs is not None}
    is_reduced = given.reduced or any(sizes[name] < FULL[name] for name in fewer)
    if given.rate:
        sizes["tiny_rate"] = given.rate
    figures: dict[str, Any] = {}
    # The caller holds hundreds of thousands of job files: to search them for cycles again and
    # again would take the processors from those that are measured.
    gc.set_threshold(100_000, 50, 1_000)
    with tempfile.TemporaryDirectory(prefix="serai-bench-", dir=given.dir) as folder:
        for name in given.only or names:
            try:
                if name in CASES:
                    found = trio.run(run_case, Path(folder), name, sizes)
                else:
                    found = alone(name, sizes)
            except BaseException as error:
                problem = the_only(error)
                if not isinstance(problem, BenchFailed | CallsFailed | Unanswered):
                    raise
                print(f"{name} failed: {problem}", file=sys.stderr)
                return 1
            figures |= found
            figures |= worst_lag(figures)
            for key, value in found.items():
                print(f"{key:28} {value}", flush=True)
    figures["load_1m"] = round(os.getloadavg()[0], 2)
    samples = sum(sizes[key] for key in ("huge_jobs", "tiny_jobs", "kube_jobs"))
    print(last_line(figures, sizes=sizes, samples=samples, is_reduced=is_reduced))
    return 3 if is_reduced else 0


def worst_lag(figures: dict[str, Any]) -> dict[str, float]:
    """Return the leader's lag over all cases: the worst case's."""
    found = {}
    for name in ("loop_lag_p99_ms", "loop_lag_max_ms"):
        values = [value for key, value in figures.items() if key.endswith(f"_{name}")]
        if values:
            found[name] = max(values)
    return found


if __name__ == "__main__":
    sys.exit(main())
