"""System and sysbatch jobs: one instance of each group on every node that may run it.

The index of an instance is its node's ordinal, so a node and its instance find each other
without a search, and `AllocRows.index` equals `AllocRows.node`.
"""

import numpy as np

from core.model.allocation import ClientStatus, Desired
from core.model.job import TaskGroup
from core.model.plan import AllocStop
from core.scheduler.canary import is_unpromoted, system_canaries_wanted
from core.scheduler.changes import is_destructive
from core.scheduler.decisions import GroupChanges, Later, Replacement
from core.scheduler.disconnect import DisconnectRule
from core.scheduler.feasibility import Feasibility
from core.scheduler.reconcile import (
    MIGRATING,
    NOT_NEEDED,
    UPDATING,
    is_live,
    stop_of,
    stopped_groups,
    unknown_of,
    update_limit,
)
from core.scheduler.view import JobView, Mask

NODE_UNFIT = "alloc not needed as node is tainted"


def reconcile_system(view: JobView, feasibility: Feasibility, now_us: int) -> list[GroupChanges]:
    """Return the changes per group, as `reconcile` does for jobs with a count."""
    groups = [] if view.is_stopped or view.job is None else view.job.task_groups or []
    ordinals = {name: ordinal for ordinal, name in view.group_names.items()}
    changes = [
        _system_group(view, group, ordinals.get(group.name, -1), feasibility, now_us)
        for group in groups
    ]
    return changes + stopped_groups(view)


def _system_group(
    view: JobView, group: TaskGroup, ordinal: int, feasibility: Feasibility, now_us: int
) -> GroupChanges:
    assert view.job is not None
    rows, job = view.rows, view.job
    version = job.version or 0
    eligible = feasibility.candidates(job, group).eligible
    suitable = feasibility.suitable(job, group)
    wanted = np.flatnonzero(eligible)
    mine = rows.group == ordinal
    live = is_live(view) & mine
    none = np.zeros(0, np.int64)
    changes = GroupChanges(group.name, group, none, none, wanted=wanted.size)
    kept: list[int] = []
    updates: list[int] = []
    moves: list[tuple[int, AllocStop]] = []
    rule = DisconnectRule.of(group)
    for row in np.flatnonzero(live).tolist():
        node = int(rows.node[row])
        detail = view.details.get(row)
        gone = view.node_gone.get(node)
        if gone is not None and _is_waited_for(view, row, rule, gone, now_us):
            if rows.client_status[row] != ClientStatus.UNKNOWN:
                changes.stops.append((row, unknown_of(view, row)))
                if rule.replaces:
                    due_us = now_us + rule.lost_after_ns // 1_000
                    changes.later.append(Later(row, due_us, is_disconnect=True))
            kept.append(row)
        elif gone is not None:
            changes.stops.append((row, stop_of(view, row, NODE_UNFIT)))
        elif detail is not None and detail.desired_transition.migrate:
            stop = stop_of(view, row, MIGRATING)
            if eligible[node]:  # it can only move to where it is: it begins anew
                moves.append((row, stop))
            else:
                changes.stops.append((row, stop))
        elif rows.job_version[row] == version or view.is_held:
            kept.append(row)
        elif not suitable[node]:
            changes.stops.append((row, stop_of(view, row, NOT_NEEDED)))
        elif not eligible[node]:
            kept.append(row)  # its node takes no new work: it stays as it is until it does
        else:
            updates.append(row)
    held = mine & rows.is_newest & (live | _is_ended_well(view))
    changes.fresh = np.setdiff1d(wanted, rows.index[held])
    destructive = [row for row in updates if _is_destructive(view, group, row)]
    changes.desired_canaries = system_canaries_wanted(
        view, group, wanted.size, has_destructive=bool(destructive)
    )
    trial = _Trial(view, group, changes)
    for row, stop in moves:
        changes.replacements.append(trial.follower(row, "migrate", stop))
    for row in updates:
        if row not in destructive:
            changes.in_place.append(row)
            kept.append(row)
    _update(view, group, changes, destructive, kept, trial)
    changes.kept = np.array(kept, np.int64)
    changes.is_complete = not (
        changes.fresh.size
        or changes.canaries.size
        or changes.replacements
        or changes.in_place
        or changes.waiting_updates
        or changes.desired_canaries
    )
    return changes


class _Trial:
    """What a rollout that nobody promoted yet means for a group's instances.

    The first of the new version are its canaries, and what begins anew meanwhile does so in
    its own version; on a node that is new there is only the newest.
    """

    def __init__(self, view: JobView, group: TaskGroup, changes: GroupChanges) -> None:
        self._view, self._group = view, group
        self.is_on = changes.desired_canaries > 0 or is_unpromoted(view, group.name)
        rows = view.rows
        ordinal = next((n for n, name in view.group_names.items() if name == group.name), -1)
        version = (view.job.version or 0) if view.job is not None else -1
        ours = (rows.group == ordinal) & rows.is_canary & rows.is_deployed
        ours &= rows.job_version == version
        staying = is_live(view).copy()
        staying[[row for row, stop in changes.stops if stop.desired != Desired.RUN]] = False
        self.lacking = max(0, changes.desired_canaries - int((ours & staying).sum()))
        # A canary that ended begins anew as one.
        ended = np.isin(changes.fresh, rows.index[ours & rows.is_newest & ~is_live(view)])
        if changes.desired_canaries and ended.any():
            changes.canaries = changes.fresh[ended]
            changes.fresh = changes.fresh[~ended]
            self.lacking = max(0, self.lacking - changes.canaries.size)

    def follower(self, row: int, reason: str, stop: AllocStop) -> Replacement:
        """Return what replaces a row that is asked to begin anew."""
        rows = self._view.rows
        version = int(rows.job_version[row])
        is_older = self.is_on and version in self._view.versions
        is_older = is_older and _is_destructive(self._view, self._group, row)
        is_canary = self.is_on and not is_older and bool(rows.is_canary[row])
        return Replacement(
            int(rows.index[row]), row, reason, stop,
            version=version if is_older else -1, is_canary=is_canary,
        )  # fmt: skip


def _is_destructive(view: JobView, group: TaskGroup, row: int) -> bool:
    # A version that is no longer kept can't be compared.
    old = view.versions.get(int(view.rows.job_version[row]))
    if view.job is None or int(view.rows.job_version[row]) == (view.job.version or 0):
        return False
    return old is None or is_destructive(old, view.job, group.name)


def _is_waited_for(view: JobView, row: int, rule: DisconnectRule, gone: str, now_us: int) -> bool:
    # Nothing replaces it on another node, so `replace` only says whether the wait ends.
    if not rule.replaces:
        return True
    if gone != "disconnected" or not rule.lost_after_ns:
        return False
    is_unknown = view.rows.client_status[row] == ClientStatus.UNKNOWN
    return not (is_unknown and rule.is_overdue(view.details.get(row), now_us))


def _update(
    view: JobView,
    group: TaskGroup,
    changes: GroupChanges,
    updates: list[int],
    kept: list[int],
    trial: _Trial,
) -> None:
    """Replace `max_parallel` at a time, as the health of those before allows."""
    limit = update_limit(view, group, changes)
    if limit is not None:
        # They have to become healthy as well.
        limit = max(0, limit - changes.fresh.size - changes.canaries.size)
        if trial.is_on:
            limit = min(limit, trial.lacking)
    for place, row in enumerate(updates):
        if limit is not None and place >= limit:
            changes.waiting_updates += 1
            kept.append(row)
            continue
        stop = stop_of(view, row, UPDATING)
        changes.replacements.append(
            Replacement(int(view.rows.index[row]), row, "update", stop, is_canary=trial.is_on)
        )


def _is_ended_well(view: JobView) -> Mask:
    # A sysbatch instance runs once on its node, whatever came of it; a system one always.
    rows, job = view.rows, view.job
    assert job is not None
    is_once = job.type == "sysbatch"
    ended = (rows.client_status == ClientStatus.COMPLETE) | (
        rows.client_status == ClientStatus.FAILED
    )
    result: Mask = ended & (rows.job_version == (job.version or 0)) & is_once
    return result
