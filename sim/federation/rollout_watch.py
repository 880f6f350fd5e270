"""Checks of jobs over several regions: every deployment as each region's log has it.

Whose deployments belong together is read from the marks in the copies' job files; what
became of them from the deployments alone. The coordinator's record is never asked.

    not committed a region was told what the coordinator's log does not say
    barrier       a region became successful by itself while another was not complete
    turns         more regions ran than `max_parallel` says, or one before all had their copy
    on_failure    a region was failed for another's sake, and by the job's strategy it must not
    stuck         five quiet minutes later a region still waits, and nobody failed
    rollout lost  what was acknowledged last is not what the regions have
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from core.federation.copies import RegisterCopy, SteerCopy
from core.federation.multiregion import Status, Want
from core.federation.rollout_log import BeginRollout, TakeRegionReport, find_rollout
from core.jobspec.regions import generation_of, region_names, strategy
from core.model.evaluation import Deployment, DeploymentStatus
from core.state.commands import UpsertDeployments
from core.state.result import Applied
from sim.federation.clients import SLOT_CPU
from sim.federation.workload import NAMESPACE, Fate, Kind, Workload
from sim.federation.world import World

if TYPE_CHECKING:
    from sim.federation.datacenter import Datacenter

NAMES: Final = (
    "rollout begun",
    "rollout over several regions complete",
    "rollout superseded by another coordinator",
    "submission refused as superseded",
    "late steering of an older rollout refused",
    "barrier committed, leader lost before it was told",
    "unblock doubled",
    "region failed while another was blocked",
    "region failed before its turn",
    "region's deployment failed or unblocked by hand",
    "region listed no more",
    "job stopped in all regions",
)
_OPEN: Final = (DeploymentStatus.PENDING, DeploymentStatus.RUNNING, DeploymentStatus.PAUSED)


@dataclass
class Part:
    """One region's deployment of one submission, as its log has shown it."""

    deployment_id: str = ""
    status: DeploymentStatus = DeploymentStatus.PENDING
    was_complete: bool = False  # it was blocked once
    failed_by_itself: bool = False
    is_gone: bool = False  # purged, changed, or the region follows a newer submission


@dataclass
class Submission:
    regions: list[str]  # in order
    max_parallel: int
    on_failure: str
    parts: dict[str, Part] = field(default_factory=dict)  # by region


class RolloutWatch:
    """Looks at one world's logs."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen = world.situations
        self._submissions: dict[tuple[str, int], Submission] = {}  # (job, generation)
        self._refused: dict[tuple[str, int], dict[str, None]] = {}  # the same -> regions
        self._by_id: dict[str, tuple[str, int, str]] = {}  # deployment -> job, generation, region
        self._unblocked: set[str] = set()  # deployments that an unblock came for

    def fail(self, checker: str, text: str) -> None:
        self._world.watch.fail(checker, text)

    # --- the logs ---------------------------------------------------------------------------

    def on_entry(self, datacenter: "Datacenter", commands: list[Any], applied: Applied) -> None:
        """An entry was applied that is no repetition."""
        for command, result in zip(commands, applied.results, strict=True):
            match command:
                case RegisterCopy() if not result.is_error:
                    self._on_copy(datacenter, command)
                case RegisterCopy():
                    self._seen["submission refused as superseded"] += 1
                case SteerCopy():
                    value = result.value or {}
                    late = "Superseded" in value
                    self._seen["late steering of an older rollout refused"] += late
                    self._on_steer(datacenter, command)
                case BeginRollout():
                    self._seen["rollout begun"] += not result.is_error
                    self._seen["job stopped in all regions"] += command.rollout.is_stop
                    now = find_rollout(datacenter.state, NAMESPACE, command.rollout.job_id)
                    dropped = now is not None and len(now.regions) > len(command.rollout.regions)
                    self._seen["region listed no more"] += dropped
                case TakeRegionReport():
                    self._note_refusal(command)
                    known = find_rollout(datacenter.state, command.namespace, command.job_id)
                    is_given_up = known is not None and bool(known.superseded_by)
                    newer = is_given_up and bool((result.value or {}).get("IsChanged"))
                    self._seen["rollout superseded by another coordinator"] += newer
        changed = [change.key for change in applied.changes if change.table == "deployment"]
        if changed:
            is_by_hand = any(isinstance(one, UpsertDeployments) for one in commands)
            is_steered = any(isinstance(one, SteerCopy) for one in commands)
            for key in dict.fromkeys(changed):
                if key in self._by_id:
                    self._look(datacenter, key, is_by_hand=is_by_hand, is_steered=is_steered)

    def _note_refusal(self, command: TakeRegionReport) -> None:
        """A region that refused its copy for good has failed, and no log but this one shows it."""
        said = command.report
        if said.status is not Status.FAILED or said.deployment_id:
            return
        key = command.job_id, said.generation
        self._refused.setdefault(key, {})[said.region] = None
        if key in self._submissions:
            self._take_refusals(key)

    def _take_refusals(self, key: tuple[str, int]) -> None:
        """Count who refused its copy, which may have been before anybody took his."""
        submission = self._submissions[key]
        for region in self._refused.get(key, ()):
            if region in submission.regions:
                refused = Part(status=DeploymentStatus.FAILED, failed_by_itself=True)
                submission.parts.setdefault(region, refused)

    def _on_copy(self, datacenter: "Datacenter", command: RegisterCopy) -> None:
        job, deployment = command.register.job, command.register.deployment
        key = (job.id or "", generation_of(job))
        parallel, on_failure = strategy(job)
        found = self._submissions.setdefault(
            key, Submission(region_names(job), parallel, on_failure)
        )
        self._take_refusals(key)
        for (name, generation), older in self._submissions.items():
            part = older.parts.get(datacenter.region)
            if name == key[0] and generation < key[1] and part is not None:
                part.is_gone = True
        part = found.parts.setdefault(datacenter.region, Part())
        if deployment is not None and not part.deployment_id:
            if datacenter.state.deployments.get(deployment.id) is not None:
                part.deployment_id = deployment.id
                self._by_id[deployment.id] = (*key, datacenter.region)

    def _check_committed(self, datacenter: "Datacenter", command: SteerCopy) -> None:
        """What a region is told stands in the coordinator's log before it is sent."""
        coordinator = self._world.datacenters[command.coordinator]
        rollout = find_rollout(coordinator.state, command.namespace, command.job_id)
        if rollout is None or rollout.generation != command.generation:
            return  # a later submission has taken its place there
        region = rollout.region(datacenter.region)
        order = [*Want]
        if region is None or order.index(region.want) < order.index(command.want):
            has = region.want.value if region is not None else "nothing"
            text = f"{command.job_id}: {datacenter.region} hears {command.want.value!r}, and in"
            self.fail("not committed", f"{text} the log of {coordinator.title} stands {has!r}")

    def _on_steer(self, datacenter: "Datacenter", command: SteerCopy) -> None:
        self._check_committed(datacenter, command)
        if command.want is Want.UNBLOCK:
            latest = datacenter.state.deployments.latest_of_job(command.namespace, command.job_id)
            if latest is not None:
                again = latest.id in self._unblocked
                self._seen["unblock doubled"] += again
                self._unblocked.add(latest.id)
        if command.want in (Want.STOP, Want.CANCEL):
            for (name, generation), one in self._submissions.items():
                part = one.parts.get(datacenter.region)
                if name == command.job_id and generation < command.generation and part is not None:
                    part.is_gone = True

    def _look(
        self, datacenter: "Datacenter", key: str, *, is_by_hand: bool, is_steered: bool
    ) -> None:
        name, generation, region = self._by_id[key]
        submission = self._submissions[name, generation]
        part = submission.parts[region]
        now: Deployment | None = datacenter.state.deployments.get(key)
        if now is None:
            part.is_gone = True
            return
        before, part.status = part.status, now.status
        title = f"{name} of {generation}: {region}"
        if now.status is before:
            return
        if now.status is DeploymentStatus.BLOCKED:
            part.was_complete = True
        elif now.status is DeploymentStatus.RUNNING:
            self._check_turns(submission, title)
        elif now.status is DeploymentStatus.SUCCESSFUL and not is_by_hand:
            self._check_barrier(submission, region, title)
        elif now.status is DeploymentStatus.FAILED:
            part.failed_by_itself = not is_steered
            self._on_failed(submission, region, title, before)

    def _check_turns(self, submission: Submission, title: str) -> None:
        running = [name for name, part in submission.parts.items()
                   if part.status in _OPEN[1:] and not part.is_gone]  # fmt: skip
        if submission.max_parallel and len(running) > submission.max_parallel:
            self.fail("turns", f"{title} runs: {', '.join(running)} do at once")
        missing = [name for name in submission.regions if name not in submission.parts]
        if missing:
            self.fail("turns", f"{title} runs before {', '.join(missing)} has its copy")

    def _check_barrier(self, submission: Submission, region: str, title: str) -> None:
        for name in submission.regions:
            part = submission.parts.get(name)
            if name == region or (part is not None and part.is_gone):
                continue
            is_done = part is not None and (
                part.was_complete or part.status is DeploymentStatus.CANCELLED
            )
            if not is_done:
                status = part.status.value if part is not None else "not there"
                self.fail("barrier", f"{title} is successful while {name} is {status}")
        statuses = {part.status for part in submission.parts.values()}
        self._seen["rollout over several regions complete"] += statuses == {
            DeploymentStatus.SUCCESSFUL
        }

    def _on_failed(
        self, submission: Submission, region: str, title: str, before: DeploymentStatus
    ) -> None:
        parts, seen = submission.parts, self._seen
        if parts[region].failed_by_itself:
            others = [part for name, part in parts.items() if name != region]
            is_blocked = any(part.status is DeploymentStatus.BLOCKED for part in others)
            seen["region failed while another was blocked"] += is_blocked
            return
        seen["region failed before its turn"] += before is DeploymentStatus.PENDING
        order = submission.regions
        guilty = [name for name, part in parts.items() if part.failed_by_itself]
        if submission.on_failure == "":
            guilty = [name for name in guilty if order.index(name) < order.index(region)]
        if submission.on_failure == "fail_local" or not guilty:
            why = f"on_failure is {submission.on_failure!r}, {', '.join(guilty) or 'nobody'} failed"
            self.fail("on_failure", f"{title} is failed for others' sake: {why}")

    def on_leader_lost(self, datacenter: "Datacenter") -> None:
        """A leader is about to be replaced: does anybody still have to hear of a barrier?"""
        rollout = find_rollout(datacenter.state, NAMESPACE, "multi")
        waiting = rollout is not None and any(
            region.want is Want.UNBLOCK and not region.is_done for region in rollout.regions
        )
        self._seen["barrier committed, leader lost before it was told"] += waiting

    # --- the end ------------------------------------------------------------------------------

    def check_end(self, users: Workload) -> None:
        """Judge the newest submission once it has been quiet."""
        for name in users.names:
            if (NAMESPACE, name) in self._world.watch.excused:
                continue  # two authorities had not met: two jobs of one name
            self._check_newest(name)
            self._check_kept(name, users)

    def _check_newest(self, name: str) -> None:
        generations = [one[1] for one in self._submissions if one[0] == name]
        if not generations:
            return
        submission = self._submissions[name, max(generations)]
        parts = {region: submission.parts.get(region) for region in submission.regions}
        if any(part is None or part.is_gone for part in parts.values()):
            gone = [region for region, part in parts.items() if part is None]
            if gone and not any(part is not None and part.is_gone for part in parts.values()):
                self.fail("stuck", f"{name}: {', '.join(gone)} never took its copy")
            return  # it was stopped
        statuses = {region: part.status for region, part in parts.items() if part is not None}
        failed = [r for r, status in statuses.items() if status is DeploymentStatus.FAILED]
        open_ones = [r for r, status in statuses.items() if status in _OPEN]
        if any(self._lacks_room(region) for region in open_ones):
            self._seen["no room anywhere"] += 1
            return
        text = ", ".join(f"{region} {status.value}" for region, status in statuses.items())
        if open_ones:
            self.fail("stuck", f"{name}: {text}")
        blocked = [r for r, status in statuses.items() if status is DeploymentStatus.BLOCKED]
        if blocked and not failed:
            self.fail("stuck", f"{name}: all are complete, and nobody unblocks: {text}")
        by_itself = [r for r in failed if (part := parts[r]) is not None and part.failed_by_itself]
        if not blocked or not by_itself or submission.on_failure == "fail_local":
            return
        first = min(map(submission.regions.index, by_itself))
        shall = submission.regions[0 if submission.on_failure == "fail_all" else first :]
        if wrong := [region for region in blocked if region in shall]:
            self.fail("on_failure", f"{name}: {', '.join(wrong)} should have failed: {text}")

    def _lacks_room(self, region: str) -> bool:
        """Whether an instance waits for room in a region, in which only one datacenter counts."""
        from sim.federation.watch import free_slots

        return any(free_slots(one, SLOT_CPU) < 1 for one in self._world.region(region))

    def _check_kept(self, name: str, users: Workload) -> None:
        """Every region has what was acknowledged last, or something that came after it."""
        writes = [one for one in users.operations if one.fate is not Fate.REFUSED]
        surely = [one for one in writes if one.fate is Fate.DONE]
        newest_us = max((one.call_us for one in surely), default=-1)
        may_stand = {one.mark for one in writes
                     if one.kind is Kind.REGISTER and one.return_us >= newest_us}  # fmt: skip
        may_be_gone = newest_us < 0 or any(
            one.kind in (Kind.STOP, Kind.PURGE) and one.return_us >= newest_us for one in writes
        )
        for datacenter in self._world.datacenters.values():
            record = datacenter.state.jobs.get(NAMESPACE, name)
            if record is None or record.is_stopped:
                continue
            if record.home and not datacenter.state.jobs.live(record):
                continue  # the home has left: it is told of no version as long as it runs nothing
            mark = (record.job.meta or {}).get("mark")
            if datacenter.region in region_names(record.job) and mark not in may_stand:
                newest = ", ".join(str(one) for one in surely[-3:])
                text = f"{name} in {datacenter.title} is of {mark} after {newest}"
                if not self._is_left_out(name, datacenter.region):
                    self.fail("rollout lost", text)
        is_anywhere = any(
            datacenter.state.jobs.get(NAMESPACE, name) is not None
            for datacenter in self._world.datacenters.values()
        )
        if not is_anywhere and not may_be_gone:
            self.fail("rollout lost", f"{name} is nowhere after {surely[-1]}")

    def _is_left_out(self, name: str, region: str) -> bool:
        """Whether the newest submission does not list a region: what runs there stays."""
        newest = max(one[1] for one in self._submissions if one[0] == name)
        return region not in self._submissions[name, newest].regions
