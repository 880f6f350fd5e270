"""The evaluation broker: which evaluation is planned next, and which job must wait.

Theory of operation. An evaluation is in exactly one place: *delayed* until its time,
*ready* in a heap by priority, *in flight* with a planner, or *second* behind another one
of the same job. One evaluation per job is ready or in flight at a time, so two plans never
decide over the same job; of those that come meanwhile only the newest is of use, since an
evaluation says "look at this job again" and not what to do. The others are superseded.

The broker lives on the leader only and is rebuilt from the state by `enqueue`ing every
pending evaluation. It is pure: the caller passes the time (the wall clock that commands
carry) and asks `deadline_us` when to come back.
"""

import heapq
from dataclasses import dataclass
from typing import Final

from core.model.evaluation import Evaluation
from core.model.host import FOREVER_US

ATTEMPTS_MAX: Final = 3
RETRY_FIRST_US: Final = 1_000_000
RETRY_LATER_US: Final = 20_000_000

_Job = tuple[str, str]  # namespace, job id


@dataclass(slots=True)
class BrokerCounts:
    ready: int
    in_flight: int
    second: int
    delayed: int


class EvaluationBroker:
    """Pending evaluations in the order in which they are planned."""

    def __init__(self) -> None:
        self._known: dict[str, Evaluation] = {}  # every evaluation held, by id
        self._ready: list[tuple[int, int, int, str]] = []  # (-priority, index, sequence, id)
        self._delayed: list[tuple[int, int, str]] = []  # (wall time, sequence, id)
        self._holder: dict[_Job, str] = {}  # the job's evaluation that is ready or in flight
        self._second: dict[_Job, str] = {}
        self._in_flight: dict[str, None] = {}
        self._attempts: dict[str, int] = {}
        self._since_us: dict[str, int] = {}  # wall time when each was taken in
        self._again: dict[str, tuple[Evaluation, int]] = {}  # in flight, and enqueued since
        self._superseded: list[Evaluation] = []
        self._failed: list[Evaluation] = []
        self._sequence = 0

    @property
    def deadline_us(self) -> int:
        """Wall time when the next delayed evaluation is due, `FOREVER_US` when none waits."""
        return self._delayed[0][0] if self._delayed else FOREVER_US

    @property
    def counts(self) -> BrokerCounts:
        return BrokerCounts(
            ready=len(self._holder) - len(self._in_flight),
            in_flight=len(self._in_flight),
            second=len(self._second),
            delayed=len(self._delayed),
        )

    @property
    def oldest_us(self) -> int:
        """Wall time since when the first of those that are ready waits; 0 when none is."""
        for evaluation_id in self._holder.values():
            if evaluation_id not in self._in_flight:
                wait_us = self._known[evaluation_id].wait_until_us
                return max(self._since_us.get(evaluation_id, 0), wait_us)
        return 0

    def enqueue(self, evaluation: Evaluation, now_us: int) -> None:
        """Take in a pending evaluation.

        One that is held already is ignored; one that is in flight runs once more after
        `ack`, for what it is woken by may have come after its plan was made.
        """
        if evaluation.id in self._in_flight:
            self._again[evaluation.id] = evaluation, now_us
        if evaluation.id in self._known:
            return
        self._known[evaluation.id] = evaluation
        self._since_us[evaluation.id] = now_us
        if evaluation.wait_until_us > now_us:
            self._delay(evaluation.id, evaluation.wait_until_us)
        else:
            self._line_up(evaluation)

    def dequeue(self, limit: int, now_us: int) -> list[Evaluation]:
        """Return up to `limit` evaluations of different jobs, which are now in flight."""
        while self._delayed and self._delayed[0][0] <= now_us:
            _, _, due = heapq.heappop(self._delayed)
            if due in self._known:
                self._line_up(self._known[due])
        taken: list[Evaluation] = []
        while self._ready and len(taken) < limit:
            *_, evaluation_id = heapq.heappop(self._ready)
            evaluation = self._known.get(evaluation_id)
            if evaluation is None:
                continue  # cancelled while it waited
            self._in_flight[evaluation_id] = None
            self._attempts[evaluation_id] = self._attempts.get(evaluation_id, 0) + 1
            taken.append(evaluation)
        return taken

    def ack(self, evaluation_id: str) -> None:
        """The evaluation's plan is committed: the job's next one may run."""
        if evaluation_id not in self._in_flight:
            return
        again = self._again.get(evaluation_id)
        self._forget(evaluation_id)
        if again is not None:
            self.enqueue(*again)

    def nack(self, evaluation_id: str, now_us: int) -> None:
        """Planning failed: try again later, and give it up after `ATTEMPTS_MAX`."""
        if evaluation_id not in self._in_flight:
            return
        evaluation, attempts = self._known[evaluation_id], self._attempts[evaluation_id]
        self._forget(evaluation_id)
        if attempts >= ATTEMPTS_MAX:
            self._failed.append(evaluation)
            return
        self._known[evaluation_id] = evaluation
        self._since_us[evaluation_id] = now_us
        self._attempts[evaluation_id] = attempts
        self._delay(evaluation_id, now_us + (RETRY_FIRST_US if attempts == 1 else RETRY_LATER_US))

    def cancel(self, evaluation_id: str) -> None:
        """Forget an evaluation that was deleted or ended elsewhere."""
        if evaluation_id in self._known:
            self._forget(evaluation_id)

    def take_superseded(self) -> list[Evaluation]:
        """Return those that a newer one made useless since the last call: mark them cancelled."""
        taken, self._superseded = self._superseded, []
        return taken

    def take_failed(self) -> list[Evaluation]:
        """Return those whose attempts ran out since the last call: mark them failed."""
        taken, self._failed = self._failed, []
        return taken

    def clear(self) -> None:
        """Leadership was lost: hold nothing."""
        self.__init__()  # type: ignore[misc]

    def _line_up(self, evaluation: Evaluation) -> None:
        job = _job(evaluation)
        if job not in self._holder:
            self._holder[job] = evaluation.id
            self._push_ready(evaluation)
            return
        second = self._second.get(job)
        if second is not None:
            rival = self._known[second]
            older, newer = sorted((rival, evaluation), key=lambda item: item.create_index)
            self._superseded.append(older)
            del self._known[older.id]
            self._since_us.pop(older.id, None)
            self._attempts.pop(older.id, None)
            evaluation = newer
        self._second[job] = evaluation.id

    def _forget(self, evaluation_id: str) -> None:
        evaluation = self._known.pop(evaluation_id)
        self._since_us.pop(evaluation_id, None)
        self._attempts.pop(evaluation_id, None)
        self._in_flight.pop(evaluation_id, None)
        self._again.pop(evaluation_id, None)
        # A heap entry of it may remain; it is skipped when it comes up.
        job = _job(evaluation)
        if self._second.get(job) == evaluation_id:
            del self._second[job]
        if self._holder.get(job) == evaluation_id:
            del self._holder[job]
            following = self._second.pop(job, None)
            if following is not None:
                self._holder[job] = following
                self._push_ready(self._known[following])

    def _push_ready(self, evaluation: Evaluation) -> None:
        self._sequence += 1
        entry = (-evaluation.priority, evaluation.create_index, self._sequence, evaluation.id)
        heapq.heappush(self._ready, entry)

    def _delay(self, evaluation_id: str, until_us: int) -> None:
        self._sequence += 1
        heapq.heappush(self._delayed, (until_us, self._sequence, evaluation_id))


def _job(evaluation: Evaluation) -> _Job:
    return evaluation.namespace, evaluation.job_id
