"""Checks after the last fault, when five quiet minutes have passed.

write lost        what was acknowledged last stands, unless a later write took its place
refused write     what was refused outright never took effect
never settled     wanted equals running: each index once, as far as there is room
homeless share    what runs belongs to a job that some datacenter is the home of
authority         one per region
out of bounds     nothing runs where its job does not allow it
runs though parked    where an operator stopped a job nothing of it runs
not backed up     every job is kept in another datacenter, as it is now
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from core.federation.backup import backups_of, is_backed, stamp_of, turn_of
from core.model.evaluation import DeploymentStatus
from core.state.jobs import JobRecord
from sim.federation.clients import SLOT_CPU, ProcessKey
from sim.federation.watch import free_slots
from sim.federation.workload import GROUP, NAMESPACE, Fate, Kind, Operation, Workload
from sim.federation.world import World

if TYPE_CHECKING:
    from sim.federation.datacenter import Datacenter

_GONE: Final = "gone"
_Value = str | int | bool | None


class Ending:
    """Judges one world at its end."""

    def __init__(self, world: World, workload: Workload) -> None:
        self._world, self._workload = world, workload
        self._watch = world.watch

    def check(self, others: Sequence[str] = ()) -> None:
        """Look at everything once.

        Args:
            others: Names of jobs that others look after: what runs of them must be wanted.

        Raises:
            Violation: With the first promise that does not hold.
        """
        self._check_authorities()
        self._check_the_lost()
        homes: list[tuple[Datacenter, JobRecord]] = []
        for name in self._workload.names:
            found = self._homes_of(name)
            homes += found
            if (NAMESPACE, name) not in self._watch.excused:
                self._check_writes(name, found[0][1] if found else None)
        more = [one for name in others for one in self._homes_of(name)]
        self._check_processes(homes, more)
        self._check_bounds(homes)
        self._check_parked()
        self._check_backups()

    def _homes_of(self, name: str) -> "list[tuple[Datacenter, JobRecord]]":
        """Return where the job of a name lives: in the region of its users, or beyond."""
        found = []
        for datacenter in self._world.datacenters.values():
            if datacenter.id in self._watch.off:
                continue
            record = datacenter.state.jobs.get(NAMESPACE, name)
            if record is not None and not record.home:
                found.append((datacenter, record))
        return found

    def _check_authorities(self) -> None:
        for region in sorted({one.region for one in self._world.datacenters.values()}):
            holders = [one for one in self._world.region(region)
                       if one.state.is_authority and one.id not in self._watch.off]  # fmt: skip
            if len(holders) != 1:
                titles = ", ".join(one.title for one in holders) or "nobody"
                self._watch.fail("authority", f"region {region} has {titles}")

    def _check_the_lost(self) -> None:
        """Who was declared off and is back has stopped its work."""
        for lost in self._watch.off:
            datacenter = self._world.datacenters[lost]
            left = sorted(datacenter.clients.running())
            if left:
                text = f"{datacenter.title} is off, and back, and runs {left[0]}"
                self._watch.fail("works although it is off", text)
            self._world.situations["came back and stopped its work"] += 1

    def _check_bounds(self, homes: "list[tuple[Datacenter, JobRecord]]") -> None:
        """Nothing runs where its job does not allow it."""
        names = {record.uid: record.id for _, record in homes}
        for process, places in self._watch.running().items():
            name = names.get(process.uid)
            if name is None:
                continue
            allowed = {one.id for one in self._reach(name)}
            for place in places:
                if place not in allowed:
                    title = self._world.datacenters[place].title
                    text = f"{name} {process.group}[{process.index}] runs in {title}"
                    self._watch.fail("out of bounds", text)

    def _check_parked(self) -> None:
        """Where a job was stopped nothing of it runs, unless something came after it."""
        uids = self._watch.uids
        for park in self._workload.operations:
            if park.kind is not Kind.PARK or park.fate is not Fate.DONE:
                continue
            later = [
                one for one in self._workload.operations
                if one.name == park.name and one.kind in (Kind.REGISTER, Kind.START)
                and one.return_us >= park.call_us and one.fate is not Fate.REFUSED
            ]  # fmt: skip
            running = [
                process for process, places in self._watch.running().items()
                if park.place in places and uids.get(process.uid) == (NAMESPACE, park.name)
            ]  # fmt: skip
            if later or park.place in self._watch.off:
                continue
            self._world.situations["parked until the end"] += 1
            if running:
                self._watch.fail("runs though parked", f"{park}: {running[0]}")

    def _check_backups(self) -> None:
        """Each job is kept somewhere else as it is now."""
        everybody = [
            one for one in self._world.datacenters.values() if one.id not in self._watch.off
        ]
        for home in everybody:
            kept = {
                found.member.home.uid: found.stamp
                for other in everybody if other is not home
                for found in backups_of(other.state, home.id)
                if turn_of(other.state, home.id) == self._newest_turn(home)
            }  # fmt: skip
            for record in home.state.jobs:
                is_same = kept.get(record.uid) == stamp_of(home.state, record)
                if len(everybody) > 1 and is_backed(record) and not is_same:
                    text = f"{record.id} of {home.title}: kept as {kept.get(record.uid)!r}"
                    self._watch.fail("not backed up", text)

    def _newest_turn(self, home: "Datacenter") -> int:
        others = [one for one in self._world.datacenters.values() if one is not home]
        return max((turn_of(one.state, home.id) for one in others), default=0)

    # --- what was acknowledged ------------------------------------------------------------------

    def _check_writes(self, name: str, record: JobRecord | None) -> None:
        """Each field holds what some write wrote that no acknowledged one came after."""
        operations = [one for one in self._workload.operations if one.name == name]
        mark: _Value = _GONE
        count: _Value = _GONE
        is_stopped: _Value = _GONE
        if record is not None:
            mark = (record.job.meta or {}).get("mark")
            groups = record.job.task_groups or []
            count = next((one.count for one in groups if one.name == GROUP), None)
            is_stopped = record.is_stopped
        fields: tuple[tuple[str, _Value, Callable[[Operation], _Value]], ...] = (
            ("mark", mark, _mark_after),
            ("count", count, _count_after),
            ("stopped", is_stopped, _stopped_after),
        )
        for field_name, value, after in fields:
            self._check_field(name, operations, field_name, value, after)
        refused = [one for one in operations if one.fate is Fate.REFUSED and one.mark == mark]
        if refused:
            self._watch.fail("refused write", f"it took effect: {refused[0]}")

    def _check_field(
        self, name: str, operations: list[Operation], field_name: str, value: _Value,
        after: Callable[[Operation], _Value],
    ) -> None:  # fmt: skip
        writes = [
            one for one in operations if after(one) is not None and one.fate is not Fate.REFUSED
        ]
        surely = (one.call_us for one in writes if self._is_kept(one) and one.kind is not Kind.PARK)
        newest = max(surely, default=-1)
        if newest < 0 and value == _GONE:
            return
        if any(
            after(one) == value and (self._effect_us(one) >= newest or not self._is_kept(one))
            for one in writes
        ):
            return
        story = "; ".join(str(one) for one in writes[-6:])
        self._watch.fail("write lost", f"{name}: {field_name} is {value!r} after {story}")

    def _is_kept(self, operation: Operation) -> bool:
        """Whether a write was acknowledged by somebody whose word counts.

        A datacenter that was declared off and came back takes writes until it hears of that.
        """
        watch, token = self._watch, operation.token
        is_void = token in watch.void and token not in watch.effects
        return operation.fate is Fate.DONE and not is_void

    def _effect_us(self, operation: Operation) -> int:
        """Return until when a write may have taken effect.

        What was acknowledged in vain takes effect by a repetition, whenever that comes.
        """
        watch, token = self._watch, operation.token
        effect = watch.effects.get(token) if token in watch.void else None
        return max(operation.return_us, effect.time_us if effect is not None else 0)

    # --- what runs ------------------------------------------------------------------------------

    def _check_processes(
        self,
        homes: "list[tuple[Datacenter, JobRecord]]",
        others: "list[tuple[Datacenter, JobRecord]]",
    ) -> None:
        running = self._watch.running()
        wanted: dict[ProcessKey, str] = {}
        for _, record in [*homes, *others]:
            for group in record.job.task_groups or []:
                count = 0 if record.is_stopped else group.count or 0
                for index in range(count):
                    wanted[ProcessKey(record.uid, group.name, index)] = record.id
        for process, places in sorted(running.items()):
            title = self._world.datacenters[places[0]].title
            name = self._watch.uids.get(process.uid, ("", "?"))[1]
            text = f"{name} {process.group}[{process.index}] of {process.uid[:8]} in {title}"
            if process not in wanted:
                uids = {record.uid for _, record in [*homes, *others]}
                is_homeless = process.uid not in uids
                self._watch.fail("homeless share" if is_homeless else "never settled",
                                 f"{text} runs and is not wanted")  # fmt: skip
            if len(places) > 1 and (NAMESPACE, name) not in self._watch.excused:
                self._watch.fail("never settled", f"{text} runs in {len(places)} datacenters")
        for home, record in homes:
            missing = [key for key in wanted if key.uid == record.uid and key not in running]
            if self._has_failed(record):
                self._world.situations["rollout failed"] += 1  # nothing is placed for it any more
            elif missing:
                self._check_room(home, record, missing)
            else:
                self._check_versions(record)

    def _has_failed(self, record: JobRecord) -> bool:
        """Whether a rollout of the job was given up somewhere, for want of room or health."""
        return any(
            (latest := one.state.deployments.latest_of_job(record.namespace, record.id)) is not None
            and latest.status is DeploymentStatus.FAILED
            for one in self._world.datacenters.values()
        )

    def _check_versions(self, record: JobRecord) -> None:
        """The newest version runs everywhere."""
        behind = []
        for datacenter in self._world.datacenters.values():
            state = datacenter.state
            known = state.jobs.by_uid(record.uid)
            if known is None:
                continue
            rows = state.allocs.rows_of_job(known.ordinal)
            rows = rows[state.allocs.is_live(rows)]
            if (state.allocs.columns.job_version[rows] != record.version).any():
                behind.append(datacenter.title)
        if behind:
            text = f"{record.id}: version {record.version} does not run in {', '.join(behind)}"
            self._watch.fail("never settled", text)

    def _check_room(self, home: "Datacenter", record: JobRecord, missing: list[ProcessKey]) -> None:
        """Whatever does not run has no room where it may go."""
        name = record.id
        # Two jobs of one name: only the one that has the claim may leave its home.
        is_staying = (NAMESPACE, name) in self._watch.excused
        for datacenter in self._places(name):
            if is_staying and datacenter is not home:
                continue
            free = free_slots(datacenter, SLOT_CPU)
            if free:
                self._watch.fail(
                    "never settled",
                    f"{name}, home {home.title}: {len(missing)} instances don't run, "
                    f"{datacenter.title} has room for {free}",
                )
        self._world.situations["no room anywhere"] += 1

    def _places(self, name: str) -> "list[Datacenter]":
        """Return where a job may run now."""
        parked = self._workload.parked(name)
        return [
            one
            for one in self._reach(name)
            if one.id not in parked and one.id not in self._watch.off
        ]

    def _reach(self, name: str) -> "list[Datacenter]":
        """Return where a job allows itself to run: in its region and those it spills to."""
        rules = self._workload.names[name]
        regions = {rules.region, *rules.spillover}
        return [
            one
            for one in self._world.datacenters.values()
            if (one.region in regions or "*" in regions)
            and ("*" in rules.datacenters or one.name in rules.datacenters)
        ]


def _mark_after(operation: Operation) -> _Value:
    if operation.kind is Kind.REGISTER:
        return operation.mark
    return _GONE if operation.kind is Kind.PURGE else None


def _count_after(operation: Operation) -> _Value:
    if operation.kind in (Kind.REGISTER, Kind.SCALE):
        return operation.count
    return _GONE if operation.kind is Kind.PURGE else None


def _stopped_after(operation: Operation) -> _Value:
    if operation.kind is Kind.REGISTER:
        return False
    if operation.kind in (Kind.STOP, Kind.PARK):
        return True  # a park, if the job lived whole there
    return _GONE if operation.kind is Kind.PURGE else None
