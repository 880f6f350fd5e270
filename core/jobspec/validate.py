"""Whether a canonical job may be registered, in Nomad's words.

Findings are grouped as Nomad groups them: one line for the job's own, one for each
task group, in which the tasks' are nested. `error_text` gives the whole as the server
answers it.
"""

from collections.abc import Iterable
from typing import Final

from core.jobspec.cron import Cron, CronError, zone_of
from core.jobspec.regions import check_multiregion
from core.jobspec.validate_files import check_files
from core.jobspec.validate_parts import (
    check_affinities,
    check_constraints,
    check_datacenter_choice,
    check_disconnect,
    check_network,
    check_reschedule,
    check_resources,
    check_restart,
    check_service,
    check_spreads,
    check_tasks_of_checks,
    check_update,
    expressions_of,
)
from core.model.child import DISPATCH, PERIODIC
from core.model.job import Job, PeriodicConfig, Task, TaskGroup

JOB_TYPES: Final = ("service", "batch", "system", "sysbatch", "_core")
MAX_COUNT: Final = 50_000
_PARTITIONS: Final = ("hold", "surge")
_RAW_EXEC_KEYS: Final = frozenset(
    {
        "command", "args", "cgroup_v1_override", "cgroup_v2_override", "oom_score_adj",
        "work_dir", "denied_envvars",
    }
)  # fmt: skip


EXPRESSIONS_MAX = 1_000  # the leader compiles each, and does nothing else meanwhile


def error_text(errors: list[str]) -> str:
    """Return the text the API answers with: `N error(s) occurred:` and a list."""
    head = "1 error occurred:" if len(errors) == 1 else f"{len(errors)} errors occurred:"
    lines = "\n".join("\t* " + error.replace("\n", "\n\t") for error in errors)
    return f"{head}\n{lines}\n\n"


def validate(job: Job) -> list[str]:
    """Return what is wrong with a canonical job, [] when it may be registered."""
    if (expressions := expressions_of(job)) > EXPRESSIONS_MAX:
        return [
            f"{expressions} regular expressions in constraints and affinities, a job may have "
            f"{EXPRESSIONS_MAX}: say it with set_contains_any or meta of the nodes"
        ]
    errors = [*identity_errors(job), *_kind(job)]
    errors += check_constraints(job.constraints)
    errors += check_affinities(job.affinities)
    errors += check_spreads(job.spreads)
    errors += _federation(job)
    errors += check_multiregion(job)
    groups = job.task_groups or []
    if not groups:
        errors.append("Missing job task groups")
    errors += _doubles(
        [group.name for group in groups], "Job task group {} redefines '{}' from group {}"
    )
    for number, group in enumerate(groups, 1):
        inner = _group(job, group)
        if not group.name:
            errors.append(f"Job task group {number} missing name")
        elif job.type in {"system", "sysbatch"} and (group.count or 0) > 1:
            errors.append(
                f"Job task group {group.name} has count {group.count}. "
                f"Count cannot exceed 1 with {job.type} scheduler"
            )
        if inner:
            errors.append(f"Task group {group.name} validation failed: {error_text(inner)}".strip())
    return errors


def identity_errors(job: Job) -> Iterable[str]:
    """Yield what is wrong with a canonical job's names."""
    job_id = job.id or ""
    if not job_id:
        yield "Missing job ID"
    elif " " in job_id:
        yield "Job ID contains a space"
    elif "\0" in job_id:
        yield "Job ID contains a null character"
    # A child lives at its parent's home and needs no claim (FEDERATION, "Records").
    if not job.parent_id and (PERIODIC in job_id or DISPATCH in job_id):
        yield "Job ID contains /periodic- or /dispatch-, which are kept for children of jobs"
    if not job.name:
        yield "Missing job name"
    elif "\0" in job.name:
        yield "Job Name contains a null character"
    if not job.namespace:
        yield "Job must be in a namespace"
    if not job.region:
        yield "Missing job region"


def _kind(job: Job) -> Iterable[str]:
    if job.type not in JOB_TYPES:
        yield f'Invalid job type: "{job.type}"'
    if not 1 <= (job.priority or 0) <= 100:
        yield "Job priority must be between [1, 100]"
    if any(not datacenter for datacenter in job.datacenters or [""]):
        yield (
            "Missing job datacenters" if not job.datacenters else "Job datacenter must be non-empty"
        )
    if job.periodic is not None:
        if job.type not in {"batch", "sysbatch"}:
            yield 'Periodic can only be used with "batch" or "sysbatch" scheduler'
        yield from _schedule(job.periodic)
    parameterized = job.parameterized_job
    if parameterized is not None:
        if job.type not in {"batch", "sysbatch"}:
            yield 'Parameterized job can only be used with "batch" or "sysbatch" scheduler'
        if parameterized.payload not in {"optional", "required", "forbidden"}:
            yield f'Unknown payload requirement: "{parameterized.payload}"'
        both = set(parameterized.meta_required or []) & set(parameterized.meta_optional or [])
        if both:
            yield f"Required and optional meta keys should be disjoint: {', '.join(sorted(both))}"


def _schedule(periodic: PeriodicConfig) -> Iterable[str]:
    specs = [*(periodic.specs or []), *([periodic.spec] if periodic.spec else [])]
    if periodic.enabled and not specs:
        yield "Must specify a spec"
    if periodic.spec and periodic.specs:
        yield "Only cron or crons may be used"
    for text in specs:
        try:
            Cron(text)
        except CronError as error:
            yield f'Invalid cron spec "{text}": {error}'
    try:
        zone_of(periodic.time_zone or "UTC")
    except CronError as error:
        yield f"Periodic: {error}"


def _federation(job: Job) -> Iterable[str]:
    policy = job.federation
    if policy is None:
        return
    if policy.partition == "fence":
        yield 'federation: partition "fence" is not built yet; use "hold" or "surge"'
    elif policy.partition not in _PARTITIONS:
        yield f'federation: partition must be one of hold, surge; got "{policy.partition}"'
    spillover = policy.spillover
    if spillover is not None:
        if not spillover.regions:
            yield "federation: spillover must name regions"
        if (spillover.after_ns or 0) < 0:
            yield "federation: spillover after must not be negative"
    yield from check_datacenter_choice(policy)


def _doubles(names: list[str], text: str) -> Iterable[str]:
    first: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if name and name in first:
            yield text.format(number, name, first[name])
        first.setdefault(name, number)


def _group(job: Job, group: TaskGroup) -> list[str]:
    errors: list[str] = []
    count = group.count or 0
    if count < 0:
        errors.append("Task group count can't be negative")
    elif count > MAX_COUNT:
        errors.append(f"Task group count {count} exceeds the limit of {MAX_COUNT}")
    errors += check_constraints(group.constraints)
    errors += check_affinities(group.affinities)
    errors += check_spreads(group.spreads)
    if group.restart_policy is not None:
        errors += check_restart(group.restart_policy)
    if group.reschedule_policy is not None and job.type in {"service", "batch"}:
        errors += check_reschedule(group.reschedule_policy)
    errors += check_disconnect(group)
    if group.update is not None and job.type in {"service", "system"}:
        errors += check_update(group.update)
    if group.ephemeral_disk is not None and (group.ephemeral_disk.size_mb or 0) < 10:
        errors.append(f"minimum ephemeral disk size is 10; got {group.ephemeral_disk.size_mb}")
    ports = check_network(group, errors)
    for service in group.services or []:
        errors += check_service(service, ports)
    errors += check_tasks_of_checks(group)
    errors += _tasks(group, ports)
    return errors


def _tasks(group: TaskGroup, ports: set[str]) -> Iterable[str]:
    tasks = group.tasks or []
    # Nomad makes the task of a Connect gateway itself.
    if not tasks and not any((s.connect or {}).get("Gateway") for s in group.services or []):
        yield "Missing tasks for task group"
    yield from _doubles([t.name for t in tasks], "Task {} redefines '{}' from task {}")
    if sum(task.leader for task in tasks) > 1:
        yield "Only one task may be marked as leader"
    if tasks and all(task.lifecycle is not None for task in tasks):
        yield "Task group must have at least one task without a lifecycle"
    for number, task in enumerate(tasks, 1):
        if not task.name:
            yield f"Task {number} missing name"
        inner = _task(group, task, ports)
        if inner:
            yield f"Task {task.name} validation failed: {error_text(inner)}".strip()


def _task(group: TaskGroup, task: Task, ports: set[str]) -> list[str]:
    errors: list[str] = []
    if not task.name:
        errors.append("Missing task name")
    elif "/" in task.name or "\\" in task.name or "\0" in task.name:
        errors.append("Task name cannot include slashes or null characters")
    if not task.driver:
        errors.append("Missing task driver")
    if (task.kill_timeout_ns or 0) < 0:
        errors.append("KillTimeout must be a positive value")
    if task.shutdown_delay_ns < 0:
        errors.append("ShutdownDelay must be a positive value")
    if task.lifecycle is not None and task.lifecycle.hook not in {
        "prestart", "poststart", "poststop",
    }:  # fmt: skip
        errors.append(f"invalid hook: {task.lifecycle.hook}")
    if task.resources is not None:
        errors += check_resources(task.resources)
    errors += _logs(group, task)
    errors += check_constraints(task.constraints)
    errors += check_affinities(task.affinities)
    own = {p.label for n in (task.resources and task.resources.networks) or [] for p in
           [*(n.reserved_ports or []), *(n.dynamic_ports or [])]}  # fmt: skip
    for service in task.services or []:
        errors += check_service(service, ports | own)
    for number, mount in enumerate(task.volume_mounts or []):
        if mount.volume not in (group.volumes or {}):
            errors.append(f"Volume Mount ({number}) references undefined volume {mount.volume}")
    errors += check_files(task)
    errors += _driver_config(task)
    return errors


def _logs(group: TaskGroup, task: Task) -> Iterable[str]:
    logs = task.log_config
    if logs is None or logs.disabled:
        return
    files, size = logs.max_files or 0, logs.max_file_size_mb or 0
    if files < 1:
        yield f"minimum number of files is 1; got {files}"
    if size < 1:
        yield f"minimum file size is 1MB; got {size}"
    disk = (group.ephemeral_disk and group.ephemeral_disk.size_mb) or 0
    if disk and files * size >= disk:
        yield (
            f"log storage ({files * size} MB) must be less than requested disk capacity ({disk} MB)"
        )


def _driver_config(task: Task) -> Iterable[str]:
    if task.driver != "raw_exec":
        return
    config = task.config or {}
    command = config.get("command")
    if not isinstance(command, str) or not command:
        yield 'driver "raw_exec": config must hold a command'
    for key in sorted(config.keys() - _RAW_EXEC_KEYS):
        yield f'driver "raw_exec": config has no key "{key}"'
    args = config.get("args", [])
    if not isinstance(args, list) or not all(isinstance(a, (str, int, float)) for a in args):
        yield 'driver "raw_exec": config args must be a list of strings'


def warnings_of(job: Job) -> list[str]:
    """Return what is allowed but probably not meant."""
    warnings: list[str] = []
    for group in job.task_groups or []:
        update = group.update
        if update is not None and group.count and (update.max_parallel or 0) > group.count:
            warnings.append(
                f'Group "{group.name}" has warnings: Update max parallel count is greater '
                f"than task group count ({update.max_parallel} > {group.count})"
            )
        for task in group.tasks or []:
            if task.resources is not None and (task.resources.networks or []):
                warnings.append(
                    f'Task "{task.name}": networks belong to the group; '
                    "network resources of a task are deprecated"
                )
    return warnings
