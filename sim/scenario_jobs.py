"""The workload of a scenario: `job`, `arrivals`, `trace` and `stop` blocks."""

from typing import Any, Final

import msgspec

from core.jobspec.diagnostics import did_you_mean
from core.jobspec.hcl.body import Block
from sim.plans import ArrivalPlan, CallPlan, JobPlan, StopPlan, TracePlan
from sim.reading import Key, label_of, value_error, values_of

PROCESSES: Final = ("poisson", "steady", "burst", "daily")

_TASKS: Final = {
    "run_time": Key("run_time", "distribution"),
    "failures": Key("failures", "fraction"),
    "lifetime": Key("lifetime", "distribution"),
    "variables": Key("variables", "map"),
}
JOB_KEYS: Final = {
    "file": Key("file", "text"),
    "name": Key("job_name", "text"),
    "at": Key("at_us", "duration"),
    "region": Key("region", "text"),
    "datacenter": Key("datacenter", "text"),
    "copies": Key("copies", "integer"),
    "every": Key("every_us", "duration"),
    "count": Key("count", "integer"),
    **_TASKS,
}
ARRIVAL_KEYS: Final = {
    "file": Key("file", "text"),
    "process": Key("process", "text"),
    "rate": Key("rate_per_s", "rate"),
    "from": Key("from_us", "duration"),
    "until": Key("until_us", "duration"),
    "limit": Key("limit", "integer"),
    "every": Key("every_us", "duration"),
    "size": Key("size", "integer"),
    "peak": Key("peak_us", "duration"),
    "swing": Key("swing", "fraction"),
    "region": Key("regions", "texts"),
    "count": Key("count", "distribution"),
    **_TASKS,
}
TRACE_KEYS: Final = {
    "file": Key("file", "text"),
    "job": Key("job", "text"),
    "from": Key("from_us", "duration"),
    "until": Key("until_us", "duration"),
    "speed": Key("speed", "amount"),
    "region": Key("regions", "texts"),
    "variables": Key("variables", "map"),
}
STOP_KEYS: Final = {
    "at": Key("at_us", "duration"),
    "region": Key("region", "text"),
    "purge": Key("purge", "flag"),
}
CALL_KEYS: Final = {
    "at": Key("at_us", "duration"),
    "every": Key("every_us", "duration"),
    "region": Key("region", "text"),
    "datacenter": Key("datacenter", "text"),
    "namespace": Key("namespace", "text"),
    "job": Key("job", "text"),
    "node": Key("node", "places"),
    "params": Key("params", "map"),
    "body": Key("body", "text"),
}
# What each process needs; what only others take is refused.
_NEEDS: Final = {
    "poisson": ("rate",), "steady": ("rate",), "daily": ("rate",), "burst": ("every", "size"),
}  # fmt: skip
_OF_ONE: Final = {"every": "burst", "size": "burst", "peak": "daily", "swing": "daily"}


def read_job(block: Block, regions: list[str], places: list[str]) -> JobPlan:
    """Return the plan of a `job` block; `places` are the datacenters, REGION/NAME."""
    values = values_of(block.body, JOB_KEYS, required=("file",))
    _known(block, regions)
    values = {"at_us": 10_000_000, "region": regions[0], **values}
    if "datacenter" in values and f"{values['region']}/{values['datacenter']}" not in places:
        message = f"region {values['region']!r} has no datacenter {values['datacenter']!r}"
        names = [name.partition("/")[2] for name in places]
        raise value_error(
            block.body, "datacenter", message, did_you_mean(values["datacenter"], names)
        )
    return JobPlan(name=label_of(block), **values)


def read_arrivals(block: Block, regions: list[str]) -> ArrivalPlan:
    body = block.body
    values = values_of(body, ARRIVAL_KEYS, required=("file", "process"))
    process = values["process"]
    if process not in PROCESSES:
        message = f"there is no process {process!r}: {', '.join(PROCESSES)}"
        raise value_error(body, "process", message, did_you_mean(process, PROCESSES))
    for name in _NEEDS[process]:
        if not values.get(ARRIVAL_KEYS[name].field):
            raise value_error(body, name, f"process {process!r} needs {name!r}, more than 0")
    for name, owner in _OF_ONE.items():
        if name in body.attributes and process != owner:
            raise body.error(
                body.attributes[name].span, f"{name!r} belongs to process {owner!r} only"
            )
    if process == "burst" and "rate" in body.attributes:
        raise body.error(body.attributes["rate"].span, "a burst has 'every' and 'size', no rate")
    _known(block, regions)
    _ordered(block, values)
    return ArrivalPlan(name=label_of(block), **values)


def read_trace(block: Block, regions: list[str]) -> TracePlan:
    values = values_of(block.body, TRACE_KEYS, required=("file", "job"))
    _known(block, regions)
    _ordered(block, values)
    return TracePlan(name=label_of(block), **values)


def read_stop(block: Block, regions: list[str]) -> StopPlan:
    values = values_of(block.body, STOP_KEYS, required=("at",))
    _known(block, regions)
    return StopPlan(job=label_of(block), **{"region": regions[0], **values})


def _known(block: Block, regions: list[str]) -> None:
    value = block.body.get("region", regions[0])
    for region in value if isinstance(value, list) else [value]:
        if region not in regions:
            raise value_error(
                block.body,
                "region",
                f"there is no region {region!r}, only {', '.join(regions)}",
                did_you_mean(region, regions),
            )


def read_call(block: Block, regions: list[str]) -> CallPlan:
    """Return the plan of a `call "METHOD"` block."""
    from core.server.endpoints.table import ENDPOINTS  # all of them: only for whoever makes calls

    method = label_of(block)
    if method not in ENDPOINTS:
        message = f"the API has no method {method!r}"
        hint = did_you_mean(method, ENDPOINTS) or "core/server/endpoints lists them"
        raise block.body.error(block.label_spans[0], message, hint=hint)
    values = values_of(block.body, CALL_KEYS, required=("at",))
    _known(block, regions)
    if "body" in values:
        try:
            msgspec.json.decode(values["body"])
        except msgspec.DecodeError as error:
            message = f"'body' is JSON, such as jsonencode({{ Count = 3 }}): {error}"
            raise value_error(block.body, "body", message) from None
    return CallPlan(method=method, **{"region": regions[0], **values})


def _ordered(block: Block, values: dict[str, Any]) -> None:
    until_us = values.get("until_us", 0)
    if until_us and until_us <= values.get("from_us", 10_000_000):
        raise value_error(block.body, "until", "'until' must come after 'from' (10s)")
