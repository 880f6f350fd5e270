"""The checks of single blocks, in Nomad's words. Each yields texts, none when all is well."""

import re
from collections.abc import Iterable
from typing import Final

from core.jobspec.durations import duration_text
from core.model.job import (
    Affinity,
    Constraint,
    FederationPolicy,
    Job,
    Port,
    ReschedulePolicy,
    Resources,
    RestartPolicy,
    Service,
    ServiceCheck,
    Spread,
    TaskGroup,
    UpdateStrategy,
)
from core.model.regexp import BadExpression, Expression
from core.model.versions import unreadable_term

_SECOND: Final = 1_000_000_000
_WITHOUT_VALUE: Final = frozenset({"distinct_hosts", "is_set", "is_not_set"})
_OPERANDS: Final = frozenset(
    {
        "=", "==", "is", "!=", "not", "<", "<=", ">", ">=", "distinct_hosts",
        "distinct_property", "regexp", "version", "semver", "set_contains",
        "set_contains_all", "set_contains_any", "is_set", "is_not_set",
    }
)  # fmt: skip
_NOT_FOR_AFFINITY: Final = frozenset({"distinct_hosts", "distinct_property"})
_DELAY_FUNCTIONS: Final = ("constant", "exponential", "fibonacci")
_RECONCILE = ("best_score", "keep_original", "keep_replacement", "longest_running")


def expressions_of(job: Job) -> int:
    """Return how many regular expressions a job's constraints and affinities have."""
    wishes: list[Constraint | Affinity] = [*(job.constraints or []), *(job.affinities or [])]
    for group in job.task_groups or []:
        wishes += [*(group.constraints or []), *(group.affinities or [])]
        for task in group.tasks or []:
            wishes += [*(task.constraints or []), *(task.affinities or [])]
    return sum(one.operand == "regexp" for one in wishes)


def check_constraints(constraints: list[Constraint] | None) -> Iterable[str]:
    for number, constraint in enumerate(constraints or [], 1):
        for problem in _match(constraint.operand, constraint.l_target, constraint.r_target):
            yield f"Constraint {number} validation failed: {problem}"


def check_affinities(affinities: list[Affinity] | None) -> Iterable[str]:
    for number, affinity in enumerate(affinities or [], 1):
        head = f"Affinity {number} validation failed: "
        if affinity.operand in _NOT_FOR_AFFINITY:
            yield f'{head}Unknown affinity operator "{affinity.operand}"'
        for problem in _match(affinity.operand, affinity.l_target, affinity.r_target):
            yield head + problem
        weight = affinity.weight or 0
        if weight == 0:
            yield f"{head}Affinity weight cannot be zero"
        elif not -100 <= weight <= 100:
            yield f"{head}Affinity weight must be within the range [-100,100]"


def _match(operand: str, left: str, right: str) -> Iterable[str]:
    if operand not in _OPERANDS:
        yield f'Unknown constraint type "{operand}"' if operand else "Missing constraint operand"
        return
    if operand == "distinct_hosts":
        if right and right.lower() not in {"true", "false"}:
            yield f'distinct_hosts requires a boolean; got "{right}"'
        return
    if not left:
        yield "No LTarget provided but is required by constraint"
    if operand == "distinct_property":
        if right and (not right.isdigit() or int(right) < 1):
            yield f"Distinct Property must have an allowed count of 1 or greater; got {right}"
    elif operand not in _WITHOUT_VALUE and not right:
        yield f'Operator "{operand}" requires an RTarget'
    if operand in ("version", "semver") and right and not right.startswith("${"):
        if term := unreadable_term(right, is_strict=operand == "semver"):
            yield f'{operand.capitalize()} constraint is invalid: "{term}" can\'t be read'
    if operand == "regexp":
        try:
            Expression(right)  # as the scheduler will
        except BadExpression as error:
            yield f"Regular expression failed to compile: {error}"


def check_spreads(spreads: list[Spread] | None) -> Iterable[str]:
    for number, spread in enumerate(spreads or [], 1):
        head = f"Spread {number} validation failed: "
        if not spread.attribute:
            yield f"{head}Missing spread attribute"
        if not 1 <= (spread.weight or 0) <= 100:
            yield f"{head}Spread block must have a positive weight from 0 to 100"
        targets = spread.spread_target or []
        values = [target.value for target in targets]
        for value in sorted({v for v in values if values.count(v) > 1}):
            yield f'{head}Spread target value "{value}" already defined'
        if sum(target.percent for target in targets) > 100:
            yield f"{head}Sum of spread target percentages must not be greater than 100%"


def check_datacenter_choice(policy: FederationPolicy) -> Iterable[str]:
    """What the choice of a datacenter rests on: it knows a datacenter, not each node of it."""
    for problem in check_affinities(policy.affinities):
        yield f"federation: {problem}"
    for number, affinity in enumerate(policy.affinities or [], 1):
        head = f"federation: Affinity {number} validation failed: "
        target = affinity.l_target
        if target in _OF_DATACENTERS:
            continue
        if not target.startswith(("${attr.", "${meta.", "${node.class}", "${node.pool}")):
            yield f'{head}"{target}" is nothing that a datacenter has: use {_TARGETS}'
        elif affinity.operand not in ("=", "==", "is", ""):
            yield f'{head}what nodes have is only compared with =, not "{affinity.operand}"'
    for problem in check_spreads(policy.spread):
        yield f"federation: {problem}"
    for number, spread in enumerate(policy.spread or [], 1):
        if spread.attribute and spread.attribute not in _OF_DATACENTERS:
            text = f'"{spread.attribute}" must be datacenter or region'
            yield f"federation: Spread {number} validation failed: {text}"
    for name in ("headroom", "cost", "latency"):
        weight = getattr(policy.weights, name, None)
        if weight is not None and not 0 <= weight <= 100:
            yield f"federation: weights: {name} must be within the range [0,100], got {weight}"


_OF_DATACENTERS: Final = (
    "region", "datacenter", "${region}", "${datacenter}", "${node.region}", "${node.datacenter}"
)  # fmt: skip
_TARGETS: Final = "region, datacenter, ${attr.NAME}, ${meta.NAME}, ${node.class} or ${node.pool}"


def check_restart(policy: RestartPolicy) -> Iterable[str]:
    attempts, interval, delay = policy.attempts or 0, policy.interval_ns or 0, policy.delay_ns or 0
    if policy.mode not in {"delay", "fail"}:
        yield f'Unsupported restart mode: "{policy.mode}"'
    if attempts < 0:
        yield "Restart attempts can't be negative"
    if attempts == 0 and policy.mode != "fail":
        yield f'Restart policy "{policy.mode}" with 0 attempts is ambiguous'
    if interval < 5 * _SECOND:
        yield f"Interval can not be less than 5s (got {duration_text(interval)})"
    elif attempts * delay > interval:
        yield (
            f"Nomad can't restart the TaskGroup {attempts} times in an interval of "
            f"{duration_text(interval)} with a delay of {duration_text(delay)}"
        )


def check_reschedule(policy: ReschedulePolicy) -> Iterable[str]:
    attempts, delay = policy.attempts or 0, policy.delay_ns or 0
    if attempts < 0:
        yield "Reschedule attempts can't be negative"
    if attempts == 0 and not policy.unlimited:
        return  # rescheduling is off
    if policy.delay_function not in _DELAY_FUNCTIONS:
        yield (
            f'Invalid delay function "{policy.delay_function}", '
            f"must be one of {', '.join(_DELAY_FUNCTIONS)}"
        )
    if delay < 5 * _SECOND:
        yield (f"Delay cannot be less than 5s (got {duration_text(delay)})")
    if policy.delay_function in {"exponential", "fibonacci"} and (policy.max_delay_ns or 0) < delay:
        yield "Max Delay cannot be less than Delay"
    if attempts > 0 and policy.unlimited:
        yield (
            f"attempts = {attempts} and unlimited = true contradict each other: "
            "with attempts, say unlimited = false"
        )
    if attempts > 0 and not policy.interval_ns:
        yield "Interval must be a non zero value if Attempts > 0"


def check_disconnect(group: TaskGroup) -> Iterable[str]:
    """Check the disconnect block and the three older names of what it says."""
    block = group.disconnect
    old = {
        "max_client_disconnect": group.max_client_disconnect_ns,
        "stop_after_client_disconnect": group.stop_after_client_disconnect_ns,
        "prevent_reschedule_on_lost": group.prevent_reschedule_on_lost,
    }
    for name, said in old.items():
        if block is not None and said is not None:
            yield f"{name} and the disconnect block say the same thing: keep the block"
        if not isinstance(said, bool) and (said or 0) < 0:
            yield f"{name} can't be negative"
    if block is None:
        return
    lost_after, stop_after = block.lost_after_ns or 0, block.stop_on_client_after_ns or 0
    if lost_after < 0:
        yield "disconnect: lost_after can't be negative"
    if stop_after < 0:
        yield "disconnect: stop_on_client_after can't be negative"
    if block.reconcile not in {None, "", *_RECONCILE}:
        yield (
            f'disconnect: reconcile = "{block.reconcile}" is unknown, '
            f"must be one of {', '.join(_RECONCILE)}"
        )
    if block.replace is False and 0 < stop_after < lost_after:
        yield (
            "disconnect: stop_on_client_after is shorter than lost_after and replace is false: "
            "nothing would run, and nothing could come back"
        )


def check_update(update: UpdateStrategy) -> Iterable[str]:
    if update.health_check not in {"checks", "task_states", "manual"}:
        yield f'Invalid health check given: "{update.health_check}"'
    parallel, canary = update.max_parallel or 0, update.canary or 0
    if parallel < 0:
        yield f"Max parallel can not be less than zero: {parallel} < 0"
    if canary < 0:
        yield f"Canary count can not be less than zero: {canary} < 0"
    if canary == 0 and update.auto_promote:
        yield "Auto Promote requires a Canary count greater than zero"
    healthy, deadline = update.min_healthy_time_ns or 0, update.healthy_deadline_ns or 0
    progress = update.progress_deadline_ns or 0
    if healthy < 0:
        yield f"Minimum healthy time may not be less than zero: {duration_text(healthy)}"
    if healthy >= deadline:
        yield (
            "Minimum healthy time must be less than healthy deadline: "
            f"{duration_text(healthy)} > {duration_text(deadline)}"
        )
    if progress and deadline >= progress:
        yield (
            "Healthy deadline must be less than progress deadline: "
            f"{duration_text(deadline)} > {duration_text(progress)}"
        )


def check_resources(resources: Resources) -> Iterable[str]:
    cpu, cores, memory = resources.cpu or 0, resources.cores or 0, resources.memory_mb or 0
    memory_max = resources.memory_max_mb or 0
    if cores < 0:
        yield f"cores must not be negative; got {cores}"
    elif cores and cpu > 0:
        yield "Task can only ask for 'cpu' or 'cores' resource, not both."
    elif not cores and cpu < 1:
        yield f"minimum CPU value is 1; got {cpu}"
    if memory < 10:
        yield f"minimum MemoryMB value is 10; got {memory}"
    if memory_max and memory_max != -1 and memory_max < memory:
        yield (f"MemoryMaxMB value ({memory_max}) should be larger than MemoryMB value ({memory})")


def check_network(group: TaskGroup, errors: list[str]) -> set[str]:
    """Add what is wrong with the group's ports to `errors`; return the known labels."""
    labels: set[str] = set()
    static: dict[int, str] = {}
    networks = group.networks or []
    if len(networks) > 1:
        errors.append("Only one network may be specified by the task group")
    for network in networks:
        for port in [*(network.reserved_ports or []), *(network.dynamic_ports or [])]:
            errors += _port(port, labels, static)
            labels.add(port.label)
    return labels


def _port(port: Port, labels: set[str], static: dict[int, str]) -> Iterable[str]:
    if not port.label:
        yield "Port label must not be empty"
    if port.label in labels:
        yield f"Port label {port.label} already in use"
    if not 0 <= port.value <= 65_535:
        yield f"Port {port.label} static value {port.value} must be between 0 and 65535"
    if not -1 <= port.to <= 65_535:
        yield f"Port {port.label} to value {port.to} must be between -1 and 65535"
    if port.value and not port.ignore_collision:
        if port.value in static:
            yield f"Static port {port.value} already reserved by {static[port.value]}"
        static[port.value] = port.label


def check_service(service: Service, ports: set[str]) -> Iterable[str]:
    name = service.name
    if not re.fullmatch(r"[a-zA-Z0-9_\-.${}\[\]\"]{1,256}", name):
        yield f'Service "{name}": a name holds letters, digits, "-", "_" and "." only'
    if service.provider not in {"consul", "nomad"}:
        yield f'Service "{name}" provider must be "consul" or "nomad"; got "{service.provider}"'
    if service.port_label and _is_unknown_port(service.port_label, ports):
        yield f'port label "{service.port_label}" referenced by services {name} does not exist'
    for check in service.checks or []:
        for problem in _check(service, check, ports):
            yield f'check "{check.name}" invalid: {problem}'


def check_tasks_of_checks(group: TaskGroup) -> Iterable[str]:
    """Check the tasks that checks of the group's own services name."""
    known = {task.name for task in group.tasks or []}
    for service in group.services or []:
        for check in service.checks or []:
            if check.task_name and check.type not in {"script", "grpc"}:
                yield f'check "{check.name}" invalid: only script and grpc checks name a task'
            elif check.task_name and check.task_name not in known:
                yield f'check "{check.name}" invalid: there is no task "{check.task_name}"'


def _is_unknown_port(label: str, ports: set[str]) -> bool:
    return not label.isdigit() and "${" not in label and label not in ports


def _check(service: Service, check: ServiceCheck, ports: set[str]) -> Iterable[str]:
    if check.type not in {"http", "tcp", "script", "grpc"}:
        yield f'invalid type ("{check.type}"), must be http, tcp, script or grpc'
    elif service.provider == "nomad" and check.type in {"script", "grpc"}:
        yield f'type "{check.type}" needs provider "consul": with "nomad", http and tcp only'
    if check.expose and service.provider == "nomad":
        yield 'expose needs provider "consul"'
    if check.type == "http" and not check.path:
        yield "http type must have http path"
    elif check.type == "http" and not check.path.startswith(("/", "${")):
        yield f'http path must begin with "/"; got "{check.path}"'
    if check.type == "script" and not check.command:
        yield "script type must have a valid script path"
    for what, value in (("interval", check.interval_ns), ("timeout", check.timeout_ns)):
        if value <= 0:
            yield f"missing required value {what}. {what.capitalize()} cannot be less than 1s"
        elif value < _SECOND:
            yield f"{what} ({duration_text(value)}) cannot be less than 1s"
    label = check.port_label or service.port_label
    if check.type in {"http", "tcp", "grpc"}:
        if not label:
            yield "needs a port: of its own, or of its service"
        elif check.port_label and _is_unknown_port(label, ports):
            yield f'port label "{label}" does not exist'
