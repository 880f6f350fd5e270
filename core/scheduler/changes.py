"""Which change of a job its running instances can follow without a restart.

Nomad's rule (`tasksUpdated`): an instance must be replaced when anything changed that its
processes were started with, or which nodes it likes. What only the servers or the service
registry read (count, meta of a service, restart and update policy, constraints that its
node still meets, kill timeout) is followed in place.
"""

import msgspec

from core.model.job import Job, NetworkResource, Resources, Task, TaskGroup
from core.scheduler.constraints import DISTINCT

# What a task's process was started with. Named by `core.model.job.Task` fields.
_TASK_FIELDS = (
    "driver",
    "user",
    "config",
    "env",
    "artifacts",
    "vault",
    "consul",
    "templates",
    "dispatch_payload",
    "volume_mounts",
    "csi_plugin_config",
    "kind",
    "secrets",
    "identities",
    "identity",
    "schedule",
    "leader",
)
_GROUP_FIELDS = ("volumes", "ephemeral_disk", "consul")


def is_destructive(old: Job, new: Job, group_name: str) -> bool:
    """Whether instances of `group_name` must be replaced to go from `old` to `new`."""
    before, after = _group(old, group_name), _group(new, group_name)
    if before is None or after is None:
        return True
    if any(_differs(getattr(before, name), getattr(after, name)) for name in _GROUP_FIELDS):
        return True
    if _networks(before.networks) != _networks(after.networks):
        return True
    old_tasks = {task.name: task for task in before.tasks or []}
    new_tasks = {task.name: task for task in after.tasks or []}
    if old_tasks.keys() != new_tasks.keys():
        return True
    if _combined_meta(old, before) != _combined_meta(new, after):
        return True
    if _preferences(old, before) != _preferences(new, after):
        return True
    return any(_is_task_changed(old_tasks[name], task) for name, task in new_tasks.items())


def _is_task_changed(before: Task, after: Task) -> bool:
    if any(_differs(getattr(before, name), getattr(after, name)) for name in _TASK_FIELDS):
        return True
    if (before.meta or {}) != (after.meta or {}):
        return True
    return _resources(before.resources) != _resources(after.resources) or _differs(
        before.lifecycle, after.lifecycle
    )


def _resources(asked: Resources | None) -> tuple[object, ...]:
    # `iops` and `disk_mb` of a task are read by nobody.
    if asked is None:
        return ()
    return (
        asked.cpu,
        asked.cores or 0,
        asked.memory_mb,
        asked.memory_max_mb or 0,
        msgspec.to_builtins(asked.devices or []),
        msgspec.to_builtins(asked.numa or {}),
        _networks(asked.networks),
    )


def _networks(networks: list[NetworkResource] | None) -> list[tuple[object, ...]]:
    # Host names of an address and bandwidth are not what a process was started with.
    return [
        (
            network.mode or "host",
            network.hostname,
            msgspec.to_builtins(network.dns),
            msgspec.to_builtins(network.cni),
            [(p.label, p.value, p.to, p.host_network) for p in network.reserved_ports or []],
            [(p.label, p.to, p.host_network) for p in network.dynamic_ports or []],
        )
        for network in networks or []
    ]


def _combined_meta(job: Job, group: TaskGroup) -> dict[str, str]:
    return {**(job.meta or {}), **(group.meta or {})}


def _preferences(job: Job, group: TaskGroup) -> object:
    # Nodes that are liked better, or are apart from the others', are reached only by moving.
    affinities = [*(job.affinities or []), *(group.affinities or [])]
    constraints = [*(job.constraints or []), *(group.constraints or [])]
    for task in group.tasks or []:
        affinities += task.affinities or []
        constraints += task.constraints or []
    spreads = [*(job.spreads or []), *(group.spreads or [])]
    return affinities, spreads, [one for one in constraints if one.operand in DISTINCT]


def _differs(before: object, after: object) -> bool:
    # "Not said" and "said to be empty" are the same once a job is canonical.
    return (before or None) != (after or None)


def _group(job: Job, name: str) -> TaskGroup | None:
    return next((group for group in job.task_groups or [] if group.name == name), None)
