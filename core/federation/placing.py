"""The way of one new job to its home: candidates asked in turn, reasons collected.

Each refusal of another datacenter is a **bounce**. After `BOUNCES_MAX` of them, or when the
retry budget of the next one is used up, the job waits at home, as a blocked evaluation, and
the answer shows every datacenter's reason. A big ask (over `BIG_SHARE` of what the target has
free) asks for a reservation first: the job file, the claim and the commit follow when the
room is held.
"""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation import splitting, tokens
from core.federation.ask import Verdict, asks_of, room_of
from core.federation.causes import Event, Kind, events_of, last_of, plain_events
from core.federation.choice import ANY_REGION, Candidate, order, within_reach
from core.federation.digest import Digest, Room
from core.federation.host import CALL_TIMEOUT_US
from core.federation.verdicts import as_answer, with_verdicts
from core.federation.where import Answered, Here, Refused, Where
from core.model.job import Job
from core.model.query import Answer, OwnQuery, Query

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator

WAITING_PLACES: Final = 3
BOUNCES_MAX: Final = 3
BIG_SHARE: Final = 0.05

# Job types whose instances are the nodes': room is no question of where they go.
_EVERY_NODE: Final = ("system", "sysbatch")


class Placing:
    """One new job looking for a home: candidates are asked in turn, reasons collected."""

    def __init__(
        self, coordinator: "Coordinator", query: Query, job: Job, then: Callable[[Where], None]
    ) -> None:
        self._coordinator = coordinator
        self._host = coordinator.host
        self._query = query
        self._job = job
        self._then = then
        self._uid = (
            tokens.uid_of(query, job.namespace or "default", job.id or "")
            if query.call_id
            else f"{self._host.rng.getrandbits(128):032x}"
        )
        self._candidates = within_reach(job, coordinator.judge(job), self._host.region)
        self._reasons: dict[str, str] = {}
        self._skipped: dict[str, str] = {}  # those that were not asked any more
        self._silent: list[str] = []  # datacenters that were asked and did not answer
        self._queue: list[tuple[Candidate, bool]] = []  # and whether it may queue there
        self._trail = list(query.trail)  # grows by what every candidate said
        self._root: list[str] = []  # id of its first event, once there is one
        self._bounces = 0
        self._has_choice = False  # whether there is more than one datacenter to go to

    @cached_property
    def _room(self) -> Room:
        """What all instances ask together; only who asks elsewhere needs to know."""
        return room_of(asks_of(self._job))

    def start(self) -> None:
        job = self._job
        if self._query.datacenter:  # the caller has chosen: it may queue here, or not at all
            own = [candidate for candidate in self._candidates if self._is_own(candidate)]
            self._queue = [(candidate, True) for candidate in own]
            self._next()
            return
        if job.type in _EVERY_NODE or job.periodic or job.parameterized_job:
            self._here()
            return
        own_region = ANY_REGION if job.region == ANY_REGION else self._host.region
        inside = self._in_regions([own_region])
        if not self._spillover() and all(self._is_own(candidate) for candidate in inside):
            # Nowhere else to go: whether it fits now is the scheduler's question, not ours.
            self._queue = [(c, True) for c in self._waiting_places(inside)]
            self._next()
            return
        self._has_choice = True
        self._queue = [(candidate, False) for candidate in self._own_first(inside)]
        # What fits in its own region stays there: the home divides it, only the rest leaves.
        is_divided = splitting.is_divisible(job) and any(map(_takes_some, inside))
        for region in self._spillover() if not is_divided else ():
            outside = [c for c in self._in_regions([region]) if c not in inside]
            self._queue += [
                (candidate, False)
                for candidate in order(outside, self._host.rng)
                if all(candidate is not other for other, _ in self._queue)
            ]
        # Where nobody has room now, the job waits in the best place that could hold it.
        self._queue += [(c, True) for c in self._waiting_places(inside)][:WAITING_PLACES]
        self._next()

    def _in_regions(self, regions: list[str]) -> list[Candidate]:
        return [
            candidate
            for candidate in self._candidates
            if ANY_REGION in regions or candidate.site.digest.region in regions
        ]

    def _spillover(self) -> list[str]:
        policy = self._job.federation
        if policy is None or policy.spillover is None:
            return []
        return list(policy.spillover.regions or [])

    def _own_first(self, candidates: list[Candidate]) -> list[Candidate]:
        """Order the candidates; within one region the receiving datacenter comes first."""
        ordered = order(candidates, self._host.rng)
        if self._job.region == ANY_REGION:
            return ordered
        own = [c for c in ordered if self._is_own(c)]
        return own + [c for c in ordered if not self._is_own(c)]

    def _waiting_places(self, inside: list[Candidate]) -> list[Candidate]:
        places = frozenset(Verdict) - {Verdict.TOO_BIG, Verdict.NOT_ALLOWED}
        able = [c for c in inside if c.judgement.verdict in places]
        if not able and splitting.is_divisible(self._job):
            # Too much for one, maybe for all together: what fits runs, the rest waits for nodes.
            parts = self._coordinator.judge(splitting.one_of_each(self._job))
            able = [c for c in parts if c.judgement.verdict in places and self._is_among(c, inside)]
        return sorted(able, key=lambda c: (not self._is_own(c), -c.judgement.score))

    def _is_among(self, candidate: Candidate, others: list[Candidate]) -> bool:
        ids = {one.site.digest.datacenter_id for one in others}
        return candidate.site.digest.datacenter_id in ids

    def _is_own(self, candidate: Candidate) -> bool:
        return candidate.site.digest.datacenter_id == self._host.datacenter_id

    # --- asking in turn ---------------------------------------------------------------------

    def _next(self) -> None:
        if not self._queue:
            self._refuse()
            return
        candidate, may_queue = self._queue.pop(0)
        if not (may_queue or self._is_own(candidate) or self._may_ask(candidate)):
            self._next()
            return
        if self._query.method == "Job.Plan":
            self._plan_at(candidate, may_queue)
        elif self._is_own(candidate):
            self._register_here(candidate, may_queue)
        else:
            self._register_there(candidate, may_queue)

    def _may_ask(self, candidate: Candidate) -> bool:
        """Return whether one question more is within bounds; the first one always is."""
        asked, now_us = candidate.site.digest.datacenter_id, self._host.now.mono_us
        if not self._bounces:
            self._coordinator.retries.first(asked, now_us)
            return True
        if self._bounces < BOUNCES_MAX and self._coordinator.retries.may_retry(asked, now_us):
            return True
        self._skipped[asked] = f"not asked: {self._bounces} others refused"
        return False

    def _register_here(self, candidate: Candidate, may_queue: bool) -> None:
        offers, known = self._coordinator.offers, candidate.judgement
        reason = offers.refusal(self._job, self._uid, is_queued=may_queue, known=known)
        if reason:
            self._note(Kind.REFUSED, self._submission(), reason=reason)
            self._refused(candidate, reason)
            return
        if may_queue:
            self._note_wait()
        query = msgspec.structs.replace(self._query, trail=self._trail)
        region = self._job.region or ""
        claimant = "" if region in (ANY_REGION, self._host.region) else region
        self._coordinator.become_home(
            query, self._job, self._uid, claimant, lambda answer: self._finish(answer, candidate)
        )

    def _register_there(self, candidate: Candidate, may_queue: bool) -> None:
        digest = candidate.site.digest
        place = f"{digest.region}/{digest.datacenter}"
        asked = self._note(
            Kind.ASKED,
            self._submission(),
            to=place,
            verdict=candidate.judgement.verdict.value,
            score=candidate.judgement.score,
            digest_age_ms=(candidate.site.age_us or 0) // 1000,
            may_queue=may_queue,
        )
        if may_queue:
            self._note_wait()
        query = msgspec.structs.replace(
            self._query, region=digest.region, hops=self._query.hops + 1, trail=[*self._trail]
        )
        body = {
            "Query": query, "UID": self._uid, "MayQueue": may_queue, "Claimant": self._host.region,
            "IsOwn": isinstance(query, OwnQuery), **self._coordinator.offers.news(),
        }  # fmt: skip

        def settled(body: Any, error: str) -> None:
            if error:
                self._silent.append(place)
                self._note(Kind.SILENT, [asked.id], to=place, reason=error)
                self._bounced(candidate, error, b"", 0)
            elif "Refused" in body:
                reason = str(body["Refused"])
                told = events_of([body.get("Event")])
                self._trail += plain_events(told)
                if not told:
                    self._note(Kind.REFUSED, [asked.id], by=place, reason=reason)
                later_ms = int(body.get("RetryAfterMS", 0))
                self._bounced(candidate, reason, body.get("Digest") or b"", later_ms * 1000)
            elif "HeldMS" in body:
                register()
            else:
                self._coordinator.known.answered(
                    digest.datacenter_id, took=True, now_us=self._host.now.mono_us,
                    room=self._room, digest=body.get("Digest") or b"",
                )  # fmt: skip
                self._finish(as_answer(body.get("Answer")), candidate)

        def register() -> None:
            self._host.ask(digest.datacenter_id, "Home.Register", body, CALL_TIMEOUT_US, settled)

        self._coordinator.known.sent(digest.datacenter_id, self._room, self._host.now.mono_us)
        if may_queue or not self._is_big(digest):
            register()
            return
        reserve = {
            "Job": self._query.body.get("Job"), "UID": self._uid,
            **self._coordinator.offers.news(),
        }  # fmt: skip
        self._host.ask(digest.datacenter_id, "Home.Reserve", reserve, CALL_TIMEOUT_US, settled)

    def _is_big(self, digest: Digest) -> bool:
        free, room = digest.free, self._room
        return room.cpu > free.cpu * BIG_SHARE or room.memory > free.memory * BIG_SHARE

    def _bounced(self, candidate: Candidate, reason: str, fresh: bytes, later_us: int) -> None:
        """Another datacenter refused, or did not answer: remember what it said, ask the next."""
        self._bounces += 1
        self._host.count_bounce()
        self._coordinator.known.answered(
            candidate.site.digest.datacenter_id,
            took=False,
            now_us=self._host.now.mono_us,
            room=self._room,
            digest=fresh,
            reason=reason,
            later_us=later_us,
        )
        self._refused(candidate, reason)

    def _plan_at(self, candidate: Candidate, may_queue: bool) -> None:
        if self._is_own(candidate):
            reason = self._coordinator.offers.refusal(self._job, is_queued=may_queue)
            if reason:
                self._refused(candidate, reason)
            else:
                self._host.answer_here(self._query, lambda answer: self._finish(answer, candidate))
            return
        digest = candidate.site.digest
        self._coordinator.ask_query(
            digest.datacenter_id,
            digest.region,
            self._query,
            lambda answer: self._finish(answer, candidate),
        )

    def _submission(self) -> list[str]:
        """Return the event that all of this follows: how the job came here."""
        if not self._root:
            if not self._query.trail:
                self._note(Kind.SUBMITTED, [])
            self._root = last_of(self._trail)
        return self._root

    def _note(self, kind: Kind, after: list[str], **facts: Any) -> Event:
        """Add to the trail what happened here; it is kept where the job finds its home."""
        event = self._host.clock.event(kind, self._uid, after=after, **facts)
        self._trail += plain_events([event])
        return event

    def _note_wait(self) -> None:
        """Nobody has room now: note why, datacenter by datacenter, for who asks later."""
        if not self._has_choice:
            return
        reasons = [
            f"{one.site.digest.region}/{one.site.digest.datacenter}: "
            + (
                self._reasons.get(one.site.digest.datacenter_id)
                or self._skipped.get(one.site.digest.datacenter_id)
                or one.judgement.reason
            )
            for one in self._candidates
        ]
        count = sum(ask.count for ask in asks_of(self._job))
        self._note(Kind.BLOCKED, self._submission(), count=count, reason="; ".join(reasons))

    def _refused(self, candidate: Candidate, reason: str) -> None:
        self._reasons[candidate.site.digest.datacenter_id] = reason
        self._next()

    def _here(self) -> None:
        """No question of room: the receiving datacenter is home."""
        if self._query.method == "Job.Plan":
            self._then(Here())
            return
        self._coordinator.become_home(
            self._query, self._job, self._uid, "", lambda answer: self._then(Answered(answer))
        )

    # --- the end ----------------------------------------------------------------------------

    def _finish(self, answer: Answer, candidate: Candidate) -> None:
        home = candidate.site.digest.datacenter_id
        if answer.status == 409 and self._silent:
            # The one that did not answer may have taken the name for this very call.
            self._then(Refused(self._try_again(answer.error)))
            return
        told = with_verdicts(answer, self._candidates, home, self._reasons, self._skipped)
        self._then(Answered(told))

    def _refuse(self) -> None:
        """Nobody could ever hold it, or not all could be asked: say why, one by one."""
        self._host.count_refusal("unreachable" if self._silent else "too big")
        lines = []
        for candidate in self._candidates:
            digest = candidate.site.digest
            reason = self._reasons.get(digest.datacenter_id, candidate.judgement.reason)
            lines.append(f"  {digest.region}/{digest.datacenter}: {reason}")
        if self._silent:
            self._then(Refused(self._try_again("nobody else takes it:\n" + "\n".join(lines))))
            return
        text = (
            f"job {self._job.id!r} does not fit in region"
            f" {self._job.region or self._host.region}:\n" + "\n".join(lines)
        )
        if not self._spillover() and self._job.region != ANY_REGION:
            text += (
                "\nAllow other regions with: federation { spillover { regions = [...] } }"
                ' or region = "*"'
            )
        self._then(Refused(Answer(status=422, error=text)))

    def _try_again(self, why: str) -> Answer:
        text = f"job {self._job.id!r}: {' and '.join(self._silent)} did not answer"
        return Answer(status=503, error=f"{text}, try again shortly; {why}")


def _takes_some(candidate: Candidate) -> bool:
    judgement = candidate.judgement
    return not judgement.is_barred and any(one.likely >= 1 for one in judgement.takes.values())
