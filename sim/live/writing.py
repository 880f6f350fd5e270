"""An inventory as files: a scenario with its job files, to be read and changed by people.

What nobody can know from an inventory is a variable: how far the regions are from each
other, how many servers a datacenter has, how long batch jobs without a finished run take.
`load` submits every job so many times; those that a datacenter begins with are there once.
"""

import os
from itertools import groupby
from typing import Final

import msgspec

from core.jobspec.hcl.format import format_text
from core.jobspec.hcl.write import Number, expression
from core.jobspec.write import essential, write_job
from core.model.job import Job
from sim.live.inventory import Inventory, LiveJob, fit_name, free_name
from sim.live.shapes import shapes_of
from sim.plans import DatacenterPlan
from sim.workload import wanted_instances
from sim.writing import Lines, block, datacenter

SCENARIO_FILE: Final = "scenario.hcl"
JOBS_FOLDER: Final = "jobs"
SNAPSHOTS_FOLDER: Final = "snapshots"
WAN_LATENCY: Final = "40ms"
FIRST_JOB_MS: Final = 30_000  # the datacenters are born, and know each other
APART_MS: Final = 20


class Written(msgspec.Struct):
    """What was written where."""

    scenario: str  # path
    shapes: dict[tuple[str, str], int]  # by datacenter
    job_files: int


def write_files(inventory: Inventory, folder: str) -> Written:
    """Write the scenario and its job files into a folder, which is made.

    Raises:
        OSError: They can't be written; FileExistsError when a scenario is there already.
    """
    path = os.path.join(folder, SCENARIO_FILE)
    os.makedirs(os.path.join(folder, JOBS_FOLDER), exist_ok=True)
    files = _JobFiles(os.path.join(folder, JOBS_FOLDER))
    for place, image in inventory.images.items():
        os.makedirs(os.path.join(folder, SNAPSHOTS_FOLDER), exist_ok=True)
        with open(os.path.join(folder, _snapshot(*place)), "wb") as out:
            out.write(image)
    plans = [
        DatacenterPlan(region=region, name=name, servers=3, nodes=shapes_of(nodes))
        for (region, name), nodes in sorted(inventory.datacenters.items())
    ]
    with open(path, "x", encoding="utf-8") as out:
        out.write(_scenario_text(inventory, plans, files, os.path.basename(folder.rstrip("/"))))
    shapes = {(plan.region, plan.name): len(plan.nodes) for plan in plans}
    return Written(path, shapes, files.count)


class _JobFiles:
    """Job files by what they say: jobs that differ by name alone share one."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._by_text: dict[str, str] = {}
        self._stems: set[str] = set()

    @property
    def count(self) -> int:
        return len(self._by_text)

    def name_of(self, live: LiveJob) -> str:
        """Return the file of a job, beside the scenario; it is written if need be."""
        nameless = msgspec.structs.replace(live.job, id="job", name="job")
        text = write_job(nameless)
        if text not in self._by_text:
            stem = self._by_text[text] = free_name(fit_name(live.name), self._stems)
            self._stems.add(stem)
            own = msgspec.structs.replace(live.job, id=live.name, name=live.name)
            with open(os.path.join(self._folder, _file(stem)), "w", encoding="utf-8") as out:
                out.write(write_job(essential(own)))
        return f"{JOBS_FOLDER}/{_file(self._by_text[text])}"


def _snapshot(region: str, datacenter: str) -> str:
    return f"{SNAPSHOTS_FOLDER}/{region}-{datacenter}.snap"


def _file(stem: str) -> str:
    return f"{stem}.nomad.hcl"


def _scenario_text(
    inventory: Inventory, plans: list[DatacenterPlan], files: _JobFiles, name: str
) -> str:
    regions = list(dict.fromkeys(plan.region for plan in plans))
    lines = [f"# {line}" for line in _head(inventory, plans)]
    lines += _variables(inventory, regions)
    lines += block("scenario", [fit_name(name)], {"duration": "var.duration"})
    for region, members in groupby(plans, key=lambda plan: plan.region):
        inner: Lines = []
        for plan in members:
            said = {"servers": "var.servers"}
            if (plan.region, plan.name) in inventory.images:
                plan = msgspec.structs.replace(plan, nodes=())
                said["snapshot"] = expression(_snapshot(plan.region, plan.name))
                if any(_is_timeless(live) for live in inventory.jobs):
                    said["batch_run_time"] = "var.batch_run_time"
            inner += datacenter(plan, said)
        lines += block("region", [region], {}, inner)
    if len(regions) > 1:
        matrix = block("matrix", [], {"latency": "var.latency"})
        lines += block("network", [], {}, matrix)
    taken = {live.name for live in inventory.jobs}
    for number, live in enumerate(sorted(inventory.jobs, key=_order)):
        name, copies = live.name, "var.load"
        if inventory.images:  # it runs already: `load` has it more than once
            name, copies = free_name(f"{live.name}-more", taken), "var.load - 1"
            taken.add(name)
        file = files.name_of(live)
        lines += _job(live, name, file, copies, FIRST_JOB_MS + number * APART_MS)
    for live in sorted(inventory.jobs, key=_order):
        lines += _goal(live)
    return format_text("\n".join([*lines, ""]), SCENARIO_FILE)


def _head(inventory: Inventory, plans: list[DatacenterPlan]) -> Lines:
    nodes = sum(shape.count for plan in plans for shape in plan.nodes)
    running = sum(live.running for live in inventory.jobs)
    return [
        f"Read from {inventory.origin}.",
        f"Datacenters: {len(plans)}, nodes: {nodes:,}, jobs: {len(inventory.jobs):,}, "
        f"running instances: {running:,}.",
        *inventory.notes,
    ]


def _variables(inventory: Inventory, regions: list[str]) -> Lines:
    lines = _variable("duration", '"10m"')
    lines += ["# Of each datacenter: 1, 3, 5 or 7.", *_variable("servers", "3", "number")]
    lines += ["# Every job so many times (1 or more).", *_variable("load", "1", "number")]
    if any(_is_timeless(live) for live in inventory.jobs):
        lines += ["# Of tasks of batch jobs none of which had finished."]
        lines += _variable("batch_run_time", '"10m"')
    if len(regions) > 1:
        latency = {
            one: dict.fromkeys(regions[place + 1 :], WAN_LATENCY)
            for place, one in enumerate(regions[:-1])
        }
        lines += ["# One way between two regions: no API knows it, so put yours here."]
        lines += _variable("latency", expression(latency), "map(map(string))")
    return lines


def _variable(name: str, default: str, type_: str = "string") -> Lines:
    return block("variable", [name], {"type": type_, "default": default})


def _order(live: LiveJob) -> tuple[int, str]:
    """The important first, as a cluster would have them."""
    return -(50 if live.job.priority is None else live.job.priority), live.name


def _job(live: LiveJob, name: str, file: str, copies: str, at_ms: int) -> Lines:
    said = {
        "file": expression(file),
        "at": expression(f"{at_ms}ms"),
        "region": expression(live.region),
        "copies": copies,
    }
    if live.run_time_s is not None:
        said["run_time"] = expression(f"{max(live.run_time_s, 0.001):.3f}s")
    elif _is_timeless(live):
        said["run_time"] = "var.batch_run_time"
    return block("job", [name], said)


def _is_timeless(live: LiveJob) -> bool:
    return live.run_time_s is None and _type_of(live.job) in ("batch", "sysbatch")


def _goal(live: LiveJob) -> Lines:
    """What runs of a service in the cluster must run in the simulation."""
    if _type_of(live.job) != "service" or live.job.periodic is not None or not live.running:
        return []
    wanted = wanted_instances(live.job) or 0
    said = {"job": expression(live.name)}
    if live.running < wanted:
        said["at_least"] = expression(Number(live.running))
    return block("goal", ["running"], said)


def _type_of(job: Job) -> str:
    return job.type or "service"
