"""What must hold, looked at from outside: the invariants of FEDERATION.md and RAFT.md.

Checkers read machines, disks and the simulated processes; they never ask an agent what
it believes. Each counts how often it looked at something, so that a checker that saw
nothing can't pass for one that found nothing.
"""

from collections.abc import Iterator
from typing import Final

from core.state.state import State
from sim.agents import SimAgent, SimClient, SimServer, World
from sim.tasks import SimTask

CHECK_INTERVAL_US: Final = 1_000_000
OVERLAP_US: Final = 60_000_000  # a stop signal, the kill timeout, a reconnect
AUTHORITY_GRACE_US: Final = 60_000_000  # two born in ignorance of each other become one


class Violation(Exception):
    """An invariant does not hold; the text names it, the time and the agents."""


class Checkers:
    """All invariants that are checked while a run goes on, and at its end."""

    def __init__(self, world: World) -> None:
        self.checked: dict[str, int] = {}
        self.violations: list[str] = []
        self._world = world
        self._leaders: dict[tuple[str, int], str] = {}
        self._doubled_since: dict[tuple[str, ...], int] = {}
        self._two_authorities_since: dict[str, int] = {}

    def start(self) -> None:
        self._world.wheel.after(CHECK_INTERVAL_US, self._tick)

    def _tick(self, _: object) -> None:
        self.check()
        self._world.wheel.after(CHECK_INTERVAL_US, self._tick)

    def check(self) -> None:
        """Look at everything once."""
        self._one_leader_a_term()
        self._equal_state_at_equal_index()
        self._no_node_over_committed()
        self._one_process_an_index()
        self._one_authority_a_region()
        self._one_home_a_job()

    def check_kept(self, jobs: list[str]) -> None:
        """At the end: every job that was acknowledged is in some datacenter's state."""
        kept = {
            record.id
            for agent in self._servers()
            if agent.state is not None
            for record in agent.state.jobs
            if not record.is_purged
        }
        for job in jobs:
            self._count("acknowledged is kept")
            if job not in kept:
                self._violated("acknowledged is kept", f"job {job!r} is in no server's state")

    # --- invariants -----------------------------------------------------------------------

    def _one_leader_a_term(self) -> None:
        for agent in self._servers():
            if not agent.is_leader:
                continue
            self._count("one leader a term")
            key = (self._datacenter(agent), agent.term)
            other = self._leaders.setdefault(key, agent.name)
            if other != agent.name:
                self._violated("one leader a term", f"{other} and {agent.name} lead term {key[1]}")

    def _equal_state_at_equal_index(self) -> None:
        """Every replica that stands at the same index has the same state hash."""
        groups: dict[tuple[str, int], list[SimServer]] = {}
        for agent in self._servers():
            if agent.state is not None:
                key = (self._datacenter(agent), agent.state.index)
                groups.setdefault(key, []).append(agent)
        for key, agents in groups.items():
            if len(agents) < 2 or not key[1]:
                continue
            hashes: dict[str, str] = {}
            for agent in agents:
                assert agent.state is not None
                hashes[agent.name] = agent.state.hash()
                self._count("equal state at equal index")
            if len(set(hashes.values())) > 1:
                self._violated(
                    "equal state at equal index",
                    f"{key[0]} at index {key[1]}: "
                    + ", ".join(f"{name} {digest[:12]}" for name, digest in hashes.items()),
                )

    def _no_node_over_committed(self) -> None:
        for agent in self._servers():
            if agent.state is None or not agent.is_leader:
                continue
            nodes = agent.state.nodes
            self._count("no node over-committed")
            for name in ("cpu", "memory", "disk"):
                used = getattr(nodes, f"{name}_used")
                capacity = getattr(nodes, f"{name}_capacity")
                if (used > capacity).any():
                    where = int((used > capacity).argmax())
                    self._violated(
                        "no node over-committed",
                        f"{agent.name}: node {where} has {used[where]} of {name} used, "
                        f"{capacity[where]} in all",
                    )

    def _one_process_an_index(self) -> None:
        """At most one process per (job, group, index, task), but for a hand-over's time.

        A replacement starts while its predecessor obeys the stop signal; and the old
        process of a node that was given up runs unseen until the node is back. So a
        second process counts once it lasts, with every node involved in contact.
        """
        seen: dict[tuple[str, ...], str] = {}
        doubled: dict[tuple[str, ...], int] = {}
        for agent, task in self.processes():
            env = task.spec.env
            key = (
                env.get("NOMAD_JOB_ID", ""),
                env.get("NOMAD_GROUP_NAME", ""),
                env.get("NOMAD_ALLOC_INDEX", ""),
                task.key[1],
            )
            self._count("one process an index")
            other = seen.setdefault(key, agent.name)
            if other == agent.name or not (
                self._in_contact(other) and self._in_contact(agent.name)
            ):
                continue
            doubled[key] = self._doubled_since.get(key, self._world.wheel.now_us)
            if self._world.wheel.now_us - doubled[key] > OVERLAP_US:
                self._violated(
                    "one process an index",
                    f"{key[0]}.{key[1]}[{key[2]}] runs on {other} and on {agent.name}",
                )
        self._doubled_since = doubled

    def _one_authority_a_region(self) -> None:
        """Of two datacenters that became authority unheard of each other, one gives in."""
        found: dict[str, list[str]] = {}
        for agent, state in self._leading():
            if state.is_authority:
                found.setdefault(agent.place.region, []).append(agent.name)
        now_us = self._world.wheel.now_us
        doubled = {}
        for region, names in found.items():
            self._count("one authority a region")
            if len(names) < 2 or self._world.network.is_broken:
                continue
            doubled[region] = self._two_authorities_since.get(region, now_us)
            if now_us - doubled[region] > AUTHORITY_GRACE_US:
                self._violated("one authority a region", f"{region}: {' and '.join(names)}")
        self._two_authorities_since = doubled

    def _one_home_a_job(self) -> None:
        """A name is a job in one datacenter only, wherever in the federation it went."""
        homes: dict[tuple[str, str, str], str] = {}
        for agent, state in self._leading():
            for record in state.jobs:
                if record.is_purged:
                    continue
                self._count("one home a job")
                key = (record.job.region or agent.place.region, record.namespace, record.id)
                other = homes.setdefault(key, self._datacenter(agent))
                if other != self._datacenter(agent):
                    text = f"job {record.id!r} lives in {other} and in {self._datacenter(agent)}"
                    self._violated("one home a job", text)

    def _leading(self) -> Iterator[tuple[SimServer, State]]:
        """Yield the leaders that have applied all that was acknowledged, and their state."""
        for agent in self._servers():
            if agent.server is not None and agent.server.server.consensus.is_serving:
                yield agent, agent.server.state

    def _in_contact(self, name: str) -> bool:
        """Return whether a node's agent runs and nothing cuts it off from its servers."""
        agent = self._world.agents[name]
        return agent.machine is not None and not any(
            self._world.network.is_cut(server.name, name)
            for server in self._servers()
            if self._datacenter(server) == self._datacenter(agent)
        )

    # --- what exists ----------------------------------------------------------------------

    def processes(self) -> Iterator[tuple[SimClient, SimTask]]:
        """Yield every simulated process that exists, and its node."""
        for agent in self._world.agents.values():
            if isinstance(agent, SimClient):
                for task in agent.tasks.running():
                    yield agent, task

    def count_processes(self, job: str) -> dict[str, int]:
        """Return how many processes of a job run, by region."""
        found: dict[str, int] = {}
        for agent, task in self.processes():
            if task.spec.env.get("NOMAD_JOB_ID") == job:
                found[agent.place.region] = found.get(agent.place.region, 0) + 1
        return found

    def _servers(self) -> Iterator[SimServer]:
        for agent in self._world.agents.values():
            if isinstance(agent, SimServer):
                yield agent

    def _datacenter(self, agent: SimAgent) -> str:
        return f"{agent.place.region}/{agent.place.datacenter}"

    def _count(self, name: str) -> None:
        self.checked[name] = self.checked.get(name, 0) + 1

    def _violated(self, name: str, what: str) -> None:
        text = f"{self._world.wheel.now_us / 1e6:.3f}s {name}: {what}"
        if not self.violations or self.violations[-1].split("s ", 1)[1] != text.split("s ", 1)[1]:
            self.violations.append(text)
