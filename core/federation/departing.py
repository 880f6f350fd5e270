"""What the leader of a draining datacenter does with the homes there: hand them over.

A job is handed over when nothing of it runs here any more: evacuation comes first, and what
finds no room elsewhere keeps its home. System jobs, jobs that are stopped, and those that
only have children go at once. The new home is the datacenter of the region that runs most
of the job; of several that run nothing, the one with the most room.

Each look goes on where the log says the last one stopped (core.federation.handing): freeze,
send the parcel until the new home says that it is active, release, keep the stub until it
says that everybody knows. When the new home refuses, is silent or was declared off, the claim is
asked for back: whoever won it is the home.
"""

from typing import TYPE_CHECKING, Any, Final

from core.federation import ranges
from core.federation.handing import (
    Departure,
    departures_of,
    family_of,
    is_on_its_way,
    parcel_of,
)
from core.federation.handing_log import DropDeparture, FreezeHome, ReleaseHome, ThawHome
from core.federation.held import is_everywhere
from core.federation.home_log import current, homes_of, new_home
from core.federation.homes import Home
from core.federation.host import CALL_TIMEOUT_US
from core.federation.lifecycle import is_draining
from core.federation.rhythm import Rhythm
from core.federation.roster import is_off
from core.state.jobs import JobRecord
from core.state.rollouts import ACTIVE_DEPLOYMENTS

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator

LOOK_US: Final = 1_000_000
AT_ONCE: Final = 20  # families frozen at one time
THAW_US: Final = 30_000_000  # a new home that is not active after so long may lose the claim again
AVOID_US: Final = 60_000_000  # one that refused, or lost its claim, is not asked again so soon
DIGEST_AGE_US: Final = 90_000_000
ANY_REGION: Final = "*"


class Departing:
    """One per coordinator. Works while this server leads."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self._coordinator = coordinator
        self._host = coordinator.host
        self._busy: dict[str, None] = {}  # uids with a call or a proposal under way
        self._silent_us: dict[str, int] = {}  # uid -> since when its new home does not answer
        self._avoided: dict[tuple[str, str], int] = {}  # (uid, datacenter) -> until
        self._rhythm = Rhythm(self._host, LOOK_US, self.look)

    def on_leadership(self, is_leader: bool) -> None:
        for memory in (self._busy, self._silent_us, self._avoided):
            memory.clear()
        self._rhythm.on_leadership(is_leader)

    def look(self) -> None:
        """Take every departure one step further, and begin new ones."""
        state = self._host.state
        found = list(departures_of(state).values())
        frozen = [one for one in found if not one.released]
        for one in frozen:
            if one.uid not in self._busy:
                self._send(one)
        for one in found:
            if one.released and one.uid not in self._busy:
                self._ask_settled(one)
        if is_draining(state):
            self._begin(AT_ONCE - len(frozen))

    # --- beginning ------------------------------------------------------------------------

    def _begin(self, room: int) -> None:
        state = self._host.state
        for record in state.jobs:
            if room <= 0:
                return
            if record.uid in self._busy or not self._is_ready(record):
                continue
            home = homes_of(state).get(record.uid) or new_home(state, record, 0)
            target = self._target(record, current(state, home))
            if target:
                room -= 1
                self._freeze(record, home, target)

    def _is_ready(self, record: JobRecord) -> bool:
        state = self._host.state
        is_child = state.jobs.get(record.namespace, record.job.parent_id or "") is not None
        if record.home or is_child or is_on_its_way(state, record.uid):
            return False
        return all(self._has_left(one) for one in family_of(state, record.uid))

    def _has_left(self, record: JobRecord) -> bool:
        """Whether nothing of a job is left here but what stays until its nodes go."""
        state = self._host.state
        deployment = state.deployments.latest_of_job(record.namespace, record.id)
        if deployment is not None and deployment.status in ACTIVE_DEPLOYMENTS:
            return False
        if is_everywhere(record.job):
            return True
        if state.jobs.live(record):
            return False
        home = homes_of(state).get(record.uid)
        if record.is_stopped or record.job.is_template or record.status == "dead":
            return True
        if home is None:
            return False  # it waits here for room: it leaves when there is some
        return not current(state, home).part(state.datacenter_id).holds

    def _target(self, record: JobRecord, home: Home) -> str:
        """Return the datacenter that is to be the home, "" when there is none just now."""
        host, best = self._host, ""
        best_value: tuple[bool, int, int] = (False, 0, -1)
        for site in host.sites():
            digest = site.digest
            dc, is_near = digest.datacenter_id, digest.region == host.region
            if dc == host.datacenter_id or digest.is_draining or not digest.has_quorum:
                continue
            if site.age_us is None or site.age_us > DIGEST_AGE_US:
                continue
            if not is_near and (home.region == ANY_REGION or dc not in home.parts):
                continue
            if self._avoided.get((record.uid, dc), 0) > host.now.mono_us:
                continue
            value = (is_near, ranges.size(home.part(dc).allowed), digest.free.cpu)
            if value > best_value:
                best, best_value = dc, value
        return best

    def _freeze(self, record: JobRecord, home: Home, target: str) -> None:
        """Learn the claim's epoch, then freeze."""
        uid = record.uid
        self._busy[uid] = None
        region = self._host.region if home.region == ANY_REGION else home.region

        def known(epoch: int, _: tuple[str, ...], error: str) -> None:
            if error or not epoch:
                self._busy.pop(uid, None)
                self._avoided[uid, target] = self._host.now.mono_us + AVOID_US
                self._host.log("warning", "a home can't be handed over now", job=record.id,
                               reason=error)  # fmt: skip
                return
            command = FreezeHome(uid=uid, to=target, epoch=epoch, claim_region=region)
            self._propose(uid, command)

        self._coordinator.extending.extend(home, [region], known)

    # --- going on ---------------------------------------------------------------------------

    def _send(self, departure: Departure) -> None:
        """Offer the parcel until the new home is active; ask for the claim when it won't be."""
        uid = departure.uid
        parcel = parcel_of(self._host.state, departure)
        if parcel is None or is_off(self._host.state, departure.to):
            self._take_back(departure)
            return
        self._busy[uid] = None

        def done(body: Any, error: str) -> None:
            self._busy.pop(uid, None)
            if not self._host.is_serving:
                return
            if not error and body.get("Epoch"):
                self._silent_us.pop(uid, None)
                self._release(departure, departure.to, int(body["Epoch"]))
            elif not error and body.get("Refused"):
                self._take_back(departure)
            else:  # no answer, or it is not active yet
                since_us = self._silent_us.setdefault(uid, self._host.now.mono_us)
                if self._host.now.mono_us - since_us >= THAW_US:
                    self._take_back(departure)

        self._host.ask(departure.to, "Home.Take", {"Parcel": parcel}, CALL_TIMEOUT_US, done)

    def _take_back(self, departure: Departure) -> None:
        """Win the claim for this datacenter, or learn who has it."""
        host, uid = self._host, departure.uid
        authority = self._coordinator.authority(departure.claim_region)
        if not authority:
            return
        self._busy[uid] = None
        self._avoided[uid, departure.to] = host.now.mono_us + AVOID_US
        newest = [home.epoch for one in departure.uids if (home := homes_of(host.state).get(one))]
        body = {
            "Namespace": departure.namespace, "JobID": departure.job_id, "UID": uid,
            "Home": host.datacenter_id, "Expected": departure.epoch,
            "Beyond": max([departure.epoch, *newest]),
        }  # fmt: skip

        def done(value: Any, error: str) -> None:
            self._busy.pop(uid, None)
            if error or not host.is_serving:
                return
            self._silent_us.pop(uid, None)
            winner, epoch = str(value["Home"]), int(value["Epoch"])
            if winner == host.datacenter_id:
                self._propose(uid, ThawHome(uid=uid, epoch=epoch))
            elif winner != departure.to:
                self._release(departure, winner, epoch)
            # else the new home has won: it says so itself, as soon as it is active

        host.ask(authority, "Claim.Move", body, CALL_TIMEOUT_US, done)

    def _release(self, departure: Departure, to: str, epoch: int) -> None:
        state = self._host.state
        evaluations = {}
        for uid in departure.uids:
            record = state.jobs.by_uid(uid)
            if record is not None and not record.job.is_template:
                evaluations[uid] = self._coordinator.dividing.evaluation(record.job)
        command = ReleaseHome(uid=departure.uid, to=to, epoch=epoch, evaluations=evaluations)
        self._propose(departure.uid, command)

    def _ask_settled(self, departure: Departure) -> None:
        """Forget the stub as soon as everybody that has a share knows the new home."""
        uid, host = departure.uid, self._host
        drop = DropDeparture(uid=uid, epoch=departure.released)
        if not departure.to:
            self._propose(uid, drop)
            return
        self._busy[uid] = None

        def done(body: Any, error: str) -> None:
            self._busy.pop(uid, None)
            if not error and host.is_serving and body.get("IsSettled"):
                self._propose(uid, drop)

        host.ask(departure.to, "Home.Settled", {"UID": uid}, CALL_TIMEOUT_US, done)

    def _propose(self, uid: str, command: Any) -> None:
        self._busy[uid] = None
        self._host.propose([command], lambda _value, _error: self._busy.pop(uid, None))
