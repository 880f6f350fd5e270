"""What the leader of the adopting datacenter does, stage by stage (core.federation.adoption).

Whom it waits for it says (`waiting`): a datacenter that does not answer keeps the adoption
waiting, for it may hold an index. An operator brings it back, or declares it off too. One of a
region in which these jobs run nothing holds none, but it may have their backups: it is asked in
the second round and waited for as well, though not for ever.
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation.adoption import (
    Adoption,
    Claimed,
    NoteClaims,
    NoteCollected,
    NoteFloors,
    NoteRemoved,
    RemoveShares,
    adoptions_of,
)
from core.federation.asking import Asking
from core.federation.claims import open_claims
from core.federation.collected import (
    Collected,
    Holding,
    Settlement,
    collected_here,
    only_backups,
    settlement,
)
from core.federation.handing import arrivals_of
from core.federation.handing_log import TakeParcel
from core.federation.home_log import homes_of
from core.federation.host import CALL_TIMEOUT_US, Done
from core.federation.rhythm import Rhythm
from core.federation.rollout_log import AdoptRollouts
from core.federation.roster import OFF_FLOOR, is_off, roster_of
from core.federation.roster_log import RaiseFloor
from core.model.child import parent_name

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator

LOOK_US: Final = 1_000_000
STRANGERS_US: Final = 15_000_000  # who holds no index, but maybe a newer backup, is waited for
MISSED_US: Final = 120_000_000  # ... and so long while a job's backup was not found


class Adopting:
    """One per coordinator. Works while this server leads."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self._coordinator = coordinator
        self._host = coordinator.host
        # By the lost datacenter, and whom its adoption waits for: "" = our own log.
        self._asking: Asking[tuple[str, str]] = Asking(self._host, self.look)
        self._answers: dict[
            str, dict[str, Collected]
        ] = {}  # by lost datacenter, then by who said it
        self._asked_us: dict[str, int] = {}  # lost datacenter -> since when others are asked
        self._rhythm = Rhythm(self._host, LOOK_US, self.look)

    def handlers(self) -> dict[str, Any]:
        return {
            "Adopt.Claims": self._on_claims,
            "Adopt.Floor": self._on_floor,
            "Adopt.Collect": self._on_collect,
            "Adopt.Remove": self._on_remove,
        }

    def on_leadership(self, is_leader: bool) -> None:
        for memory in (self._asking, self._answers, self._asked_us):
            memory.clear()
        self._rhythm.on_leadership(is_leader)

    def waiting(self, source: str) -> dict[str, str]:
        """Return whom the adoption of a datacenter waits for, and what they said last."""
        return {who: error for (of, who), error in self._asking.errors.items() if of == source}

    def look(self) -> None:
        """Take every adoption one step further."""
        for adoption in list(adoptions_of(self._host.state).values()):
            match adoption.stage:
                case "claims":
                    self._ask_claims(adoption)
                case "floors":
                    self._raise_floors(adoption)
                case "collect":
                    self._collect(adoption)
                case "remove":
                    self._remove(adoption)
                case _:
                    self._answers.pop(adoption.source, None)
                    self._asked_us.pop(adoption.source, None)

    # --- claims -----------------------------------------------------------------------------

    def _ask_claims(self, adoption: Adoption) -> None:
        source = adoption.source
        for region in [one for one, has_answered in adoption.regions.items() if not has_answered]:
            authority = self._coordinator.authority(region)
            if not authority:
                unknown = f"no authority of region {region} is known"
                self._asking.errors[source, region] = unknown
                continue

            def done(body: Any, region: str = region) -> None:
                jobs = msgspec.convert(msgspec.to_builtins(body["Jobs"]), list[Claimed])
                note = NoteClaims(
                    source=source, region=region, members=list(body["Members"]), jobs=jobs,
                    regions=list(body["Regions"]),
                )  # fmt: skip
                self._asking.propose((source, region), [note])

            self._asking.ask((source, region), authority, "Adopt.Claims", {"Source": source}, done)

    def _on_claims(self, body: Any, reply: Done) -> None:
        """Raise the floor here, and say whose jobs and whose members these are."""
        host, source = self._host, str(body["Source"])
        if not host.state.is_authority:
            reply(None, f"datacenter {host.datacenter} is not the authority of {host.region}")
            return

        def done(_: Any, error: str) -> None:
            state = host.state
            members = list(roster_of(state).members)
            if error or state.datacenter_id not in members:
                reply(None, error or f"the roster of region {host.region} is not written yet")
                return
            jobs: list[Claimed] = []
            regions: dict[str, None] = {}
            for claim in open_claims(state):
                if claim.home != source:
                    continue
                regions |= dict.fromkeys((claim.origin, *claim.regions))
                if not claim.origin:
                    jobs.append(
                        Claimed(
                            namespace=claim.namespace,
                            job_id=claim.job_id,
                            uid=claim.uid,
                            epoch=claim.epoch,
                            region=host.region,
                        )
                    )
            regions.pop("", None)
            reply({"Members": members, "Jobs": jobs, "Regions": list(regions)}, "")

        host.propose([RaiseFloor(home=source, floor=OFF_FLOOR)], done)

    # --- first round ------------------------------------------------------------------------

    def _raise_floors(self, adoption: Adoption) -> None:
        jobs = {one.uid: (one.namespace, one.job_id, one.epoch) for one in adoption.jobs.values()}
        body = {"Source": adoption.source, "Jobs": jobs}
        waited_for = [one for one, has_floor in adoption.members.items() if not has_floor]
        self._tell(adoption, waited_for, "Adopt.Floor", body, NoteFloors)

    def _on_floor(self, body: Any, reply: Done) -> None:
        """Take no share of a lost home any more, nor of an earlier home of its jobs."""
        jobs = {
            str(uid): (str(namespace), str(job_id), int(epoch))
            for uid, (namespace, job_id, epoch) in body["Jobs"].items()
        }
        command = RaiseFloor(home=str(body["Source"]), floor=OFF_FLOOR, jobs=jobs)
        self._host.propose([command], reply)

    # --- second round -----------------------------------------------------------------------

    def _collect(self, adoption: Adoption) -> None:
        answers = self._answers.setdefault(adoption.source, {})
        for dc in adoption.members:
            if is_off(self._host.state, dc):
                answers[dc] = Collected(datacenter_id=dc)
        strangers = self._strangers(adoption)
        for dc in (*adoption.members, *strangers):
            if dc in answers:
                continue

            def done(body: Any, dc: str = dc) -> None:
                given = body["Collected"]
                if not isinstance(given, Collected):
                    given = msgspec.convert(given, Collected)
                answers[dc] = given if dc in adoption.members else only_backups(given)

            body = {"Source": adoption.source}
            self._asking.ask((adoption.source, dc), dc, "Adopt.Collect", body, done)
        if not all(dc in answers for dc in adoption.members):
            return
        found = [dc for dc in (*adoption.members, *strangers) if dc in answers]
        settled = settlement(adoption, [answers[dc] for dc in found])
        since_us = self._asked_us.setdefault(adoption.source, self._host.now.mono_us)
        patience_us = MISSED_US if settled.lost else STRANGERS_US
        is_late = self._host.now.mono_us - since_us >= patience_us
        if is_late or all(dc in answers for dc in strangers):
            self._settle(adoption, settled)

    def _strangers(self, adoption: Adoption) -> list[str]:
        """Return the datacenters that hold nothing of these jobs, but may have their backups.

        The lost one chose a place in another region if none of its own answered then.
        """
        known = self._host.datacenters()
        return [dc for dc in known if dc not in adoption.members and dc != adoption.source]

    def _on_collect(self, body: Any, reply: Done) -> None:
        """Say what is held here of a lost home, as of an entry that comes after the question."""
        source = str(body["Source"])

        def done(_: Any, error: str) -> None:
            if error:
                reply(None, error)
            else:
                reply({"Collected": collected_here(self._host.state, source)}, "")

        # Raises nothing: who was deposed and does not know it can't commit, and answers nothing.
        self._host.propose([RaiseFloor(home=source, floor=0)], done)

    # --- settling ---------------------------------------------------------------------------

    def _settle(self, adoption: Adoption, found: Settlement) -> None:
        """Take the parcels, one after the other, then close what nobody has a backup of."""
        key = adoption.source, ""
        if not self._asking.begin(key):
            return
        refused: dict[str, str] = {}
        gone: list[str] = []

        def take(position: int) -> None:
            if position == len(found.parcels):
                self._look_up(adoption, found.unknown, gone, finish)
                return
            parcel = found.parcels[position]
            if parcel.uid in homes_of(self._host.state) or parcel.uid in arrivals_of(
                self._host.state
            ):
                take(position + 1)
                return

            def taken(value: Any, error: str) -> None:
                if error:
                    self._asking.end(key)  # tried again, from the collected answers
                    return
                if value["Refused"]:
                    refused[parcel.name[1]] = value["Refused"]
                take(position + 1)

            self._host.propose([TakeParcel(parcel=parcel)], taken)

        def finish(error: str) -> None:
            self._asking.end(key)
            if error:
                self._asking.errors[key] = error
                return
            self._asking.errors.pop(key, None)
            self._close(found.lost)
            lost = [one.job_id for one in found.lost]
            note = NoteCollected(
                source=adoption.source, adopted=len(found.parcels) - len(refused), lost=lost,
                refused=refused, gone=gone,
            )  # fmt: skip
            adopt = AdoptRollouts(source=adoption.source, rollouts=found.rollouts)
            self._asking.propose(key, [note, adopt])

        take(0)

    def _look_up(
        self, adoption: Adoption, unknown: list[Holding], gone: list[str], then: Any
    ) -> None:
        """Find out which shares have no home: their name is claimed for nobody else."""
        lost = {(one.namespace, one.job_id) for one in adoption.jobs.values()}

        def step(position: int) -> None:
            if position == len(unknown):
                then("")
                return
            one = unknown[position]
            name = parent_name(one.job_id) or one.job_id
            if (one.namespace, name) in lost:
                gone.append(one.uid)
                step(position + 1)
                return
            region = adoption.region if one.region in ("", "*") else one.region
            authority = self._coordinator.authority(region)

            def found(body: Any, error: str) -> None:
                if error:
                    then(error)
                    return
                is_same = name != one.job_id or body.get("UID") in ("", one.uid)
                if body["Home"] in ("", adoption.source) or not is_same:
                    gone.append(one.uid)
                step(position + 1)

            if not authority:
                then(f"no authority of region {region} is known")
                return
            body = {"Namespace": one.namespace, "JobID": name}
            self._host.ask(authority, "Claim.Get", body, CALL_TIMEOUT_US, found)

        step(0)

    def _close(self, lost: list[Claimed]) -> None:
        """Give the names free of jobs that are gone with their home."""
        for one in lost:
            self._host.log("error", "a job is lost: nobody has a backup of it", job=one.job_id,
                           namespace=one.namespace)  # fmt: skip
            for region in dict.fromkeys((one.region, self._host.region)):
                self._coordinator.naming.close(region, one.namespace, one.job_id, one.uid)

    # --- removing ---------------------------------------------------------------------------

    def _remove(self, adoption: Adoption) -> None:
        body = {"Source": adoption.source, "UIDs": list(adoption.gone)}
        waited_for = [one for one in adoption.members if one not in adoption.removed]
        self._tell(adoption, waited_for, "Adopt.Remove", body, NoteRemoved)

    def _tell(
        self,
        adoption: Adoption,
        members: list[str],
        method: str,
        body: Any,
        note: type[NoteFloors | NoteRemoved],
    ) -> None:
        """Call each of these, and note it once done; who is off has nothing to do."""
        for dc in members:
            noted, key = note(source=adoption.source, datacenter_ids=[dc]), (adoption.source, dc)
            if is_off(self._host.state, dc):
                self._asking.propose(key, [noted])
                continue

            def done(
                _: Any,
                key: tuple[str, str] = key,
                noted: NoteFloors | NoteRemoved = noted,
            ) -> None:
                self._asking.propose(key, [noted])

            self._asking.ask(key, dc, method, body, done)

    def _on_remove(self, body: Any, reply: Done) -> None:
        evaluations = {}
        for uid in body["UIDs"]:
            record = self._host.state.jobs.by_uid(uid)
            if record is not None and not record.is_purged:
                evaluations[uid] = self._coordinator.dividing.evaluation(record.job)
        command = RemoveShares(
            source=str(body["Source"]), uids=list(body["UIDs"]), evaluations=evaluations
        )
        self._host.propose([command], reply)
