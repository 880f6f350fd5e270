"""Nomad's defaults, filled into a job: what the server stores and the API shows.

Idempotent. Policies are inherited as Nomad does: a group's `update`, `reschedule` and
`migrate` fill from the job's, a task's `restart` and a check's `check_restart` from the
group's and the service's, and only then from the defaults of the job's type.
"""

from typing import Any, Final, TypeVar

import msgspec

from core.jobspec.canonical_kept import (
    complete_change_script,
    complete_connect,
    complete_consul,
    complete_csi_plugin,
    complete_multiregion,
    complete_vault,
    complete_wait,
    complete_weights,
)
from core.model.job import (
    Affinity,
    CheckRestart,
    EphemeralDisk,
    Job,
    LogConfig,
    MigrateStrategy,
    NetworkResource,
    ReschedulePolicy,
    Resources,
    RestartPolicy,
    ScalingPolicy,
    Service,
    ServiceCheck,
    Spread,
    Task,
    TaskArtifact,
    TaskGroup,
    Template,
    UpdateStrategy,
)

R = TypeVar("R", bound=msgspec.Struct)

_SECOND: Final = 1_000_000_000
_MINUTE: Final = 60 * _SECOND
_HOUR: Final = 60 * _MINUTE

DEFAULT_PRIORITY: Final = 50
DEFAULT_WEIGHT: Final = 50

_RESTART: Final = {"interval_ns": 30 * _MINUTE, "attempts": 2}
_RESTART_BATCH: Final = {"interval_ns": 24 * _HOUR, "attempts": 3}
_RESTART_ALL: Final = {"delay_ns": 15 * _SECOND, "mode": "fail", "render_templates": False}
_RESCHEDULE: Final[dict[str, dict[str, Any]]] = {
    "service": {
        "attempts": 0, "interval_ns": 0, "delay_ns": 30 * _SECOND,
        "delay_function": "exponential", "max_delay_ns": _HOUR, "unlimited": True,
    },
    "batch": {
        "attempts": 1, "interval_ns": 24 * _HOUR, "delay_ns": 5 * _SECOND,
        "delay_function": "constant", "max_delay_ns": 0, "unlimited": False,
    },
}  # fmt: skip
_NO_RESCHEDULE: Final[dict[str, Any]] = {
    "attempts": 0, "interval_ns": 0, "delay_ns": 0, "delay_function": "", "max_delay_ns": 0,
    "unlimited": False,
}  # fmt: skip
_UPDATE: Final[dict[str, Any]] = {
    "stagger_ns": 30 * _SECOND, "max_parallel": 1, "health_check": "checks",
    "min_healthy_time_ns": 10 * _SECOND, "healthy_deadline_ns": 5 * _MINUTE,
    "progress_deadline_ns": 10 * _MINUTE, "canary": 0, "auto_revert": False,
    "auto_promote": False,
}  # fmt: skip
_MIGRATE: Final[dict[str, Any]] = {
    "max_parallel": 1, "health_check": "checks", "min_healthy_time_ns": 10 * _SECOND,
    "healthy_deadline_ns": 5 * _MINUTE,
}  # fmt: skip
_JOB: Final[dict[str, Any]] = {
    "type": "service", "priority": DEFAULT_PRIORITY, "all_at_once": False, "namespace": "default",
    "node_pool": "default", "stop": False, "parent_id": "", "dispatch_idempotency_token": "",
    "consul_namespace": "", "vault_namespace": "", "nomad_token_id": "", "status": "",
    "status_description": "", "stable": False, "version": 0, "submit_time_ns": 0,
    "create_index": 0, "modify_index": 0, "job_modify_index": 0,
}  # fmt: skip
_TEMPLATE: Final[dict[str, Any]] = {
    "source_path": "", "dest_path": "", "embedded_tmpl": "", "change_mode": "restart",
    "once": False, "splay_ns": 5 * _SECOND, "perms": "0644", "left_delim": "{{",
    "right_delim": "}}", "envvars": False, "vault_grace_ns": 0, "error_on_missing_key": False,
}  # fmt: skip
_ARTIFACT: Final[dict[str, Any]] = {
    "getter_mode": "any", "getter_insecure": False, "relative_dest": "local/",
}  # fmt: skip
_PERIODIC: Final[dict[str, Any]] = {
    "enabled": True, "spec": "", "spec_type": "cron", "prohibit_overlap": False,
    "time_zone": "UTC",
}  # fmt: skip
DEFAULT_CPU: Final = 100
DEFAULT_MEMORY_MB: Final = 300
DEFAULT_SPILLOVER_AFTER_NS: Final = 30 * _SECOND


def canonicalize(job: Job, *, region: str) -> Job:
    """Return a copy of `job` with every default filled in; `region` is the agent's."""
    return complete(msgspec.convert(msgspec.to_builtins(job), Job), region=region)


def complete(job: Job, *, region: str) -> Job:
    """Fill every default into `job` itself, which nobody else holds, and return it."""
    job.id = job.id or ""
    job.name = job.name or job.id
    job.region = job.region or region
    _fill(job, _JOB)
    if not job.datacenters:
        job.datacenters = ["*"]
    _placement(job)
    if job.periodic is not None:
        _fill(job.periodic, _PERIODIC)
    if job.parameterized_job is not None and not job.parameterized_job.payload:
        job.parameterized_job.payload = "optional"
    _federation(job)
    if job.multiregion is not None:
        complete_multiregion(job.multiregion)
    if job.update is not None:
        _fill(job.update, _UPDATE)
    elif job.type == "service":
        job.update = UpdateStrategy(**_UPDATE)
    for group in job.task_groups or []:
        _group(job, group)
    return job


def _fill(record: R, defaults: dict[str, Any]) -> R:
    """Set every field that is None to its default; containers are never shared."""
    for name, value in defaults.items():
        if getattr(record, name) is None:
            setattr(record, name, value)
    return record


def _inherited(kind: type[R], own: R | None, outer: R | None, defaults: dict[str, Any]) -> R:
    """Return `own`, its gaps filled from `outer` and then from the defaults."""
    made = kind() if own is None else own
    if outer is not None:
        _fill(made, {name: getattr(outer, name) for name in defaults})
    return _fill(made, defaults)


def _placement(holder: Any) -> None:
    affinities: list[Affinity] = holder.affinities or []
    for affinity in affinities:
        if affinity.weight is None:
            affinity.weight = DEFAULT_WEIGHT
        affinity.operand = affinity.operand or "="
    for constraint in getattr(holder, "constraints", None) or []:
        constraint.operand = constraint.operand or "="
    spreads: list[Spread] = getattr(holder, "spreads", None) or []
    for spread in spreads:
        if spread.weight is None:
            spread.weight = DEFAULT_WEIGHT


def _federation(job: Job) -> None:
    policy = job.federation
    if policy is None:
        return
    policy.partition = policy.partition or "hold"
    if policy.spillover is not None and policy.spillover.after_ns is None:
        policy.spillover.after_ns = DEFAULT_SPILLOVER_AFTER_NS
    for spread in policy.spread or []:
        if spread.weight is None:
            spread.weight = DEFAULT_WEIGHT
    for affinity in policy.affinities or []:
        affinity.operand = affinity.operand or "="
        if affinity.weight is None:
            affinity.weight = DEFAULT_WEIGHT


def _group(job: Job, group: TaskGroup) -> None:
    is_batch = job.type in {"batch", "sysbatch"}
    if group.count is None:
        scaling = group.scaling
        group.count = scaling.min if scaling is not None and scaling.min is not None else 1
    _placement(group)
    restart = {**(_RESTART_BATCH if is_batch else _RESTART), **_RESTART_ALL}
    group.restart_policy = _inherited(RestartPolicy, group.restart_policy, None, restart)
    reschedule = _RESCHEDULE.get(job.type or "", _NO_RESCHEDULE)
    group.reschedule_policy = _inherited(
        ReschedulePolicy, group.reschedule_policy, job.reschedule, reschedule
    )
    if job.type == "service":
        group.migrate = _inherited(MigrateStrategy, group.migrate, job.migrate, _MIGRATE)
    if not is_batch and (job.update is not None or group.update is not None):
        group.update = _inherited(UpdateStrategy, group.update, job.update, _UPDATE)
    group.ephemeral_disk = _fill(
        group.ephemeral_disk or EphemeralDisk(), {"sticky": False, "migrate": False, "size_mb": 300}
    )
    if group.disconnect is not None:
        _fill(group.disconnect, {"replace": True, "reconcile": "best_score"})
    if group.scaling is not None:
        _scaling(job, group, group.scaling)
    if group.consul is not None:
        complete_consul(group.consul)
    for network in group.networks or []:
        _network(network)
    for service in group.services or []:
        _service(job, group, None, service)
    for task in group.tasks or []:
        _task(job, group, task, restart)


def _scaling(job: Job, group: TaskGroup, scaling: ScalingPolicy) -> None:
    _fill(scaling, {"enabled": True, "min": group.count})
    scaling.type = scaling.type or "horizontal"
    scaling.target = scaling.target or _target(job, group)


def _target(job: Job, group: TaskGroup) -> dict[str, str]:
    return {"Namespace": job.namespace or "default", "Job": job.id or "", "Group": group.name}


def _network(network: NetworkResource) -> None:
    network.mode = network.mode or "host"
    for port in [*(network.reserved_ports or []), *(network.dynamic_ports or [])]:
        port.host_network = port.host_network or "default"


def _task(job: Job, group: TaskGroup, task: Task, restart: dict[str, Any]) -> None:
    _placement(task)
    task.restart_policy = _inherited(
        RestartPolicy, task.restart_policy, group.restart_policy, restart
    )
    task.resources = _resources(task.resources or Resources())
    task.log_config = _fill(
        task.log_config or LogConfig(), {"max_files": 10, "max_file_size_mb": 10, "disabled": False}
    )
    if task.kill_timeout_ns is None:
        task.kill_timeout_ns = 5 * _SECOND
    for service in task.services or []:
        _service(job, group, task, service)
    for policy in task.scaling_policies or []:
        _fill(policy, {"enabled": True, "min": 0})
        policy.target = policy.target or {**_target(job, group), "Task": task.name}
    if task.vault is not None:
        complete_vault(task.vault)
    if task.consul is not None:
        complete_consul(task.consul)
    if task.csi_plugin_config is not None:
        complete_csi_plugin(task.csi_plugin_config)
    for template in task.templates or []:
        _template(template)
    for artifact in task.artifacts or []:
        _artifact(artifact)
    for mount in task.volume_mounts or []:
        _fill(mount, {"read_only": False, "propagation_mode": "private", "selinux_label": ""})


def _resources(resources: Resources) -> Resources:
    # Whole cores stand instead of a share, so cpu has no default beside them.
    if resources.cpu is None:
        resources.cpu = 0 if resources.cores else DEFAULT_CPU
    _fill(resources, {"cores": 0, "memory_mb": DEFAULT_MEMORY_MB, "memory_max_mb": 0, "disk_mb": 0})
    for network in resources.networks or []:
        _network(network)
    for device in resources.devices or []:
        _fill(device, {"count": 1})
        _placement(device)
    return resources


def _template(template: Template) -> None:
    _fill(template, _TEMPLATE)
    default = "SIGHUP" if template.change_mode == "signal" else ""
    template.change_signal = (template.change_signal or default).upper()
    if template.change_script is not None:
        complete_change_script(template.change_script)
    if template.wait is not None:
        complete_wait(template.wait)


def _artifact(artifact: TaskArtifact) -> None:
    if artifact.relative_dest is None and artifact.getter_mode == "file":
        source = (artifact.getter_source or "").split("?")[0].rstrip("/")
        artifact.relative_dest = f"local/{source.rsplit('/', 1)[-1]}"
    _fill(artifact, _ARTIFACT)


def _service(job: Job, group: TaskGroup, task: Task | None, service: Service) -> None:
    names = [job.name or "", group.name, *([task.name] if task is not None else [])]
    service.name = _interpolated(service.name or "-".join(names), names)
    service.address_mode = service.address_mode or "auto"
    service.provider = service.provider or "consul"
    service.on_update = service.on_update or "require_healthy"
    if service.provider == "consul":
        service.cluster = service.cluster or "default"
    if task is not None:
        service.task_name = service.task_name or task.name
    if service.connect is not None:
        complete_connect(service.connect)
    if service.weights is not None:
        complete_weights(service.weights)
    for check in service.checks or []:
        _check(service, check)
    _check_restart(service.check_restart)


def _interpolated(name: str, names: list[str]) -> str:
    """Replace what Nomad lets stand in a service's name before any task runs."""
    for key, value in zip(("JOB", "TASKGROUP", "TASK"), names, strict=False):
        name = name.replace("${" + key + "}", value)
    return name.replace("${BASE}", "-".join(names))


def _check(service: Service, check: ServiceCheck) -> None:
    check.name = check.name or f'service: "{service.name}" check'
    check.on_update = check.on_update or service.on_update
    check.check_restart = _merged(service.check_restart, check.check_restart)
    _check_restart(check.check_restart)


def _merged(outer: CheckRestart | None, own: CheckRestart | None) -> CheckRestart | None:
    """Return a check's own policy, what it leaves out taken from its service's."""
    if outer is None or own is None:
        return msgspec.structs.replace(outer) if own is None and outer is not None else own
    return CheckRestart(
        limit=own.limit or outer.limit,
        grace_ns=outer.grace_ns if own.grace_ns is None else own.grace_ns,
        ignore_warnings=own.ignore_warnings or outer.ignore_warnings,
    )


def _check_restart(policy: CheckRestart | None) -> None:
    if policy is not None:
        _fill(policy, {"grace_ns": _SECOND})
