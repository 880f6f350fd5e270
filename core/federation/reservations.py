"""Room that a datacenter's leader has promised and that is not in its state yet.

Between the promise to take a job and its placement lie a claim, a commit and a pass of the
planner. Without a note of it, two jobs that come in that time would be promised the same
room. A big ask is promised first and sent then (core.federation.placing).

The promise is the exact solve of the scheduler: on which nodes the instances would go. It
ends when the job is placed, when it is given back, or after `RESERVED_US`. It lives in the
leader's memory only: a new leader has promised nothing, and its refusal costs one question
more. It holds against newcomers, not against the jobs that live here already.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from core.model.job import Job
from core.scheduler import Fit, Held

if TYPE_CHECKING:
    from core.federation.host import FederationHost

RESERVED_US: Final = 10_000_000
RESERVATIONS_MAX: Final = 4_096  # more at once are not held: the state will say
Indices = dict[str, list[tuple[int, int]]]


@dataclass(slots=True)
class _Promise:
    namespace: str
    job_id: str
    placed: list[Held]
    instances: int  # of the job that stand in the state when the promise is kept
    until_us: int


class Reservations:
    """One per coordinator; only a leader's have entries."""

    def __init__(self, host: "FederationHost") -> None:
        self._host = host
        self._promises: dict[str, _Promise] = {}  # by uid, in the order they were made

    def __len__(self) -> int:
        return len(self._promises)

    def fit(self, job: Job, indices: Indices | None = None, *, uid: str = "") -> Fit:
        """Return what of the job fits now beside what is promised to others than `uid`."""
        return self._host.fit(job, indices, self.held(but=uid))

    def misfit(self, job: Job, indices: Indices | None = None, *, uid: str = "") -> str:
        """Return why the job does not fit now, "" when it does."""
        return misfit_of(self.fit(job, indices, uid=uid))

    def hold(self, uid: str, job: Job, fit: Fit, for_us: int = RESERVED_US) -> None:
        """Promise the room of `fit` to a job; a second promise replaces the first."""
        if len(self._promises) >= RESERVATIONS_MAX or not fit.placed:
            return
        self._promises[uid] = _Promise(
            namespace=job.namespace or "default",
            job_id=job.id or "",
            placed=fit.placed,
            instances=sum(one.placed for one in fit.groups),
            until_us=self._host.now.mono_us + for_us,
        )

    def holds(self, uid: str) -> bool:
        """Whether all of a job was found to fit here a moment ago."""
        self._tidy()
        return uid in self._promises

    def release(self, uid: str) -> None:
        self._promises.pop(uid, None)

    def clear(self) -> None:
        self._promises.clear()

    def free_in_us(self) -> int:
        """Return in how many microseconds the next promise ends; 0 when there is none."""
        now_us = self._host.now.mono_us
        return min((max(0, one.until_us - now_us) for one in self._promises.values()), default=0)

    def held(self, *, but: str = "") -> list[Held]:
        """Return all that is promised, to others than `but`."""
        self._tidy()
        return [one for uid, made in self._promises.items() if uid != but for one in made.placed]

    def _tidy(self) -> None:
        now_us, state = self._host.now.mono_us, self._host.state
        for uid, promise in [*self._promises.items()]:
            record = state.jobs.get(promise.namespace, promise.job_id)
            is_placed = record is not None and (
                len(state.allocs.rows_of_job(record.ordinal)) >= promise.instances
            )
            if promise.until_us <= now_us or is_placed:
                del self._promises[uid]


def misfit_of(fit: Fit) -> str:
    """Return why a job does not fit whole, "" when it does."""
    return "" if fit.fits_now else "; ".join(fit.reasons()) or "not all instances fit now"
