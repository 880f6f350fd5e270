"""Datacenters that begin from a snapshot: with its jobs, and its allocations as they run.

    datacenter "paris" {
      snapshot = "paris.snap"      # of: serai operator snapshot save
    }

Every server of the datacenter finds on its disk a Raft snapshot with that state, so its log
goes on from there. Every node of the state that was up is a client that finds on its own disk
what it runs, and the processes that it runs still exist: as after a restart of all agents at
once. Nodes that were down stay down. Secrets are taken out before anything begins
(sim.live.stripping).

Nothing is checked before the **full sync**: each datacenter has a leader that serves, each node
is registered, has found its processes again, and has told its servers so. `FullSync` waits for
that; then the invariants are armed.
"""

import hashlib
from collections.abc import Callable, Iterator
from typing import Final

from core.client.config import ClientConfig, Fingerprint
from core.client.machine import ClientMachine
from core.client.saved import (
    NODE_KEY,
    SavedAlloc,
    SavedNode,
    SavedTask,
    alloc_key,
    encode,
    encode_alloc,
    job_key,
    task_key,
)
from core.model.allocation import Allocation, ClientStatus, Desired, TaskStateName
from core.model.node import Node, NodeStatus
from core.state.snapshot import SnapshotError
from core.state.state import State
from core.state.whole import allocation
from raft.messages import Configuration, SnapshotMeta
from sim.agents import SimClient, SimServer, World
from sim.live.inventory import fit_name, free_name
from sim.live.jobs import Note
from sim.live.stripping import secret_of, strip
from sim.network import Place
from sim.plans import SNAPSHOT_LABEL, DatacenterPlan, Scenario, Start
from sim.workload import Workload

TERM: Final = 1  # of the snapshot on the servers' disks
LOOK_US: Final = 1_000_000
SYNC_US: Final = 180_000_000  # who has not synced by then never will
NAMED: Final = 5  # of those whom the sync waited for in vain
_CHUNK_BYTES: Final = 1 << 20


class StartError(Exception):
    """A file is no snapshot to begin from; the text says which, and why."""


def read_start(path: str, run_time: str = "", note: Note = lambda _: None) -> Start:
    """Return what a datacenter begins from, without secrets.

    Args:
        path: Of a file that `serai operator snapshot save` wrote.
        run_time: How long tasks of batch jobs run from then on; "" = until they are stopped.
        note: Is told what was left out that makes a difference.

    Raises:
        StartError: It can't be read, is damaged, or is of no datacenter.
    """
    try:
        with open(path, "rb") as file:
            state = State.restore(iter(lambda: file.read(_CHUNK_BYTES), b""))
    except OSError as error:
        raise StartError(f"{path} can't be read: {error.strerror}") from None
    except SnapshotError as error:
        raise StartError(f"{path}: {error}") from None
    if not state.datacenter_id:
        raise StartError(f"{path}: this is the state of no datacenter yet")
    strip(state, run_time, note)
    return Start(
        region=state.region,
        datacenter=state.datacenter,
        datacenter_id=state.datacenter_id,
        image=b"".join(state.image().chunks()),
        log_time_us=state.log_time_us,
        node_names=tuple(_names(state)),
    )


def _names(state: State) -> Iterator[str]:
    """Yield the names of the nodes as agents are called, in order of ordinal."""
    taken: set[str] = set()
    for node in state.nodes:
        name = free_name(fit_name(node.name), taken)
        taken.add(name)
        yield name


def labels_of(state: State, datacenter: str) -> tuple[str, ...]:
    """Return the labels of small sites whose nodes a datacenter takes in."""
    found = dict.fromkeys(node.datacenter for node in state.nodes)
    return tuple(label for label in found if label != datacenter)


class Beginning:
    """One datacenter that begins from a snapshot: its state once more, as the agents are built."""

    def __init__(self, plan: DatacenterPlan) -> None:
        assert plan.start is not None
        self.plan, self.start = plan, plan.start
        self.state = State.restore([plan.start.image])

    @classmethod
    def all_of(cls, scenario: Scenario) -> "list[Beginning]":
        """Return those of a scenario, in its order."""
        return [cls(plan) for plan in scenario.datacenters if plan.start is not None]

    def clients(self, world: World) -> Iterator[SimClient]:
        """Add a client for each node; its disk holds what the node runs."""
        plan = self.plan
        servers = tuple(
            server.rpc_addr for server in world.servers if server.site == (plan.region, plan.name)
        )
        for node, name in zip(self.state.nodes, self.start.node_names, strict=True):
            agent_name = f"{plan.region}-{plan.name}-{SNAPSHOT_LABEL}-{name}"
            config = _config(plan, node, agent_name, servers)
            client = SimClient(world, Place(plan.region, plan.name, agent_name), config)
            client.node_id = node.id
            client.is_left_off = node.status is not NodeStatus.READY
            saved = SavedNode(
                node_id=node.id,
                secret_id=secret_of(node.id),
                datacenter_id=self.start.datacenter_id,
                servers=list(servers),
            )
            client.disk.save(NODE_KEY, encode(saved))
            yield client

    def fill_disks(self, servers: list[SimServer]) -> None:
        """Put the state on the servers' disks, as a snapshot of their log."""
        state, image = self.state, self.start.image
        index = state.index - state.index_offset
        voters = {server.config.server_id: server.config.rpc_addr for server in servers}
        meta = SnapshotMeta(
            index=index,
            term=TERM,
            configuration=Configuration.of(voters),
            configuration_index=index,
            size=len(image),
            digest=hashlib.sha256(image).hexdigest(),
            cluster_id=state.datacenter_id,
        )
        for server in servers:
            server.disk.begin_from(meta, image)

    def fill_nodes(self, clients: dict[str, SimClient]) -> None:
        """Give the nodes that were up their running processes; `clients` by node id."""
        state = self.state
        columns = state.allocs.columns
        for node in state.nodes:
            client = clients[node.id]
            ordinal = state.nodes.ordinal_of(node.id)
            if ordinal is None or client.is_left_off:
                continue
            saved_jobs: set[str] = set()
            for row in state.allocs.rows_of_node(ordinal).tolist():
                is_running = columns.client[row] == ClientStatus.RUNNING
                if is_running and columns.desired[row] == Desired.RUN:
                    _resume(client, allocation(state.allocs, state.nodes, row), saved_jobs)

    def begin_workload(self, workload: Workload, known: set[str]) -> None:
        """Tell the workload which jobs users had handed in; `known` are all datacenters' ids."""
        for record in self.state.jobs:
            if record.is_stopped or (record.home and record.home in known):
                continue
            region = record.job.region
            here = region if region in workload.regions else self.plan.region
            # Of one whose home is not here, nobody can say how many there should be.
            workload.take_over(record.job, here or self.plan.region, is_whole=not record.home)


def _config(plan: DatacenterPlan, node: Node, name: str, servers: tuple[str, ...]) -> ClientConfig:
    hostname = {"unique.hostname": name, "unique.network.ip-address": name}
    return ClientConfig(
        name=name,
        region=plan.region,
        datacenter=node.datacenter,
        node_class=node.node_class,
        node_pool=node.node_pool,
        meta=dict(node.meta or {}),
        servers=servers,
        rpc_addr=f"{name}:4647",
        http_addr=f"{name}:4646",
        gossip_addr=f"{name}:4648",
        reserved=node.reserved_resources,
        fingerprint=Fingerprint(
            attributes={**(node.attributes or {}), **hostname},
            resources=node.node_resources,
            drivers=dict(node.drivers or {}),
        ),
    )


def _resume(client: SimClient, alloc: Allocation, saved_jobs: set[str]) -> None:
    """Save an allocation as its client had it, and let its processes exist."""
    job = alloc.job
    if job is None:  # of a version that is not kept any more: fetched, and begun anew
        return
    key = job_key(alloc)
    if key not in saved_jobs:
        saved_jobs.add(key)
        client.disk.save(key, encode(job))
    saved = SavedAlloc(
        alloc=alloc,
        received_us=alloc.create_time_ns // 1_000,
        job_key=key,
        deployed_us=alloc.create_time_ns // 1_000,
        is_prepared=True,
        deployment_status=alloc.deployment_status,
    )
    client.disk.save(alloc_key(alloc.id), encode_alloc(saved))
    group = next((one for one in job.task_groups or [] if one.name == alloc.task_group), None)
    env = {task.name: task.env or {} for task in (group.tasks if group else None) or []}
    for name, state in (alloc.task_states or {}).items():
        record = SavedTask(state=state, attempt=int(state.state is not TaskStateName.PENDING))
        if state.state is TaskStateName.RUNNING:
            record.may_run = True
            said = {
                **env.get(name, {}),
                "NOMAD_JOB_ID": alloc.job_id,
                "NOMAD_GROUP_NAME": alloc.task_group,
                "NOMAD_ALLOC_INDEX": str(alloc.index),
            }
            record.handle = client.tasks.go_on((alloc.id, name, record.attempt), said)
        client.disk.save(task_key(alloc.id, name), encode(record))


class FullSync:
    """Waits until all that begins from snapshots has found itself again; then calls `armed`."""

    def __init__(
        self, world: World, sites: list[tuple[str, str]], armed: Callable[[list[str]], None]
    ) -> None:
        self._world = world
        self._servers = [one for one in world.servers if one.site in sites]
        self._clients = [one for one in world.clients if one.site in sites and not one.is_left_off]
        self._armed = armed
        world.wheel.after(LOOK_US, self._look)

    def _look(self, _: object) -> None:
        missing = [*self._missing()]
        if missing and self._world.wheel.now_us < SYNC_US:
            self._world.wheel.after(LOOK_US, self._look)
        else:
            self._armed(missing)

    def _missing(self) -> Iterator[str]:
        """Yield who has not synced."""
        leading = {
            one.site
            for one in self._servers
            if one.server and one.server.server.consensus.is_serving
        }
        for server in self._servers:
            if server.machine is None or server.site not in leading:
                yield server.name
        for client in self._clients:
            machine = client.machine
            if not isinstance(machine, ClientMachine) or not (
                machine.contact.is_registered and machine.reporter.is_idle
            ):
                yield client.name


def in_words(missing: list[str]) -> str:
    more = f" and {len(missing) - NAMED:,} more" if len(missing) > NAMED else ""
    return f"not synced after {SYNC_US // 1_000_000} s: {', '.join(missing[:NAMED])}{more}"


__all__ = ["Beginning", "FullSync", "Start", "StartError", "in_words", "labels_of",
           "read_start"]  # fmt: skip
