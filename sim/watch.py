"""How faults were noticed and got over: looked at from outside, between the steps of a run.

    detection     from the end of a node's agent to its datacenter calling the node down
    heal          from the mending of a fault until the services that were short then are whole
    false death   a node called down although its agent ran and nothing cut it off

All is as fine as the step, and read without asking anybody.
"""

from typing import Final

import numpy as np

from core.model.node import NodeStatus
from core.state.state import State
from sim.agents import SimClient, SimServer, World
from sim.census import Census
from sim.faults import Faults, Struck

FATAL: Final = frozenset({"crash", "power", "datacenter-loss"})
FRESH_US: Final = 30_000_000  # a node called down so soon after a start was called so before it
GONE: Final = (NodeStatus.DOWN, NodeStatus.DISCONNECTED)


class Watch:
    def __init__(self, world: World, census: Census, faults: Faults) -> None:
        self.detections_us: list[int] = []
        self.undetected = 0  # nodes that were back before anybody noticed
        self.heals_us: list[tuple[int, str, int]] = []  # (when mended, kind, how long)
        self.false_deaths = 0
        self.deaths = 0
        self._world = world
        self._census = census
        self._faults = faults
        self._seen = 0  # of the faults' story
        self._missing: dict[str, int] = {}  # client -> when its agent ended
        self._healing: dict[int, tuple[Struck, dict[str, None]]] = {}
        self._mended = 0  # of those mended
        self._down: dict[str, frozenset[int]] = {}  # by datacenter: ordinals
        self._ordinals: dict[str, tuple[int, dict[str, int]]] = {}
        self._well_since_us: dict[str, int] = {}  # by node: since when it can be reached again

    def look(self, now_us: int) -> None:
        """Take note of what happened since the last look."""
        leading = self.leading()
        self._note_faults(now_us)
        for name in list(self._missing):
            self._look_for(name, leading, now_us)
        for number, (struck, jobs) in list(self._healing.items()):
            for job in [job for job in jobs if job not in self._census.short]:
                del jobs[job]
            if not jobs:
                del self._healing[number]
                took_us = now_us - struck.mended_us
                self.heals_us.append((struck.mended_us, struck.plan.kind, took_us))
        for datacenter, (_, state) in leading.items():
            self._judge_deaths(datacenter, state, now_us)

    @property
    def down(self) -> int:
        """Nodes that their datacenters call down or disconnected."""
        return sum(map(len, self._down.values()))

    @property
    def is_healing(self) -> bool:
        return bool(self._healing)

    def leading(self) -> dict[str, tuple[SimServer, State]]:
        """Return the serving leader of each datacenter that has one, and its state."""
        found: dict[str, tuple[SimServer, State]] = {}
        for agent in self._world.servers:
            server = agent.server
            if server is not None and server.server.consensus.is_serving:
                name = f"{agent.place.region}/{agent.place.datacenter}"
                other = found.get(name)
                if other is None or other[0].term < agent.term:
                    found[name] = (agent, server.server.state)
        return found

    def _note_faults(self, now_us: int) -> None:
        story = self._faults.story
        for struck in story[self._seen :]:
            if struck.plan.kind in FATAL:
                for name in struck.agents:
                    if isinstance(self._world.agents[name], SimClient):
                        self._missing.setdefault(name, struck.at_us)
        self._seen = len(story)
        mended = self._faults.mended
        for struck in mended[self._mended :]:
            self._healing[struck.number] = (struck, dict(self._census.short))
            for name in struck.agents:
                self._well_since_us[name] = now_us
        self._mended = len(mended)

    def _look_for(
        self, name: str, leading: dict[str, tuple[SimServer, State]], now_us: int
    ) -> None:
        agent = self._world.agents[name]
        place = agent.place
        found = leading.get(f"{place.region}/{place.datacenter}")
        if found is not None:
            ordinal = self._ordinal(f"{place.region}/{place.datacenter}", found[1], name)
            record = None if ordinal is None else found[1].nodes.record(ordinal)
            if record is not None and record.status in GONE:
                self.detections_us.append(now_us - self._missing.pop(name))
                return
        if agent.machine is not None:
            self.undetected += 1
            del self._missing[name]

    def _ordinal(self, datacenter: str, state: State, name: str) -> int | None:
        size, ordinals = self._ordinals.get(datacenter, (-1, {}))
        if size != len(state.nodes):
            ordinals = {}
            for ordinal in range(len(state.nodes)):
                record = state.nodes.record(ordinal)
                if record is not None:
                    ordinals[record.name] = ordinal
            self._ordinals[datacenter] = (len(state.nodes), ordinals)
        return ordinals.get(name)

    def _judge_deaths(self, datacenter: str, state: State, now_us: int) -> None:
        columns = state.nodes.columns
        length = len(state.nodes)
        idle = np.flatnonzero(~columns.is_ready[:length] & (columns.class_id[:length] >= 0))
        down = set()
        for ordinal in idle.tolist():
            record = state.nodes.record(ordinal)
            if record is not None and record.status in GONE:
                down.add(ordinal)
        before = self._down.get(datacenter, frozenset())
        for ordinal in sorted(down - before):
            record = state.nodes.record(ordinal)
            assert record is not None
            self.deaths += 1
            if self._is_well(record.name, now_us):
                self.false_deaths += 1
        self._down[datacenter] = frozenset(down)

    def _is_well(self, name: str, now_us: int) -> bool:
        agent = self._world.agents.get(name)
        if agent is None or agent.machine is None or agent.paused_until_us > now_us - FRESH_US:
            return False
        if now_us - self._well_since_us.get(name, -FRESH_US) < FRESH_US:
            return False
        return not any(
            self._world.network.is_cut(server.name, name)
            for server in self._world.servers
            if server.site is agent.site
        )
