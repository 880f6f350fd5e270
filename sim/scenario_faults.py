"""The `fault` blocks of a scenario: which kinds there are, and what each takes."""

from typing import Any, Final

from core.jobspec.hcl.body import Block
from sim.plans import FaultPlan, Scenario
from sim.reading import Key, one_of, value_error, values_of
from sim.targets import TargetError, check_places

TIME_KEYS: Final = {
    "at": Key("at_us", "duration"),
    "for": Key("lasts", "distribution"),
    "every": Key("every_us", "duration"),
    "rate": Key("rate_per_s", "rate"),
    "between": Key("between", "span"),
}
_ENDS: Final = {"from": Key("source", "places"), "to": Key("target", "places")}
_SOME: Final = {
    "target": Key("target", "places"),
    "count": Key("count", "integer"),
    "share": Key("share", "fraction"),
}
_WAVES: Final = {
    "batch": Key("batch", "integer"),
    "gap": Key("gap_us", "duration"),
    "down": Key("down_us", "duration"),
}

# kind -> its own keys, and those of them that must be written
FAULT_KEYS: Final[dict[str, tuple[dict[str, Key], tuple[str, ...]]]] = {
    "crash": (_SOME, ("target",)),
    "power": (_SOME, ("target",)),
    "pause": (_SOME, ("target",)),
    "sick": (
        {**_SOME, "period": Key("period_us", "duration"), "fraction": Key("fraction", "fraction")},
        ("target",),
    ),
    "partition": (_ENDS, ("from",)),
    "cut": (_ENDS, ("from", "to")),
    "flap": ({**_ENDS, "period": Key("period_us", "duration")}, ("from", "period")),
    "slow": ({**_ENDS, "extra": Key("extra_us", "duration")}, ("from", "to", "extra")),
    "loss": ({**_SOME, "fraction": Key("fraction", "fraction")}, ("fraction",)),
    "full-disk": (_SOME, ("target",)),
    "slow-disk": (
        {**_SOME, "factor": Key("factor", "amount"), "extra": Key("extra_us", "duration")},
        ("target",),
    ),
    "clock": ({**_SOME, "ppm": Key("ppm", "signed")}, ("target", "ppm")),
    "datacenter-loss": ({"target": Key("target", "places")}, ("target",)),
    "restart": ({**_SOME, **_WAVES}, ("target",)),
    "upgrade": (
        {**_SOME, **_WAVES, "schema": Key("schema", "integer")},
        ("target",),
    ),
    "maintenance": ({**_SOME, **_WAVES}, ("target",)),
    "datacenter-off": ({"target": Key("target", "places")}, ("target",)),
    "authority": ({"target": Key("target", "places")}, ("target",)),
    "adopt": ({"target": Key("target", "places"), "by": Key("by", "text")}, ("target",)),
    "drain-datacenter": ({"target": Key("target", "places")}, ("target",)),
    "drain-all": ({"target": Key("target", "places")}, ("target",)),
    "stop-job": ({"job": Key("job", "text")}, ("job",)),
    "force-leave": (_SOME, ("target",)),
    "remove-peer": (_SOME, ("target",)),
}
FAULTS: Final = tuple(FAULT_KEYS)
# These only begin: what they do can't be taken back by itself, or ends by itself.
ENDLESS: Final = frozenset(
    {"adopt", "authority", "datacenter-off", "force-leave", "remove-peer", "restart", "upgrade"}
)


def read_fault(block: Block, scenario: Scenario) -> FaultPlan:
    """Return the plan of a `fault "KIND"` block.

    Raises:
        SourceError: The kind, a key or a value is wrong.
    """
    body = block.body
    kind = one_of(block, FAULT_KEYS, "fault")
    own, required = FAULT_KEYS[kind]
    keys = {**TIME_KEYS, **own}
    if kind in ENDLESS:
        del keys["for"]
    values = values_of(body, keys, required=required)
    for name in required:
        if not body.attributes[name].value:
            raise value_error(body, name, f'fault "{kind}" needs {name!r}, not empty or 0')
    _check_times(block, kind, values)
    lasts = values.get("lasts")
    if lasts is not None and lasts.kind == "constant":
        values["for_us"] = int(values.pop("lasts").parameters[0] * 1e6)
    between = values.pop("between", None)
    if between is not None:
        values.setdefault("at_us", between[0])
        values["until_us"] = between[1]
    if values.get("count") and values.get("share"):
        raise value_error(body, "share", "either 'count' or 'share', not both")
    if kind == "slow-disk" and not ({"factor", "extra"} & body.attributes.keys()):
        raise body.error(body.span, "fault \"slow-disk\" needs 'factor' or 'extra'")
    for name, field in (("from", "source"), ("to", "target"), ("target", "target")):
        if name in body.attributes:
            try:
                check_places(values[field], scenario)
            except TargetError as error:
                raise value_error(body, name, str(error), error.hint) from None
    return FaultPlan(kind=kind, **{"at_us": 0, **values})


def _check_times(block: Block, kind: str, values: dict[str, Any]) -> None:
    body = block.body
    is_again = "rate_per_s" in values or "every_us" in values
    if not is_again and "at_us" not in values:
        raise body.error(
            block.span,
            f"fault \"{kind}\" needs 'at', or 'every' or 'rate'",
            hint='at = "10m"; or rate = "2/h" and between = ["10m", "2h"]',
        )
    if "rate_per_s" in values and "every_us" in values:
        raise value_error(body, "rate", "either 'every' or 'rate', not both")
    if "every_us" in values and not values["every_us"]:
        raise value_error(body, "every", "'every' must be more than 0")
    if "between" in values and not is_again:
        raise value_error(body, "between", "'between' goes with 'every' or 'rate'")
    if "between" in values and "at_us" in values:
        raise value_error(body, "at", "either 'at' or 'between', not both")
