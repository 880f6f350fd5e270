"""Canaries: instances of a new version beside the old ones, until somebody promotes them.

A group whose `update` block asks for canaries does not roll out a destructive change by
itself: first so many instances of the new version run on top of the count. A canary has
an index that is wanted and the next generation there, and a mark in its row. While the
mark is on, the ordinary rules see neither it nor its generation: the old instance of its
index stays, is moved and replaced as if there were none, in its own version. Promotion
takes the mark off (core.state.rollouts); then the canary is what its index holds, the old
instance is a duplicate that stops, and the rollout goes on with the others.

Canaries of a version that was given up (failed, cancelled, superseded) stop. A system job's
canaries are other instances of their nodes, so they stay until the job changes.
"""

import numpy as np

from core.model.evaluation import DeploymentState, DeploymentStatus
from core.model.job import TaskGroup
from core.scheduler.view import GENERATIONS, Ints, JobView, Mask

_RUNS_ON = (DeploymentStatus.RUNNING, DeploymentStatus.PAUSED, DeploymentStatus.PENDING)


def canaries_wanted(view: JobView, group: TaskGroup, *, has_destructive: bool) -> int:
    """Return how many canaries the group's rollout needs now; 0 = it is not waiting for any.

    Args:
        has_destructive: Whether instances have to be replaced to follow the newest version.
    """
    job = view.job
    if job is None or (job.type or "service") != "service":
        return 0
    update = group.update or job.update
    wanted = (update.canary or 0) if update is not None and update.max_parallel else 0
    return _still_wanted(view, group, wanted if has_destructive else 0)


def system_canaries_wanted(
    view: JobView, group: TaskGroup, nodes: int, *, has_destructive: bool
) -> int:
    """Return the same of a system job, whose `canary` is a percentage of the nodes.

    Its canaries stand beside nobody: each takes the place of the old instance of its node.

    Args:
        nodes: How many may run the group.
    """
    job = view.job
    if job is None or job.type != "system":
        return 0
    update = group.update or job.update
    percent = (update.canary or 0) if update is not None and update.max_parallel else 0
    wanted = -(-min(percent, 100) * nodes // 100)
    return _still_wanted(view, group, wanted if has_destructive else 0)


def _still_wanted(view: JobView, group: TaskGroup, at_first: int) -> int:
    state = rollout_state(view, group.name)
    if state is None:
        return at_first
    if state.promoted or not state.desired_canaries:
        return 0
    assert view.deployment is not None
    return state.desired_canaries if view.deployment.status in _RUNS_ON else 0


def is_unpromoted(view: JobView, group: str) -> bool:
    """Whether the newest version's canaries are tried out, or were given up."""
    state = rollout_state(view, group)
    return state is not None and state.desired_canaries > 0 and not state.promoted


def rollout_state(view: JobView, group: str) -> DeploymentState | None:
    """Return what the deployment of the newest version knows of a group, None without one."""
    deployment, job = view.deployment, view.job
    if deployment is None or job is None or deployment.job_version != (job.version or 0):
        return None
    if deployment.job_create_index != (job.create_index or 0):
        return None
    return (deployment.task_groups or {}).get(group)


def fronts(view: JobView, mine: Mask, live: Mask) -> Mask:
    """Return the row of each index that stands for it; marked canaries stand for none.

    Usually the newest generation. But a promoted canary goes before an instance of the old
    version that took the place of a lost one while the canary waited.
    """
    rows = view.rows
    ordinary = mine & ~rows.is_canary
    result: Mask = ordinary & rows.is_newest
    for canary in np.flatnonzero(mine & rows.is_newest & rows.is_canary).tolist():
        behind = np.flatnonzero(ordinary & (rows.index == rows.index[canary]))
        if behind.size:
            ages = (rows.generation[canary] - rows.generation[behind]) % GENERATIONS
            result[behind[int(np.argmin(ages))]] = True
    version = (view.job.version or 0) if view.job is not None else -1
    for row in np.flatnonzero(ordinary & live & ~result & (rows.job_version == version)).tolist():
        front = np.flatnonzero(result & (rows.index == rows.index[row]))
        if front.size and rows.job_version[front[0]] != version:
            result[front] = False
            result[row] = True
    return result


def newest_canaries(view: JobView, marked: Mask) -> Ints:
    """Return the marked rows, the newest of each index only, by index."""
    rows = view.rows
    order = sorted(
        np.flatnonzero(marked).tolist(),
        key=lambda row: (int(rows.index[row]), int(rows.generation[row])),
    )
    return np.array(list({int(rows.index[row]): row for row in order}.values()), np.int64)


def free_indices(wanted: Ints, held: Ints, count: int) -> Ints:
    """Return `count` indices for new canaries: the lowest wanted ones, then beyond them."""
    free = wanted[~np.isin(wanted, held)][:count]
    lacking = count - free.size
    if lacking <= 0:
        return free
    end = 1 + max([-1, *wanted[-1:].tolist(), *held[-1:].tolist()])
    return np.concatenate([free, np.arange(end, end + lacking, dtype=np.int64)])
