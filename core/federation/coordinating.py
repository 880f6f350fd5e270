"""A coordinator's leader at work: it tells each region what its rollout wants of it.

What is wanted stands in the log (core.federation.multiregion); here it is sent, after 0.2 s
again and ever more slowly, until the region's home has said that it is so. A region that is
on its way by itself is asked how far it is every `LOOK_US`, and says so by itself when
something changes. A new leader finds what is to be sent in the log.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation import multiregion
from core.federation.claims import claim_key
from core.federation.host import CALL_TIMEOUT_US, Done
from core.federation.multiregion import Region, Report, Rollout, Status, Want
from core.federation.outbox import Key, Outbox
from core.federation.rhythm import Alarm, Rhythm
from core.federation.rollout_log import TakeRegionReport, find_rollout, open_rollouts, rollouts_of
from core.jobspec.regions import marked, regional
from core.model.job import Job

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator

LOOK_US: Final = 5_000_000
_WANTS: Final = {want: place for place, want in enumerate(Want)}


class Coordinating:
    """One per coordinator. Works while this server leads."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self._coordinator = coordinator
        self._host = coordinator.host
        self._outbox = Outbox(coordinator.host.rng, coordinator.retries)
        self._rhythm = Rhythm(self._host, LOOK_US, self._look_at_all)
        self._is_active = False
        self._alarm = Alarm(self._host, self._send)
        self._round: dict[Key, None] = {}  # not answered by the home: by the authority next
        self._registered: dict[Key, dict[str, Any]] = {}  # what a region answered when it took
        self._waiting: dict[str, list[Callable[[Rollout], None]]] = {}  # by the job's name

    def handlers(self) -> dict[str, Any]:
        return {"Multiregion.Report": self._on_report}

    def on_leadership(self, is_leader: bool) -> None:
        self._outbox.clear()
        self._round.clear()
        self._registered.clear()
        self._waiting.clear()
        self._alarm.on_leadership(is_leader)
        self._is_active = is_leader
        self._rhythm.on_leadership(is_leader)

    def on_applied(self, changes: Sequence[Any]) -> None:
        if not self._is_active:
            return
        names = [(one.namespace, one.key) for one in changes if one.table == "multiregion"]
        for namespace, job_id in dict.fromkeys(names):
            rollout = find_rollout(self._host.state, namespace, job_id)
            if rollout is not None:
                self._deliver(rollout)
        if names:
            self._send()

    # --- who waits for it -----------------------------------------------------------------

    def when_taken(self, rollout: Rollout, wait_us: int, then: Callable[[Rollout], None]) -> None:
        """Call `then` once every region has taken its copy, or after `wait_us` at the latest."""
        key, is_over = claim_key(rollout.namespace, rollout.job_id), False

        def once(found: Rollout) -> None:
            nonlocal is_over
            if not is_over:
                is_over = True
                then(found)

        def late() -> None:
            known = rollouts_of(self._host.state).get(key)
            once(known if known is not None else rollout)

        self._waiting.setdefault(key, []).append(once)
        self._host.after(wait_us, late)
        now = rollouts_of(self._host.state).get(key)
        if now is not None:
            self._wake(now)

    def registered(self, rollout: Rollout, region: str) -> dict[str, Any]:
        """Return what a region answered when it took its copy, {} when it is not known here."""
        return self._registered.get(_key(rollout, region), {})

    def _wake(self, rollout: Rollout) -> None:
        if all(region.is_taken for region in rollout.regions if region.want is not Want.CANCEL):
            for then in self._waiting.pop(claim_key(rollout.namespace, rollout.job_id), []):
                then(rollout)

    # --- sending --------------------------------------------------------------------------

    def _look_at_all(self) -> None:
        for rollout in list(open_rollouts(self._host.state)):
            self._deliver(rollout)
            for region in rollout.regions:
                if region.is_done and not region.is_over:
                    self._ask(rollout, region, lambda _key: None)
        self._send()

    def _deliver(self, rollout: Rollout) -> None:
        """Have each region told what is wanted of it, if it is not so yet."""
        for region in rollout.regions:
            key = _key(rollout, region.name)
            if region.is_done:
                self._outbox.settle(key)
            else:
                number = rollout.generation * len(_WANTS) + _WANTS[region.want]
                self._outbox.put(key, number, self._host.now.mono_us)
        self._wake(rollout)

    def _send(self) -> None:
        host = self._host
        for key in self._outbox.due(host.now.mono_us):
            rollout = rollouts_of(host.state).get(key.uid)
            region = rollout.region(key.datacenter_id) if rollout is not None else None
            if rollout is None or region is None or region.is_done:
                self._outbox.settle(key)
            else:
                self._ask(rollout, region, self._returned)
        self._alarm.ring_at(self._outbox.deadline_us)

    def _returned(self, key: Key) -> None:
        self._outbox.returned(key, self._host.now.mono_us)
        self._send()

    def _ask(self, rollout: Rollout, region: Region, then: Callable[[Key], None]) -> None:
        """Tell one region what is wanted of it, and take its word for how far it is."""
        key = _key(rollout, region.name)
        to = self._destination(rollout, region, key)

        def done(body: Any, error: str) -> None:
            if not self._is_active:
                return
            if error:
                self._round[key] = None
            else:
                self._round.pop(key, None)
                self._on_answer(rollout, region, body)
            then(key)

        if not to:
            self._host.after(1_000, lambda: done(None, "nobody of the region is known"))
            return
        body = {
            "Namespace": rollout.namespace, "JobID": rollout.job_id, "Region": region.name,
            "Generation": rollout.generation, "Coordinator": rollout.coordinator,
            "Want": region.want.value, "IsPurge": rollout.is_purge, "CallID": rollout.call_id,
        }  # fmt: skip
        if region.want is Want.HOLD and not region.is_taken:
            body["Body"] = _body_for(rollout, region.name)
        self._host.ask(to, "Multiregion.Steer", body, CALL_TIMEOUT_US, done)

    def _destination(self, rollout: Rollout, region: Region, key: Key) -> str:
        """Return whom to tell: the copy's home; whoever owns the region's names finds it too.

        A purge goes that way always: who owns the names has to remember that the job is gone.
        """
        authority = self._coordinator.authority(region.name)
        is_by_name = key in self._round or rollout.is_purge or not region.home
        return authority if is_by_name and authority else region.home or authority

    def _on_answer(self, rollout: Rollout, region: Region, body: Any) -> None:
        if not isinstance(body, dict):
            return
        if "Superseded" in body:
            newer = int(body["Superseded"])
            said = Report(region=region.name, generation=newer, status=Status.CANCELLED)
            known = find_rollout(self._host.state, rollout.namespace, rollout.job_id)
            if known is None or newer <= known.generation:
                return  # by a later submission here: what was asked is none of it
        elif "Refused" in body:
            said = Report(
                region=region.name, generation=rollout.generation, status=Status.FAILED,
                reason=str(body["Refused"]),
            )  # fmt: skip
        else:
            found = report_in(body)
            if found is None:
                return
            said = found
        if "Registered" in body:
            self._registered[_key(rollout, region.name)] = body["Registered"]
        self._take(rollout.namespace, rollout.job_id, said)

    # --- reports --------------------------------------------------------------------------

    def _on_report(self, body: Any, reply: Done) -> None:
        """A region's home tells by itself that something changed."""
        said = report_in(body)
        if said is None:
            reply(None, "Multiregion.Report: the body is not valid")
            return
        reply({}, "")
        self._take(str(body["Namespace"]), str(body["JobID"]), said)

    def _take(self, namespace: str, job_id: str, said: Report) -> None:
        known = find_rollout(self._host.state, namespace, job_id)
        if known is None or not self._host.is_serving:
            return
        if multiregion.report(known, said) == known:
            self._deliver(known)
            return
        command = TakeRegionReport(namespace=namespace, job_id=job_id, report=said)
        self._host.propose([command], lambda _body, _error: None)


def report_in(body: Any) -> Report | None:
    """Return the report of a call's body; None when there is none."""
    found = body.get("Report") if isinstance(body, dict) else None
    try:
        return found if isinstance(found, Report) else msgspec.convert(found, Report)
    except msgspec.ValidationError:
        return None


def _body_for(rollout: Rollout, region: str) -> dict[str, Any]:
    """Return the body of a registration of a region's copy."""
    job = regional(msgspec.convert(rollout.body["Job"], Job), region)
    copy = marked(job, rollout.generation, rollout.coordinator, rollout.call_id)
    return {**rollout.body, "Job": msgspec.to_builtins(copy)}


def _key(rollout: Rollout, region: str) -> Key:
    return Key(claim_key(rollout.namespace, rollout.job_id), region)
