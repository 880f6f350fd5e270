"""Scenarios: what a run simulates, read from HCL.

    scenario "small" {
      duration = "5m"
      seed     = 1
    }
    region "eu" {
      datacenter "paris" {
        servers = 3
        nodes "small" { count = 5  cpu = 4000  memory = 8192 }
      }
    }
    network {
      wan { latency = "40ms"  jitter = "5ms"  loss = 0.001 }
      link "eu" "us" { latency = "80ms" }
    }
    disk  { sync = "1.5ms" }
    job "web"  { file = "web.nomad.hcl"  at = "20s"  region = "eu" }
    stop "web" { at = "4m"  region = "eu" }
    fault "partition" { at = "60s"  for = "30s"  from = "eu"  to = "us" }
    fault "crash"     { at = "90s"  for = "20s"  target = "eu/paris/leader" }
    goal  "running"   { job = "web"  count = 3  at = "end" }

Every unknown block or key is an error with file, line and what was meant.
"""

from typing import Any, Final, NamedTuple

import msgspec

from core.jobspec.diagnostics import SourceError, did_you_mean
from core.jobspec.durations import parse_duration_ns
from core.jobspec.hcl.body import Attribute, Block, Body, parse_body
from sim.disk import DiskModel
from sim.network import LinkModel

FAULTS: Final = ("partition", "cut", "slow", "crash", "power", "pause", "full-disk", "loss")


class NodeShape(msgspec.Struct, frozen=True, kw_only=True):
    """`count` equal nodes. CPU in MHz, memory and disk in MiB."""

    label: str
    count: int
    cpu: int
    memory: int
    disk: int = 100_000
    node_class: str = ""
    attributes: dict[str, str] = {}
    meta: dict[str, str] = {}


class DatacenterPlan(msgspec.Struct, frozen=True, kw_only=True):
    region: str
    name: str
    servers: int
    nodes: tuple[NodeShape, ...]


class JobPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Submit a job file at a time, to an agent of `region`, as `serai job run` does."""

    name: str
    file: str
    at_us: int
    region: str
    copies: int = 1  # registers name, name-2, name-3, ...
    variables: dict[str, str] = {}


class StopPlan(msgspec.Struct, frozen=True, kw_only=True):
    job: str
    at_us: int
    region: str
    purge: bool = False


class FaultPlan(msgspec.Struct, frozen=True, kw_only=True):
    kind: str
    at_us: int
    for_us: int  # 0 = until the end
    source: str = ""  # of partition, cut, slow
    target: str = ""
    extra_us: int = 0  # of slow
    fraction: float = 0.0  # of loss


class GoalPlan(msgspec.Struct, frozen=True, kw_only=True):
    """`kind` "running": a job has exactly `count` processes `at_us` (-1 = at the end).
    `kind` "placed-in": all processes of a job are in `region`."""

    kind: str
    job: str
    count: int = -1
    region: str = ""
    at_us: int = -1


class Scenario(msgspec.Struct, kw_only=True):
    name: str
    folder: str = ""
    duration_us: int = 60_000_000
    settle_us: int = 60_000_000  # quiet time after the last fault, before the end is judged
    until_us: int = 0  # stop here, whatever else is planned; 0 = at the scenario's end
    seed: int = 1
    datacenters: list[DatacenterPlan] = []
    lan: LinkModel | None = None
    region_link: LinkModel | None = None
    wan: LinkModel | None = None
    links: dict[tuple[str, str], LinkModel] = {}
    disk: DiskModel = DiskModel()
    jobs: list[JobPlan] = []
    stops: list[StopPlan] = []
    faults: list[FaultPlan] = []
    goals: list[GoalPlan] = []


class _Key(NamedTuple):
    field: str
    kind: str  # duration | integer | number | text | texts | map | flag


_SCENARIO: Final = {
    "duration": _Key("duration_us", "duration"),
    "settle": _Key("settle_us", "duration"),
    "seed": _Key("seed", "integer"),
}
_DATACENTER: Final = {"servers": _Key("servers", "integer")}
_NODES: Final = {
    "count": _Key("count", "integer"),
    "cpu": _Key("cpu", "integer"),
    "memory": _Key("memory", "integer"),
    "disk": _Key("disk", "integer"),
    "class": _Key("node_class", "text"),
    "attributes": _Key("attributes", "map"),
    "meta": _Key("meta", "map"),
}
_LINK: Final = {
    "latency": _Key("latency_us", "duration"),
    "jitter": _Key("jitter_us", "duration"),
    "loss": _Key("loss", "number"),
    "duplication": _Key("duplication", "number"),
}
_DISK: Final = {
    "sync": _Key("sync_us", "duration"),
    "jitter": _Key("jitter_us", "duration"),
    "mb_per_s": _Key("bytes_per_us", "integer"),
}
_JOB: Final = {
    "file": _Key("file", "text"),
    "at": _Key("at_us", "duration"),
    "region": _Key("region", "text"),
    "copies": _Key("copies", "integer"),
    "variables": _Key("variables", "map"),
}
_STOP: Final = {
    "at": _Key("at_us", "duration"),
    "region": _Key("region", "text"),
    "purge": _Key("purge", "flag"),
}
_FAULT: Final = {
    "at": _Key("at_us", "duration"),
    "for": _Key("for_us", "duration"),
    "from": _Key("source", "text"),
    "to": _Key("target", "text"),
    "target": _Key("target", "text"),
    "extra": _Key("extra_us", "duration"),
    "fraction": _Key("fraction", "number"),
}
_GOAL: Final = {
    "job": _Key("job", "text"),
    "count": _Key("count", "integer"),
    "region": _Key("region", "text"),
    "at": _Key("at_us", "when"),
}


def read_scenario(text: str, filename: str, folder: str = "") -> Scenario:
    """Return the scenario of an HCL text; `folder` is where its job files lie.

    Raises:
        SourceError: with file, line and column of what is wrong.
    """
    body = parse_body(text, filename)
    scenario = Scenario(name=filename, folder=folder)
    _only(body, {}, {"scenario", "region", "network", "disk", "job", "stop", "fault", "goal"})
    head = body.block("scenario")
    if head is None or len(head.labels) != 1:
        raise SourceError.of_file(filename, 'a scenario begins with: scenario "NAME" { ... }')
    scenario.name = head.labels[0]
    for field, value in _values(head.body, _SCENARIO).items():
        setattr(scenario, field, value)
    for region in body.blocks_of("region"):
        scenario.datacenters.extend(_region(region))
    if not scenario.datacenters:
        raise SourceError.of_file(filename, 'no region "NAME" { datacenter "NAME" { ... } }')
    network = body.block("network")
    if network is not None:
        _network(network, scenario)
    disk = body.block("disk")
    if disk is not None:
        scenario.disk = DiskModel(**_values(disk.body, _DISK))
    first = scenario.datacenters[0].region
    regions = {plan.region for plan in scenario.datacenters}
    for block in body.blocks_of("job"):
        values = _values(block.body, _JOB, required=("file",))
        defaults = {"at_us": 10_000_000, "region": first}
        plan = JobPlan(name=_label(block), **{**defaults, **values})
        _known_region(block, plan.region, regions)
        scenario.jobs.append(plan)
    for block in body.blocks_of("stop"):
        values = {"region": first, **_values(block.body, _STOP, required=("at",))}
        scenario.stops.append(StopPlan(job=_label(block), **values))
    for block in body.blocks_of("fault"):
        scenario.faults.append(_fault(block))
    for block in body.blocks_of("goal"):
        scenario.goals.append(_goal(block))
    return scenario


def _region(block: Block) -> list[DatacenterPlan]:
    _only(block.body, {}, {"datacenter"})
    plans = []
    for datacenter in block.body.blocks_of("datacenter"):
        values = _values(datacenter.body, _DATACENTER, {"nodes"})
        shapes = []
        for nodes in datacenter.body.blocks_of("nodes"):
            shape = {
                "count": 1, "cpu": 4_000, "memory": 8_192, **_values(nodes.body, _NODES),
            }  # fmt: skip
            shapes.append(NodeShape(label=_label(nodes), **shape))
        plan = DatacenterPlan(
            region=_label(block),
            name=_label(datacenter),
            servers=values.get("servers", 3),
            nodes=tuple(shapes),
        )
        if plan.servers not in (1, 3, 5, 7):
            raise datacenter.body.error(datacenter.span, "servers must be 1, 3, 5 or 7")
        plans.append(plan)
    return plans


def _network(block: Block, scenario: Scenario) -> None:
    _only(block.body, {}, {"lan", "region", "wan", "link"})
    for name, field in (("lan", "lan"), ("region", "region_link"), ("wan", "wan")):
        inner = block.body.block(name)
        if inner is not None:
            setattr(scenario, field, LinkModel(**_values(inner.body, _LINK)))
    for link in block.body.blocks_of("link"):
        if len(link.labels) != 2:
            raise block.body.error(link.span, 'a link names two regions: link "eu" "us" { ... }')
        a, b = sorted(link.labels)
        scenario.links[a, b] = LinkModel(**_values(link.body, _LINK))


def _fault(block: Block) -> FaultPlan:
    kind = _label(block)
    if kind not in FAULTS:
        raise block.body.error(
            block.label_spans[0],
            f"there is no fault {kind!r}: one of {', '.join(FAULTS)}",
            hint=did_you_mean(kind, FAULTS),
        )
    values = {"for_us": 0, **_values(block.body, _FAULT, required=("at",))}
    plan = FaultPlan(kind=kind, **values)
    needed = {
        "partition": ("source",), "cut": ("source", "target"), "slow": ("source", "target"),
        "loss": (),
    }.get(kind, ("target",))  # fmt: skip
    for field in needed:
        if not getattr(plan, field):
            name = {"source": "from", "target": "to" if "source" in needed else "target"}[field]
            raise block.body.error(block.span, f'fault "{kind}" needs {name!r}')
    return plan


def _goal(block: Block) -> GoalPlan:
    kind = _label(block)
    if kind not in ("running", "placed-in"):
        raise block.body.error(
            block.label_spans[0], f"there is no goal {kind!r}: running or placed-in"
        )
    needed = ("job", "count") if kind == "running" else ("job", "region")
    return GoalPlan(kind=kind, **_values(block.body, _GOAL, required=needed))


def _known_region(block: Block, region: str, regions: set[str]) -> None:
    if region not in regions:
        span = block.body.attributes["region"].value_span
        known = sorted(regions)
        raise block.body.error(
            span,
            f"there is no region {region!r}, only {', '.join(known)}",
            hint=did_you_mean(region, known),
        )


def _label(block: Block) -> str:
    if len(block.labels) != 1:
        raise block.body.error(block.span, f'a {block.type} block has one name: {block.type} "..."')
    return block.labels[0]


def _only(body: Body, keys: dict[str, _Key], blocks: set[str]) -> None:
    for name, attribute in body.attributes.items():
        if name not in keys:
            hint = did_you_mean(name, [*keys, *blocks])
            raise body.error(attribute.span, f"there is no {name!r} here", hint=hint)
    for block in body.blocks:
        if block.type not in blocks:
            hint = did_you_mean(block.type, [*keys, *blocks])
            raise body.error(block.span, f"there is no {block.type!r} block here", hint=hint)


def _values(
    body: Body,
    keys: dict[str, _Key],
    blocks: set[str] | None = None,
    *,
    required: tuple[str, ...] = (),
) -> dict[str, Any]:
    _only(body, keys, blocks or set())
    for name in required:
        if name not in body.attributes:
            raise body.error(body.span, f"{name!r} is missing")
    return {
        keys[name].field: _convert(body, attribute, keys[name].kind)
        for name, attribute in body.attributes.items()
    }


def _convert(body: Body, attribute: Attribute, kind: str) -> Any:
    value = attribute.value

    def wrong(what: str) -> SourceError:
        return body.error(attribute.value_span, f"{attribute.name!r} must be {what}")

    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind == "when" and value == "end":
        return -1
    if kind in ("duration", "when"):
        try:
            return parse_duration_ns(value) // 1_000
        except ValueError:
            raise wrong('a duration such as "1h30m" or "50ms"') from None
    if kind == "integer" and (not is_number or value != int(value) or value < 0):
        raise wrong("a whole number, not negative")
    if kind == "number" and (not is_number or not 0 <= value <= 1):
        raise wrong("a number from 0 to 1")
    if kind == "text" and not isinstance(value, str):
        raise wrong("a string")
    if kind == "flag" and not isinstance(value, bool):
        raise wrong("true or false")
    if kind == "map":
        if not isinstance(value, dict):
            raise wrong("a map")
        return {str(key): str(item) for key, item in value.items()}
    return int(value) if kind == "integer" else value
