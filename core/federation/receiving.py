"""What the leader of a datacenter does with shares of other homes: take, refuse, report.

A share is judged by the scheduler itself: as much of it as fits is accepted, and the rest is
refused with the reason; both are committed before the answer goes out. Whatever changes
later (an allocation that ended, one that can't be placed) is reported to the home, again and
again until the home has heard it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation import digest as digests
from core.federation import ranges, shares
from core.federation.causes import Kind, last_of
from core.federation.held import is_everywhere
from core.federation.home_log import homes_of
from core.federation.homes import Report
from core.federation.host import CALL_TIMEOUT_US, Done
from core.federation.lifecycle import is_leaving
from core.federation.offers import COME_BACK_US
from core.federation.ranges import Indices
from core.federation.roster import floor_of_home, is_enrolled, is_off
from core.federation.seal import is_sealed
from core.federation.share_log import (
    PutShare,
    SyncShares,
    for_record,
    report_of,
    synced_index,
    watermarks_of,
)
from core.federation.shares import Share, Watermark
from core.model.evaluation import EvalTrigger, Evaluation
from core.model.host import Peer
from core.model.ids import new_id

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator
    from core.state.jobs import JobRecord

GATHER_US: Final = 300_000  # changes of so long are one report
RETRY_US: Final = 1_000_000
RETRY_MOST_US: Final = 30_000_000


@dataclass(slots=True)
class _Telling:
    """What the home was told last of one share."""

    told: Report | None = None  # and has heard
    tries: int = 0
    is_under_way: bool = False


class Receiving:
    """One per coordinator. Works while this server leads."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self._coordinator = coordinator
        self._host = coordinator.host
        self._telling: dict[str, _Telling] = {}  # by uid
        self._due: dict[str, None] = {}
        self._is_gathering = False
        self._is_active = False

    def on_leadership(self, is_leader: bool) -> None:
        self._telling.clear()
        self._due.clear()
        self._is_active = is_leader
        if is_leader:
            for mark in watermarks_of(self._host.state).values():
                self._tell_soon(mark.uid)

    def on_applied(self, changes: Sequence[Any]) -> None:
        if not self._is_active or not len(watermarks_of(self._host.state)):
            return
        state = self._host.state
        for change in changes:
            if change.table == "allocs" and change.rows is not None:
                for ordinal in dict.fromkeys(state.allocs.job_ordinals(change.rows).tolist()):
                    self._tell_of(state.jobs.record(ordinal))
            elif change.table in {"evals", "deployment"}:
                table = state.evals if change.table == "evals" else state.deployments
                about = table.get(change.key)
                if about is not None:
                    self._tell_of(state.jobs.get(about.namespace, about.job_id))
            elif change.table == "watermarks":
                self._tell_soon(change.key)

    def _tell_of(self, record: "JobRecord | None") -> None:
        if record is not None and record.home:
            self._tell_soon(record.uid)

    # --- shares that come -----------------------------------------------------------------

    def on_put(self, body: Any, source: Peer, reply: Done) -> None:
        """Take a share: {"Report": Report, and of a refusal Digest and RetryAfterMS}."""
        share = body["Share"]
        share = share if isinstance(share, Share) else msgspec.convert(share, Share)
        if wrong := _is_not_from(source, share.home):
            reply(None, wrong)
            return
        state = self._host.state
        if share.epoch < floor_of_home(state, share.home):
            reply(
                None, f"datacenter {share.home} was declared off, or restored: this share is void"
            )
            return
        if is_leaving(state):
            reply(None, f"datacenter {state.datacenter} is leaving the federation")
            return
        if not is_enrolled(state):
            reply(None, f"datacenter {state.datacenter} is not on the region's roster yet")
            return
        if share.uid in homes_of(state):
            reply(None, "this datacenter is its home, and has not given that up yet")
            return
        mark = watermarks_of(state).get(share.uid)
        if not shares.is_newer(mark, share, synced_index(state, share.home)):
            reply({"Report": self._word_on(share)}, "")
            return
        room, reason = self._room_for(share, mark)
        command = PutShare(
            share=msgspec.structs.replace(share, events=[]),
            room=room,
            reason=reason,
            evaluation=self._evaluation(share),
        )

        def done(_: Any, error: str) -> None:
            if error:
                reply(None, error)
            else:
                reply(self._answer(share), "")

        self._host.propose([command], done)

    def _answer(self, share: Share) -> dict[str, Any]:
        report = self._word_on(share)
        if not report.reason:
            return {"Report": report}
        self._host.count_refusal("share")
        event = self._host.clock.event(
            Kind.REFUSED, share.uid, after=last_of(share.events), reason=report.reason
        )
        own = self._host.datacenter_id
        fresh = [s.digest for s in self._host.sites() if s.digest.datacenter_id == own]
        return {
            "Report": msgspec.structs.replace(report, events=[msgspec.to_builtins(event)]),
            "Digest": digests.encode(fresh[0]) if fresh else b"",
            "RetryAfterMS": COME_BACK_US // 1000,
        }

    def _word_on(self, share: Share) -> Report:
        report = report_of(self._host.state, share.uid)
        return self._as_of_now(report) if report is not None else self._nothing_of(share)

    def _as_of_now(self, report: Report) -> Report:
        return msgspec.structs.replace(report, as_of=self._host.state.index)

    def _nothing_of(self, share: Share) -> Report:
        """The word on a share that will never be taken: a full sync went past it."""
        return Report(
            namespace=share.namespace,
            job_id=share.job_id,
            uid=share.uid,
            datacenter_id=self._host.datacenter_id,
            epoch=share.epoch,
            index=share.index,
            live=0,
        )

    def _room_for(self, share: Share, mark: Watermark | None) -> tuple[Indices, str]:
        """Return what of a share fits here beyond what runs already, and why not all."""
        job = share.job
        before = mark.accepts if mark is not None else {}
        gained = ranges.without(share.indices, before)
        if not gained or job is None:
            return {}, ""
        if is_sealed(self._host.state):
            return gained, ""  # it may run here: that is what is being found out
        own = self._coordinator.offers.own_judgement(job)
        if own.is_barred:
            return {}, own.reason
        if is_everywhere(job):
            return gained, ""
        kept = ranges.shared(share.indices, before)
        asked = for_record(job, ranges.merged(kept, gained))
        fit = self._coordinator.offers.reservations.fit(job, asked, uid=share.uid)
        room: Indices = {}
        for one in fit.groups:
            free = one.placed - ranges.count(kept.get(one.group, ()))
            room[one.group] = ranges.take(gained.get(one.group, ()), max(0, free))
        room = ranges.indices(room)
        if room:
            self._coordinator.offers.reservations.hold(share.uid, job, fit)
        reason = "" if room == gained else "; ".join(fit.reasons()) or "not all of it fits now"
        return room, reason

    def _evaluation(self, share: Share) -> Evaluation | None:
        job, record = share.job, self._host.state.jobs.get(share.namespace, share.job_id)
        if job is None and record is None:
            return None
        job = job if job is not None else record.job if record is not None else None
        assert job is not None
        return self._evaluation_of(share.namespace, share.job_id, job.type, job.priority)

    def _evaluation_of(
        self, namespace: str, job_id: str, kind: str | None, priority: int | None
    ) -> Evaluation:
        now_ns = self._host.now.wall_us * 1000
        return Evaluation(
            id=new_id(self._host.rng, self._host.datacenter_id),
            priority=priority or 50,
            type=kind or "service",
            triggered_by=EvalTrigger.JOB_REGISTER,
            namespace=namespace,
            job_id=job_id,
            create_time_ns=now_ns,
            modify_time_ns=now_ns,
        )

    # --- full sync ------------------------------------------------------------------------

    def on_sync(self, body: Any, source: Peer, reply: Done) -> None:
        """Forget what a home's list lacks: {"Reports": [Report]} of what is left."""
        home, index = str(body["Home"]), int(body["Index"])
        listed = {str(uid): int(epoch) for uid, epoch in body["Listed"].items()}
        if wrong := _is_not_from(source, home):
            reply(None, wrong)
            return
        state = self._host.state
        going = [
            mark
            for mark in watermarks_of(state).values()
            if mark.home == home and shares.sync(mark, index, listed) is not mark
        ]
        evaluations = []
        for mark in going:
            record = state.jobs.by_uid(mark.uid)
            if record is not None and not record.is_purged:
                job = record.job
                evaluations.append(
                    self._evaluation_of(mark.namespace, mark.job_id, job.type, job.priority)
                )
        command = SyncShares(home=home, index=index, listed=listed, evaluations=tuple(evaluations))

        def done(_: Any, error: str) -> None:
            marks = watermarks_of(self._host.state).values()
            uids = [mark.uid for mark in marks if mark.home == home]
            found = (report_of(self._host.state, uid) for uid in uids)
            reports = [self._as_of_now(report) for report in found if report is not None]
            reply(None if error else {"Reports": reports}, error)

        self._host.propose([command], done)

    # --- reports --------------------------------------------------------------------------

    def _tell_soon(self, uid: str) -> None:
        self._due[uid] = None
        if not self._is_gathering:
            self._is_gathering = True
            self._host.after(GATHER_US, self._tell_all)

    def _tell_all(self) -> None:
        self._is_gathering = False
        if not self._is_active or not self._host.is_serving:
            return
        due, self._due = self._due, {}
        for uid in due:
            self._tell(uid)

    def _tell(self, uid: str) -> None:
        mark, report = watermarks_of(self._host.state).get(uid), report_of(self._host.state, uid)
        has_home = mark is not None and mark.home not in ("", self._host.datacenter_id)
        if mark is None or report is None or not has_home or is_off(self._host.state, mark.home):
            self._telling.pop(uid, None)
            return
        telling = self._telling.setdefault(uid, _Telling())
        if telling.is_under_way or telling.told == report:
            return
        telling.is_under_way = True

        def done(_: Any, error: str) -> None:
            if self._telling.get(uid) is not telling:
                return
            telling.is_under_way = False
            if not error:
                telling.told, telling.tries = report, 0
                self._tell_soon(uid)  # what changed meanwhile
                return
            telling.tries += 1
            telling.told = None  # it may come late yet: whatever is so then is told once more
            wait_us = min(RETRY_MOST_US, RETRY_US << min(telling.tries, 10))
            self._host.after(wait_us, lambda: self._tell_again(uid, telling))

        body = {"Report": self._as_of_now(report)}
        self._host.ask(mark.home, "Share.Report", body, CALL_TIMEOUT_US, done)

    def _tell_again(self, uid: str, telling: _Telling) -> None:
        if self._telling.get(uid) is telling and self._is_active:
            self._tell_soon(uid)


def _is_not_from(source: Peer, home: str) -> str:
    """Return why a call is not the word of the home it names, "" when it may be."""
    if source.is_proven and source.datacenter_id not in ("", home):
        return f"datacenter {source.datacenter_id} can't speak for the home {home}"
    return ""
