"""What the leader of a sealed datacenter does until it is one like the others again.

core.federation.seal shows the steps. Nothing of them is kept but what the log has: a new leader
takes them all again, which changes nothing that was right. Whom it waits for it says
(`waiting`); a peer that is gone for good is declared off, or stays awaited.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation import ranges
from core.federation.asking import Asking
from core.federation.choice import ANY_REGION
from core.federation.claims import authority_of
from core.federation.collected import Holding, holdings_of
from core.federation.held import is_everywhere
from core.federation.home_log import homes_of
from core.federation.host import Done, is_not_from
from core.federation.rhythm import Rhythm
from core.federation.roster import FLOORS, Roster, is_newer, is_off, rosters_of
from core.federation.roster_log import CopyRoster, RaiseFloor
from core.federation.seal import (
    RenewClaims,
    RenewParts,
    ResumeHomes,
    Seal,
    Unseal,
    is_sealed,
    seal_of,
    sealed_text,
)
from core.federation.share_log import SyncShares, watermarks_of
from core.federation.succeeding import newest_generation
from core.federation.succession import BeginSuccession, succession_of
from core.model.allocation import Desired
from core.model.evaluation import Evaluation
from core.model.host import Peer
from core.state.allocs import HELD
from core.state.commands import Command, UpsertEvaluations
from core.state.jobs import JobRecord

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator
    from core.state.state import State

LOOK_US: Final = 500_000
SETTLE_US: Final = 5_000_000  # then evaluations of what is left are made anew
# Calls of others that a sealed datacenter takes: they bring what it lacks.
TAKEN: Final = frozenset(
    {"Share.Put", "Share.Sync", "Roster.Put", "Backup.Kept", "Backup.Put", "Share.Report"}
)


class Told(msgspec.Struct, frozen=True):
    """One peer's answer."""

    index: int  # of its log
    holdings: tuple[Holding, ...]
    listed: dict[str, tuple[int, int]]  # uid -> version of the share that it has for us


class Sealing:
    """One per coordinator. Works while this server leads."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self._coordinator = coordinator
        self._host = coordinator.host
        self._asking: Asking[str] = Asking(self._host, self.look)
        self._renewed: dict[str, dict[str, Any]] = {}  # by region: the answer of its authority
        self._told: dict[str, Told] = {}  # by datacenter id
        self._is_resumed = False
        self._evaluated_us = 0
        self._rhythm = Rhythm(self._host, LOOK_US, self.look)

    def on_leadership(self, is_leader: bool) -> None:
        for memory in (self._asking, self._renewed, self._told):
            memory.clear()
        self._is_resumed, self._evaluated_us = False, 0
        self._rhythm.on_leadership(is_leader)

    def waiting(self) -> dict[str, str]:
        """Return whom it waits for, and why."""
        return dict(self._asking.errors)

    def refuses(self, method: str, source: Peer) -> str:
        """Return why a call of another datacenter is not taken now, "" when it is."""
        state = self._host.state
        is_own = source.datacenter_id == state.datacenter_id
        return "" if is_own or method in TAKEN or not is_sealed(state) else sealed_text(state)

    def look(self) -> None:
        """Take the next step."""
        seal = seal_of(self._host.state)
        if seal is None:
            self._asking.errors.clear()
            return
        if not self._has_names(seal):
            return
        if not self._is_resumed:
            jobs = self._jobs()
            if self._renew(jobs) and self._ask_peers(jobs):
                self._resume(seal, jobs)
        elif self._has_shares() and self._is_clean():
            self._propose("", [Unseal(seal=seal.index)])

    # --- names ------------------------------------------------------------------------------

    def _has_names(self, seal: Seal) -> bool:
        """Whether the claims here are whole, as far as others vouch for them."""
        state, known = self._host.state, succession_of(self._host.state)
        if seal.generation < 0:
            return True
        if known is not None and known.is_under_way:
            waits = self._waits_for_names()
            self._asking.errors |= {f"names of {dc}": why for dc, why in waits.items()}
            return False
        if not state.is_authority or authority_of(state).generation > seal.generation:
            for key in [key for key in self._asking.errors if key.startswith("names of ")]:
                del self._asking.errors[key]
            return True
        generation = newest_generation(state, self._host.sites()) + 1
        begin = BeginSuccession(lost="", name="", generation=generation, members=self._peers())
        self._propose("", [begin])
        return False

    def _waits_for_names(self) -> dict[str, str]:
        return self._coordinator.succeeding.waiting()

    # --- claims -----------------------------------------------------------------------------

    def _jobs(self) -> dict[str, dict[str, JobRecord]]:
        """Return the jobs at home here, by the region whose name each has, and uid."""
        state = self._host.state
        found: dict[str, dict[str, JobRecord]] = {state.region: {}}
        for record in state.jobs:
            if record.home or record.is_purged:
                continue
            parent = state.jobs.get(record.namespace, record.job.parent_id or "")
            region = (parent or record).job.region
            region = state.region if region in (None, ANY_REGION) else region
            found.setdefault(region or state.region, {})[record.uid] = record
        return found

    def _renew(self, jobs: dict[str, dict[str, JobRecord]]) -> bool:
        """Have the authorities say whose the names are; True once all did."""
        state = self._host.state
        for region, records in jobs.items():
            if region in self._renewed:
                continue
            named = {}
            for uid, record in records.items():
                home = homes_of(state).get(uid)
                if not record.job.parent_id:
                    named[uid] = record.namespace, record.id, home.epoch if home else 0
            body = {"Home": state.datacenter_id, "Jobs": named}

            def done(value: Any, region: str = region) -> None:
                self._renewed[region] = value
                if value["Unknown"]:
                    self._host.log(
                        "warning", "jobs that came after the snapshot are gone", region=region,
                        jobs=list(value["Unknown"]),
                    )  # fmt: skip

            self._ask_authority(region, body, done)
        return all(region in self._renewed for region in jobs)

    def _ask_authority(self, region: str, body: dict[str, Any], done: Any) -> None:
        key = f"the authority of region {region}"
        if self._asking.begin(key):
            answered = self._asking.answered(key, done)
            self._coordinator.naming.ask_authority(region, "Seal.Renew", body, answered)

    def on_renew(self, body: Any, source: Peer, reply: Done) -> None:
        home = str(body["Home"])
        if wrong := is_not_from(source, home):
            reply(None, wrong)
            return
        jobs = {
            str(uid): (str(namespace), str(job_id), int(beyond))
            for uid, (namespace, job_id, beyond) in body["Jobs"].items()
        }
        self._host.propose([RenewClaims(home=home, jobs=jobs)], reply)

    # --- peers ------------------------------------------------------------------------------

    def _ask_peers(self, jobs: dict[str, dict[str, JobRecord]]) -> bool:
        """Have every peer say what it holds, and send again what we hold; True once all did."""
        bound = {
            uid: (record.namespace, record.id, epoch)
            for records in jobs.values()
            for uid, record in records.items()
            if (epoch := self._epoch(record))
        }
        body = {"Home": self._host.datacenter_id, "Jobs": bound}
        peers = self._peers()
        for dc in peers:
            if dc not in self._told:

                def done(value: Any, dc: str = dc) -> None:
                    self._on_told(dc, value)

                self._asking.ask(dc, dc, "Seal.Ask", body, done)
        return all(dc in self._told for dc in peers)

    def _epoch(self, record: JobRecord) -> int:
        """Return the epoch that a job has from now on, a child its parent's; 0 = it has none."""
        state = self._host.state
        claimed = state.jobs.get(record.namespace, record.job.parent_id or "") or record
        for answer in self._renewed.values():
            if claimed.uid in answer["Epochs"]:
                return int(answer["Epochs"][claimed.uid])
        return 0

    def _peers(self) -> list[str]:
        state = self._host.state
        found = {dc: None for roster in rosters_of(state).values() for dc in roster.members}
        found |= dict.fromkeys(self._host.datacenters())
        return [dc for dc in found if dc != state.datacenter_id and not is_off(state, dc)]

    def _on_told(self, dc: str, value: Any) -> None:
        state = self._host.state
        self._told[dc] = msgspec.convert(msgspec.to_builtins(value["Told"]), Told)
        floors = {str(one): int(floor) for one, floor in value["Floors"].items()}
        news: list[Command] = [
            CopyRoster(roster=roster, floors=floors)
            for roster in msgspec.convert(msgspec.to_builtins(value["Rosters"]), list[Roster])
            if is_newer(roster, rosters_of(state).get(roster.region))
        ]
        if news:
            self._host.propose(news, lambda _value, _error: None)

    def on_ask(self, body: Any, source: Peer, reply: Done) -> None:
        """Help a sealed datacenter: {"Told", "Rosters", "Floors"}."""
        home = str(body["Home"])
        if wrong := is_not_from(source, home):
            reply(None, wrong)
            return
        jobs = {
            str(uid): (str(namespace), str(job_id), int(epoch))
            for uid, (namespace, job_id, epoch) in body["Jobs"].items()
        }
        commands = [RaiseFloor(home=home, floor=0, jobs=jobs), RenewParts(datacenter_id=home)]

        def done(_: Any, error: str) -> None:
            state = self._host.state
            if error:
                reply(None, error)
                return
            listed = {
                one.uid: (one.epoch, one.parts[home].index)
                for one in homes_of(state).values()
                if home in one.parts
            }
            told = Told(state.index, tuple(holdings_of(state, home)), listed)
            rosters, floors = list(rosters_of(state).values()), dict(state.table(FLOORS).items())
            reply({"Told": told, "Rosters": rosters, "Floors": floors}, "")

        self._host.propose(commands, done)

    # --- resuming ---------------------------------------------------------------------------

    def _resume(self, seal: Seal, jobs: dict[str, dict[str, JobRecord]]) -> None:
        epochs, moved = {}, {}
        evaluations: dict[str, Evaluation] = {}
        for records in jobs.values():
            for uid, record in records.items():
                if epoch := self._epoch(record):
                    epochs[uid] = epoch
                else:
                    moved[uid] = self._home_of(record)
                evaluations[uid] = self._coordinator.dividing.evaluation(record.job)
        held: dict[str, dict[str, Holding]] = {}
        for dc, told in self._told.items():
            for holding in told.holdings:
                held.setdefault(holding.uid, {})[dc] = holding
        commands: list[Command] = [
            ResumeHomes(
                seal=seal.index, epochs=epochs, moved=moved, held=held, evaluations=evaluations
            )
        ]
        for dc, told in self._told.items():
            listed = {uid: epoch for uid, (epoch, _) in told.listed.items()}
            gone = [
                self._coordinator.dividing.evaluation(record.job)
                for record in self._host.state.jobs
                if record.home == dc and record.uid not in listed
            ]
            commands.append(
                SyncShares(home=dc, index=told.index, listed=listed, evaluations=tuple(gone))
            )

        def done(_: Any) -> None:
            self._is_resumed = True

        self._propose("", commands, done)

    def _home_of(self, record: JobRecord) -> str:
        claimed = self._host.state.jobs.get(record.namespace, record.job.parent_id or "") or record
        for answer in self._renewed.values():
            if claimed.uid in answer["Homes"]:
                return str(answer["Homes"][claimed.uid])
        return ""

    # --- settling ---------------------------------------------------------------------------

    def _has_shares(self) -> bool:
        """Whether everything came that others have us run, in its newest version."""
        marks, is_whole = watermarks_of(self._host.state), True
        for dc, told in self._told.items():
            missing = [
                uid
                for uid, version in told.listed.items()
                if (mark := marks.get(uid)) is None or mark.number < tuple(version)
            ]
            self._asking.errors.pop(dc, None)
            if missing and not is_off(self._host.state, dc):
                self._asking.errors[dc] = f"{len(missing)} shares of its jobs are on their way"
                is_whole = False
        return is_whole

    def _is_clean(self) -> bool:
        """Whether nothing is meant to run here without an index; else it is planned again."""
        stray = list(self._strays())
        self._asking.errors.pop("", None)
        if not stray:
            return True
        now_us = self._host.now.mono_us
        self._asking.errors[""] = f"{len(stray)} jobs are being planned anew"
        if now_us - self._evaluated_us >= SETTLE_US:
            self._evaluated_us = now_us
            due = [self._coordinator.dividing.evaluation(record.job) for record in stray]
            self._propose("evaluations", [UpsertEvaluations(evaluations=due)])
        return False

    def _strays(self) -> Iterator[JobRecord]:
        """Yield the jobs that an allocation is meant to run of, and must not run here."""
        state = self._host.state
        for ordinal in dict.fromkeys(state.allocs.job_ordinals(state.allocs.rows()).tolist()):
            record = state.jobs.record(ordinal)
            if record is None:
                continue
            if any(_strays_of(state, record, group) for group in record.groups):
                yield record

    def _propose(self, key: str, commands: list[Command], then: Any = None) -> None:
        if not self._asking.begin(key):
            return

        def done(value: Any, error: str) -> None:
            # The next look, not this answer, tries again what was refused.
            if self._asking.end(key) and not error and then is not None:
                then(value)

        self._host.propose(commands, done)


def _strays_of(state: "State", record: JobRecord, group: str) -> bool:
    """Whether an allocation of a group is meant to run here without an index to run for."""
    rows = state.allocs.rows_of_job(record.ordinal, group)
    columns = state.allocs.columns
    rows = rows[(columns.desired[rows] == Desired.RUN) & HELD[columns.client[rows]]]
    if not len(rows) or record.is_stopped:
        return bool(len(rows))
    if is_everywhere(record.job):
        return False
    given = ranges.ranges((low, high) for low, high in record.share().get(group, ()))
    return any(not ranges.contains(given, index) for index in columns.index[rows].tolist())
