"""What the leader of a home does: divide its jobs, send the shares, take the reports.

Everything is derived from the homes and jobs in the log, so a new leader goes on where the
last one stopped: it looks at each home, compares what is with what should be, and proposes
the difference. Nothing waits for a particular message.

    on_applied      jobs, homes, allocations and evaluations that changed are looked at again
    look            splitting.divide says what should be; PutParts commits it

core.federation.sending brings the shares to the datacenters and their word back.

A job that lives whole here is looked at while an evaluation of it is blocked; every system
job while there are datacenters it does not run in.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation import ranges, splitting
from core.federation.causes_of_moves import CausesOfMoves
from core.federation.held import is_everywhere
from core.federation.home_log import (
    PutParts,
    current,
    homes_of,
    is_due,
    new_home,
    planned_home,
)
from core.federation.homes import Home
from core.federation.lifecycle import is_draining
from core.federation.outbox import Key
from core.federation.reach import Reach
from core.federation.rhythm import Rhythm
from core.federation.rolling import failed_at, is_over
from core.federation.splitting import SILENT_US, Division, Site
from core.model.evaluation import EvalStatus, EvalTrigger, Evaluation
from core.model.ids import new_id
from core.model.job import Job, UpdateStrategy
from core.scheduler.reconcile import strategy_of
from core.state.commands import Command, RegisterJob, SetJobStability
from core.state.jobs import JobRecord

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator

LOOK_US: Final = 1_000_000  # jobs whose time may have come
ROUND_US: Final = 15_000_000  # every home
BLOCKED_MOST: Final = 50  # jobs without a home that are looked at in one tick
ANY_REGION: Final = "*"
NO_UPDATE: Final = UpdateStrategy()
_NOBODY: Final[frozenset[str]] = frozenset()


class Dividing:
    """One per coordinator. Works while this server leads."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self._coordinator = coordinator
        self._host = coordinator.host
        self._sending = coordinator.sending
        self._causes = CausesOfMoves(coordinator.host)
        self._reach = Reach(coordinator)
        self._due: dict[str, None] = {}  # uids to look at
        self._deciding: dict[str, None] = {}  # uids with a decision under way
        self._epochs: dict[str, int] = {}  # of claims made here, until a home has them
        self._watched: dict[str, None] = {}  # uids of jobs without a home that may want one
        self._is_active = False
        self._is_woken = False
        self._rhythm = Rhythm(self._host, LOOK_US, self._tick)
        self._turn = 0  # of the blocked jobs, which are looked at in turn

    # --- the server's rhythm --------------------------------------------------------------

    def on_leadership(self, is_leader: bool) -> None:
        for memory in (self._due, self._deciding, self._watched):
            memory.clear()
        was_active, self._is_active = self._is_active, is_leader
        if not is_leader:
            self._rhythm.on_leadership(False)
            self._host.measure_shares(0, 0)
            return
        state = self._host.state
        for home in homes_of(state).values():
            self._due[home.uid] = None
        for record in state.jobs:
            self._note_job(record)
        self._wake()
        if not was_active:
            self._rhythm.on_leadership(True)

    def on_applied(self, changes: Sequence[Any]) -> None:
        if not self._is_active:
            return
        state, table = self._host.state, homes_of(self._host.state)
        for change in changes:
            if change.table == "homes":
                self._due[change.key] = None
            elif change.table == "jobs":
                record = state.jobs.get(change.namespace, change.key)
                if record is not None:
                    self._note_job(record)
                    if record.uid in table:
                        self._due[record.uid] = None
                elif len(table):
                    self._due |= dict.fromkeys(self._purged(change.namespace, change.key))
            elif change.table == "deployment" and len(table):
                deployment = state.deployments.get(change.key)
                if deployment is None:
                    continue
                record = state.jobs.get(deployment.namespace, deployment.job_id)
                if record is not None and record.uid in table:
                    self._due[record.uid] = None
            elif change.table == "allocs" and change.rows is not None and len(table):
                for ordinal in dict.fromkeys(state.allocs.job_ordinals(change.rows).tolist()):
                    record = state.jobs.record(ordinal)
                    if record is not None and record.uid in table:
                        self._due[record.uid] = None
        if self._due:
            self._wake()

    def _purged(self, namespace: str, job_id: str) -> list[str]:
        """Return the uids of homes whose job of this name is gone."""
        return [
            home.uid
            for home in homes_of(self._host.state).values()
            if (home.namespace, home.job_id) == (namespace, job_id)
        ]

    def _note_job(self, record: JobRecord) -> None:
        """System jobs run wherever a datacenter appears; who spilled over whole may go back."""
        is_guest = record.job.region not in (None, ANY_REGION, self._host.region)
        is_ours = not record.home and not record.is_stopped
        if is_ours and (is_guest or is_everywhere(record.job)):
            self._watched[record.uid] = None
        else:
            self._watched.pop(record.uid, None)

    def _wake(self) -> None:
        """Look and send at the end of this turn: what was applied together is one look."""
        if not self._is_woken:
            self._is_woken = True
            self._host.after(0, self._work)

    def _work(self) -> None:
        self._is_woken = False
        if not self._is_active or not self._host.is_serving:
            return
        due, self._due = self._due, {}
        for uid in due:
            self._look(uid)
        self._sending.send()

    def _tick(self) -> None:
        """The slow rhythm: what only time brings about."""
        now_us, state = self._host.now.mono_us, self._host.state
        is_round = now_us // ROUND_US != (now_us - LOOK_US) // ROUND_US
        homes = [*homes_of(state).values()]
        draining, silent = (self._draining(), self._silent()) if homes else (_NOBODY, _NOBODY)
        for home in homes:
            is_waiting = bool(home.free) or any(
                part.blocked or part.copies for part in home.parts.values()
            )
            is_leaving = not draining.isdisjoint(home.parts)
            is_cut_off = home.is_surge and not silent.isdisjoint(home.parts)
            if is_round or is_waiting or is_leaving or is_cut_off:
                self._due[home.uid] = None
        self._look_at_blocked()
        if is_draining(state):
            self._look_at_all()
        self._measure()
        if is_round:
            self._due |= self._watched
            self._sending.sync_all()
        self._work()

    def _measure(self) -> None:
        known, abroad = self._host.datacenters(), 0
        for home in homes_of(self._host.state).values():
            for dc, part in home.parts.items():
                if known.get(dc, ("",))[0] not in ("", home.region) and home.region != ANY_REGION:
                    abroad += ranges.size(part.allowed)
        self._host.measure_shares(self._sending.unsettled, abroad)

    def _look_at_blocked(self) -> None:
        """Jobs without a home that wait for room here may find it elsewhere."""
        state = self._host.state
        if len(self._host.datacenters()) < 2:
            return
        names = [
            (one.namespace, one.job_id)
            for one in state.evals.open()
            if one.status is EvalStatus.BLOCKED
        ]
        begin = self._turn * BLOCKED_MOST % max(1, len(names))
        self._turn += 1
        for namespace, job_id in names[begin : begin + BLOCKED_MOST]:
            record = state.jobs.get(namespace, job_id)
            if record is not None and not record.home and record.uid not in homes_of(state):
                self._due[record.uid] = None

    def _look_at_all(self) -> None:
        """Every job that lives whole here has to go, some with each tick."""
        state, looked = self._host.state, 0
        for record in state.jobs:
            if looked == BLOCKED_MOST:
                return
            if not record.home and not record.is_stopped and record.uid not in homes_of(state):
                self._due[record.uid] = None
                looked += 1

    # --- deciding -------------------------------------------------------------------------

    def division(self, job: Job) -> list[Command]:
        """Return what commits a new job's division together with its registration.

        Empty when it lives whole here. Sites in other regions need their claims first: what
        is meant for them stays free for a moment.
        """
        host = self._host
        if not self._is_active or not splitting.is_divisible(job) or not job.uid:
            return []
        if len(host.datacenters()) < 2 or self._coordinator.offers.reservations.holds(job.uid):
            if not (splitting.spreads(job) or is_everywhere(job)):
                return []
        home = planned_home(host.state, job)
        sites = self._reach.sites(home, job)
        own = host.datacenter_id
        if all(site.datacenter_id == own for site in sites):
            return []
        division = splitting.divide(home, job, own, sites, host.now.wall_us)
        if all(dc == own for dc in division.allowed):
            return []
        known = host.datacenters()
        at_once = {dc for dc in division.allowed if known.get(dc, ("",))[0] == home.region}
        kept = {dc: allowed for dc, allowed in division.allowed.items() if dc in {*at_once, own}}
        epoch = self._epochs.pop(job.uid, 0)
        if not epoch and not host.state.is_authority:
            return []  # decided as soon as the authority has told the epoch
        command = PutParts(
            namespace=home.namespace, job_id=home.job_id, uid=job.uid, expected=0, epoch=epoch,
            allowed={own: {}, **kept},
        )  # fmt: skip
        self._count_moves(division)
        return [command, self._causes.split(home, division)]

    def _look(self, uid: str) -> None:
        """Compare what is with what should be, and propose the difference."""
        state, host = self._host.state, self._host
        record, known = state.jobs.by_uid(uid), homes_of(state).get(uid)
        if known is not None:
            self._sending.deliver(known)
        if uid in self._deciding or (known is not None and known.leaving_to):
            return
        if known is None:
            if record is None or record.is_stopped or record.home or record.is_purged:
                return
            if not splitting.is_divisible(record.job) and not self._may_leave(record.job):
                return
            home = new_home(state, record, 0)
        else:
            home = known
        home = current(state, home)
        if known is not None and record is not None and self._decide_rollout(home, record):
            return
        job = record.job if record is not None else None
        division = Division()
        if job is not None and self._has_choice(home, job):
            sites = self._reach.sites(home, job)
            now_us = max(host.now.wall_us, state.log_time_us)
            division = self._divide(home, job, sites, now_us)
        is_leaving = any(why == "evacuated" for why, _, _ in division.moves)
        stays = all(dc == host.datacenter_id for dc in division.allowed)
        if known is None and stays and not is_leaving:
            return
        if division.is_empty and (known is None or not is_due(state, known)):
            return
        self._decide(home, known, division)

    def _divide(self, home: Home, job: Job, sites: list[Site], now_us: int) -> Division:
        """Return what shall change; what is only tried somewhere is within the retry budget."""
        host, retries = self._host, self._coordinator.retries
        division = splitting.divide(home, job, host.datacenter_id, sites, now_us)
        tried = dict.fromkeys(dc for why, dc, _ in division.moves if why == "tried")
        spent = [dc for dc in tried if not retries.may_retry(dc, host.now.mono_us)]
        if spent:
            sites = [
                site._replace(perhaps=frozenset()) if site.datacenter_id in spent else site
                for site in sites
            ]
            division = splitting.divide(home, job, host.datacenter_id, sites, now_us)
        return division

    def _decide_rollout(self, home: Home, record: JobRecord) -> bool:
        """Call a version stable once it runs everywhere; go back when it failed somewhere.

        Returns:
            Whether something was proposed that makes this look idle.
        """
        groups = record.job.task_groups or []
        if not home.wanted or not any(strategy_of(record.job, group) for group in groups):
            return False
        name = {"namespace": record.namespace, "job_id": record.id}
        if failed := failed_at(home):
            reverts = any((g.update or record.job.update or NO_UPDATE).auto_revert for g in groups)
            target = next((job for job in record.older if job.stable), None)
            if not reverts or target is None:
                return False
            job = msgspec.structs.replace(target, stop=False, submit_time_ns=None)
            self._host.log(
                "warning", "a rollout failed: the job goes back to its stable version",
                job=record.id, datacenters=" ".join(failed), version=target.version,
            )  # fmt: skip
            index = record.job.job_modify_index
            evaluation = self.evaluation(record.job)
            command: Command = RegisterJob(job=job, evaluation=evaluation, check_index=index)
        elif not record.job.stable and len(home.parts) > 1 and is_over(self._host.state, home):
            command = SetJobStability(**name, version=record.version, stable=True)
        else:
            return False
        self._deciding[home.uid] = None

        def done(_value: Any, _error: str) -> None:
            self._deciding.pop(home.uid, None)

        self._host.propose([command], done)
        return True

    def _has_choice(self, home: Home, job: Job) -> bool:
        """Whether anything is to be decided; most looks only see that all is well."""
        if not home.wanted:
            return False
        if home.free or is_everywhere(job):
            return True
        if home.is_surge and not self._silent().isdisjoint(home.parts):
            return True
        if any(part.holds and part.version != home.version for part in home.parts.values()):
            return True  # the new version may name other datacenters
        known = self._host.datacenters()
        return any(
            part.blocked or part.copies or known.get(dc, ("",))[0] not in ("", home.region)
            for dc, part in home.parts.items()
        ) or not self._draining().isdisjoint(home.parts)

    def _may_leave(self, job: Job) -> bool:
        """Whether a single instance that waits here may go elsewhere, where its job allows it."""
        return not job.is_template and (not job.multiregion or is_draining(self._host.state))

    def _silent(self) -> frozenset[str]:
        """Return the datacenters that have been silent for so long that surge copies."""
        return frozenset(
            dc
            for dc, age_us in ((s.digest.datacenter_id, s.age_us or 0) for s in self._host.sites())
            if max(age_us, self._sending.silent_us(dc)) >= SILENT_US
        )

    def _draining(self) -> frozenset[str]:
        """Return the datacenters that are being emptied, as their digests say."""
        digests = [site.digest for site in self._host.sites()]
        return frozenset(one.datacenter_id for one in digests if one.is_draining)

    def _decide(self, home: Home, known: Home | None, division: Division) -> None:
        uid = home.uid
        self._deciding[uid] = None
        regions = self._regions_of(home, division)
        new = [region for region in regions if region not in (home.region, *home.regions)]
        is_own_name = self._host.state.is_authority and home.region in ("*", self._host.region)
        if known is None and not is_own_name:
            new = new or [self._host.region]  # for the epoch
        if not new:
            self._propose(home, known, division, 0, ())
            return

        def claimed(epoch: int, gained: tuple[str, ...], error: str) -> None:
            if not self._is_active:
                return
            if error:
                self._deciding.pop(uid, None)
                self._host.log(
                    "warning", "a job can't go to another region now", job=home.job_id,
                    regions=" ".join(new), reason=error,
                )  # fmt: skip
                self._avoid_regions(home, division, new)
                return
            self._propose(home, known, division, epoch, gained)

        self._coordinator.extending.extend(home, new, claimed)

    def _regions_of(self, home: Home, division: Division) -> list[str]:
        known = self._host.datacenters()
        targets = [*division.allowed, *(to for _, to, _ in division.copies)]
        regions = [known[dc][0] for dc in targets if dc in known and dc != self._host.datacenter_id]
        return [region for region in dict.fromkeys(regions) if region]

    def _avoid_regions(self, home: Home, division: Division, regions: list[str]) -> None:
        known = self._host.datacenters()
        for dc in division.allowed:
            if known.get(dc, ("",))[0] in regions:
                self._sending.avoid(Key(home.uid, dc))

    def _propose(
        self,
        home: Home,
        known: Home | None,
        division: Division,
        epoch: int,
        regions: tuple[str, ...],
    ) -> None:
        uid = home.uid
        record = self._host.state.jobs.by_uid(uid)
        command = PutParts(
            namespace=home.namespace,
            job_id=home.job_id,
            uid=uid,
            expected=known.index if known is not None else 0,
            epoch=epoch,
            allowed=division.allowed,
            copies=tuple(division.copies),
            regions=regions,
            evaluation=self.evaluation(record.job) if record is not None else None,
        )
        commands: list[Command] = [command]
        if known is None:
            commands.append(self._causes.split(home, division))
        else:
            commands += self._causes.of(home, division)

        def done(value: Any, error: str) -> None:
            self._deciding.pop(uid, None)
            if not self._is_active:
                return
            if error or "Stale" in (value or {}):
                self._due[uid] = None  # with the next tick: what made it stale is applied
            else:
                self._count_moves(division)
                if known is not None and uid not in homes_of(self._host.state):
                    self._coordinator.naming.give_up(known)

        self._host.propose(commands, done)

    def _count_moves(self, division: Division) -> None:
        for why, _, count in division.moves:
            self._host.count_moves(why, count)
        for _, _, copied in division.copies:
            self._host.count_moves("copied", ranges.size(copied))

    def evaluation(self, job: Job) -> Evaluation:
        """Return what has a job planned here after its share has changed."""
        host = self._host
        now_ns = host.now.wall_us * 1000
        return Evaluation(
            id=new_id(host.rng, host.datacenter_id),
            priority=job.priority or 50,
            type=job.type or "service",
            triggered_by=EvalTrigger.SCALING,
            namespace=job.namespace or "default",
            job_id=job.id or "",
            create_time_ns=now_ns,
            modify_time_ns=now_ns,
        )

    # --- claims -------------------------------------------------------------------

    def note_epoch(self, uid: str, epoch: int) -> None:
        """Remember the epoch of a claim that was just made for a job to be registered here."""
        self._epochs[uid] = epoch
        while len(self._epochs) > 1_000:
            del self._epochs[next(iter(self._epochs))]
