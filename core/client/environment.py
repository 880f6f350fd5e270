"""A task's environment, and the values its job file may name at run time.

    scope = TaskScope(config, node_id, alloc, group, task)
    scope.env       what the process gets: NOMAD_*, the job's `env`
    scope.values    the same, and node.*, attr.*, meta.* for `${...}`

The order matters and is Nomad's: NOMAD_* first, then `meta` and `env` interpolated with
them, so `env { URL = "http://${NOMAD_ADDR_db}" }` works.
"""

import re
from typing import Final

from core.client.config import ClientConfig
from core.client.interpolation import interpolate
from core.model.allocation import AllocatedTask, Allocation, PortMapping
from core.model.job import Job, Task, TaskGroup

_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_]")
BRIDGED_MODES: Final = ("bridge", "cni/")


def node_values(config: ClientConfig, node_id: str) -> dict[str, str]:
    """Return `node.*`, `attr.*` and `meta.*`: what a job may ask of the node it runs on."""
    values = {
        "node.unique.id": node_id,
        "node.unique.name": config.name,
        "node.datacenter": config.datacenter,
        "node.region": config.region,
        "node.class": config.node_class,
        "node.pool": config.node_pool,
    }
    for name, value in config.fingerprint.attributes.items():
        values[f"attr.{name}"] = value
    for name, value in config.meta.items():
        values[f"meta.{name}"] = value
    return values


class TaskScope:
    """Names and values of one task of one allocation. Built once; nothing changes later."""

    def __init__(
        self,
        config: ClientConfig,
        node: dict[str, str],
        alloc: Allocation,
        group: TaskGroup,
        task: Task,
    ) -> None:
        self._node = node
        env = _identity(config, alloc, group, task)
        env |= _directories(config.alloc_dir, alloc.id, task.name)
        granted = allocated_task(alloc, task.name)
        env |= _limits(granted)
        env |= _devices(config, granted)
        env |= port_env(alloc, group, task)
        meta = merged_meta(alloc.job, group, task)
        scope = node | env
        for key, value in meta.items():
            text = interpolate(value, scope)
            env[f"NOMAD_META_{_UNSAFE.sub('_', key)}"] = text
            env[f"NOMAD_META_{_UNSAFE.sub('_', key.upper())}"] = text
        scope |= env
        for key, value in (task.env or {}).items():
            env[key] = interpolate(str(value), scope)
        self.env = env
        self.values = node | env


def merged_meta(job: Job | None, group: TaskGroup, task: Task) -> dict[str, str]:
    """Return a task's meta: the job's, overridden by its group's, overridden by its own."""
    merged = dict((job.meta if job else None) or {})
    merged |= group.meta or {}
    merged |= task.meta or {}
    return {key: str(value) for key, value in merged.items()}


def _identity(
    config: ClientConfig, alloc: Allocation, group: TaskGroup, task: Task
) -> dict[str, str]:
    job = alloc.job or Job()
    env = {
        "NOMAD_ALLOC_ID": alloc.id,
        "NOMAD_SHORT_ALLOC_ID": alloc.id[:8],
        "NOMAD_ALLOC_NAME": alloc.name,
        "NOMAD_ALLOC_INDEX": str(alloc.index),
        "NOMAD_TASK_NAME": task.name,
        "NOMAD_GROUP_NAME": group.name,
        "NOMAD_JOB_ID": alloc.job_id,
        "NOMAD_JOB_NAME": job.name or alloc.job_id,
        "NOMAD_DC": config.datacenter,
        "NOMAD_REGION": config.region,
        "NOMAD_NAMESPACE": alloc.namespace,
    }
    if job.parent_id:
        env["NOMAD_JOB_PARENT_ID"] = job.parent_id
    return env


def _directories(root: str, alloc_id: str, task: str) -> dict[str, str]:
    base = f"{root}/{alloc_id}"
    return {
        "NOMAD_ALLOC_DIR": f"{base}/alloc",
        "NOMAD_TASK_DIR": f"{base}/{task}/local",
        "NOMAD_SECRETS_DIR": f"{base}/{task}/secrets",
    }


def allocated_task(alloc: Allocation, task: str) -> AllocatedTask:
    """Return what a task of an allocation was given."""
    resources = alloc.allocated_resources
    return (resources.tasks.get(task) if resources else None) or AllocatedTask()


def _limits(granted: AllocatedTask) -> dict[str, str]:
    env = {}
    if granted.cpu.cpu_shares:
        env["NOMAD_CPU_LIMIT"] = str(granted.cpu.cpu_shares)
    if granted.cpu.reserved_cores:
        env["NOMAD_CPU_CORES"] = ",".join(str(core) for core in granted.cpu.reserved_cores)
    if granted.memory.memory_mb:
        env["NOMAD_MEMORY_LIMIT"] = str(granted.memory.memory_mb)
    if granted.memory.memory_max_mb:
        env["NOMAD_MEMORY_MAX_LIMIT"] = str(granted.memory.memory_max_mb)
    return env


def _devices(config: ClientConfig, granted: AllocatedTask) -> dict[str, str]:
    # Several blocks may have given devices that one variable names.
    ids: dict[str, list[str]] = {}
    for device in granted.devices or ():
        name = f"{device['Vendor']}/{device['Type']}/{device['Name']}"
        variable = config.device_variables.get(name)
        if variable:
            ids.setdefault(variable, []).extend(device["DeviceIDs"])
    return {variable: ",".join(held) for variable, held in ids.items()}


def port_env(alloc: Allocation, group: TaskGroup, task: Task) -> dict[str, str]:
    """Return NOMAD_{IP,PORT,ADDR}_label and their HOST_ and ALLOC_ forms.

    Inside a bridged network the task listens on the port that `to` names; on the host's
    network it listens on the host's port.
    """
    mode = (group.networks[0].mode if group.networks else "") or "host"
    is_bridged = mode.startswith(BRIDGED_MODES)
    env = {}
    for port in ports_of(alloc, task.name):
        inner = port.to if is_bridged and port.to > 0 else port.value
        for label in dict.fromkeys((port.label, _UNSAFE.sub("_", port.label))):
            for prefix, number in (("", inner), ("HOST_", port.value), ("ALLOC_", inner)):
                env[f"NOMAD_{prefix}IP_{label}"] = port.host_ip
                env[f"NOMAD_{prefix}PORT_{label}"] = str(number)
                env[f"NOMAD_{prefix}ADDR_{label}"] = join_address(port.host_ip, number)
    return env


def ports_of(alloc: Allocation, task: str = "") -> list[PortMapping]:
    """Return the ports an allocation holds: the group's, then those of `task`'s own block."""
    resources = alloc.allocated_resources
    if resources is None:
        return []
    ports = list(resources.shared.ports or ())
    known = {port.label for port in ports}
    granted = resources.tasks.get(task)
    networks = list(resources.shared.networks or ())
    networks += (granted.networks if granted else None) or ()
    for network in networks:
        for port in [*(network.reserved_ports or ()), *(network.dynamic_ports or ())]:
            if port.label not in known:
                known.add(port.label)
                ports.append(PortMapping(
                    label=port.label, value=port.value, to=port.to, host_ip=network.ip
                ))  # fmt: skip
    return ports


def join_address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
