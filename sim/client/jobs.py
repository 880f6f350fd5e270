"""Random groups of tasks, on a scale of seconds, and how their processes behave."""

import random
from dataclasses import dataclass, field
from typing import Any, Final

from core.model.allocation import (
    AllocatedCpu,
    AllocatedMemory,
    AllocatedResources,
    AllocatedTask,
    Allocation,
)
from core.model.job import (
    CheckRestart,
    DisconnectStrategy,
    Job,
    MigrateStrategy,
    RestartPolicy,
    Service,
    ServiceCheck,
    Task,
    TaskGroup,
    TaskLifecycle,
    UpdateStrategy,
)

S: Final = 1_000_000
NS: Final = 1_000_000_000
WALL_US: Final = 1_700_000_000 * S  # the wall clock at time zero
DATACENTER_ID: Final = "00000000abcd"
SIGNALS: Final = ("SIGINT", "SIGTERM", "SIGQUIT")
PAYLOAD: Final = b"what it was given"


@dataclass(slots=True)
class Behaviour:
    """How the processes of one task behave. Runs draw from it anew."""

    run_us: tuple[int, int] | None = None  # None: until a signal
    codes: tuple[int, ...] = (0,)  # 1000 + N: ended by signal N
    stop_us: int = 20_000  # how long it takes to obey
    ignores: bool = False  # all signals but SIGKILL
    refuses: float = 0.0  # of its starts
    never_starts: bool = False  # a start can never work


@dataclass(slots=True)
class Placed:
    """An allocation as its scheduler placed it."""

    alloc: Allocation
    behaviours: dict[str, Behaviour] = field(default_factory=dict)  # by task


def draw(rng: random.Random, number: int) -> Placed:
    """Return a random allocation of a job of its own."""
    type_ = rng.choice(("service", "service", "service", "batch", "system"))
    tasks, behaviours = _tasks(rng, type_)
    group = TaskGroup(name="g", tasks=tasks, restart_policy=_policy(rng))
    job = Job(
        id=f"job{number}", name=f"job{number}", namespace="default", type=type_, version=0,
        job_modify_index=number, task_groups=[group],
    )  # fmt: skip
    if rng.random() < 0.2:
        group.shutdown_delay_ns = rng.choice((1, 2, 3)) * NS
    if rng.random() < 0.12:
        group.max_run_duration_ns = rng.choice((5, 10, 20)) * NS
    if rng.random() < 0.2:
        group.disconnect = DisconnectStrategy(stop_on_client_after_ns=rng.choice((3, 6, 9)) * NS)
        for task in tasks:
            task.shutdown_delay_ns = 0
    _offer(rng, group, number)
    if rng.random() < 0.15:
        job.payload = PAYLOAD
        tasks[0].dispatch_payload = {"File": "in.json"}
    alloc = place(job, number)
    if type_ != "batch" and rng.random() < 0.6:
        rule: dict[str, Any] = {
            "min_healthy_time_ns": rng.choice((2, 3, 5, 8)) * NS,
            "healthy_deadline_ns": rng.choice((12, 20, 30)) * NS,
            "health_check": rng.choice(("checks", "checks", "task_states", "manual")),
        }
        if rng.random() < 0.7:
            group.update = UpdateStrategy(**rule)
            alloc.deployment_id = f"deployment-{number}"
        else:
            group.migrate = MigrateStrategy(**rule)
    return Placed(alloc, behaviours)


def place(job: Job, number: int) -> Allocation:
    tasks = (job.task_groups or [])[0].tasks or []
    given = {
        task.name: AllocatedTask(
            cpu=AllocatedCpu(cpu_shares=100), memory=AllocatedMemory(memory_mb=64)
        )
        for task in tasks
    }
    return Allocation(
        id=f"{number:08d}-0000-0000-0000-{DATACENTER_ID}",
        namespace="default",
        eval_id="e",
        name=f"{job.id}.g[0]",
        node_id="n",
        node_name="node",
        job_id=job.id or "",
        job=job,
        job_version=job.version or 0,
        task_group="g",
        allocated_resources=AllocatedResources(tasks=given),
    )


def _tasks(rng: random.Random, type_: str) -> tuple[list[Task], dict[str, Behaviour]]:
    tasks: list[Task] = []
    behaviours: dict[str, Behaviour] = {}

    def add(name: str, behaviour: Behaviour, lifecycle: TaskLifecycle | None = None) -> None:
        tasks.append(Task(name=name, driver="raw_exec", config={"command": name}))
        _draw_kill(rng, tasks[-1], behaviour)
        tasks[-1].lifecycle = lifecycle
        if rng.random() < 0.2:
            tasks[-1].restart_policy = _policy(rng)
        behaviours[name] = behaviour

    short = (S // 2, 2 * S)
    if rng.random() < 0.3:
        codes = (0,) if rng.random() < 0.6 else (0, 1)
        add("setup", Behaviour(short, codes), TaskLifecycle("prestart", False))
    if rng.random() < 0.25:
        add("proxy", _lasting(rng), TaskLifecycle("prestart", True))
    for number in range(rng.choice((1, 1, 2))):
        add(f"main{number}", _main(rng, type_))
    if rng.random() < 0.25:
        codes = (0,) if rng.random() < 0.6 else (0, 1)
        add("after", Behaviour((S // 2, 6 * S), codes), TaskLifecycle("poststart", False))
    if rng.random() < 0.2:
        add("shipper", _lasting(rng), TaskLifecycle("poststart", True))
    if rng.random() < 0.3:
        add("clean", Behaviour(short, (0, 0, 0, 1)), TaskLifecycle("poststop", False))
    if len(tasks) > 1 and rng.random() < 0.3:
        next(task for task in tasks if task.name == "main0").leader = True
    return tasks, behaviours


def _main(rng: random.Random, type_: str) -> Behaviour:
    if type_ != "batch" and rng.random() < 0.6:
        return _lasting(rng)
    span = rng.choice(((S // 100, S), (S, 8 * S), (3 * S, 20 * S)))
    codes = rng.choice(((0,), (0, 0, 1), (0, 1, 1009, 1011), (1,)))
    return Behaviour(
        span, codes, refuses=rng.choice((0.0, 0.0, 0.3)), never_starts=rng.random() < 0.03
    )


def _lasting(rng: random.Random) -> Behaviour:
    return Behaviour(refuses=rng.choice((0.0, 0.0, 0.0, 0.2)))


def _draw_kill(rng: random.Random, task: Task, behaviour: Behaviour) -> None:
    behaviour.stop_us = rng.choice((10_000, 100_000, 400_000))
    behaviour.ignores = rng.random() < 0.2
    if rng.random() < 0.8:
        task.kill_timeout_ns = rng.choice((1, 2, 3, 9)) * NS
    if rng.random() < 0.4:
        task.kill_signal = rng.choice(SIGNALS)
    if rng.random() < 0.2:
        task.shutdown_delay_ns = rng.choice((1, 2)) * NS


def _policy(rng: random.Random) -> RestartPolicy:
    return RestartPolicy(
        attempts=rng.choice((0, 1, 2, 3, 3)),
        interval_ns=rng.choice((8, 15, 40)) * NS,
        delay_ns=rng.choice((0, 1, 1, 2, 4)) * NS,
        mode=rng.choice(("fail", "fail", "delay")),
    )


def _offer(rng: random.Random, group: TaskGroup, number: int) -> None:
    """Give the group or one of its tasks a service, with checks of known ports."""
    if rng.random() < 0.5:
        return
    mains = [task for task in group.tasks or () if task.lifecycle is None]
    if rng.random() < 0.5:
        service = _service(rng, f"web{number}", 0)
        if rng.random() < 0.3:
            service.task_name = mains[0].name
        group.services = [service]
    else:
        task = rng.choice([task for task in group.tasks or () if task.name != "clean"])
        task.services = [_service(rng, f"web{number}", 0)]
    if rng.random() < 0.2:
        mains[-1].services = [_service(rng, f"extra{number}", 2)]


def _service(rng: random.Random, name: str, first: int) -> Service:
    """Checks are told apart by their ports: 9000 + `first`, ..."""
    checks = []
    for number in range(rng.choice((0, 1, 1, 2))):
        restart: Any = None
        if rng.random() < 0.5:
            restart = CheckRestart(limit=rng.choice((1, 2, 3)), grace_ns=rng.choice((0, 1, 4)) * NS)
        checks.append(ServiceCheck(
            name=f"{name}-{number}",
            type=rng.choice(("http", "tcp")),
            port_label=str(9000 + first + number),
            interval_ns=rng.choice((2, 3, 4)) * NS,
            timeout_ns=NS,
            check_restart=restart,
            success_before_passing=rng.choice((0, 0, 2)),
            failures_before_critical=rng.choice((0, 0, 2)),
            initial_status=rng.choice(("", "", "passing", "critical")),
        ))  # fmt: skip
    return Service(name=name, port_label="8080", provider="nomad", checks=checks)
