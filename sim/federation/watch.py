"""Checks that look on from outside: at each log's entries, and at the processes that run.

Nothing here asks the federation what it believes. What a datacenter may run follows from
the job records that its own log made, as the scheduler reads them; what it does run, from
its nodes.

    index twice       an index is authorised in one datacenter at a time (two under surge)
    process twice     it runs in one datacenter at a time (two under surge)
    two homes         one job of a name in a region
    share went back   a datacenter never follows an older share than it did
    token twice       a caller's write takes effect once
    token forgotten   its repetition never hears that there is no such job
    two rollouts      a version that replaces instances a few at a time reaches no datacenter
                      while another one that has it still runs older ones
    over-committed    no node holds more than it has
    snapshot          a restored state equals the one it was taken of
"""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from core.federation.backup import backups_of, stamp_of, turn_of
from core.federation.claims import authority_of, open_claims
from core.federation.handing import departures_of
from core.federation.roster_log import DeclareOff
from core.federation.share_log import watermarks_of
from core.federation.succession import BeginSuccession
from core.state.commands import DeregisterJob, RecordCall, RegisterJob
from core.state.jobs import JobRecord
from core.state.result import Applied
from core.state.state import State
from sim.federation.clients import ProcessKey
from sim.federation.rollout_watch import RolloutWatch
from sim.federation.situations import Situations
from sim.federation.world import S, World
from sim.seeds import Violation

if TYPE_CHECKING:
    from sim.federation.datacenter import Datacenter

Name = tuple[str, str]  # namespace, job id
_WRITES: Final = (RegisterJob, DeregisterJob)


class Allowed(NamedTuple):
    """What one datacenter's log lets it run of a name."""

    uid: str
    indices: frozenset[tuple[str, int]]  # (group, index)
    most: int  # datacenters that may run one index at a time
    is_home: bool


class Effect(NamedTuple):
    """Where and when a caller's write took effect."""

    at: str  # datacenter
    name: Name
    time_us: int  # of the world


class Watch:
    """Looks at one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.acknowledged = 0
        self.excused: dict[Name, None] = {}  # of two jobs: two authorities had not met yet
        self.allowed: dict[tuple[str, Name], Allowed] = {}  # by datacenter id
        self.effects: dict[str, Effect] = {}  # by call id
        self.void: dict[str, None] = {}  # calls that took effect where all is lost: it is off
        self.uids: dict[str, Name] = {}
        self._versions: dict[tuple[str, str], int] = {}  # of a job, by (datacenter, uid)
        self._by_index: dict[ProcessKey, dict[str, None]] = {}  # -> datacenters
        self._processes: dict[ProcessKey, Counter[str]] = {}
        self._most: dict[str, int] = {}  # by uid
        self._newest_share: dict[tuple[str, str], tuple[int, int]] = {}  # (datacenter, uid)
        self.on_decision: Callable[[Datacenter, list[Any], Applied], None] = _ignored
        self.off: dict[str, None] = {}  # datacenters that were declared off: their id is void
        self._forgotten_us = -1  # when an authority was lost
        self.situations = Situations(world)
        self.rollouts = RolloutWatch(world)
        world.watch = self

    def fail(self, checker: str, text: str) -> None:
        """Report a broken promise.

        Raises:
            Violation: Always.
        """
        raise Violation(checker, f"at {self.world.now_us / S:.3f} s: {text}")

    # --- the logs ---------------------------------------------------------------------------

    def on_entry(
        self, datacenter: "Datacenter", commands: list[Any], call: RecordCall | None,
        applied: Applied,
    ) -> None:  # fmt: skip
        """An entry was applied in a datacenter."""
        if not applied.is_repeat:
            self._note_off(commands, applied)
        names: dict[Name, None] = {}
        has_allocs = has_shares = False
        for change in applied.changes:
            if change.table == "jobs":
                names[change.namespace, change.key] = None
            elif change.table == "departures" and change.key in self.uids:
                names[self.uids[change.key]] = None
            has_allocs |= change.table == "allocs"
            has_shares |= change.table == "watermarks"
        for name in names:
            self._look_at(datacenter, name)
        if call is not None and not applied.is_repeat:
            self._note_effects(datacenter, commands, call, applied)
        if has_shares:
            self._check_shares(datacenter)
        if has_allocs:
            self._check_nodes(datacenter)
        self.world.situations["repeated token answered"] += applied.is_repeat
        if not applied.is_repeat:
            self.situations.on_entry(datacenter, commands, applied)
            self.rollouts.on_entry(datacenter, commands, applied)
            self.on_decision(datacenter, commands, applied)

    def _look_at(self, datacenter: "Datacenter", name: Name) -> None:
        """Compare what a datacenter may run of a name with what all others may."""
        before = self.allowed.pop((datacenter.id, name), None)
        now = self._allowed_by(datacenter.state, name)
        if before is not None:
            gone = before.indices
            if now is not None and now.uid == before.uid:
                gone = gone - now.indices
            for group, index in gone:
                self._by_index[ProcessKey(before.uid, group, index)].pop(datacenter.id, None)
        if now is None or datacenter.id in self.off:
            return
        self.allowed[datacenter.id, name] = now
        self.uids[now.uid] = name
        self._most[now.uid] = max(now.most, self._most.get(now.uid, 1))
        for group, index in sorted(now.indices):
            holders = self._by_index.setdefault(ProcessKey(now.uid, group, index), {})
            holders[datacenter.id] = None
            if len(holders) > self._most[now.uid] and not self._is_born_twice(datacenter, name):
                titles = ", ".join(self.world.datacenters[one].title for one in holders)
                self.fail("index twice", f"{name[1]} {group}[{index}] of {now.uid[:8]}: {titles}")
        if now.is_home:
            self._check_homes(datacenter, name, now)
        record = datacenter.state.jobs.get(*name)
        assert record is not None
        known = self._versions.get((datacenter.id, now.uid))
        self._versions[datacenter.id, now.uid] = record.version
        if known is not None and known != record.version and record.home:
            self._check_rollout(datacenter, record)

    def _is_born_twice(self, datacenter: "Datacenter", name: Name) -> bool:
        """Whether two authorities registered one call, so both made its job: docs/federation.md."""
        found = [one.id for one in self.world.region(datacenter.region)
                 if (known := self.allowed.get((one.id, name))) is not None
                 and known.is_home]  # fmt: skip
        if len(found) < 2 or self._givers(datacenter.region) < 2:
            return False
        self.excused[name] = None
        self._most[self.allowed[datacenter.id, name].uid] = len(found)
        return True

    def _note_off(self, commands: list[Any], applied: Applied) -> None:
        for command, result in zip(commands, applied.results, strict=True):
            if isinstance(command, DeclareOff) and not result.is_error:
                self._give_up(command.datacenter_id)
            elif isinstance(command, BeginSuccession) and command.lost and not result.is_error:
                if command.lost not in self.off:
                    # The answers that it kept to calls about names given up are lost with it.
                    self._forgotten_us = self.world.now_us
                self._give_up(command.lost)

    def _give_up(self, lost: str) -> None:
        """A datacenter is off: what it may run and runs counts no more, by an operator's word.

        What was acknowledged there after its last backup may be lost with it.
        """
        if lost in self.off:
            return
        self.off[lost] = None
        for key in [one for one in self.allowed if one[0] == lost]:
            before = self.allowed.pop(key)
            for group, index in before.indices:
                self._by_index[ProcessKey(before.uid, group, index)].pop(lost, None)
        for places in self._processes.values():
            places.pop(lost, None)
        state = self.world.datacenters[lost].state
        others = [one.state for one in self.world.datacenters.values() if one.id != lost]
        newest = max(others, key=lambda one: turn_of(one, lost))
        kept = {one.member.home.uid: one for one in backups_of(newest, lost)}
        for record in state.jobs:
            found = kept.pop(record.uid, None)
            if not record.home and (found is None or found.stamp != stamp_of(state, record)):
                self.excused[record.namespace, record.id] = None
        for found in kept.values():  # purged there since
            self.excused[found.member.home.namespace, found.member.home.job_id] = None
        self.world.situations["lost with a backup of all its jobs"] += not self.excused

    def _allowed_by(self, state: State, name: Name) -> Allowed | None:
        record = state.jobs.get(*name)
        if record is None:
            return None
        policy = record.job.federation
        most = 2 if policy is not None and policy.partition == "surge" else 1
        counts = {one.name: one.count or 0 for one in record.job.task_groups or []}
        indices = frozenset(
            (group, index)
            for group, ranges in record.share().items()
            for low, high in ranges
            for index in range(low, min(high, counts.get(group, 0)))
            if not record.is_stopped
        )
        is_active = not record.home and record.uid not in departures_of(state)
        return Allowed(record.uid, indices, most, is_home=is_active)

    def _check_homes(self, datacenter: "Datacenter", name: Name, now: Allowed) -> None:
        """One name, one job, in all datacenters of a region."""
        if name in self.excused:
            return
        for other in self.world.region(datacenter.region):
            known = self.allowed.get((other.id, name))
            if other is datacenter or known is None or not known.is_home:
                continue
            if self._givers(datacenter.region) > 1:
                self.excused[name] = None
                self.world.situations["name given away by two authorities"] += 1
                return
            self.fail(
                "two homes",
                f"{name[1]}: {datacenter.title} has {now.uid[:8]}, {other.title} has "
                f"{known.uid[:8]}",
            )

    def _givers(self, region: str) -> int:
        return sum(
            _gives_names(one.state) for one in self.world.region(region) if one.id not in self.off
        )

    def _check_rollout(self, datacenter: "Datacenter", record: JobRecord) -> None:
        """A datacenter has just heard of a version: whoever did before runs nothing older."""
        update = next((group.update for group in record.job.task_groups or []), None)
        if update is None or not update.max_parallel or not _is_behind(datacenter.state, record):
            return
        for other in self.world.datacenters.values():
            known = other.state.jobs.by_uid(record.uid)
            is_void = other is datacenter or other.id in self.off
            if is_void or known is None or known.version != record.version:
                continue
            if _is_behind(other.state, known):
                self.fail(
                    "two rollouts",
                    f"{datacenter.title} is to replace instances of {record.id} by version "
                    f"{record.version} while {other.title} still does",
                )

    def _check_shares(self, datacenter: "Datacenter") -> None:
        """The version of a share only grows, over leaders, restores and tombstones."""
        for mark in watermarks_of(datacenter.state).values():
            key, number = (datacenter.id, mark.uid), (mark.epoch, mark.index)
            newest = self._newest_share.get(key, number)
            if number < newest:
                text = f"{datacenter.title} follows {number} of {mark.job_id} after {newest}"
                self.fail("share went back", text)
            self._newest_share[key] = number

    def _note_effects(
        self, datacenter: "Datacenter", commands: list[Any], call: RecordCall, applied: Applied
    ) -> None:
        for command, result in zip(commands, applied.results, strict=True):
            if not isinstance(command, _WRITES) or result.is_error:
                continue
            job_id = command.job.id if isinstance(command, RegisterJob) else command.job_id
            namespace = command.job.namespace if isinstance(command, RegisterJob) else (
                command.namespace
            )  # fmt: skip
            name = namespace or "default", job_id or ""
            if datacenter.id in self.off:
                self.void[call.call_id] = None
                continue
            if self._givers(datacenter.region) > 1:
                self.world.situations["write while a region had two authorities"] += 1
                continue  # whoever yields does not hand over what he answered
            before = self.effects.get(call.call_id)
            if before is not None and name not in self.excused and not self._is_forgotten(before):
                text = f"{type(command).__name__} of {job_id} in {datacenter.title}, "
                self.fail("token twice", f"{text}before in {before.at}: token {call.call_id}")
            self.effects[call.call_id] = Effect(datacenter.title, name, self.world.now_us)

    def on_unknown(self, token: str, sent_us: int) -> None:
        """A user was told that there is no such job, by a request sent at `sent_us`."""
        effect = self.effects.get(token)
        if effect is None or effect.name in self.excused or self._is_forgotten(effect):
            return
        if effect.time_us < sent_us:
            text = f"a repetition hears that there is no {effect.name[1]}, done in {effect.at}"
            self.fail("token forgotten", f"{text}: token {token}")

    def _is_forgotten(self, effect: Effect) -> bool:
        """Whether the answer to a write may have been lost with an authority."""
        return effect.time_us <= self._forgotten_us

    def _check_nodes(self, datacenter: "Datacenter") -> None:
        """No node shall run more than it has room for, by the allocations alone.

        What is to stop makes room at once: its successor waits for it at the node.
        """
        state = datacenter.state
        allocs, columns = state.allocs, state.allocs.columns
        rows = allocs.rows()
        rows = rows[allocs.is_live(rows)]
        used: dict[int, int] = {}
        for row, cpu in zip(rows.tolist(), allocs.asks(rows)[:, 0].tolist(), strict=True):
            node = int(columns.node[row])
            used[node] = used.get(node, 0) + cpu
        capacity = state.nodes.cpu_capacity
        for node, cpu in used.items():
            if cpu > int(capacity[node]):
                have = int(capacity[node])
                self.fail("over-committed", f"{datacenter.title}: {cpu} MHz on a node of {have}")

    def on_restored(self, datacenter: "Datacenter", restored: State) -> None:
        if restored.hash() != datacenter.state.hash():
            self.fail("snapshot", f"{datacenter.title}: the restored state differs")

    # --- processes ------------------------------------------------------------------------------

    def on_started(self, datacenter: "Datacenter", process: ProcessKey) -> None:
        if datacenter.id in self.off:
            return
        running = self._processes.setdefault(process, Counter())
        running[datacenter.id] += 1
        places = [one for one, count in running.items() if count]
        if len(places) > self._most.get(process.uid, 1):
            titles = ", ".join(self.world.datacenters[one].title for one in places)
            name = self.uids.get(process.uid, ("", "?"))[1]
            self.fail(
                "process twice",
                f"{name} {process.group}[{process.index}] of {process.uid[:8]} runs in {titles}",
            )

    def on_ended(self, datacenter: "Datacenter", process: ProcessKey) -> None:
        if datacenter.id in self.off:
            return
        self._processes[process][datacenter.id] -= 1

    def running(self) -> dict[ProcessKey, list[str]]:
        """Return the datacenters in which each process runs."""
        return {
            process: [one for one, count in places.items() if count]
            for process, places in self._processes.items()
            if any(places.values())
        }


def _ignored(_datacenter: "Datacenter", _commands: list[Any], _applied: Applied) -> None:
    """Nobody lies in wait for a decision."""


def _gives_names(state: State) -> bool:
    """Whether a datacenter is an authority, or was one and has not handed over its claims."""
    is_yielding = not authority_of(state).to and any(True for _ in open_claims(state))
    return state.is_authority or is_yielding


def _is_behind(state: State, record: JobRecord) -> bool:
    """Whether instances run here that the newest version replaces: users mark what they write."""
    if record.is_stopped:
        return False
    rows = state.allocs.rows_of_job(record.ordinal)
    rows = rows[state.allocs.is_live(rows)]
    for version in np.unique(state.allocs.columns.job_version[rows]).tolist():
        old = state.jobs.version(record.ordinal, version)
        if old is not None and old.meta != record.job.meta:
            return True
    return False


def free_slots(datacenter: "Datacenter", slot_cpu: int) -> int:
    """Return how many more instances the nodes of a datacenter have room for."""
    nodes = datacenter.state.nodes
    room = np.maximum(nodes.cpu_capacity - nodes.cpu_used, 0) // slot_cpu
    return int(room[np.flatnonzero(nodes.is_ready)].sum())
