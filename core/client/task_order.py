"""Where the tasks of one allocation stand, and whose turn it is: see core.client.alloc_runner."""

from __future__ import annotations

from collections.abc import Iterable

from core.client.task_runner import Stage, TaskRunner
from core.model.allocation import ClientStatus, TaskStateName
from core.model.job import Task


def is_sidecar(task: Task) -> bool:
    return task.lifecycle is not None and task.lifecycle.sidecar


def are_dead(tasks: Iterable[TaskRunner]) -> bool:
    return all(task.is_dead for task in tasks)


def has_run(tasks: Iterable[TaskRunner]) -> bool:
    """Whether any task was ever started."""
    return any(task.saved.attempt for task in tasks)


def is_past_prestart(tasks: Iterable[TaskRunner]) -> bool:
    """Whether the main tasks may begin: what prepares has ended, its sidecars run."""
    return all(
        task.has_process if is_sidecar(task.task) else task.is_dead
        for task in tasks
        if task.stage is Stage.PRESTART
    )


def are_done(tasks: Iterable[TaskRunner]) -> bool:
    """Whether nothing is left to do but for sidecars: the main tasks are dead, and what ran
    beside them to its own end has reached it."""
    return all(
        task.is_dead
        for task in tasks
        if task.stage is Stage.MAIN or not (is_sidecar(task.task) or task.stage is Stage.POSTSTOP)
    )


def first_to_end(tasks: Iterable[TaskRunner]) -> list[TaskRunner]:
    """Return who ends next when a group ends: leaders, then main tasks, then sidecars.

    Empty when only tasks that clean up are left.
    """
    living = [task for task in tasks if not task.is_dead and task.stage is not Stage.POSTSTOP]
    leaders = [task for task in living if task.task.leader]
    return leaders or [task for task in living if not is_sidecar(task.task)] or living


def status_of(tasks: Iterable[TaskRunner], *, is_stopping: bool) -> tuple[ClientStatus, str]:
    """Return an allocation's client status and its description, in Nomad's words."""
    tasks = list(tasks)
    if are_dead(tasks):
        if any(task.state.failed for task in tasks):
            return ClientStatus.FAILED, "Failed tasks"
        return ClientStatus.COMPLETE, "All tasks have completed"
    if not is_stopping and any(
        task.state.state is TaskStateName.PENDING
        for task in tasks
        if task.stage in (Stage.PRESTART, Stage.MAIN)
    ):
        return ClientStatus.PENDING, "No tasks have started"
    return ClientStatus.RUNNING, "Tasks are running"
