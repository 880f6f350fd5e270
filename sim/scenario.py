"""Scenarios: what a run simulates, read from HCL.

    variable "scale" {
      type    = number
      default = 1
    }
    scenario "small" {
      duration = "5m"
      seed     = 1
    }
    region "eu" {
      datacenter "paris" {
        servers = 3
        nodes "small" { count = 5 * var.scale }
      }
    }
    network {
      wan { latency = "40ms"  jitter = "5ms"  loss = 0.001 }
      link "eu" "us" { latency = "80ms" }
    }
    job "web"  { file = "web.nomad.hcl"  at = "20s" }
    fault "crash"  { at = "90s"  for = "20s"  target = "eu/paris/leader" }
    goal "running" { job = "web"  count = 3 }

docs/scenario.md has every block and key. Every unknown block or key is an error with
file, line and what was meant. The records are those of sim.plans.
"""

import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any, Final

import msgspec

from core.jobspec.diagnostics import Source, SourceError, did_you_mean
from core.jobspec.hcl import tree
from core.jobspec.hcl.body import Block, Body
from core.jobspec.hcl.evaluate import Evaluator
from core.jobspec.hcl.expand import evaluate_body
from core.jobspec.hcl.json_form import parse_any
from core.jobspec.variables import Declarations, check_validations, roots_of
from sim.disk import DiskModel
from sim.network import LinkModel
from sim.plans import (
    SNAPSHOT_LABEL,
    ArrivalPlan,
    DatacenterPlan,
    FaultPlan,
    GoalPlan,
    JobPlan,
    NodeShape,
    Scenario,
    StopPlan,
    TracePlan,
)
from sim.reading import Key, label_of, only, value_error, values_of
from sim.scenario_faults import read_fault
from sim.scenario_goals import read_goal
from sim.scenario_jobs import read_arrivals, read_call, read_job, read_stop, read_trace

__all__ = [
    "ArrivalPlan",
    "DatacenterPlan",
    "FaultPlan",
    "GoalPlan",
    "JobPlan",
    "NodeShape",
    "Scenario",
    "StopPlan",
    "TracePlan",
    "read_scenario",
]

_DECLARING: Final = ("variable", "variables", "locals")
_BLOCKS: Final = (
    "extends", "scenario", "region", "network", "disk", "job", "arrivals", "trace", "stop", "call",
    "fault", "goal",
)  # fmt: skip
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
SCENARIO_KEYS: Final = {
    "duration": Key("duration_us", "duration"),
    "settle": Key("settle_us", "duration"),
    "seed": Key("seed", "integer"),
    "start_spread": Key("start_spread_us", "duration"),
    "pools": Key("are_pools_formed", "pools"),
}
_REGION: Final = {"count": Key("count", "integer")}
DATACENTER_KEYS: Final = {
    "servers": Key("servers", "integer"),
    "count": Key("count", "integer"),
    "schema": Key("schema", "integer"),
    "snapshot": Key("snapshot", "text"),
    "batch_run_time": Key("batch_run_time", "distribution"),
}
NODE_KEYS: Final = {
    "count": Key("count", "integer"),
    "cpu": Key("cpu", "integer"),
    "memory": Key("memory", "integer"),
    "disk": Key("disk", "integer"),
    "class": Key("node_class", "text"),
    "pool": Key("pool", "text"),
    "attributes": Key("attributes", "map"),
    "meta": Key("meta", "map"),
    "drivers": Key("drivers", "texts"),
}
LINK_KEYS: Final = {
    "latency": Key("latency_us", "duration"),
    "jitter": Key("jitter_us", "duration"),
    "loss": Key("loss", "fraction"),
    "duplication": Key("duplication", "fraction"),
}
_MATRIX: Final = {**LINK_KEYS, "latency": Key("latency", "matrix")}
DISK_KEYS: Final = {
    "sync": Key("sync_us", "duration"),
    "jitter": Key("jitter_us", "duration"),
    "mb_per_s": Key("bytes_per_us", "integer"),
}


def read_scenario(
    text: str, filename: str, folder: str = "", variables: Mapping[str, str] | None = None
) -> Scenario:
    """Return the scenario of an HCL text.

    Args:
        text: The file's text.
        filename: For messages.
        folder: Where its job files and traces lie.
        variables: Values of the `variable` blocks, as `-var name=value` gives them.

    Raises:
        SourceError: with file, line and column of what is wrong.
    """
    body = _whole(text, filename, folder, variables or {})
    scenario = Scenario(name=filename, folder=folder)
    heads = list(body.blocks_of("scenario"))
    if not heads or any(len(head.labels) != 1 for head in heads):
        raise SourceError.of_file(filename, 'a scenario begins with: scenario "NAME" { ... }')
    for head in heads:  # that of a file it extends comes first
        scenario.name = head.labels[0]
        for field, value in values_of(head.body, SCENARIO_KEYS).items():
            setattr(scenario, field, value)
    for region in body.blocks_of("region"):
        scenario.datacenters.extend(_region(region))
    if not scenario.datacenters:
        raise SourceError.of_file(filename, 'no region "NAME" { datacenter "NAME" { ... } }')
    _refuse_doubles(body, scenario)
    _read_starts(body, scenario)
    network = body.block("network")
    if network is not None:
        _network(network, scenario)
    disk = body.block("disk")
    if disk is not None:
        scenario.disk = _disk(disk)
    _workload(body, scenario)
    scenario.faults = [read_fault(block, scenario) for block in body.blocks_of("fault")]
    scenario.goals = [read_goal(block, scenario) for block in body.blocks_of("goal")]
    return scenario


def _whole(text: str, filename: str, folder: str, options: Mapping[str, str]) -> Body:
    """Return the body of a file, with that of the file it `extends` put before it.

    `-var` is for whichever of the two declares the variable, or for both.
    """
    source, root = parse_any(text, filename, None)
    extends = [one for one in _blocks(root) if one.type == "extends"]
    own = _declared(root)
    passed = {k: v for k, v in options.items() if k in own} if extends else options
    body = _evaluated(source, root, passed)
    only(body, {}, _BLOCKS)
    base = body.block("extends")
    if base is None:
        return body
    values = values_of(base.body, {"variables": Key("variables", "map")})
    path = os.path.join(folder, label_of(base))
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise body.error(base.label_spans[0], f"{path} can't be read: {error.strerror}") from None
    source, root = parse_any(text, path, None)
    known = _declared(root)
    meant = {k: v for k, v in options.items() if k in known or k not in own}
    under = _evaluated(source, root, {**values.get("variables", {}), **meant})
    only(under, {}, [name for name in _BLOCKS if name != "extends"])
    _move_files(under, os.path.relpath(os.path.dirname(path), folder or "."))
    replaced = {block.type for block in body.blocks} & {"network", "disk"}
    kept = [block for block in under.blocks if block.type not in replaced]
    own_blocks = [block for block in body.blocks if block is not base]
    return dataclasses.replace(body, blocks=[*kept, *own_blocks])


def _blocks(root: tree.BodyNode) -> list[tree.BlockNode]:
    return [item for item in root.items if isinstance(item, tree.BlockNode)]


def _declared(root: tree.BodyNode) -> set[str]:
    return {one.labels[0][0] for one in _blocks(root) if one.type == "variable" and one.labels}


def _move_files(body: Body, folder: str) -> None:
    """Let the files that a body names be found from the folder of the one that extends it."""
    for block in body.blocks:
        for name in ("file", "job"):
            attribute = block.body.attributes.get(name)
            is_path = name == "file" or block.type == "trace"
            if attribute is not None and is_path and isinstance(attribute.value, str):
                _move_file(block, name, folder)
        if block.type == "region":
            for datacenter in block.body.blocks_of("datacenter"):
                if "snapshot" in datacenter.body.attributes:
                    _move_file(datacenter, "snapshot", folder)


def _move_file(block: Block, name: str, folder: str) -> None:
    attribute = block.body.attributes[name]
    moved = os.path.normpath(os.path.join(folder, str(attribute.value)))
    block.body.attributes[name] = dataclasses.replace(attribute, value=moved)


def _evaluated(source: Source, root: tree.BodyNode, options: Mapping[str, str]) -> Body:
    """Return the body with variables and locals filled in, without their blocks."""
    filename = source.filename
    constant = Evaluator(source, {}, is_closed=True)
    declarations = Declarations()
    rest: list[Any] = []
    for item in root.items:
        if isinstance(item, tree.BlockNode) and item.type in _DECLARING:
            declarations.add(constant, item)
        else:
            rest.append(item)
    for name in options:
        if name not in declarations.variables:
            known = ", ".join(declarations.variables) or "none"
            hint = did_you_mean(name, declarations.variables) or f"it has: {known}"
            raise SourceError.of_file(filename, f"the scenario has no variable {name!r}", hint)
    try:
        roots = roots_of(source, declarations, options=options, files=(), env={}, is_strict=True)
        evaluator = Evaluator(source, roots.scope(), budget=constant.budget, is_closed=True)
        roots.local.evaluator = evaluator
        check_validations(evaluator, declarations.variables)
        roots.local.evaluate_all()
        return evaluate_body(evaluator, dataclasses.replace(root, items=rest))
    except RecursionError:
        raise SourceError.of_file(filename, "expressions refer to each other too deeply") from None


# --- regions, datacenters, nodes ----------------------------------------------------------


def _names(block: Block, count: int | None) -> list[str]:
    """Return the names of what a block with `count` stands for: NAME, or NAME-1, NAME-2, ..."""
    name = label_of(block)
    if not _NAME.fullmatch(name):
        raise block.body.error(
            block.label_spans[0], f"{name!r} can't be a name", hint="letters, digits, - _ and ."
        )
    return [name] if count is None else [f"{name}-{number}" for number in range(1, count + 1)]


def _region(block: Block) -> Iterator[DatacenterPlan]:
    values = values_of(block.body, _REGION, {"datacenter"})
    for region in _names(block, values.get("count")):
        for datacenter in block.body.blocks_of("datacenter"):
            yield from _datacenter(region, datacenter)


def _datacenter(region: str, block: Block) -> Iterator[DatacenterPlan]:
    body = block.body
    values = {"servers": 3, **values_of(body, DATACENTER_KEYS, {"nodes", "disk"})}
    if values["servers"] not in (1, 3, 5, 7):
        if "servers" in body.attributes:
            raise value_error(body, "servers", "servers must be 1, 3, 5 or 7")
        raise body.error(block.span, "servers must be 1, 3, 5 or 7")
    shapes: dict[str, NodeShape] = {}
    for nodes in body.blocks_of("nodes"):
        shape = {"count": 1, "cpu": 4_000, "memory": 8_192, **values_of(nodes.body, NODE_KEYS)}
        label = label_of(nodes)
        if label in shapes or label == "server":
            why = "names the servers" if label == "server" else "is used twice here"
            raise nodes.body.error(nodes.label_spans[0], f"nodes {label!r}: this name {why}")
        shapes[label] = NodeShape(label=label, **shape)
    disk = body.block("disk")
    count = values.pop("count", None)
    for name in _names(block, count):
        if "snapshot" in values and count is not None:
            raise value_error(body, "snapshot", "a snapshot is of one datacenter, not of several")
        if SNAPSHOT_LABEL in shapes and "snapshot" in values:
            raise body.error(
                block.span, f"nodes {SNAPSHOT_LABEL!r}: this name is that of the snapshot's"
            )
        yield DatacenterPlan(
            region=region,
            name=name,
            nodes=tuple(shapes.values()),
            disk=None if disk is None else _disk(disk),
            **values,
        )


def _read_starts(body: Body, scenario: Scenario) -> None:
    """Read the snapshots that datacenters begin from; each is of the datacenter it stands in."""
    from sim.starting import StartError, read_start  # a state is read seldom, and is a lot

    seen: dict[str, str] = {}
    for number, plan in enumerate(scenario.datacenters):
        if not plan.snapshot:
            continue
        blocks = (
            one
            for region in body.blocks_of("region")
            if label_of(region) == plan.region
            for one in region.body.blocks_of("datacenter")
            if label_of(one) == plan.name
        )
        where = next(blocks).body
        run_time = "" if plan.batch_run_time is None else plan.batch_run_time.text
        try:
            start = read_start(os.path.join(scenario.folder, plan.snapshot), run_time)
        except StartError as error:
            raise value_error(where, "snapshot", str(error)) from None
        if (start.region, start.datacenter) != (plan.region, plan.name):
            message = f"{plan.snapshot} is of {start.region}/{start.datacenter}"
            hint = f"here is {plan.region}/{plan.name}: a datacenter keeps its names"
            raise value_error(where, "snapshot", message, hint)
        other = seen.setdefault(start.datacenter_id, plan.name)
        if other != plan.name:
            raise value_error(where, "snapshot", f"it is of the same datacenter as that of {other}")
        scenario.datacenters[number] = msgspec.structs.replace(plan, start=start)


def _refuse_doubles(body: Body, scenario: Scenario) -> None:
    """Agents are named REGION-DATACENTER-LABEL-NUMBER: no two may have one name."""
    seen: dict[str, str] = {}
    for plan in scenario.datacenters:
        joined, full = f"{plan.region}-{plan.name}", f"{plan.region}/{plan.name}"
        other = seen.setdefault(joined, full)
        if other != full or sum(
            (one.region, one.name) == (plan.region, plan.name) for one in scenario.datacenters
        ) > 1:  # fmt: skip
            block = next(body.blocks_of("region"))
            raise body.error(block.span, f"two datacenters are named alike: {other} and {full}")


# --- network and disks --------------------------------------------------------------------


def _network(block: Block, scenario: Scenario) -> None:
    only(block.body, {}, {"lan", "region", "wan", "link", "matrix"})
    for name, field in (("lan", "lan"), ("region", "region_link"), ("wan", "wan")):
        inner = block.body.block(name)
        if inner is not None:
            setattr(scenario, field, LinkModel(**values_of(inner.body, LINK_KEYS)))
    matrix = block.body.block("matrix")
    if matrix is not None:
        _matrix(matrix, scenario)
    for link in block.body.blocks_of("link"):
        if len(link.labels) != 2:
            raise block.body.error(link.span, 'a link names two regions: link "eu" "us" { ... }')
        model = LinkModel(**values_of(link.body, LINK_KEYS))
        for pair in _pairs(link, scenario, *link.labels):
            scenario.links[pair] = model


def _matrix(block: Block, scenario: Scenario) -> None:
    values = values_of(block.body, _MATRIX, required=("latency",))
    for one, row in values.pop("latency").items():
        for other, latency_us in row.items():
            for pair in _pairs(block, scenario, one, other):
                scenario.links[pair] = LinkModel(latency_us=latency_us, **values)


def _pairs(block: Block, scenario: Scenario, one: str, other: str) -> list[tuple[str, str]]:
    """Return the sorted pairs of two different regions that two names or patterns mean."""
    sides = []
    for pattern in (one, other):
        found = [name for name in scenario.regions if fnmatchcase(name, pattern)]
        if not found:
            raise block.body.error(
                block.span,
                f"there is no region {pattern!r}, only {', '.join(scenario.regions)}",
                hint=did_you_mean(pattern, scenario.regions),
            )
        sides.append(found)
    pairs = [(min(a, b), max(a, b)) for a in sides[0] for b in sides[1] if a != b]
    if not pairs:
        raise block.body.error(block.span, f"a link has two different ends, not {one!r} twice")
    return list(dict.fromkeys(pairs))


def _disk(block: Block) -> DiskModel:
    values = values_of(block.body, DISK_KEYS)
    if values.get("bytes_per_us") == 0:
        raise value_error(block.body, "mb_per_s", "'mb_per_s' must be more than 0")
    return DiskModel(**values)


# --- workload -----------------------------------------------------------------------------


def _workload(body: Body, scenario: Scenario) -> None:
    regions = scenario.regions
    places = [f"{plan.region}/{plan.name}" for plan in scenario.datacenters]
    scenario.jobs = [read_job(block, regions, places) for block in body.blocks_of("job")]
    scenario.arrivals = [read_arrivals(block, regions) for block in body.blocks_of("arrivals")]
    scenario.traces = [read_trace(block, regions) for block in body.blocks_of("trace")]
    scenario.calls = [read_call(block, regions) for block in body.blocks_of("call")]
    scenario.stops = [read_stop(block, regions) for block in body.blocks_of("stop")]
    names: set[str] = set()
    for type_ in ("job", "arrivals", "trace"):
        for block in body.blocks_of(type_):
            if block.labels[0] in names:
                raise block.body.error(
                    block.label_spans[0], f"{block.labels[0]!r} is the name of another {type_}"
                )
            names.add(block.labels[0])
