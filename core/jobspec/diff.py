"""What changed between two jobs: Nomad's `JobDiff`, for `job plan` and `job history -p`.

A diff is made of fields (one line each), objects (named blocks, which nest), task
groups and tasks. Only what differs is listed, in the order of the names. Blocks that
carry a name (services, checks, volumes, templates by destination) are compared with
their namesake; other blocks of a list have no identity, so a changed one is a deleted
and an added one.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from core.model.job import Job

Plain = dict[str, Any]

NONE, ADDED, DELETED, EDITED = "None", "Added", "Deleted", "Edited"

# What the server writes, or what names the thing itself, is no change of the job.
_IGNORED_OF_JOB: Final = frozenset(
    {
        "ID", "Status", "StatusDescription", "Version", "Stable", "CreateIndex", "ModifyIndex",
        "JobModifyIndex", "SubmitTime", "NomadTokenID", "VersionTag", "SeraiUID", "Update",
        "TaskGroups", "Migrate", "Reschedule",
    }
)  # fmt: skip
_IGNORED_OF_GROUP: Final = frozenset({"Name", "Tasks"})
_IGNORED_OF_TASK: Final = frozenset({"Name"})
# Maps of strings that are listed as fields: Env[KEY].
_AS_FIELDS: Final = frozenset({"Env", "Meta", "CanaryMeta", "TaggedAddresses"})
_SINGULAR: Final = {
    "Constraints": "Constraint", "Affinities": "Affinity", "Spreads": "Spread",
    "Networks": "Network", "Services": "Service", "Checks": "Check", "Templates": "Template",
    "Artifacts": "Artifact", "VolumeMounts": "VolumeMount", "ReservedPorts": "Static Port",
    "DynamicPorts": "Dynamic Port", "Devices": "Device", "Identities": "Identity",
    "Actions": "Action", "ScalingPolicies": "Scaling", "SpreadTarget": "SpreadTarget",
    "Secrets": "Secret", "Links": "Link", "ParameterizedJob": "ParameterizedJob",
}  # fmt: skip
_NAMED_BY: Final = {
    "Services": "Name", "Checks": "Name", "Templates": "DestPath", "Devices": "Name",
    "Actions": "Name", "Identities": "Name", "ScalingPolicies": "Type", "Secrets": "Name",
}  # fmt: skip


def diff_jobs(old: Job | None, new: Job | None) -> Plain:
    """Return the JobDiff of two canonical jobs as JSON: Type, ID, Fields, Objects, TaskGroups.

    Raises:
        ValueError: both are None, or their ids differ.
    """
    if old is None and new is None:
        raise ValueError("there is nothing to compare")
    if old is not None and new is not None and old.id != new.id:
        raise ValueError(f"these are different jobs: {old.id} and {new.id}")
    before, after = _plain(old), _plain(new)
    made = _compare(before, after, _IGNORED_OF_JOB)
    groups = _by_name(before, after, "TaskGroups", _group)
    job = new if new is not None else old
    assert job is not None
    return {
        "Type": _kind(before, after, made, groups),
        "ID": job.id or "",
        "Fields": made["Fields"],
        "Objects": made["Objects"],
        "TaskGroups": groups or None,
    }


def annotate(diff: Plain) -> Plain:
    """Write into a plan's diff what each change leads to, in Nomad's words; return it."""
    for group in diff.get("TaskGroups") or []:
        for field in group.get("Fields") or []:
            if field["Name"] == "Count":
                _annotate_count(field)
        for task in group.get("Tasks") or []:
            if task["Type"] == ADDED:
                task["Annotations"] = ["forces create"]
            elif task["Type"] == DELETED:
                task["Annotations"] = ["forces destroy"]
            elif task["Type"] == EDITED:
                in_place = _is_in_place(task)
                task["Annotations"] = [
                    "forces in-place update" if in_place else "forces create/destroy update"
                ]
    return diff


def _annotate_count(field: Plain) -> None:
    before, after = int(field["Old"] or 0), int(field["New"] or 0)
    if after != before:
        field["Annotations"] = ["forces create" if after > before else "forces destroy"]


def _is_in_place(task: Plain) -> bool:
    """Whether the task can follow without a restart (Nomad: scheduler/annotate.go's rule)."""
    return all(f["Name"] == "KillTimeout" for f in task["Fields"] or []) and all(
        o["Name"] in {"LogConfig", "Service", "Constraint"} for o in task["Objects"] or []
    )


def _plain(job: Job | None) -> Plain | None:
    return None if job is None else msgspec.to_builtins(job)


def _kind(before: Plain | None, after: Plain | None, made: Plain, parts: list[Plain]) -> str:
    if before is None:
        return ADDED
    if after is None:
        return DELETED
    return EDITED if made["Fields"] or made["Objects"] or parts else NONE


def _group(before: Plain | None, after: Plain | None) -> Plain:
    made = _compare(before, after, _IGNORED_OF_GROUP)
    tasks = _by_name(before, after, "Tasks", _task)
    return {
        "Type": _kind(before, after, made, tasks),
        "Name": (after or before or {})["Name"],
        **made,
        "Tasks": tasks or None,
        "Updates": None,
    }


def _task(before: Plain | None, after: Plain | None) -> Plain:
    made = _compare(before, after, _IGNORED_OF_TASK)
    return {
        "Type": _kind(before, after, made, []),
        "Name": (after or before or {})["Name"],
        **made,
        "Annotations": None,
    }


def _by_name(
    before: Plain | None,
    after: Plain | None,
    key: str,
    compare: Callable[[Plain | None, Plain | None], Plain],
) -> list[Plain]:
    """Return the changed ones of two lists whose items carry a unique Name."""
    old = {item["Name"]: item for item in (before or {}).get(key) or []}
    new = {item["Name"]: item for item in (after or {}).get(key) or []}
    diffs = [compare(old.get(name), new.get(name)) for name in sorted(old.keys() | new.keys())]
    return [diff for diff in diffs if diff["Type"] != NONE]


def _compare(before: Plain | None, after: Plain | None, ignored: frozenset[str]) -> Plain:
    """Return {"Fields", "Objects"} of what differs between two records; None where nothing."""
    old, new = before or {}, after or {}
    fields: list[Plain] = []
    objects: list[Plain] = []
    for name in sorted((old.keys() | new.keys()) - ignored):
        left, right = old.get(name), new.get(name)
        if left == right:
            continue
        if name in _AS_FIELDS:
            fields += _map_fields(name, left or {}, right or {})
        elif isinstance(left, dict) or isinstance(right, dict):
            objects += _object(name, left, right)
        elif isinstance(left, list) or isinstance(right, list):
            objects += _list(name, left or [], right or [])
        else:
            fields += _field(name, left, right)
    objects.sort(key=lambda diff: str(diff["Name"]))
    return {"Fields": fields or None, "Objects": objects or None}


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _field(name: str, left: Any, right: Any) -> list[Plain]:
    old, new = _text(left), _text(right)
    if old == new:
        return []
    kind = ADDED if old == "" else DELETED if new == "" else EDITED
    return [{"Type": kind, "Name": name, "Old": old, "New": new, "Annotations": None}]


def _map_fields(name: str, left: Plain, right: Plain) -> list[Plain]:
    keys = sorted(left.keys() | right.keys())
    return [f for key in keys for f in _field(f"{name}[{key}]", left.get(key), right.get(key))]


def _object(name: str, left: Plain | None, right: Plain | None) -> list[Plain]:
    """Return one ObjectDiff, or one for each member of a map of objects (volumes)."""
    if name == "Volumes":
        keys = sorted((left or {}).keys() | (right or {}).keys())
        pairs = [((left or {}).get(key), (right or {}).get(key)) for key in keys]
        return [diff for old, new in pairs for diff in _object("Volume", old, new)]
    if name in {"Config", "Policy"}:
        fields = _free_fields(left, right)
        made: Plain = {"Fields": fields or None, "Objects": None}
    else:
        made = _compare(left, right, frozenset())
    kind = _kind(left, right, made, [])
    if kind == NONE or (kind != EDITED and not made["Fields"] and not made["Objects"]):
        return []
    return [{"Type": kind, "Name": name, **made}]


def _free_fields(left: Plain | None, right: Plain | None) -> list[Plain]:
    """Return the fields of a schema-less block, nested ones spelled `ports[0].http`."""
    old, new = _flatten(left or {}), _flatten(right or {})
    names = sorted(old.keys() | new.keys())
    return [f for name in names for f in _field(name, old.get(name), new.get(name))]


def _flatten(value: Any, path: str = "") -> dict[str, str]:
    if isinstance(value, dict):
        parts = [(f"{path}.{key}" if path else str(key), item) for key, item in value.items()]
    elif isinstance(value, list):
        parts = [(f"{path}[{number}]", item) for number, item in enumerate(value)]
    else:
        return {path: _text(value)}
    return {name: text for key, item in parts for name, text in _flatten(item, key).items()}


def _list(name: str, left: list[Any], right: list[Any]) -> list[Plain]:
    if not any(isinstance(item, dict) for item in [*left, *right]):
        return _string_list(name, [_text(i) for i in left], [_text(i) for i in right])
    own = _SINGULAR.get(name, name)
    key = _NAMED_BY.get(name)
    if key is not None:
        old = {item.get(key): item for item in left}
        new = {item.get(key): item for item in right}
        # Doubles have no identity after all; then all of them are compared as a set.
        if len(old) == len(left) and len(new) == len(right):
            names = sorted(old.keys() | new.keys(), key=str)
            return [d for n in names for d in _object(own, old.get(n), new.get(n))]
    if len(left) == len(right) == 1:
        return _object(own, left[0], right[0])
    gone = [item for item in left if item not in right]
    come = [item for item in right if item not in left]
    return [
        *(diff for item in gone for diff in _object(own, item, None)),
        *(diff for item in come for diff in _object(own, None, item)),
    ]


def _string_list(name: str, left: list[str], right: list[str]) -> list[Plain]:
    come = [f for text in sorted(set(right) - set(left)) for f in _field(name, "", text)]
    gone = [f for text in sorted(set(left) - set(right)) for f in _field(name, text, "")]
    if not come and not gone:
        return []
    kind = ADDED if not left else DELETED if not right else EDITED
    return [{"Type": kind, "Name": name, "Fields": [*come, *gone], "Objects": None}]
