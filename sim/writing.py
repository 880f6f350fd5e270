"""A scenario as text: the way back from its records to HCL, by the same tables of keys.

    text = write_scenario(scenario)          # reads as the same scenario again
    lines = block("region", ["eu"], {}, datacenter(plan))

Times, rates and draws are written so that not a microsecond is lost. Blocks with a `count`
are written one by one: a scenario that was read no longer knows them.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

import msgspec

from core.jobspec.hcl.format import format_text
from core.jobspec.hcl.write import expression, header
from core.model.durations import duration_text
from sim.plans import ALWAYS, AT_END, DatacenterPlan, FaultPlan, GoalPlan, Scenario
from sim.reading import Keys
from sim.scenario import DATACENTER_KEYS, DISK_KEYS, LINK_KEYS, NODE_KEYS, SCENARIO_KEYS
from sim.scenario_faults import FAULT_KEYS, TIME_KEYS
from sim.scenario_goals import GOAL_KEYS
from sim.scenario_jobs import ARRIVAL_KEYS, CALL_KEYS, JOB_KEYS, STOP_KEYS, TRACE_KEYS

Lines = list[str]


def write_scenario(scenario: Scenario, folder: str = "") -> str:
    """Return the text of a scenario.

    Args:
        scenario: As it was read, or made.
        folder: Where the text will lie; job files are named from there. "" = where it did.
    """
    moved = _Moved(scenario.folder, folder or scenario.folder)
    lines = block("scenario", [scenario.name], attributes(scenario, SCENARIO_KEYS))
    for region, plans in groupby(scenario.datacenters, key=lambda plan: plan.region):
        inner = []
        for plan in plans:
            said = moved({}, snapshot=plan.snapshot) if plan.snapshot else None
            inner += datacenter(plan, said)
        lines += block("region", [region], {}, inner)
    lines += _network(scenario)
    if disk := attributes(scenario.disk, DISK_KEYS):
        lines += block("disk", [], disk)
    for job in scenario.jobs:
        lines += block("job", [job.name], moved(attributes(job, JOB_KEYS), file=job.file))
    for arrivals in scenario.arrivals:
        said = moved(attributes(arrivals, ARRIVAL_KEYS), file=arrivals.file)
        lines += block("arrivals", [arrivals.name], said)
    for trace in scenario.traces:
        said = moved(attributes(trace, TRACE_KEYS), file=trace.file, job=trace.job)
        lines += block("trace", [trace.name], said)
    for stop in scenario.stops:
        lines += block("stop", [stop.job], attributes(stop, STOP_KEYS))
    for call in scenario.calls:
        lines += block("call", [call.method], attributes(call, CALL_KEYS))
    for fault in scenario.faults:
        lines += _fault(fault)
    for goal in scenario.goals:
        lines += _goal(goal)
    return format_text("\n".join([*lines, ""]), scenario.name)


def block(
    type_: str, labels: Iterable[str], said: Mapping[str, str], inner: Iterable[str] = ()
) -> Lines:
    """Return a block, whose attributes are expressions; not yet laid out."""
    return [
        header(type_, labels),
        *(f"{name} = {text}" for name, text in said.items()),
        *inner,
        "}",
    ]


def attributes(record: msgspec.Struct, keys: Keys) -> dict[str, str]:
    """Return what a record says, as expressions by the names of `keys`, without defaults."""
    defaults = {field.name: field.default for field in msgspec.structs.fields(record)}
    made = {
        field.name: field.default_factory()
        for field in msgspec.structs.fields(record)
        if field.default_factory is not msgspec.NODEFAULT
    }
    said = {}
    for name, key in keys.items():
        value = getattr(record, key.field)
        default = made.get(key.field, defaults[key.field])
        if default is msgspec.NODEFAULT or value != default:
            said[name] = _WRITERS[key.kind](value)
    return said


def datacenter(plan: DatacenterPlan, instead: Mapping[str, str] | None = None) -> Lines:
    """Return the block of a datacenter; `instead` has expressions for some of its keys."""
    inner: Lines = []
    for shape in plan.nodes:
        inner += block("nodes", [shape.label], attributes(shape, NODE_KEYS))
    if plan.disk is not None:
        inner += block("disk", [], attributes(plan.disk, DISK_KEYS))
    keys = {name: key for name, key in DATACENTER_KEYS.items() if name != "count"}
    return block("datacenter", [plan.name], {**attributes(plan, keys), **(instead or {})}, inner)


class _Moved:
    """Names files from another folder."""

    def __init__(self, before: str, after: str) -> None:
        self._before, self._after = before, after

    def __call__(self, said: dict[str, str], **files: str) -> dict[str, str]:
        for name, path in files.items():
            whole = os.path.join(self._before, path)
            if self._before != self._after and not os.path.isabs(path):
                path = os.path.relpath(whole, self._after or ".")
            said[name] = expression(path)
        return said


def _network(scenario: Scenario) -> Lines:
    inner: Lines = []
    named = (("lan", scenario.lan), ("region", scenario.region_link), ("wan", scenario.wan))
    for name, model in named:
        if model is not None:
            inner += block(name, [], attributes(model, LINK_KEYS))
    for ends, model in scenario.links.items():
        inner += block("link", ends, attributes(model, LINK_KEYS))
    return block("network", [], {}, inner) if inner else []


def _fault(fault: FaultPlan) -> Lines:
    keys = {**TIME_KEYS, **FAULT_KEYS[fault.kind][0]}
    del keys["between"]
    said = attributes(fault, keys)
    if fault.for_us:
        said["for"] = _duration(fault.for_us)
    if fault.until_us:
        del said["at"]
        said["between"] = f"[{_duration(fault.at_us)}, {_duration(fault.until_us)}]"
    return block("fault", [fault.kind], said)


def _goal(goal: GoalPlan) -> Lines:
    return block("goal", [goal.kind], attributes(goal, GOAL_KEYS[goal.kind][0]))


def _duration(us: int) -> str:
    return expression(duration_text(us * 1_000))


def _number(value: float) -> str:
    return expression(int(value) if value == int(value) else value)


_WORDS: Final = {AT_END: '"end"', ALWAYS: '"always"'}
_WRITERS: Final[dict[str, Callable[[Any], str]]] = {
    "duration": _duration,
    "when": lambda us: _WORDS.get(us) or _duration(us),
    "integer": _number,
    "signed": _number,
    "fraction": _number,
    "amount": _number,
    "count": _number,
    "text": expression,
    "texts": lambda names: expression(list(names)),
    "places": expression,
    "flag": expression,
    "pools": lambda is_formed: expression("formed" if is_formed else "cold"),
    "map": expression,
    "distribution": lambda draw: expression(draw.text),
    "rate": lambda per_s: expression(f"{per_s!r}/s"),
    "bandwidth": lambda bytes_per_s: expression(f"{bytes_per_s:f} B/s"),
    "seconds": lambda seconds: expression(duration_text(round(seconds * 1e9))),
}

__all__: Sequence[str] = ["Lines", "attributes", "block", "datacenter", "write_scenario"]
