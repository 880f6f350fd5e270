"""What the leader of a new home does with a job that comes: hold it, win the claim, begin.

A parcel that was taken is held in the log until the authority has said, by a commit of its
own, who the home is from now on: this datacenter, which then begins, or another, and the
parcel is dropped. Afterwards the authorities of other regions whose claims follow the first
are told, and every share goes out anew; until all have answered the old home keeps its stub.
Whoever leads repeats what is not done yet: each step may be taken twice.
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation.causes import Kind, RecordCause, cause
from core.federation.floors import RaiseIndexFloor
from core.federation.handing import Arrival, Parcel, arrivals_of
from core.federation.handing_log import ActivateHome, DropArrival, TakeParcel, TellRegion
from core.federation.home_log import homes_of
from core.federation.host import CALL_TIMEOUT_US, Done
from core.federation.rhythm import Rhythm
from core.model.host import Peer
from core.state.commands import Command

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator

LOOK_US: Final = 1_000_000
_LOST_KEPT: Final = 1_000


class Arriving:
    """One per coordinator. Works while this server leads."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self._coordinator = coordinator
        self._host = coordinator.host
        self._busy: dict[str, None] = {}  # uids with a call or a proposal under way
        self._lost: dict[str, int] = {}  # uid -> epoch that its claim was not won from
        self._rhythm = Rhythm(self._host, LOOK_US, self.look)

    def on_leadership(self, is_leader: bool) -> None:
        self._busy.clear()
        self._lost.clear()
        self._rhythm.on_leadership(is_leader)

    def look(self) -> None:
        """Take every arrival one step further."""
        for arrival in list(arrivals_of(self._host.state).values()):
            if arrival.uid in self._busy:
                continue
            if not arrival.claimed:
                self._claim(arrival)
            elif arrival.regions:
                self._tell(arrival, arrival.regions[0])
            elif self._is_known(arrival):
                self._propose(arrival.uid, [DropArrival(uid=arrival.uid, epoch=arrival.epoch)])

    # --- calls of the old home ------------------------------------------------------------

    def on_take(self, body: Any, source: Peer, reply: Done) -> None:
        """Hold a family: {"Epoch": of the home here, 0 = not yet} or {"Refused": reason}."""
        given = body["Parcel"]
        parcel = given if isinstance(given, Parcel) else msgspec.convert(given, Parcel)
        if source.is_proven and source.datacenter_id not in ("", parcel.source):
            reply(None, f"datacenter {source.datacenter_id} can't hand over {parcel.source}'s job")
            return
        state = self._host.state
        arrival, home = arrivals_of(state).get(parcel.uid), homes_of(state).get(parcel.uid)
        if home is not None and home.epoch > parcel.epoch and not home.leaving_to:
            reply({"Epoch": home.epoch}, "")
        elif self._lost.get(parcel.uid) == parcel.epoch:
            reply({"Refused": "its claim went to another"}, "")
        elif arrival is not None and arrival.epoch == parcel.epoch:
            reply({"Epoch": arrival.claimed}, "")
        else:

            def done(value: Any, error: str) -> None:
                if not error and not value["Refused"]:
                    held = arrivals_of(self._host.state).get(parcel.uid)
                    if held is not None and not held.claimed and held.uid not in self._busy:
                        self._claim(held)
                reply(value if error else {**value, "Epoch": 0}, error)

            self._host.propose([TakeParcel(parcel=parcel)], done)

    def on_settled(self, body: Any, reply: Done) -> None:
        """Say whether everybody knows that a job's home is here: {"IsSettled"}."""
        reply({"IsSettled": body["UID"] not in arrivals_of(self._host.state)}, "")

    # --- steps ----------------------------------------------------------------------------

    def _claim(self, arrival: Arrival) -> None:
        """Move the claim here, if this datacenter is a member of its region still.

        The authority of another region may not have heard yet that it was declared off.
        """
        host, uid, parcel = self._host, arrival.uid, arrival.parcel
        if parcel is None or arrival.claim_region == host.region or host.state.is_authority:
            self._move_claim(arrival)
            return
        authority = self._coordinator.authority()
        if not authority:
            return
        self._busy[uid] = None

        def done(_: Any, error: str) -> None:
            self._busy.pop(uid, None)
            if not error and host.is_serving:
                self._move_claim(arrival)

        namespace, job_id = parcel.name
        body = {"Namespace": namespace, "JobID": job_id}  # whose word is void gets an error
        host.ask(authority, "Claim.Get", body, CALL_TIMEOUT_US, done)

    def _move_claim(self, arrival: Arrival) -> None:
        """The answer is of a committed entry, so it is no old view."""
        host, uid, parcel = self._host, arrival.uid, arrival.parcel
        authority = self._coordinator.authority(arrival.claim_region)
        if parcel is None or not authority:
            return
        self._busy[uid] = None
        namespace, job_id = parcel.name
        body = {
            "Namespace": namespace, "JobID": job_id, "UID": uid, "Home": host.datacenter_id,
            "Expected": parcel.epoch, "Beyond": parcel.newest_epoch,
        }  # fmt: skip

        def done(value: Any, error: str) -> None:
            self._busy.pop(uid, None)
            if error or not host.is_serving:
                return
            if value["Home"] == host.datacenter_id:
                self._activate(arrival, parcel, int(value["Epoch"]))
                return
            self._lost[uid] = arrival.epoch
            while len(self._lost) > _LOST_KEPT:
                del self._lost[next(iter(self._lost))]
            self._propose(uid, [DropArrival(uid=uid, epoch=arrival.epoch)])

        host.ask(authority, "Claim.Move", body, CALL_TIMEOUT_US, done)

    def _activate(self, arrival: Arrival, parcel: Parcel, epoch: int) -> None:
        host = self._host
        regions = {host.region: None}
        evaluations = {}
        commands: list[Command] = []
        for member in parcel.members:
            home = member.home
            regions |= dict.fromkeys(home.regions)
            evaluations[home.uid] = self._coordinator.dividing.evaluation(member.job)
            commands.append(
                RaiseIndexFloor(namespace=home.namespace, job_id=home.job_id, floor=parcel.index)
            )
        known = host.datacenters()
        regions |= dict.fromkeys([known.get(parcel.source, (host.region,))[0]])
        regions.pop(arrival.claim_region, None)
        begin = ActivateHome(
            uid=arrival.uid, epoch=arrival.epoch, claimed=epoch, regions=tuple(regions),
            evaluations=evaluations,
        )  # fmt: skip
        namespace, job_id = parcel.name
        told = [event for event in parcel.events if event.uid in ("", arrival.uid)]
        commands += [
            RecordCause(namespace=namespace, job_id=job_id, events=told),
            cause(
                Kind.HANDED_OVER, namespace, job_id, arrival.uid,
                after=[event.id for event in told[-1:]], to=f"{host.region}/{host.datacenter}",
                source="/".join(known.get(parcel.source, ("", parcel.source))), epoch=epoch,
            ),
        ]  # fmt: skip
        self._propose(arrival.uid, [begin, *commands])

    def _tell(self, arrival: Arrival, region: str) -> None:
        """Have the claim of another region follow."""
        host, uid = self._host, arrival.uid
        home = homes_of(host.state).get(uid)
        authority = self._coordinator.authority(region)
        if home is None:
            self._propose(uid, [DropArrival(uid=uid, epoch=arrival.epoch)])
            return
        if not authority:
            return
        self._busy[uid] = None
        body = {
            "Namespace": home.namespace, "JobID": home.job_id, "UID": uid,
            "Home": host.datacenter_id, "Origin": arrival.claim_region,
            "Follows": arrival.claimed,
        }  # fmt: skip

        def done(_: Any, error: str) -> None:
            self._busy.pop(uid, None)
            if host.is_serving and (not error or "is taken" in error or "given up" in error):
                self._propose(uid, [TellRegion(uid=uid, region=region)])

        host.ask(authority, "Claim.Create", body, CALL_TIMEOUT_US, done)

    def _is_known(self, arrival: Arrival) -> bool:
        """Whether every datacenter with a share has answered one of this epoch."""
        for uid in arrival.uids:
            home = homes_of(self._host.state).get(uid)
            parts = home.parts.values() if home is not None else ()
            if any(part.acked < arrival.index for part in parts):
                return False
        return True

    def _propose(self, uid: str, commands: list[Command]) -> None:
        self._busy[uid] = None
        self._host.propose(commands, lambda _value, _error: self._busy.pop(uid, None))
