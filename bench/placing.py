"""What the planner does alone, without agents: parts of bench.scheduler.

The shipped state is filled through its own commands and the shipped planner solves on it,
as core.server.planning has it: `prepare`, `solve`, apply, with one picture of the nodes. Only
the log and the network are left out. From so many nodes on as an agent does it, the compiled
kernel is loaded, before anything is timed.
"""

import itertools
import random
import time
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import numpy as np

from bench import fleet
from core.jobspec import canonicalize
from core.model.evaluation import EvalTrigger, Evaluation
from core.model.ids import new_id
from core.model.job import Job
from core.model.node import NodeStatus
from core.scheduler import Picture, kernel, prepare
from core.state.commands import (
    ApplyPlans,
    Bootstrap,
    Entry,
    RegisterJob,
    RegisterNode,
    SetSchedulerConfig,
)
from core.state.state import State

DATACENTER_ID: Final = "0123456789ab"
BATCH: Final = 256
LEVELS: Final = (1_000, 5_000, 10_000, 50_000)
WALL_US: Final = 1_700_000_000_000_000


class Cluster:
    """A state with nodes, and a log index that counts up."""

    def __init__(self, node_count: int, algorithm: str = "") -> None:
        self.state = State()
        self._index = itertools.count(1)
        self._rng = random.Random(5)
        self._picture = Picture()
        self._apply(
            Bootstrap(
                datacenter_id=DATACENTER_ID, region="bench", datacenter="dc1", is_authority=True
            )
        )
        if algorithm:
            self._apply(SetSchedulerConfig(config={"SchedulerAlgorithm": algorithm}))
        if node_count >= kernel.WORTH_NODES:
            kernel.load()
        for node in fleet.nodes(node_count, DATACENTER_ID):
            node.status = NodeStatus.READY
            self._apply(RegisterNode(node=node))

    def _apply(self, *commands: Any) -> None:
        entry = Entry(wall_us=WALL_US, commands=list(commands))
        self.state.apply_entry(next(self._index), entry)

    def register(self, given: dict[str, Any]) -> Evaluation:
        """Register a job and return its evaluation."""
        job = canonicalize(msgspec.convert(given["Job"], Job), region="bench")
        due = Evaluation(
            id=new_id(self._rng, DATACENTER_ID),
            priority=50,
            type=job.type or "service",
            triggered_by=EvalTrigger.JOB_REGISTER,
            job_id=job.id or "",
        )
        uid = new_id(self._rng, DATACENTER_ID)
        self._apply(RegisterJob(job=msgspec.structs.replace(job, uid=uid), evaluation=due))
        return due

    def plan(self, jobs: Iterable[dict[str, Any]]) -> tuple[int, float]:
        """Place jobs in batches; return instances placed and seconds spent in planning."""
        placed, took_s = 0, 0.0
        waiting = iter(jobs)
        while batch := [self.register(job) for job in itertools.islice(waiting, BATCH)]:
            began = time.process_time()
            problem = prepare(
                self.state, batch, now_us=WALL_US, rng=self._rng, picture=self._picture
            )
            solution = problem.solve()
            took_s += time.process_time() - began
            self._apply(ApplyPlans(plans=solution.plans))
            placed += solution.placed
        return placed, took_s

    def nodes_used(self) -> int:
        return int(np.count_nonzero(self.state.nodes.cpu_used))


def scale(levels: Iterable[int], jobs: int) -> dict[str, dict[str, float]]:
    """Return by number of nodes the cost of one placement, in microseconds of one core.

    `tiny` is an instance of a job of 1 to 5, `huge` one of a job of 1,000 (half of them
    with a spread), `huge_numpy_us` the same without the compiled kernel.
    """
    found = {}
    for level in levels:
        huge = max(2, jobs // 100)
        costs = {
            "tiny_us": _cost_us(Cluster(level), fleet.tiny_jobs(jobs)),
            "huge_us": _cost_us(Cluster(level), fleet.huge_jobs(huge, 1_000)),
        }
        cluster = Cluster(level)
        kernel.unload()
        costs["huge_numpy_us"] = _cost_us(cluster, fleet.huge_jobs(huge, 1_000))
        found[str(level)] = costs
    return found


def _cost_us(cluster: Cluster, mix: Iterable[dict[str, Any]]) -> float:
    placed, took_s = cluster.plan(mix)
    return round(took_s / max(placed, 1) * 1e6, 1)


def against_nomad(node_count: int, jobs: int) -> dict[str, float | None]:
    """Return nodes used and instances placed by the default, in parts of Nomad's algorithm.

    The same jobs come in the same order on the same empty nodes. Nodes are counted where all
    fits (`placed_light_ratio` says whether all was placed there), `placed_ratio` is taken
    where much more is offered than fits. None when this build has no algorithm "nomad".
    """
    from core.scheduler import rank

    if "nomad" not in getattr(rank, "ALGORITHMS", ()):
        return dict.fromkeys(("nodes_used_ratio", "placed_light_ratio", "placed_ratio"))
    used, light_placed, placed = {}, {}, {}
    for algorithm in ("binpack", "nomad"):
        light, full = Cluster(node_count, algorithm), Cluster(node_count, algorithm)
        light_placed[algorithm], _ = light.plan(_mixed(jobs))
        used[algorithm] = light.nodes_used()
        placed[algorithm], _ = full.plan(_mixed(jobs * 3))
    return {
        "nodes_used_ratio": round(used["binpack"] / used["nomad"], 3),
        "placed_light_ratio": round(light_placed["binpack"] / light_placed["nomad"], 4),
        "placed_ratio": round(placed["binpack"] / placed["nomad"], 4),
    }


def _mixed(jobs: int) -> Iterable[dict[str, Any]]:
    # Asks of any proportion of processor to memory: what is hard to pack.
    rng = random.Random(11)
    for job in fleet.tiny_jobs(jobs):
        resources = job["Job"]["TaskGroups"][0]["Tasks"][0]["Resources"]
        resources["CPU"] = rng.choice((250, 500, 1000, 2000, 4000))
        resources["MemoryMB"] = rng.choice((512, 1024, 2048, 4096, 8192))
        yield job
