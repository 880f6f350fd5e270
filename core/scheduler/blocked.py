"""Evaluations that found no room, and what wakes them.

A blocked evaluation remembers which computed classes it looked at. Room that appears on a
class that can never hold it is no news; room on a class that can, or on one it never saw,
is. An evaluation whose constraints *escaped* the classes wakes on any change. One that a quota
left too little wakes when quotas have room or change.

Room may appear between planning and blocking. `_freed_at` keeps the newest state index per
class, and an evaluation planned on an older state (`snapshot_index`) is handed back at once.
Invariant: at most one blocked evaluation a job.
"""

from collections.abc import Callable, Iterable

from core.model.evaluation import Evaluation

_Predicate = Callable[[Evaluation], bool]
_Job = tuple[str, str]


class BlockedEvaluations:
    """Blocked evaluations of the leader, rebuilt from the state by `block`ing each."""

    def __init__(self) -> None:
        self._by_job: dict[_Job, Evaluation] = {}
        self._freed_at: dict[str, int] = {}  # class -> state index of its newest room
        self._newest_index = 0  # of any room at all
        self._quota_index = 0  # of room in any quota
        self._duplicates: list[Evaluation] = []

    def __len__(self) -> int:
        return len(self._by_job)

    def waiting(self) -> Iterable[Evaluation]:
        """Return those that are held, longest first."""
        return self._by_job.values()

    def block(self, evaluation: Evaluation) -> bool:
        """Keep a blocked evaluation; False when room appeared meanwhile: enqueue it instead.

        A job's older blocked evaluation becomes a duplicate (`take_duplicates`).
        """
        if self._was_room_missed(evaluation):
            return False
        job = evaluation.namespace, evaluation.job_id
        rival = self._by_job.get(job)
        if rival is not None and rival.id != evaluation.id:
            if rival.create_index > evaluation.create_index > 0:
                self._duplicates.append(evaluation)
                return True
            self._duplicates.append(rival)
        self._by_job[job] = evaluation
        return True

    def unblock(self, node_class: str, index: int) -> list[Evaluation]:
        """Room appeared on a node of computed class `node_class` at state `index`.

        Returns:
            Those that may fit now, no longer held; enqueue them as pending.
        """
        self._freed_at[node_class] = index
        self._newest_index = max(self._newest_index, index)
        return self._release(lambda one: one.escaped_computed_class or _may_hold(one, node_class))

    def unblock_all(self, index: int) -> list[Evaluation]:
        """Capacity changed in a way that no class describes: wake all."""
        self._newest_index = max(self._newest_index, index)
        for known in self._freed_at:
            self._freed_at[known] = index
        return self._release(lambda one: True)

    def unblock_quotas(self, index: int) -> list[Evaluation]:
        """Quotas have more room at state `index`, or changed. Returns as `unblock`."""
        self._quota_index = max(self._quota_index, index)
        return self._release(lambda one: bool(one.quota_limit_reached))

    def untrack(self, namespace: str, job_id: str) -> Evaluation | None:
        """The job changed or stopped: return its blocked evaluation, to be cancelled."""
        return self._by_job.pop((namespace, job_id), None)

    def cancel(self, evaluation_id: str) -> None:
        """Forget an evaluation that ended elsewhere: a plan of its job cancelled it."""
        for job, held in self._by_job.items():
            if held.id == evaluation_id:
                del self._by_job[job]
                return

    def forget(self, ids: frozenset[str]) -> None:
        """These were deleted: wake none of them."""
        gone = [job for job, evaluation in self._by_job.items() if evaluation.id in ids]
        for job in gone:
            del self._by_job[job]
        self._duplicates = [one for one in self._duplicates if one.id not in ids]

    def take_duplicates(self) -> list[Evaluation]:
        """Return those replaced by a newer one of their job: mark them cancelled."""
        taken, self._duplicates = self._duplicates, []
        return taken

    def clear(self) -> None:
        """Leadership was lost: hold nothing."""
        self.__init__()  # type: ignore[misc]

    def _was_room_missed(self, evaluation: Evaluation) -> bool:
        seen = evaluation.snapshot_index
        if evaluation.quota_limit_reached and self._quota_index > seen:
            return True
        if evaluation.escaped_computed_class:
            return self._newest_index > seen
        return any(
            index > seen and _may_hold(evaluation, node_class)
            for node_class, index in self._freed_at.items()
        )

    def _release(self, wakes: _Predicate) -> list[Evaluation]:
        woken = [job for job, evaluation in self._by_job.items() if wakes(evaluation)]
        return [self._by_job.pop(job) for job in woken]


def _may_hold(evaluation: Evaluation, node_class: str) -> bool:
    known = evaluation.class_eligibility or {}
    is_rationed = bool(evaluation.quota_limit_reached) and not known  # no node was too small
    return known.get(node_class, not is_rationed)
