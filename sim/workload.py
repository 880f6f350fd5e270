"""The users of a simulated federation: they submit jobs and stop them, as the CLI does.

A call goes to some server of the region that runs. One that fails for want of a leader, or
is not answered, is repeated with its token, so that repeating changes nothing; one that is
refused is not.
"""

import os
import random
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from core.jobspec.diagnostics import SourceError, did_you_mean
from core.jobspec.parse import parse_job
from core.jobspec.regions import region_names
from core.model.job import Job, Resources, Task, TaskGroup
from core.model.query import Answer, Query
from sim.agents import SimServer, World
from sim.arrivals import TraceRow, arrival_times_us, read_trace_file
from sim.census import Census
from sim.distributions import Distribution
from sim.network import Place
from sim.plans import ArrivalPlan, JobPlan, Scenario, StopPlan, TracePlan
from sim.tasks import check_environment

RETRY_US: Final = 1_000_000
TRIES: Final = 60
OPERATOR_TRIES: Final = 10
TIMEOUT_US: Final = 20_000_000  # an agent that died meanwhile answers nothing

Then = Callable[[Answer], None]


class Template:
    """A job file, and what is filled in for each job that is made of it."""

    def __init__(self, path: str, variables: dict[str, str], text: str | None = None) -> None:
        text = read_file(path, "job file") if text is None else text
        self.job = parse_job(text, filename=path, variables=variables).job
        for group in self.job.task_groups or []:
            for task in group.tasks or []:
                try:
                    check_environment(task.env or {})
                except ValueError as error:
                    message = f"task {task.name!r}: {error}"
                    raise SourceError.of_file(path, message) from None

    def make(
        self,
        name: str,
        *,
        count: int = 0,
        run_time: Distribution | None = None,
        failures: float = 0.0,
        row: TraceRow | None = None,
    ) -> Job:
        """Return the job under a name of its own; what is 0 or None stays as in the file."""
        env: dict[str, str] = {}
        if run_time is not None:
            env["SIM_RUN_TIME"] = run_time.text
        if failures:
            env["SIM_FAILURE_RATE"] = repr(failures)
        if row is not None:
            if row.run_time is not None:
                env["SIM_RUN_TIME"] = row.run_time.text
            if row.exit_code is not None:
                env["SIM_EXIT_CODE"] = str(row.exit_code)
        job = self.job
        if count or env or (row is not None and (row.cpu or row.memory)):
            groups = [_group(group, count, env, row) for group in job.task_groups or []]
            job = msgspec.structs.replace(job, task_groups=groups)
        return msgspec.structs.replace(job, id=name, name=name)


def _group(group: TaskGroup, count: int, env: dict[str, str], row: TraceRow | None) -> TaskGroup:
    tasks = [_task(task, env, row) for task in group.tasks or []]
    return msgspec.structs.replace(group, count=count or group.count, tasks=tasks)


def _task(task: Task, env: dict[str, str], row: TraceRow | None) -> Task:
    resources = task.resources
    if row is not None and (row.cpu or row.memory):
        resources = resources or Resources()
        resources = msgspec.structs.replace(
            resources,
            cpu=row.cpu or resources.cpu,
            memory_mb=row.memory or resources.memory_mb,
        )
    return msgspec.structs.replace(task, env={**(task.env or {}), **env}, resources=resources)


def read_file(path: str, what: str) -> str:
    """Return a file's text.

    Raises:
        SourceError: It can't be read; the text says why.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except UnicodeDecodeError:
        raise SourceError.of_file(path, f"{what} is no text in UTF-8") from None
    except OSError as error:
        raise SourceError.of_file(path, f"{what} can't be read: {error.strerror}") from None


def with_files(scenario: Scenario) -> Scenario:
    """Return a scenario that has the texts of all its files in it: for another machine.

    Raises:
        SourceError: One can't be read.
    """
    files = {plan.file: "job file" for plan in scenario.jobs}
    files |= {plan.file: "job file" for plan in scenario.arrivals}
    files |= {plan.job: "job file" for plan in scenario.traces}
    files |= {plan.file: "trace" for plan in scenario.traces}
    texts = dict(scenario.files)
    for name, what in files.items():
        path = os.path.join(scenario.folder, name)
        if path not in texts:
            texts[path] = read_file(path, what)
    return msgspec.structs.replace(scenario, files=texts)


class Workload:
    """Plays the workload of a scenario, and knows what was acknowledged."""

    def __init__(
        self, world: World, scenario: Scenario, census: Census, rng: random.Random
    ) -> None:
        self.acknowledged: dict[str, int] = {}  # job -> when the last register was
        self.refused: dict[str, str] = {}
        self.denied: dict[str, str] = {}  # what operators asked for in vain
        self.stopped: dict[str, int] = {}  # job -> when its stop was acknowledged
        self.submitted = 0
        self.calls = 0  # acknowledged
        self._world = world
        self._scenario = scenario
        self._census = census
        self._rng = rng
        self._jobs: dict[str, tuple[Job, str]] = {}  # as last submitted, and in which region
        self._registers: dict[str, int] = {}
        self._stopping: dict[str, None] = {}  # asked to stop, acknowledged or not

    def plan(self, end_us: int) -> None:
        """Schedule everything.

        Raises:
            SourceError: A job file or a trace can't be read, or is wrong.
        """
        for job in self._scenario.jobs:
            self._plan_job(job)
        for arrivals in self._scenario.arrivals:
            self._plan_arrivals(arrivals, end_us)
        for trace in self._scenario.traces:
            self._plan_trace(trace)
        for stop in self._scenario.stops:
            self._world.wheel.at(stop.at_us, self._stop_planned, stop)

    # --- what is planned ------------------------------------------------------------------

    def _template(self, file: str, variables: dict[str, str]) -> Template:
        path = os.path.join(self._scenario.folder, file)
        return Template(path, variables, self._scenario.files.get(path))

    def _plan_job(self, plan: JobPlan) -> None:
        template = self._template(plan.file, plan.variables)
        for copy in range(1, plan.copies + 1):
            name = plan.job_name or plan.name
            name = name if copy == 1 else f"{name}-{copy}"
            # One job of the plan, made only when its time comes: there may be thousands.
            self._world.wheel.at(
                plan.at_us + copy * plan.every_us, self._submit_planned, (plan, template, name)
            )

    def _submit_planned(self, what: tuple[JobPlan, Template, str]) -> None:
        plan, template, name = what
        job = template.make(name, count=plan.count, run_time=plan.run_time, failures=plan.failures)
        self.register(job, plan.region, plan.lifetime, plan.datacenter)

    def _plan_arrivals(self, plan: ArrivalPlan, end_us: int) -> None:
        template = self._template(plan.file, plan.variables)
        rng = random.Random(f"{self._world.seed}/arrivals/{plan.name}")
        self._next_arrival(_Arrivals(plan, template, rng, arrival_times_us(plan, rng, end_us)))

    def _next_arrival(self, arrivals: "_Arrivals") -> None:
        at_us = next(arrivals.times_us, None)
        if at_us is not None:
            self._world.wheel.at(at_us, self._arrive, arrivals)

    def _arrive(self, arrivals: "_Arrivals") -> None:
        plan, rng = arrivals.plan, arrivals.rng
        arrivals.number += 1
        count = max(1, round(plan.count.draw(rng))) if plan.count is not None else 0
        job = arrivals.template.make(
            f"{plan.name}-{arrivals.number}",
            count=count,
            run_time=plan.run_time,
            failures=plan.failures,
        )
        region = rng.choice(plan.regions or (self._scenario.datacenters[0].region,))
        self.register(job, region, plan.lifetime)
        self._next_arrival(arrivals)

    def _plan_trace(self, plan: TracePlan) -> None:
        template = self._template(plan.job, plan.variables)
        path = os.path.join(self._scenario.folder, plan.file)
        regions = self._scenario.regions
        rng = random.Random(f"{self._world.seed}/trace/{plan.name}")
        text = self._scenario.files.get(path)
        text = read_file(path, "trace") if text is None else text
        for row in read_trace_file(text, path, plan.name):
            at_us = plan.from_us + int(row.at_us / plan.speed)
            if plan.until_us and at_us >= plan.until_us:
                break
            region = row.region or rng.choice(plan.regions or (regions[0],))
            if region not in regions:
                hint = did_you_mean(region, regions)
                raise SourceError.of_file(path, f"job {row.name!r}: no region {region!r}", hint)
            self._world.wheel.at(at_us, self._submit_row, (template, row, region))

    def _submit_row(self, what: tuple[Template, TraceRow, str]) -> None:
        template, row, region = what
        self.register(template.make(row.name, count=row.count or 0, row=row), region)

    def _stop_planned(self, plan: StopPlan) -> None:
        self.stop(plan.job, plan.region, purge=plan.purge)

    # --- what users do --------------------------------------------------------------------

    def register(
        self, job: Job, region: str, lifetime: Distribution | None = None, datacenter: str = ""
    ) -> None:
        """Submit a job, as `serai job run` does; after its lifetime it is stopped."""
        name = job.id or ""
        self.submitted += 1
        self._jobs[name] = (job, region)
        self._stopping.pop(name, None)
        again = self._registers[name] = self._registers.get(name, 0) + 1
        self._census.tell_kind(name, is_system=self.is_system(name))
        self._census.submit(name, self._world.wheel.now_us)
        query = Query(
            method="Job.Register",
            body={"Job": msgspec.to_builtins(job)},
            call_id=f"sim-{name}" if again == 1 else f"sim-{name}-{again}",
        )
        instances = wanted_instances(job)
        is_service = (job.type or "service") == "service"

        def acknowledged(_: Answer) -> None:
            self.acknowledged[name] = self._world.wheel.now_us
            self.stopped.pop(name, None)
            self._census.want(name, instances, is_service=is_service)
            if lifetime is not None:
                self._world.wheel.after(
                    lifetime.draw_us(self._rng), lambda _: self.stop(name, region)
                )

        self.call(name, region, query, acknowledged, datacenter)

    def take_over(self, job: Job, region: str, *, is_whole: bool) -> None:
        """Know a job that was handed in before the simulation began."""
        name = job.id or ""
        if name in self._jobs:  # of another namespace: what runs is counted by the name alone
            return
        self._jobs[name] = (job, region)
        self._registers[name] = 1
        self._census.tell_kind(name, is_system=self.is_system(name))
        self.acknowledged[name] = 0
        is_service = (job.type or "service") == "service"
        wanted = wanted_instances(job) if is_whole else None
        self._census.want(name, wanted, is_service=is_service)

    def namespace_of(self, job: str) -> str:
        return (self._jobs[job][0].namespace if job in self._jobs else None) or "default"

    @property
    def regions(self) -> list[str]:
        return self._scenario.regions

    def stop(self, job: str, region: str, *, purge: bool = False) -> None:
        """Stop a job, as `serai job stop` does."""
        self._stopping[job] = None
        count = self._census.jobs.get(job)
        query = Query(
            method="Job.Deregister",
            params={"job_id": job, "purge": purge},
            namespace=self.namespace_of(job),
            call_id=f"sim-stop-{job}-{self._registers.get(job, 0)}",
        )

        def acknowledged(_: Answer) -> None:
            self.stopped[job] = self._world.wheel.now_us
            is_service = count is not None and count.is_service
            self._census.want(job, 0, is_service=is_service)

        self.call(f"stop {job}", region, query, acknowledged)

    def again(self, job: str) -> None:
        """Submit a job once more as it was, in its region."""
        if job in self._jobs:
            self.register(*self._jobs[job])

    def names(self) -> list[str]:
        """Return the jobs that were submitted and that nobody asked to stop."""
        return [name for name in self._jobs if name not in self._stopping]

    def is_surge(self, job: str) -> bool:
        """Return whether a job lets a second copy of an index run while a datacenter is cut."""
        known = self._jobs.get(job)
        policy = None if known is None else known[0].federation
        return policy is not None and policy.partition == "surge"

    def is_system(self, job: str) -> bool:
        """Return whether a job runs on each node."""
        known = self._jobs.get(job)
        return known is not None and known[0].type in ("system", "sysbatch")

    def regions_of(self, job: str) -> int:
        """Return in how many regions a job has a copy, each with indices of its own."""
        return max(1, len(region_names(self._jobs[job][0]))) if job in self._jobs else 1

    def has_canaries(self, job: str) -> bool:
        """Return whether canaries of a job may run beside what they are to follow."""
        known = self._jobs.get(job)
        if known is None:
            return False
        updates = [known[0].update, *(group.update for group in known[0].task_groups or [])]
        return any(update is not None and (update.canary or 0) > 0 for update in updates)

    def region_of(self, job: str) -> str:
        return self._jobs[job][1] if job in self._jobs else self._scenario.datacenters[0].region

    def kept(self) -> list[str]:
        """Return the jobs that were acknowledged and that nobody asked to stop."""
        return [name for name in self.acknowledged if name not in self._stopping]

    # --- calls ----------------------------------------------------------------------------

    def call(self, name: str, region: str, query: Query, then: Then, datacenter: str = "") -> None:
        """Ask some server of a region until it answers; `then(answer)` when it says yes."""
        _Asking(self, name, (region, datacenter), query, then, self.refused, TRIES).begin()

    def ask_as_operator(self, name: str, place: Place, query: Query) -> None:
        """Ask some server of a datacenter; what it refuses is no user's loss."""
        where = (place.region, place.datacenter)
        _Asking(self, name, where, query, _ignore, self.denied, OPERATOR_TRIES).begin()

    def some_server(self, region: str, datacenter: str = "") -> SimServer | None:
        servers = [
            server
            for server in self._world.servers
            if server.place.region == region
            and datacenter in ("", server.place.datacenter)
            and server.machine is not None
        ]
        return self._rng.choice(servers) if servers else None

    @property
    def world(self) -> World:
        return self._world


class _Arrivals:
    """One arrival process under way."""

    __slots__ = ("number", "plan", "rng", "template", "times_us")

    def __init__(
        self, plan: ArrivalPlan, template: Template, rng: random.Random, times_us: Iterator[int]
    ) -> None:
        self.plan, self.template, self.rng, self.times_us = plan, template, rng, times_us
        self.number = 0


class _Asking:
    """One call of a user, repeated until it is answered."""

    __slots__ = (
        "_asked", "_name", "_query", "_refusals", "_then", "_tries", "_where", "_workload",
    )  # fmt: skip

    def __init__(
        self,
        workload: Workload,
        name: str,
        where: tuple[str, str],
        query: Query,
        then: Then,
        refusals: dict[str, str],
        tries: int,
    ) -> None:
        self._workload, self._name, self._where = workload, name, where
        self._query, self._then, self._refusals = query, then, refusals
        self._tries = tries
        self._asked = 0  # counts tries: an answer to an earlier one is none

    def begin(self, _: Any = None) -> None:
        server = self._workload.some_server(*self._where)
        if server is None:
            self._retry("no server there is up")
            return
        if not self._query.call_issued_us:  # a repeated call says when it was first made
            self._query = msgspec.structs.replace(self._query, call_issued_us=server.now().wall_us)
        self._asked += 1
        asked, name = self._asked, server.name
        self._workload.world.wheel.after(TIMEOUT_US, self._give_up, (asked, name))
        server.query(self._query, lambda answer: self._on_answer(asked, answer))

    def _give_up(self, what: tuple[int, str]) -> None:
        asked, name = what
        self._on_answer(asked, Answer(status=504, error=f"{name} did not answer"))

    def _on_answer(self, asked: int, answer: Answer) -> None:
        if asked != self._asked:
            return
        self._asked += 1
        if not answer.is_error:
            self._workload.calls += 1
            self._refusals.pop(self._name, None)
            self._then(answer)
        elif answer.status >= 500:
            self._retry(answer.error)
        else:
            self._refusals[self._name] = answer.error

    def _retry(self, reason: str) -> None:
        self._refusals[self._name] = reason
        self._tries -= 1
        if self._tries > 0:
            self._workload.world.wheel.after(RETRY_US, self.begin)


def _ignore(_: Answer) -> None:
    """Nothing follows from the answer."""


def wanted_instances(job: Job) -> int | None:
    """Return how many instances a job asks for; None: as many as there are nodes, or children.

    Nor can it be said of a job over several regions: each has indices of its own.
    """
    if job.is_template or job.multiregion or (job.type or "service") in ("system", "sysbatch"):
        return None
    return sum(1 if group.count is None else group.count for group in job.task_groups or [])
