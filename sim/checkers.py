"""What must hold, looked at from outside: the invariants of FEDERATION.md and RAFT.md.

Checkers read machines, disks and the census of simulated processes; they never ask an
agent what it believes. Each counts how often it looked at something, so that a checker
that saw nothing can't pass for one that found nothing. All look in an interval that grows
with the world, the comparison of states in one that grows with the states too.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from math import inf
from typing import Any, Final

import numpy as np

from core.model.allocation import ClientStatus, Desired
from core.state.entry import UnknownCommand
from core.state.snapshot import cut
from core.state.state import State
from raft.messages import Kind as EntryKind
from sim.agents import SimAgent, SimServer, World
from sim.census import Census, JobCount
from sim.faults import Faults
from sim.workload import Workload

CHECK_INTERVAL_US: Final = 1_000_000
AGENTS_A_STEP: Final = 500  # so many agents more, one interval more
RECORDS_A_STEP: Final = 20_000  # of a state, likewise
OVERLAP_US: Final = 60_000_000  # a stop signal, the kill timeout, a reconnect
AUTHORITY_GRACE_US: Final = 60_000_000  # two born in ignorance of each other become one
QUIET_US: Final = 120_000_000  # without faults for this long, what is wanted runs

OVER_COMMITTED: Final = "no node over-committed"
AUTHORISED: Final = "index authorised once"
ONE_LEADER: Final = "one leader a term"
COMMITTED: Final = "committed is kept"
EQUAL: Final = "equal state at equal index"
ACKNOWLEDGED: Final = "acknowledged is kept"
ONE_PROCESS: Final = "one process an index"
AUTHORITY: Final = "one authority a region"
ONE_HOME: Final = "one home a job"
WANTED: Final = "wanted runs when quiet"
SYNCED: Final = "full sync after a start from snapshots"
CHECKERS: Final = (
    OVER_COMMITTED, AUTHORISED, ONE_LEADER, COMMITTED, EQUAL, ACKNOWLEDGED, ONE_PROCESS,
    AUTHORITY, ONE_HOME, WANTED,
)  # fmt: skip

Range = tuple[int, int]


def _state_on_disk(agent: SimServer) -> State:
    """Return what a server that is down would know again: its snapshot and all of its log."""
    boot, image = agent.disk.boot()
    schema_max = agent.config.schema_max
    state = State(schema_max) if image is None else State.restore(cut(image), schema_max)
    with suppress(UnknownCommand):  # of a newer version: it stops there as well
        for entry in boot.entries:
            if entry.kind is EntryKind.COMMAND:
                state.apply(entry.index, entry.data)
    return state


class Checkers:
    """All invariants that are checked while a run goes on, and at its end."""

    def __init__(self, world: World, census: Census, workload: Workload, faults: Faults) -> None:
        self.checked: dict[str, int] = dict.fromkeys(CHECKERS, 0)
        self._interval_us = 0
        self.violations: list[str] = []
        self._world = world
        self._census = census
        self._workload = workload
        self._faults = faults
        self._said: set[str] = set()
        self._leaders: dict[tuple[str, int], str] = {}
        self._newest_term: dict[str, int] = {}  # by datacenter, of a leader that served
        self._doubled_since: dict[tuple[Any, ...], int] = {}
        self._short_since: dict[str, int] = {}
        self._two_authorities_since: dict[str, int] = {}
        self._applied: dict[str, tuple[int, str]] = {}  # by datacenter: how far, who led
        self._hash_due_us: dict[str, int] = {}
        self._hashes: dict[str, tuple[int, str]] = {}  # by server: index and hash
        self._compared: dict[str, tuple[int, int]] = {}  # by datacenter: index, replicas

    @property
    def is_armed(self) -> bool:
        return self._interval_us > 0

    def arm(self, problem: str) -> None:
        """Begin to check where datacenters began from snapshots; `problem`: what is not in sync."""
        self._count(SYNCED)
        if problem:
            self._violated(SYNCED, problem)
        self.start()

    def start(self) -> None:
        self._interval_us = CHECK_INTERVAL_US * (1 + len(self._world.agents) // AGENTS_A_STEP)
        self._world.wheel.after(self._interval_us, self._tick)

    def _tick(self, _: object) -> None:
        self.check()
        self._world.wheel.after(self._interval_us, self._tick)

    def check(self, *, is_end: bool = False) -> None:
        """Look at everything once."""
        self._one_leader_a_term()
        self._committed_is_kept()
        self._equal_state_at_equal_index(is_end=is_end)
        self._no_node_over_committed()
        self._one_process_an_index()
        self._one_authority_a_region()
        self._homes_and_shares()
        self._wanted_runs_when_quiet()

    def check_kept(self, jobs: Iterable[str]) -> None:
        """At the end: every job that was acknowledged is in some datacenter's state."""
        kept: dict[str, bool] = {}
        for agent in self._world.servers:
            state = agent.state if agent.state is not None else _state_on_disk(agent)
            for record in state.jobs:
                if not record.is_purged:
                    kept[record.id] = kept.get(record.id, True) and bool(record.is_stopped)
        for job in jobs:
            self._count(ACKNOWLEDGED)
            if job not in kept:
                self._violated(ACKNOWLEDGED, f"job {job!r} is in no server's state")
        for job in self._workload.stopped:
            self._count(ACKNOWLEDGED)
            if not kept.get(job, True) and not self._faults.active:
                self._violated(ACKNOWLEDGED, f"job {job!r} was stopped, and is not")

    def state_hashes(self) -> dict[str, str]:
        """Return the hash of each server's state as it is now."""
        found: dict[str, str] = {}
        for agent in self._world.servers:
            if agent.state is not None:
                index, digest = self._hashes.get(agent.name, (-1, ""))
                found[agent.name] = digest if index == agent.state.index else agent.state.hash()
        return found

    # --- raft -----------------------------------------------------------------------------

    def _one_leader_a_term(self) -> None:
        for agent in self._world.servers:
            if not agent.is_leader:
                continue
            self._count(ONE_LEADER)
            key = (_datacenter(agent), agent.term)
            other = self._leaders.setdefault(key, agent.name)
            if other != agent.name:
                self._violated(ONE_LEADER, f"{other} and {agent.name} lead term {key[1]}")

    def _committed_is_kept(self) -> None:
        """A leader that serves has applied whatever an earlier one had."""
        for agent, _ in self._leading():
            assert agent.server is not None
            applied = agent.server.server.consensus.applied_index
            known, by = self._applied.get(_datacenter(agent), (0, ""))
            self._count(COMMITTED)
            if applied < known:
                text = f"{agent.name} leads at index {applied}, {by} had applied {known}"
                self._violated(COMMITTED, text)
            self._applied[_datacenter(agent)] = max((applied, agent.name), (known, by))

    def _equal_state_at_equal_index(self, *, is_end: bool) -> None:
        """Every replica that stands at the same index has the same state hash."""
        groups: dict[tuple[str, int], list[SimServer]] = {}
        now_us = self._world.wheel.now_us
        for agent in self._world.servers:
            if agent.state is None or not agent.state.index:
                continue
            datacenter = _datacenter(agent)
            if is_end or now_us >= self._hash_due_us.get(datacenter, 0):
                groups.setdefault((datacenter, agent.state.index), []).append(agent)
        for key, agents in groups.items():
            if len(agents) < 2 or (
                not is_end and self._compared.get(key[0]) == (key[1], len(agents))
            ):
                continue  # alone, or nothing was applied since
            self._compared[key[0]] = (key[1], len(agents))
            hashes: dict[str, str] = {}
            for agent in agents:
                assert agent.state is not None
                hashes[agent.name] = digest = agent.state.hash()
                self._hashes[agent.name] = (key[1], digest)
                self._count(EQUAL)
                steps = 1 + len(agent.state.allocs) // RECORDS_A_STEP
                self._hash_due_us[key[0]] = now_us + (steps - 1) * self._interval_us
            if len(set(hashes.values())) > 1:
                shown = ", ".join(f"{name} {digest[:12]}" for name, digest in hashes.items())
                self._violated(EQUAL, f"{key[0]} at index {key[1]}: {shown}")

    # --- what is placed, and what runs ----------------------------------------------------

    def _no_node_over_committed(self) -> None:
        for agent in self._world.servers:
            if agent.state is None or not agent.is_leader:
                continue
            nodes = agent.state.nodes
            self._count(OVER_COMMITTED, nodes.count)
            for name in ("cpu", "memory", "disk"):
                used = getattr(nodes, f"{name}_used")
                capacity = getattr(nodes, f"{name}_capacity")
                for where in np.flatnonzero(used > capacity).tolist():
                    stays = used[where] - _leaving(agent.state, where, name)
                    if stays > capacity[where]:
                        self._violated(
                            OVER_COMMITTED,
                            f"{agent.name}: node {where} has {stays} of {name} used, "
                            f"{capacity[where]} in all",
                        )

    def _one_process_an_index(self) -> None:
        """At most one process per (job, group, task, index), but for a hand-over's time.

        A replacement starts while its predecessor obeys the stop signal; and the old
        process of a node that was given up runs unseen until the node is back. So a
        second process counts once it lasts, with every node involved in contact.
        """
        self._count(ONE_PROCESS, self._census.running)
        now_us = self._world.wheel.now_us
        doubled: dict[tuple[Any, ...], int] = {}
        for key, numbers in self._census.doubled.items():
            nodes = list(dict.fromkeys(self._world.clients[number].name for number in numbers))
            nodes = [name for name in nodes if self._in_contact(name)]
            if len(nodes) <= self._processes(key[0]):
                continue
            doubled[key] = self._doubled_since.get(key, now_us)
            if now_us - doubled[key] > OVERLAP_US:
                where = " and on ".join(nodes)
                self._violated(ONE_PROCESS, f"{key[0]}.{key[1]}[{key[3]}] runs on {where}")
        self._doubled_since = doubled

    def _copies(self, job: str) -> int:
        """Return how many copies of an index its job allows: two under surge."""
        return 2 if self._workload.is_surge(job) else 1

    def _processes(self, job: str) -> float:
        """Return how many processes of an index may run: a canary beside the one it is to follow.

        Of a system job an index names nothing: there is one on each node.
        """
        if self._workload.is_system(job):
            return inf
        each = self._copies(job) + self._workload.has_canaries(job)
        return each * self._workload.regions_of(job)

    def _wanted_runs_when_quiet(self) -> None:
        """Without faults for a while, every service runs as many instances as it should.

        Those that no datacenter has room for are queued, and count. A job whose tasks fail
        is restarted later and later, so nobody can say when it should run.
        """
        now_us = self._world.wheel.now_us
        mended = self._faults.mended
        last_us = mended[-1].mended_us if mended else 0
        if self._faults.active or now_us - last_us < QUIET_US:
            self._short_since.clear()
            return
        self._count(WANTED, sum(1 for count in self._census.jobs.values() if count.is_service))
        self._short_since = {job: self._short_since.get(job, now_us) for job in self._census.short}
        for job, since_us in self._short_since.items():
            count = self._census.jobs[job]
            if (
                now_us - since_us > QUIET_US
                and not count.has_failed
                and self._is_missing(job, count)
            ):
                self._violated(WANTED, f"{job} runs {count.running} of {count.wanted}")

    def _is_missing(self, job: str, count: JobCount) -> bool:
        queued = sum(
            int(state.jobs.columns.queued[record.group_rows].sum())
            for _, state in self._standing()
            for record in [state.jobs.get(self._workload.namespace_of(job), job)]
            if record is not None
        )
        return count.running + queued != count.wanted

    # --- federation -----------------------------------------------------------------------

    def _one_authority_a_region(self) -> None:
        """Of two datacenters that became authority unheard of each other, one gives in."""
        found: dict[str, list[str]] = {}
        for agent, state in self._standing():
            if state.is_authority:
                found.setdefault(agent.place.region, []).append(agent.name)
        now_us = self._world.wheel.now_us
        doubled = {}
        for region, names in found.items():
            self._count(AUTHORITY)
            if len(names) < 2 or self._world.network.is_broken:
                continue
            doubled[region] = self._two_authorities_since.get(region, now_us)
            if now_us - doubled[region] > AUTHORITY_GRACE_US:
                self._violated(AUTHORITY, f"{region}: {' and '.join(names)}")
        self._two_authorities_since = doubled

    def _homes_and_shares(self) -> None:
        """A name is one job, wherever in the federation its parts are, and no two
        datacenters may run the same index of it (under surge: no three).
        """
        holders: dict[tuple[str, str, str], list[tuple[str, Any]]] = {}
        for agent, state in self._standing():
            datacenter, region = _datacenter(agent), agent.place.region
            for record in state.jobs:
                key = (record.job.region or region, record.namespace, record.id)
                holders.setdefault(key, []).append((datacenter, record))
        self._count(ONE_HOME, len(holders))
        self._count(AUTHORISED, len(holders))
        for key, found in holders.items():
            if len(found) < 2:
                continue
            (first, record), *others = found
            for other, another in others:
                if another.uid != record.uid:
                    self._violated(ONE_HOME, f"job {key[2]!r} lives in {first} and in {other}")
            if record.job.type in ("system", "sysbatch"):
                continue  # these run everywhere by design
            shares = [one.share() for _, one in found if not one.is_stopped]
            most, group, index = _most_authorised(shares)
            if most > self._copies(key[2]):
                where = ", ".join(name for name, _ in found)
                text = f"{key[2]}.{group}[{index}] may run {most} times: {where} hold it"
                self._violated(AUTHORISED, text)

    def _leading(self) -> Iterator[tuple[SimServer, State]]:
        """Yield the leaders that have applied all that was acknowledged, and their state.

        One a datacenter: who was paused may take himself for the leader while another leads
        a later term, and answers nothing before he has asked a majority.
        """
        serving = [
            agent
            for agent in self._world.servers
            if agent.server is not None and agent.server.server.consensus.is_serving
        ]
        for agent in serving:
            datacenter = _datacenter(agent)
            self._newest_term[datacenter] = max(self._newest_term.get(datacenter, 0), agent.term)
        for agent in serving:
            if agent.state is not None and agent.term == self._newest_term[_datacenter(agent)]:
                yield agent, agent.state

    def _standing(self) -> Iterator[tuple[SimServer, State]]:
        """Yield those of `_leading` that nobody declared off: what such a one allows is void."""
        for agent, state in self._leading():
            if _datacenter(agent) not in self._faults.off:
                yield agent, state

    def _in_contact(self, name: str) -> bool:
        """Return whether a node's agent runs and nothing cuts it off from its servers."""
        agent = self._world.agents[name]
        return agent.machine is not None and not any(
            self._world.network.is_cut(server.name, name)
            for server in self._world.servers
            if server.site is agent.site
        )

    def _count(self, name: str, times: int = 1) -> None:
        self.checked[name] = self.checked.get(name, 0) + times

    def _violated(self, name: str, what: str) -> None:
        """Note a violation, once: what lasts is found again at each look."""
        if what not in self._said:
            self._said.add(what)
            self.violations.append(f"{self._world.wheel.now_us / 1e6:.3f}s {name}: {what}")


def _leaving(state: State, node: int, resource: str) -> int:
    """Return what allocations of a node hold that are asked to end.

    What takes their place was given their room, and begins when they have ended.
    """
    allocs, columns = state.allocs, state.allocs.columns
    held = 0
    for row in allocs.rows_of_node(node).tolist():
        is_over = ClientStatus(int(columns.client[row])).is_terminal
        if columns.desired[row] != Desired.RUN and not is_over:
            held += getattr(allocs.ask(int(columns.resources[row])), resource)
    return held


def _most_authorised(shares: Iterable[dict[str, list[Range]]]) -> tuple[int, str, int]:
    """Return how often the most authorised index is, its group and the index."""
    edges: dict[str, list[tuple[int, int]]] = {}
    for share in shares:
        for group, ranges in share.items():
            for low, high in ranges:
                edges.setdefault(group, []).extend([(low, 1), (high, -1)])
    most, where = 0, ("", 0)
    for group, changes in edges.items():
        depth = 0
        for index, change in sorted(changes):
            depth += change
            if depth > most:
                most, where = depth, (group, index)
    return most, *where


def _datacenter(agent: SimAgent) -> str:
    return f"{agent.place.region}/{agent.place.datacenter}"
