"""The `goal` blocks of a scenario: which kinds there are, and what each takes."""

from typing import Final

from core.jobspec.hcl.body import Block
from sim.plans import ALWAYS, GoalPlan, Scenario
from sim.reading import Key, one_of, value_error, values_of

_SPAN: Final = {"from": Key("from_us", "duration"), "until": Key("until_us", "duration")}
_WHEN: Final = {"at": Key("at_us", "when"), **_SPAN}
_JOB: Final = {"job": Key("job", "text")}
_AT_MOST: Final = {"at_most": Key("at_most", "count")}
_SECONDS: Final = {"at_most": Key("at_most", "seconds"), "quantile": Key("quantile", "fraction")}

# kind -> its keys, and those of them that must be written
GOAL_KEYS: Final[dict[str, tuple[dict[str, Key], tuple[str, ...]]]] = {
    "running": (
        {**_JOB, "count": Key("count", "integer"), "at_least": Key("at_least", "count"), **_WHEN},
        ("job",),
    ),
    "placed-in": ({**_JOB, "region": Key("region", "text"), **_WHEN}, ("job", "region")),
    "availability": ({**_JOB, "at_least": Key("at_least", "fraction"), **_SPAN}, ("at_least",)),
    "queue-wait": (_SECONDS, ("at_most",)),
    "detection": (_SECONDS, ("at_most",)),
    "converged": ({"within": Key("within_us", "duration")}, ("within",)),
    "placed": ({"at_least": Key("at_least", "count"), **_WHEN}, ("at_least",)),
    "reported": ({"at_least": Key("at_least", "count"), **_WHEN}, ("at_least",)),
    "acknowledged": ({"at_least": Key("at_least", "count")}, ("at_least",)),
    "refused": (_AT_MOST, ()),
    "lost": (_AT_MOST, ()),
    "false-deaths": (_AT_MOST, ()),
    "restarted": ({"at_least": Key("at_least", "count")}, ("at_least",)),
    "schema": ({"at_least": Key("at_least", "count")}, ("at_least",)),
    "bandwidth": ({"at_most": Key("at_most", "bandwidth"), **_SPAN}, ("at_most",)),
}
GOALS: Final = tuple(GOAL_KEYS)


def read_goal(block: Block, scenario: Scenario) -> GoalPlan:
    """Return the plan of a `goal "KIND"` block.

    Raises:
        SourceError: The kind, a key or a value is wrong.
    """
    body = block.body
    kind = one_of(block, GOAL_KEYS, "goal")
    keys, required = GOAL_KEYS[kind]
    values = values_of(body, keys, required=required)
    region = values.get("region")
    if region is not None and region not in scenario.regions:
        known = ", ".join(scenario.regions)
        raise value_error(body, "region", f"there is no region {region!r}, only {known}")
    if values.get("count") is not None and values.get("at_least") is not None:
        raise value_error(body, "at_least", "either 'count' or 'at_least', not both")
    has_span = bool({"from", "until"} & body.attributes.keys())
    if "at" in keys and has_span and values.get("at_us") != ALWAYS:
        raise body.error(body.span, "'from' and 'until' go with at = \"always\"")
    until_us = values.get("until_us", 0)
    if until_us and until_us <= values.get("from_us", 0):
        raise value_error(body, "until", "'until' must come after 'from'")
    defaults = {} if kind not in ("refused", "lost", "false-deaths") else {"at_most": 0.0}
    return GoalPlan(kind=kind, **{**defaults, **values})
