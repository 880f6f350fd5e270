"""Runs spread over processes of this machine; results come in the order of what was asked.

    for summary in spread(play, scenarios, workers=4): ...

With one worker everything happens in this process; with the address of a Dask scheduler its
workers do it, on whatever machines (sim.dask_workers). The function and what it takes and
returns travel between processes: functions of modules, records.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Asked = TypeVar("Asked")
Found = TypeVar("Found")


class WorkerLost(Exception):
    """A process ended in the middle of a run."""


def default_workers() -> int:
    """Return how many processes this machine, or what of it is ours, has use for."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """Processes that are kept from one spreading to the next; use it as a context."""

    def __init__(self, count: int) -> None:
        self._pool: ProcessPoolExecutor | None = None
        if count > 1:
            # spawn: nothing is inherited but what is sent. Ctrl-C reaches the workers as
            # well: they end at once and say nothing.
            self._pool = ProcessPoolExecutor(
                count,
                multiprocessing.get_context("spawn"),
                initializer=signal.signal,
                initargs=(signal.SIGINT, signal.SIG_DFL),
            )

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def map(self, function: Callable[[Asked], Found], items: Iterable[Asked]) -> Iterator[Found]:
        """Yield `function(item)` of each item, in order.

        Raises:
            WorkerLost: A worker was killed, by a lack of memory for instance.
        """
        if self._pool is None:
            yield from map(function, items)
            return
        try:
            yield from self._pool.map(function, items)
        except BrokenProcessPool:
            raise WorkerLost(
                "a worker process was killed, perhaps for want of memory: try fewer -workers"
            ) from None


def spread(
    function: Callable[[Asked], Found], items: Iterable[Asked], workers: int, scheduler: str = ""
) -> Iterator[Found]:
    """Yield `function(item)` of each item, in order.

    Args:
        function: Called with each item, in some process.
        items: What to call it with.
        workers: Processes of this machine, where `scheduler` is "".
        scheduler: Address of a Dask scheduler.

    Raises:
        WorkerLost: A worker was killed.
        NoScheduler: The scheduler is of no use (sim.dask_workers).
    """
    listed = list(items)
    if scheduler:
        from sim.dask_workers import DaskWorkers

        with DaskWorkers(scheduler) as machines:
            yield from machines.map(function, listed)
        return
    with Workers(min(workers, len(listed))) as pool:
        yield from pool.map(function, listed)
