"""Shares on their way: what the leader of a home sends, and the word that comes back.

send    each share that is not held exactly as allowed, by the outbox
take    answers and reports; a refusal keeps the datacenter from being asked again for a
        while
sync    all shares of a datacenter at once, after a change of leader or a silence
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation import ranges
from core.federation.ask import asks_of
from core.federation.causes import Event, Kind, RecordCause, chain_of, events_of, plain_events
from core.federation.digest import Room
from core.federation.handing import stub_uids
from core.federation.home_log import TakeReport, homes_of
from core.federation.homes import Home, Part, Report, acknowledge
from core.federation.host import CALL_TIMEOUT_US, Done
from core.federation.outbox import Key, Outbox
from core.federation.rhythm import Alarm
from core.federation.rolling import job_for
from core.federation.shares import share_of
from core.model.job import Job
from core.state.commands import Command

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator

LOOK_US: Final = 1_000_000
SYNC_US: Final = 300_000_000
BOUNCES_MAX: Final = 3  # in a row; then a job waits at home for a while, as a new one does
REST_US: Final = 30_000_000
RESTING_MOST: Final = 1_000  # jobs whose bounces are remembered
AVOID_US: Final = 5_000_000  # after a refusal; doubled by each further one
AVOID_MOST_US: Final = 120_000_000


class Sending:
    """One per coordinator. Works while this server leads."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self._coordinator = coordinator
        self._host = coordinator.host
        self._outbox = Outbox(coordinator.host.rng, coordinator.retries)
        self._avoided: dict[Key, tuple[int, int]] = {}  # until, how often it refused
        self._bounced: dict[str, tuple[int, int]] = {}  # by uid: refusals in a row, rests until
        self._silent_since_us: dict[str, int] = {}  # datacenters that did not answer
        self._synced_us: dict[str, int] = {}  # when each datacenter was told of all its shares
        self._healing_us: dict[str, int] = {}  # since when those that were silent answer
        self._is_active = False
        self._alarm = Alarm(self._host, self.send)

    def handlers(self) -> dict[str, Any]:
        return {"Share.Report": self._on_report}

    def on_leadership(self, is_leader: bool) -> None:
        self._outbox.clear()
        self._avoided.clear()
        self._bounced.clear()
        self._silent_since_us.clear()
        self._healing_us.clear()
        self._synced_us.clear()
        self._alarm.on_leadership(is_leader)
        self._is_active = is_leader

    @property
    def unsettled(self) -> int:
        """Return how many shares are not held as they are allowed."""
        return len(self._outbox)

    def silent_us(self, dc: str) -> int:
        """Return for how long a datacenter has not answered; 0 = it did, or was not asked."""
        since_us = self._silent_since_us.get(dc)
        return 0 if since_us is None else max(1, self._host.now.mono_us - since_us)

    def is_avoided(self, key: Key) -> bool:
        """Whether a datacenter refused a job's share a moment ago."""
        return self._avoided.get(key, (0, 0))[0] > self._host.now.mono_us

    def avoid(self, key: Key) -> None:
        _, times = self._avoided.get(key, (0, 0))
        wait_us = min(AVOID_MOST_US, AVOID_US << min(times, 10))
        self._avoided[key] = self._host.now.mono_us + wait_us, times + 1

    def is_resting(self, uid: str) -> bool:
        """Whether a job was refused so often that it waits at home before it asks anew."""
        return self._bounced.get(uid, (0, 0))[1] > self._host.now.mono_us

    def _note_bounce(self, uid: str) -> None:
        times = self._bounced.pop(uid, (0, 0))[0] + 1
        is_much = times % BOUNCES_MAX == 0
        self._bounced[uid] = times, self._host.now.mono_us + REST_US if is_much else 0
        while len(self._bounced) > RESTING_MOST:
            del self._bounced[next(iter(self._bounced))]

    # --- sending --------------------------------------------------------------------------

    def deliver(self, home: Home) -> None:
        """Want each datacenter of a home to hold exactly what it is allowed."""
        for dc, part in home.parts.items():
            key = Key(home.uid, dc)
            if dc == self._host.datacenter_id:
                continue
            if part.is_settled:
                self._outbox.settle(key)
            else:
                self._outbox.put(key, part.index, self._host.now.mono_us)

    def send(self) -> None:
        """Send what is due now, and come back for the next."""
        host = self._host
        for key in self._outbox.due(host.now.mono_us):
            self._send_one(key)
        self._note_healed()
        self._alarm.ring_at(self._outbox.deadline_us)

    def _note_healed(self) -> None:
        if not self._healing_us:
            return
        behind = {key.datacenter_id for key in self._outbox}
        for dc in [one for one in self._healing_us if one not in behind]:
            self._host.note_heal(self._host.now.mono_us - self._healing_us.pop(dc))

    def _send_one(self, key: Key) -> None:
        host, state = self._host, self._host.state
        home = homes_of(state).get(key.uid)
        if home is None or key.datacenter_id not in home.parts:
            self._outbox.settle(key)
            return
        record = state.jobs.by_uid(key.uid)
        part, job = home.parts[key.datacenter_id], None
        if record is not None and not record.is_purged:
            job = job_for(state, record, part)
        share = share_of(home, key.datacenter_id, host.datacenter_id, job)
        share = msgspec.structs.replace(share, events=self._told_of(home, key.datacenter_id))
        room = Room()
        if job is not None and part.acked != part.index:
            room = _room(job, ranges.without(part.allowed, part.running))
            self._coordinator.known.sent(key.datacenter_id, room, host.now.mono_us)

        def done(body: Any, error: str) -> None:
            if not self._is_active:
                return
            self._outbox.returned(key, host.now.mono_us)
            self._heard(key.datacenter_id, error)
            if not error:
                self._on_answer(key, body, room)
            self.send()

        host.ask(key.datacenter_id, "Share.Put", {"Share": share}, CALL_TIMEOUT_US, done)

    def _heard(self, dc: str, error: str) -> None:
        """Note whether a datacenter answers; after a silence it is told all its shares."""
        now_us = self._host.now.mono_us
        if error:
            self._silent_since_us.setdefault(dc, now_us)
            self._healing_us.pop(dc, None)
        elif self._silent_since_us.pop(dc, None) is not None:
            self._healing_us[dc] = now_us
            self._outbox.hurry(dc, now_us)
            self._synced_us.pop(dc, None)
            self._sync(dc)

    def _on_answer(self, key: Key, body: Any, room: Room) -> None:
        report = report_in(body)
        if report is None or report.datacenter_id != key.datacenter_id:
            return
        took = not report.reason
        self._coordinator.known.answered(
            key.datacenter_id, took=took, now_us=self._host.now.mono_us, room=room,
            digest=body.get("Digest") or b"", reason=report.reason,
        )  # fmt: skip
        self._take(report)

    # --- reports --------------------------------------------------------------------------

    def _on_report(self, body: Any, reply: Done) -> None:
        """Take a datacenter's word: {"Known": whether the job's home is here}."""
        report = report_in(body)
        if report is None:
            reply(None, "Share.Report: the body is not valid")
            return
        known = homes_of(self._host.state).get(report.uid)
        reply({"Known": known is not None}, "")
        self._heard(report.datacenter_id, "")
        if known is not None:
            self._take(report)
        else:
            self._sync(report.datacenter_id)

    def _take_if_news(self, report: Report) -> None:
        """Take a word of a full sync: that nothing changed is not worth an entry."""
        home = homes_of(self._host.state).get(report.uid)
        part = home.part(report.datacenter_id) if home is not None else Part()
        if report.as_of >= part.as_of:
            self._take(msgspec.structs.replace(report, as_of=part.as_of))

    def _take(self, report: Report) -> None:
        home = homes_of(self._host.state).get(report.uid)
        if home is None:
            return
        after = acknowledge(home, report, self._host.state.log_time_us)
        if after is home:
            self.deliver(home)
            return
        part, key = home.parts[report.datacenter_id], Key(report.uid, report.datacenter_id)
        refused = ranges.without(part.allowed, report.accepts)
        commands: list[Command] = [TakeReport(report=msgspec.structs.replace(report, events=[]))]
        events = list(events_of(report.events))
        place = "/".join(self._host.datacenters().get(report.datacenter_id, ("?", "?")))
        if report.is_parked and not part.is_parked:
            said = {"at": place, "reason": report.reason}
            events.append(Event(kind=Kind.PARKED, uid=report.uid, facts=said))
        elif refused and report.reason:
            self.avoid(key)
            if not report.accepts:
                self._note_bounce(key.uid)
            self._host.count_bounce()
            if not events:
                count = ranges.size(refused)
                told = {"by": place, "reason": report.reason, "count": count}
                events = [Event(kind=Kind.REFUSED, uid=report.uid, facts=told)]
        elif part.acked != part.index:
            self._avoided.pop(key, None)
            self._bounced.pop(key.uid, None)
        if events:
            commands.append(
                RecordCause(namespace=home.namespace, job_id=home.job_id, events=events)
            )

        def done(value: Any, error: str) -> None:
            if not error and (value or {}).get("IsDone"):
                self._coordinator.naming.give_up(home)

        self._host.propose(commands, done)

    def _told_of(self, home: Home, datacenter_id: str) -> list[dict[str, Any]]:
        """Return the event that a share follows: what is answered to it names it as its cause."""
        place = "/".join(self._host.datacenters().get(datacenter_id, ("?", "?")))
        events = chain_of(self._host.state, home.namespace, home.job_id).events
        return plain_events([event for event in events if event.facts.get("to") == place][-1:])

    # --- full sync ------------------------------------------------------------------------

    def sync_all(self) -> None:
        """Tell every datacenter of all its shares, now and then; ask the silent ones so."""
        found: dict[str, None] = dict.fromkeys(self._silent_since_us)
        for home in homes_of(self._host.state).values():
            found |= dict.fromkeys(home.parts)
        for dc in found:
            last_us = self._synced_us.get(dc)
            is_due = last_us is None or self._host.now.mono_us - last_us >= SYNC_US
            if is_due or dc in self._silent_since_us:
                self._sync(dc)

    def _sync(self, dc: str) -> None:
        """Tell a datacenter all its shares as of now: what it has beyond them is gone."""
        host, state = self._host, self._host.state
        if dc == host.datacenter_id or not host.is_serving:
            return
        last_us = self._synced_us.get(dc)
        if last_us is not None and host.now.mono_us - last_us < LOOK_US:
            return
        self._synced_us[dc] = host.now.mono_us
        listed = {home.uid: home.epoch for home in homes_of(state).values() if dc in home.parts}
        listed |= dict.fromkeys(stub_uids(state, dc), 0)  # its new home has more to say of these

        def done(body: Any, error: str) -> None:
            if not self._is_active:
                return
            self._heard(dc, error)
            if error or not isinstance(body, dict):
                self._synced_us.pop(dc, None)
                return
            for one in body.get("Reports") or []:
                report = report_in({"Report": one})
                if report is not None and report.datacenter_id == dc:
                    self._take_if_news(report)

        body = {"Home": host.datacenter_id, "Index": state.index, "Listed": listed}
        host.ask(dc, "Share.Sync", body, CALL_TIMEOUT_US, done)


def report_in(body: Any) -> Report | None:
    """Return the report of a call's body; None when there is none."""
    found = body.get("Report") if isinstance(body, dict) else None
    if isinstance(found, Report):
        return found
    try:
        return msgspec.convert(found, Report)
    except msgspec.ValidationError:
        return None


def _room(job: Job, indices: ranges.Indices) -> Room:
    """Return what these instances of a job take."""
    total = Room()
    for ask in asks_of(job):
        total = total.plus(ask.each, ranges.count(indices.get(ask.group, ())))
    return total
