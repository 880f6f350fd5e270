"""Periodic jobs: on the leader, a child is registered whenever its parent's schedule says so.

What was launched is part of the state (`JobRecord.launched_us`), so a launch happens once
though leaders change. After a gap without a leader a job that missed launches gets one, at
once. A launch that overlap forbids counts as done.

A launch is as good as the clock it goes by. While this leader's clock is more than a
minute from the median of the voters' clocks, nothing is launched, and the log says so.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Any, Final

from core.jobspec.cron import CronError
from core.model.evaluation import EvalTrigger
from core.model.host import CallDone
from core.server import children
from core.server.outbox import Timer
from core.state.commands import MarkLaunch, RegisterJob
from core.state.jobs import JobRecord
from core.state.result import Change

if TYPE_CHECKING:
    from core.server.context import Server

CLOCK: Final = "Server.Clock"
CLOCK_LIMIT_US: Final = 60_000_000
_CLOCK_INTERVAL_US: Final = 60_000_000
_CLOCK_TIMEOUT_US: Final = 5_000_000
_LOOK_US: Final = 10_000_000  # at the latest: the wall clock may be set meanwhile

Name = tuple[str, str]  # namespace, id


class LaunchWatch:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._is_active = False
        self._due: dict[Name, int] = {}  # UTC microseconds
        self._heap: list[tuple[int, Name]] = []  # may hold moments that are void by now
        self._timer: Timer | None = None
        self._clock_timer: Timer | None = None
        self.is_paused = False  # by a clock that is off

    # --- what is known ----------------------------------------------------------------

    def on_leadership(self, is_leader: bool) -> None:
        for timer in (self._timer, self._clock_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._clock_timer = None
        self._due.clear()
        self._heap.clear()
        self._is_active, self.is_paused = is_leader, False
        if is_leader:
            for record in self._server.state.jobs:
                self._track(record)
            if self._due:
                self._compare_clocks()

    def on_applied(self, changes: list[Change]) -> None:
        if not self._is_active:
            return
        for change in changes:
            if change.table == "jobs":
                name = change.namespace, change.key
                record = self._server.state.jobs.get(*name)
                if record is None:
                    self._due.pop(name, None)
                else:
                    self._track(record)

    def _track(self, record: JobRecord) -> None:
        name, job = (record.namespace, record.id), record.job
        if record.is_stopped or record.home or not children.is_launched(job):
            self._due.pop(name, None)
            return
        since_us = max(record.launched_us, (job.submit_time_ns or 0) // 1000)
        try:
            due_us = children.next_launch_us(job, since_us)
        except CronError as error:
            self._server.outbox.log("error", "a schedule can't be read", job=record.id,
                                    error=str(error))  # fmt: skip
            due_us = None
        if due_us is None:
            self._due.pop(name, None)
        elif self._due.get(name) != due_us:
            self._due[name] = due_us
            heapq.heappush(self._heap, (due_us, name))
            self._arm()

    def _arm(self) -> None:
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._heap:
            delay_us = min(max(0, self._heap[0][0] - self._server.now.wall_us), _LOOK_US)
            if self.is_paused:
                delay_us = _LOOK_US
            self._timer = self._server.outbox.after(delay_us, self._launch_due)
            if self._clock_timer is None:
                self._compare_clocks()

    # --- launching --------------------------------------------------------------------

    def _launch_due(self) -> None:
        self._timer = None
        now_us = self._server.now.wall_us
        while self._heap and self._heap[0][0] <= now_us and not self.is_paused:
            due_us, name = heapq.heappop(self._heap)
            if self._due.get(name) != due_us:
                continue
            del self._due[name]
            record = self._server.state.jobs.get(*name)
            if record is not None:
                self._launch(record, due_us)
        self._arm()

    def _launch(self, record: JobRecord, due_us: int) -> None:
        server = self._server
        commands: list[Any] = [
            MarkLaunch(
                namespace=record.namespace,
                job_id=record.id,
                launched_us=max(due_us, server.now.wall_us),
            )
        ]
        if self._overlaps(record):
            server.outbox.log("info", "launch skipped: the job's last one still runs",
                              job=record.id)  # fmt: skip
        else:
            commands.insert(0, launch_command(server, record, due_us))
        server.consensus.propose(commands, lambda outcome: None)

    def _overlaps(self, record: JobRecord) -> bool:
        periodic = record.job.periodic
        if periodic is None or not periodic.prohibit_overlap:
            return False
        found = self._server.state.jobs.children_of(record.namespace, record.id)
        return any(child.status != "dead" and not child.is_purged for child in found)

    # --- clocks -----------------------------------------------------------------------

    def _compare_clocks(self) -> None:
        """Ask every other voter for its time; judge by the median of what came in time."""
        server = self._server
        own = server.config.server_id
        others = [
            address
            for voter in server.consensus.voters()
            if voter != own and (address := server.consensus.address_of(voter))
        ]
        self._clock_timer = server.outbox.after(_CLOCK_INTERVAL_US, self._on_clock_timer)
        offsets = [0]  # of the others' clocks to ours
        waiting = len(others)

        def on_answer(sent_us: int, event: CallDone) -> None:
            nonlocal waiting
            waiting -= 1
            body = event.body if isinstance(event.body, dict) else {}
            theirs = body.get("wall_us")
            if not event.error and isinstance(theirs, int):
                offsets.append(theirs - (sent_us + server.now.wall_us) // 2)
            if not waiting and self._is_active:
                self._judge_clock(sorted(offsets)[len(offsets) // 2], len(offsets))

        for address in others:
            sent_us = server.now.wall_us
            server.outbox.ask(
                address, CLOCK, None, _CLOCK_TIMEOUT_US,
                lambda event, sent_us=sent_us: on_answer(sent_us, event),  # type: ignore[misc]
            )  # fmt: skip

    def _on_clock_timer(self) -> None:
        self._clock_timer = None
        if self._is_active and self._due:
            self._compare_clocks()

    def _judge_clock(self, offset_us: int, answers: int) -> None:
        was_paused = self.is_paused
        is_majority = answers > len(self._server.consensus.voters()) // 2
        self.is_paused = is_majority and abs(offset_us) > CLOCK_LIMIT_US
        if self.is_paused == was_paused:
            return
        if self.is_paused:
            self._server.outbox.log(
                "error",
                "periodic launches are paused: this server's clock is off; set it right",
                offset_s=round(-offset_us / 1e6, 1),
            )
        else:
            self._server.outbox.log("info", "periodic launches go on: the clock is right again")
            self._launch_due()


def launch_command(
    server: Server, record: JobRecord, launch_us: int, *, eval_id: str = ""
) -> RegisterJob:
    """Return the command that registers one launch's child; a name that is taken moves on."""
    child = children.launched(record.job, launch_us)
    while server.state.jobs.get(record.namespace, child.id or "") is not None:
        launch_us += 1_000_000
        child = children.launched(record.job, launch_us)
    now_us = server.now.wall_us
    return RegisterJob(
        job=child,
        evaluation=children.evaluation_of(
            child, eval_id or server.new_id(), EvalTrigger.PERIODIC_JOB, now_us
        ),
    )
