"""Jobs without what a simulation does not need: what they ask for stays, what they do goes.

Left out are configuration, environment, templates, artifacts, metadata, services, volumes,
devices, identities and tokens: nothing of it changes where a job runs in a simulation, and
it is where secrets are. A constraint that names one single node goes as well, for that node
has no name here; whatever makes a difference is noted.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final, TypeVar

import msgspec

from core.model.job import (
    Affinity,
    Constraint,
    Job,
    NetworkResource,
    PeriodicConfig,
    Resources,
    Spread,
    Task,
    TaskGroup,
)
from sim.live.inventory import References

CORE_MHZ: Final = 1_000  # what a core of a simulated node has
_REFERENCE: Final = re.compile(r"\$\{(attr|meta)\.([^}]+)\}")
_PINNED: Final = re.compile(r"\$\{(?:attr\.|node\.)unique\.")
_RUNNABLE: Final = {"raw_exec": {"command": "/bin/true"}}

Note = Callable[[str], None]
_Target = TypeVar("_Target", Constraint, Affinity)


def essence(job: Job, region: str, datacenters: Mapping[str, str], note: Note) -> Job:
    """Return what matters of a job for where and whether it runs.

    Args:
        job: As the API or a state holds it.
        region: Its name in the scenario.
        datacenters: Names there, by those in the cluster.
        note: Is told what was left out that makes a difference.
    """
    name = job.id or ""
    reduced = _Reduced(name, note)
    return Job(
        region=region,
        id=name,
        name=name,
        type=job.type,
        priority=job.priority,
        all_at_once=job.all_at_once,
        datacenters=[datacenters.get(one, one) for one in job.datacenters or []] or None,
        node_pool=job.node_pool,
        constraints=reduced.targets(job.constraints),
        affinities=reduced.targets(job.affinities),
        spreads=reduced.spreads(job.spreads),
        update=job.update,
        reschedule=job.reschedule,
        migrate=job.migrate,
        periodic=_periodic(job.periodic),
        federation=job.federation,
        task_groups=[reduced.group(group) for group in job.task_groups or []],
    )


def is_submitted(job_id: str, *, is_parameterized: bool, has_parent: bool, note: Note) -> bool:
    """Return whether a job of a cluster is one to submit, or comes of another one."""
    if is_parameterized and not has_parent:
        note(f"job {job_id}: runs when it is dispatched: only what runs of it now is taken along")
        return False
    # What a periodic job launched, it launches in the simulation as well.
    return not (has_parent and "/periodic-" in job_id)


def references(jobs: Iterable[Job]) -> References:
    """Return which attributes and metadata of nodes these jobs ask for."""
    found = References()
    for job in jobs:
        for kind, name in _REFERENCE.findall(msgspec.json.encode(job).decode()):
            (found.attributes if kind == "attr" else found.meta).add(name)
    return found


class _Reduced:
    """The parts of one job."""

    def __init__(self, name: str, note: Note) -> None:
        self._name, self._tell = name, note

    def _note(self, text: str) -> None:
        self._tell(f"job {self._name}: {text}")

    def group(self, group: TaskGroup) -> TaskGroup:
        if group.volumes:
            self._note("its volumes are left out: simulated nodes have none")
        return TaskGroup(
            name=group.name,
            count=group.count,
            constraints=self.targets(group.constraints),
            affinities=self.targets(group.affinities),
            spreads=self.spreads(group.spreads),
            restart_policy=group.restart_policy,
            disconnect=group.disconnect,
            reschedule_policy=group.reschedule_policy,
            ephemeral_disk=group.ephemeral_disk,
            update=group.update,
            migrate=group.migrate,
            networks=_ports(group.networks),
            shutdown_delay_ns=group.shutdown_delay_ns,
            max_run_duration_ns=group.max_run_duration_ns,
            stop_after_client_disconnect_ns=group.stop_after_client_disconnect_ns,
            max_client_disconnect_ns=group.max_client_disconnect_ns,
            prevent_reschedule_on_lost=group.prevent_reschedule_on_lost,
            tasks=[self.task(task) for task in group.tasks or []],
        )

    def task(self, task: Task) -> Task:
        return Task(
            name=task.name,
            driver=task.driver,
            config=_RUNNABLE.get(task.driver),
            lifecycle=task.lifecycle,
            leader=task.leader,
            constraints=self.targets(task.constraints),
            affinities=self.targets(task.affinities),
            resources=self.resources(task.resources),
            restart_policy=task.restart_policy,
            kill_timeout_ns=task.kill_timeout_ns,
            shutdown_delay_ns=task.shutdown_delay_ns,
        )

    def resources(self, asked: Resources | None) -> Resources | None:
        if asked is None:
            return None
        if asked.devices:
            self._note("its devices are left out: simulated nodes have none")
        cpu = asked.cpu
        if asked.cores:
            cpu = asked.cores * CORE_MHZ
            self._note(f"its {asked.cores} cores are {cpu} MHz here")
        return Resources(
            cpu=cpu,
            memory_mb=asked.memory_mb,
            memory_max_mb=asked.memory_max_mb,
            networks=_ports(asked.networks),
        )

    def targets(self, found: list[_Target] | None) -> list[_Target] | None:
        kept = []
        for one in found or []:
            if _PINNED.search(one.l_target) or _PINNED.search(one.r_target):
                text = f"{one.l_target} {one.operand} {one.r_target}".strip()
                self._note(f"{text} is left out: it names single nodes")
            else:
                kept.append(one)
        return kept or None

    def spreads(self, found: list[Spread] | None) -> list[Spread] | None:
        return [one for one in found or [] if not _PINNED.search(one.attribute)] or None


def _ports(networks: list[NetworkResource] | None) -> list[NetworkResource] | None:
    """Return the ports alone: modes and host networks are those of real nodes."""
    kept = []
    for network in networks or []:
        if network.reserved_ports or network.dynamic_ports:
            fixed, free = (
                [msgspec.structs.replace(port, host_network="") for port in ports or []] or None
                for ports in (network.reserved_ports, network.dynamic_ports)
            )
            kept.append(NetworkResource(reserved_ports=fixed, dynamic_ports=free))
    return kept or None


def _periodic(found: PeriodicConfig | None) -> PeriodicConfig | None:
    return found if found is not None and found.enabled is not False else None
