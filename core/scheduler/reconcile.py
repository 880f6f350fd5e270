"""What has to change so that a job's allocations become what its record asks for.

Pure comparison, without a look at the nodes' room: which indices need an instance, which
instances stop, follow a new version, wait for another try. One rule per line, for the
newest allocation of each index that is wanted here (the share's, below the count):

    nothing, stopped, lost                    place
    live, this version                        keep
    live, asked to migrate                    stop, place elsewhere
    live, its node down                       give up as lost, place
    live, node disconnected, block says wait  mark unknown, place a replacement if it says so
    back from a disconnect, replaced          keep the one that disconnect.py prefers
    live, other version, same processes       update in place, where its node still suits
    live, other version, other processes      replace, `max_parallel` at a time
    failed                                    place when the reschedule policy lets it, or wait
    complete, batch, this version             keep: the index is done
    complete, otherwise                       place

While a rollout waits for its canaries (canary.py) nothing follows the new version but
they; what has to be replaced meanwhile is replaced in its old version. A job over several
regions whose turn has not come here is held: nothing follows, is added or stops at all.

Of an index that is not wanted any more every live allocation stops; that is how scaling
down takes the highest indices first. Older generations that are still live stop too.

Rows in plain order are sorted out as columns; only those that need a decision are looked
at one by one.
"""

import numpy as np

from core.model.allocation import ClientStatus, Desired, RescheduleTracker
from core.model.evaluation import DeploymentStatus
from core.model.job import Job, TaskGroup, UpdateStrategy
from core.model.plan import AllocStop
from core.scheduler.canary import (
    canaries_wanted,
    free_indices,
    fronts,
    is_unpromoted,
    newest_canaries,
)
from core.scheduler.changes import is_destructive
from core.scheduler.decisions import GroupChanges, Later, Replacement
from core.scheduler.disconnect import DisconnectRule, put_reconnected_first
from core.scheduler.feasibility import Feasibility
from core.scheduler.reschedule import WINDOW_US, next_tracker, next_try_us
from core.scheduler.view import Ints, JobView, Mask

NOT_NEEDED = "alloc not needed due to job update"
JOB_STOPPED = "alloc not needed as job is stopped"
LOST = "alloc is lost since its node is down"
UPDATING = "alloc is being updated due to job update"
MIGRATING = "alloc is being migrated"
RESCHEDULED = "alloc was rescheduled because it failed"
DISCONNECTED = "alloc is unknown since its node is disconnected"
DUPLICATE = "alloc was replaced by a newer one of its index"

_BATCH = ("batch", "sysbatch")
ROLLING = ("service", "system")


def reconcile(
    view: JobView, feasibility: Feasibility, eval_id: str, now_us: int
) -> list[GroupChanges]:
    """Return the changes per group: the job's groups in order, then those that left it."""
    groups = [] if view.is_stopped or view.job is None else view.job.task_groups or []
    ordinals = {name: ordinal for ordinal, name in view.group_names.items()}
    changes = [
        _GroupReconciler(
            view, group, ordinals.get(group.name, -1), feasibility, eval_id, now_us
        ).run()
        for group in groups
    ]
    return changes + stopped_groups(view)


def stopped_groups(view: JobView) -> list[GroupChanges]:
    """Return the end of the groups that the job has no more; none while it is held."""
    groups = [] if view.is_stopped or view.job is None else view.job.task_groups or []
    named = {group.name for group in groups}
    gone = [n for n in sorted(view.group_names) if view.group_names[n] not in named]
    return [] if view.is_held else [stop_group(view, ordinal) for ordinal in gone]


def wanted_indices(view: JobView, group: TaskGroup) -> Ints:
    """Return the indices to run here: the share's, limited to the count."""
    count = 1 if group.count is None else group.count
    ranges = view.indices.get(group.name, []) if view.indices else [(0, count)]
    parts = [np.zeros(0, np.int64)]
    end = 0
    for low, high in sorted(ranges):
        low, high = max(low, end), min(high, count)  # ranges may touch or overlap
        if low < high:
            parts.append(np.arange(low, high, dtype=np.int64))
            end = high
    return np.concatenate(parts)


def update_limit(view: JobView, group: TaskGroup, changes: GroupChanges) -> int | None:
    """Return how many instances may be away for an update now; None = no limit.

    Instances of the running deployment that are not healthy yet count as away, but for those
    that `changes` stop; an unhealthy one stops the rollout until somebody (or auto_revert)
    decides.
    """
    job, update = view.job, strategy_of(view.job, group)
    if job is None or update is None or not update.max_parallel:
        return None
    most = update.max_parallel
    deployment = view.deployment
    if deployment is None or deployment.job_version != (job.version or 0):
        return most
    if view.is_held or deployment.status in (DeploymentStatus.FAILED, DeploymentStatus.PAUSED):
        return 0
    rows = view.rows
    ordinal = next((n for n, name in view.group_names.items() if name == group.name), -1)
    ours = (rows.group == ordinal) & rows.is_deployed & (rows.desired == Desired.RUN)
    if (rows.health[ours] == 0).any():
        return 0
    ours &= is_live(view)
    ours[[row for row, stop in changes.stops if stop.desired != Desired.RUN]] = False
    return max(0, most - int((rows.health[ours] < 0).sum()))


def strategy_of(job: Job | None, group: TaskGroup | None) -> UpdateStrategy | None:
    """Return the update block by which a group rolls out, None when it changes all at once."""
    update = group.update if group is not None else None
    if update is None and job is not None:
        update = job.update
    if update is None or not update.max_parallel or job is None:
        return None
    return update if (job.type or "service") in ROLLING else None


def is_live(view: JobView) -> Mask:
    rows = view.rows
    if not len(rows):  # of a new job, as most are
        return np.zeros(0, np.bool_)
    held = (rows.client_status <= ClientStatus.RUNNING) | (
        rows.client_status == ClientStatus.UNKNOWN
    )
    result: Mask = held & (rows.desired == Desired.RUN)
    return result


def stop_of(view: JobView, row: int, description: str) -> AllocStop:
    """Return the stop of one live row; on a node that is gone it is given up as lost."""
    gone = int(view.rows.node[row]) in view.node_gone
    return AllocStop(
        alloc_id=view.alloc_id(row),
        desired=Desired.STOP,
        description=LOST if gone else description,
        client_status=ClientStatus.LOST if gone else None,
    )


def unknown_of(view: JobView, row: int) -> AllocStop:
    """Return what marks a live row as unknown: its node is cut off, and it is waited for."""
    return AllocStop(
        alloc_id=view.alloc_id(row),
        desired=Desired.RUN,
        description=DISCONNECTED,
        client_status=ClientStatus.UNKNOWN,
    )


def stop_group(view: JobView, ordinal: int) -> GroupChanges:
    live = np.flatnonzero(is_live(view) & (view.rows.group == ordinal))
    description = JOB_STOPPED if view.is_stopped else NOT_NEEDED
    none = np.zeros(0, np.int64)
    changes = GroupChanges(view.group_names[ordinal], None, none, none, is_complete=True)
    changes.stops = [(row, stop_of(view, row, description)) for row in live.tolist()]
    return changes


class _GroupReconciler:
    """Sorts one group's rows. Used once."""

    def __init__(
        self,
        view: JobView,
        group: TaskGroup,
        ordinal: int,
        feasibility: Feasibility,
        eval_id: str,
        now_us: int,
    ) -> None:
        self._view, self._group, self._ordinal = view, group, ordinal
        self._feasibility = feasibility
        self._eval_id, self._now_us = eval_id, now_us
        assert view.job is not None
        self._is_batch = (view.job.type or "service") in _BATCH
        self._version = view.job.version or 0
        self._disconnect = DisconnectRule.of(group)
        self._destructive: dict[int, bool] = {}  # by older version
        self._canaries = 0  # that the rollout waits for
        self._is_tried = False  # nobody has promoted the newest version's canaries (yet)
        self._is_held = view.is_held
        none = np.zeros(0, np.int64)
        self._changes = GroupChanges(group.name, group, none, none)

    def run(self) -> GroupChanges:
        rows, changes = self._view.rows, self._changes
        wanted = wanted_indices(self._view, self._group)
        changes.wanted = wanted.size
        if not len(rows) and not canaries_wanted(self._view, self._group, has_destructive=False):
            self._vacant(wanted, rows.index)  # most evaluations are of new jobs
            changes.is_complete = not changes.fresh.size
            return changes
        mine = rows.group == self._ordinal
        live = is_live(self._view) & mine
        newest = fronts(self._view, mine, live)
        put_reconnected_first(self._view, self._group, newest, live)
        has_place = np.isin(rows.index, wanted)
        is_wanted = newest & has_place
        waiting = [
            row
            for row in np.flatnonzero(live & ~is_wanted & ~rows.is_canary).tolist()
            if not self._stop_unwanted(row, is_twice=bool(has_place[row]))
        ]
        failed = is_wanted & (rows.desired == Desired.RUN)
        failed &= rows.client_status == ClientStatus.FAILED
        self._canaries = canaries_wanted(
            self._view,
            self._group,
            has_destructive=any(
                self._is_destructive(version)
                for version in np.unique(rows.job_version[is_wanted & (live | failed)]).tolist()
                if version != self._version
            ),
        )
        self._is_tried = self._canaries > 0 or is_unpromoted(self._view, self._group.name)
        self._is_tried |= self._is_held
        plain = is_wanted & (self._is_done(newest) | (live & (rows.job_version == self._version)))
        for row in [*self._view.details, *np.flatnonzero(self._on_gone_nodes(live))]:
            plain[row] = False
        kept = [np.array(waiting, np.int64), np.flatnonzero(plain)]
        kept.append(self._sort_canaries(mine & rows.is_canary, live, wanted))
        updates: list[int] = []
        for row in np.flatnonzero((live | failed) & is_wanted & ~plain).tolist():
            kept.append(np.array(self._decide(row, updates), np.int64))
        changes.kept = np.concatenate(kept)
        held = rows.index[is_wanted & (plain | live | failed)]
        vacant = wanted[~np.isin(wanted, held)]
        self._vacant(vacant, np.flatnonzero(is_wanted & ~(plain | live | failed)))
        self._update(updates)
        changes.is_complete = not (
            changes.fresh.size
            or changes.replacements
            or changes.in_place
            or changes.later
            or changes.waiting_updates
            or changes.desired_canaries
        )
        return changes

    def _sort_canaries(self, marked: Mask, live: Mask, wanted: Ints) -> Ints:
        # Returns the rows that stay. A paused rollout keeps its canaries and gets no more.
        view, rows, changes = self._view, self._view.rows, self._changes
        changes.desired_canaries = self._canaries
        ours = marked & rows.is_deployed & (rows.job_version == self._version)
        ours &= live | ((rows.client_status == ClientStatus.FAILED) & (rows.desired == Desired.RUN))
        current = newest_canaries(view, ours) if self._canaries else np.zeros(0, np.int64)
        kept: list[int] = []
        for row in np.flatnonzero(marked & live).tolist():
            if row in current:
                continue
            if self._canaries and ours[row] and self._is_waited_for(row):
                kept.append(row)  # replaced meanwhile, but it may come back
            else:
                changes.stops.append((row, stop_of(view, row, NOT_NEEDED)))
        for row in current.tolist():
            kept += self._decide(row, [])
        lacking = self._canaries - current.size
        if view.indices:  # beyond a share the indices are another datacenter's
            lacking = min(lacking, wanted.size - current.size)
        if lacking > 0 and self._may_grow():
            changes.canaries = free_indices(wanted, rows.index[current], lacking)
        return np.array(kept, np.int64)

    def _is_done(self, newest: Mask) -> Mask:
        rows = self._view.rows
        if not self._is_batch:
            return np.zeros(len(rows), np.bool_)
        result: Mask = (
            newest
            & (rows.desired == Desired.RUN)  # one that was asked to stop did not finish
            & (rows.client_status == ClientStatus.COMPLETE)
            & (rows.job_version == self._version)
        )
        return result

    def _on_gone_nodes(self, live: Mask) -> Mask:
        if not self._view.node_gone:
            return np.zeros(len(live), np.bool_)
        gone = np.array(sorted(self._view.node_gone), np.int64)
        result: Mask = live & np.isin(self._view.rows.node, gone)
        return result

    def _stop_unwanted(self, row: int, *, is_twice: bool) -> bool:
        # Returns whether it stops; one that does not still takes its place.
        if self._is_held if not is_twice else self._is_waited_for(row):
            return False
        why = DUPLICATE if is_twice else NOT_NEEDED
        self._changes.stops.append((row, stop_of(self._view, row, why)))
        return True

    def _is_waited_for(self, row: int) -> bool:
        # One that is away can't hear of its stop, and may be the one to keep: it stops when its
        # client is back and has said how it is, or is given up when it is overdue.
        rows = self._view.rows
        is_away = self._view.node_gone.get(int(rows.node[row])) == "disconnected"
        is_unknown = rows.client_status[row] == ClientStatus.UNKNOWN
        return bool(is_away or is_unknown) and not self._is_overdue(row)

    def _decide(self, row: int, updates: list[int]) -> list[int]:
        # Returns [row] when it stays. Order matters: what ends it comes before what changes it.
        view, rows = self._view, self._view.rows
        gone = view.node_gone.get(int(rows.node[row]))
        if rows.client_status[row] == ClientStatus.FAILED:
            return self._failed(row)
        if gone is not None:
            return self._gone(row, gone)
        detail = view.details.get(row)
        if detail is not None and detail.desired_transition.migrate:
            stop = stop_of(view, row, MIGRATING)
            self._replace(row, "migrate", stop, stops_anyway=True)
            return []
        if rows.job_version[row] != self._version and not self._is_held:
            if not self._is_destructive(int(rows.job_version[row])) and self._may_stay(row):
                self._changes.in_place.append(row)
                return [row]
            updates.append(row)
            return []  # `_update` keeps those beyond the limit
        return [row]

    def _gone(self, row: int, gone: str) -> list[int]:
        view, changes, rule = self._view, self._changes, self._disconnect
        is_unknown = view.rows.client_status[row] == ClientStatus.UNKNOWN
        is_replaced_now = rule.replaces and rule.lost_after_ns > 0
        may_return = gone == "disconnected" if is_replaced_now else rule.stop_after_ns > 0
        is_given_up = not may_return or (is_unknown and self._is_overdue(row))
        if rule.replaces and is_given_up:
            self._replace(row, "lost", stop_of(view, row, LOST), stops_anyway=True)
            return []
        if is_unknown:
            if not is_replaced_now:
                return [row]
            self._replace(row, "disconnect", None)  # there was no room for it until now
            return []
        unknown = unknown_of(view, row)
        if rule.replaces:
            # The wait counts from when this plan is applied, which is a little later.
            due_us = self._now_us + rule.wait_ns // 1_000 + WINDOW_US
            changes.later.append(Later(row, due_us, is_disconnect=True))
        if is_replaced_now:
            self._replace(row, "disconnect", unknown, stops_anyway=True)
            return []
        changes.stops.append((row, unknown))
        return [row]

    def _is_overdue(self, row: int) -> bool:
        alloc = self._view.details.get(row)
        if alloc is not None and self._eval_id and alloc.followup_eval_id == self._eval_id:
            return True
        return self._disconnect.is_overdue(alloc, self._now_us)

    def _failed(self, row: int) -> list[int]:
        view = self._view
        alloc = view.details.get(row)
        stop = AllocStop(alloc_id=view.alloc_id(row), desired=Desired.STOP, description=RESCHEDULED)
        version = int(view.rows.job_version[row])
        if version != self._version and self._is_destructive(version) and not self._is_tried:
            self._replace(row, "update", stop)  # a new version gets a fresh start
            return []
        policy = self._group.reschedule_policy
        if alloc is None:
            return [row]
        is_forced = bool(alloc.desired_transition.force_reschedule)
        due_us = next_try_us(policy, alloc)
        if policy is None or (due_us is None and not is_forced):
            return [row]
        is_ours = bool(alloc.followup_eval_id) and alloc.followup_eval_id == self._eval_id
        if is_forced or is_ours or due_us is None or due_us <= self._now_us + WINDOW_US:
            node = alloc.node_id
            tracker = next_tracker(policy, alloc, node, self._now_us)
            self._replace(row, "reschedule", stop, tracker=tracker, is_failed=True)
            return []
        # What it waited for may have been something else: its node's return.
        if alloc.followup_eval_id not in view.retries:
            self._changes.later.append(Later(row, due_us))
        return [row]

    def _replace(
        self,
        row: int,
        reason: str,
        stop: AllocStop | None,
        *,
        tracker: RescheduleTracker | None = None,
        is_failed: bool = False,
        stops_anyway: bool = False,
    ) -> None:
        version = self._version_of_next(row)
        if self._is_held and version < 0 and self._view.rows.job_version[row] != self._version:
            # Its version is not kept any more, and the newest has to wait.
            if stop is not None and stops_anyway:
                self._changes.stops.append((row, stop))
            return
        self._changes.replacements.append(
            Replacement(
                int(self._view.rows.index[row]),
                row,
                reason,
                stop,
                tracker,
                is_failed,
                stops_anyway,
                version,
                bool(self._view.rows.is_canary[row]),
            )
        )

    def _version_of_next(self, row: int) -> int:
        # Until the canaries are promoted, what is lost comes back as it was; so it does when they
        # were given up.
        version = int(self._view.rows.job_version[row])
        is_followed = not self._is_tried or not self._is_destructive(version)
        if version == self._version or (is_followed and not self._is_held):
            return -1
        old = self._view.versions.get(version)
        groups = (old.task_groups if old is not None else None) or []
        return version if any(group.name == self._group.name for group in groups) else -1

    def _vacant(self, vacant: Ints, ended: Ints) -> None:
        # Indices that never ran are new; the others follow the allocation that ended.
        rows, changes = self._view.rows, self._changes
        may_grow = self._may_grow() and not self._canaries
        previous = dict(zip(rows.index[ended].tolist(), ended.tolist()))
        if not previous:
            changes.fresh = vacant if may_grow else vacant[:0]
            return
        fresh = [index for index in vacant.tolist() if index not in previous]
        changes.fresh = np.array(fresh if may_grow else [], np.int64)
        for index in vacant.tolist():
            if index in previous:
                self._replace(previous[index], "ended", None)

    def _may_grow(self) -> bool:
        # A failed or paused rollout of this version gets no instances beyond what it had.
        deployment = self._view.deployment
        return not self._is_held and (
            deployment is None
            or deployment.job_version != self._version
            or deployment.status not in (DeploymentStatus.FAILED, DeploymentStatus.PAUSED)
        )

    def _is_destructive(self, version: int) -> bool:
        known = self._destructive.get(version)
        if known is None:
            old, new = self._view.versions.get(version), self._view.job
            # A version that is no longer kept can't be compared.
            known = old is None or new is None or is_destructive(old, new, self._group.name)
            self._destructive[version] = known
        return known

    def _may_stay(self, row: int) -> bool:
        job, node = self._view.job, int(self._view.rows.node[row])
        assert job is not None
        return bool(self._feasibility.suitable(job, self._group)[node])

    def _update(self, rows: list[int]) -> None:
        changes = self._changes
        limit = update_limit(self._view, self._group, self._changes)
        if self._canaries:
            limit = 0
        elif limit is None:
            limit = len(rows)
        else:
            away = changes.fresh.size + len(changes.replacements)
            limit = max(0, limit - away)
        rows.sort(key=lambda row: int(self._view.rows.index[row]))
        for row in rows[:limit]:
            self._replace(row, "update", stop_of(self._view, row, UPDATING))
        changes.waiting_updates = max(0, len(rows) - limit)
        changes.kept = np.concatenate([changes.kept, np.array(rows[limit:], np.int64)])
