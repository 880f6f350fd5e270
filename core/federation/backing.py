"""What the leader of a home does for the day its datacenter is lost: back its jobs up.

Each job goes to one other datacenter of the region, or of another region where there is none,
within `LOOK_US` of a change of its file. The same one is kept as long as it answers; when it
was silent for `SILENT_MAX_US`, or is of another region and one of our own is known meanwhile,
another is chosen, and all jobs go there.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation.backup import (
    Backup,
    PutBackups,
    backup_of,
    backups_of,
    is_backed,
    stamp_of,
    turn_of,
)
from core.federation.digest import Digest
from core.federation.host import CALL_TIMEOUT_US, Done, is_not_from
from core.federation.multiregion import Rollout
from core.federation.rhythm import Rhythm
from core.federation.rollout_log import find_rollout, rollouts_of
from core.federation.roster import is_own_off
from core.model.host import Peer

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator

LOOK_US: Final = 1_000_000
SILENT_MAX_US: Final = 30_000_000
DIGEST_AGE_US: Final = 90_000_000
BATCH: Final = 50  # jobs in one call


class Backing:
    """One per coordinator. Works while this server leads."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self._coordinator = coordinator
        self._host = coordinator.host
        self._is_active = False
        self._to = ""  # datacenter id
        self._turn = 0
        self._kept: dict[str, str] | None = None  # uid -> stamp, there; None = not known yet
        self._is_whole = False  # whether all is there that was here at the beginning
        self._due: dict[str, None] = {}  # uids to look at
        self._due_rollouts: dict[tuple[str, str], None] = {}  # by the job's name
        self._has_purged = False
        self._is_busy = False
        self._silent_since_us: int | None = None
        self._avoided: dict[str, None] = {}  # those that were silent
        self._rhythm = Rhythm(self._host, LOOK_US, self.look)

    @property
    def destination(self) -> str:
        """Return the datacenter that has the backups, "" while there is none."""
        return self._to

    @property
    def behind(self) -> int:
        """Return how many jobs changed since their backup was made."""
        return len(self._due) + len(self._due_rollouts)

    def on_leadership(self, is_leader: bool) -> None:
        self._is_active = is_leader
        self._to, self._kept, self._is_busy, self._silent_since_us = "", None, False, None
        self._due.clear()
        self._due_rollouts.clear()
        self._avoided.clear()
        self._rhythm.on_leadership(is_leader)

    def on_applied(self, changes: Sequence[Any]) -> None:
        if not self._is_active or self._kept is None:
            return
        state = self._host.state
        for change in changes:
            if change.table == "multiregion":
                self._due_rollouts[change.namespace, change.key] = None
            elif change.table == "homes":
                self._due[change.key] = None
            elif change.table == "jobs":
                record = state.jobs.get(change.namespace, change.key)
                if record is not None:
                    self._note(record.uid)
                self._has_purged |= record is None

    def _note(self, uid: str) -> None:
        record = self._host.state.jobs.by_uid(uid)
        assert self._kept is not None
        if record is None or self._kept.get(uid) != stamp_of(self._host.state, record):
            self._due[uid] = None

    def _purged(self) -> list[str]:
        jobs = self._host.state.jobs
        found = [(uid, jobs.by_uid(uid)) for uid in self._kept or ()]
        return [uid for uid, record in found if record is None or not is_backed(record)]

    # --- looking ----------------------------------------------------------------------------

    def look(self) -> None:
        host = self._host
        if self._is_busy or is_own_off(host.state):
            return
        if not self._to or self._is_lost() or self._is_far():
            self._choose()
        if not self._to:
            return
        if self._kept is None:
            self._ask_kept()
            return
        if self._has_purged:
            self._has_purged = False
            self._due |= dict.fromkeys(self._purged())
        if self._due or self._due_rollouts or not self._is_whole:
            self._send(self._kept)

    def _is_lost(self) -> bool:
        """Whether another is to have the backups: this one is silent, off, or being emptied."""
        host = self._host
        if self._to not in host.datacenters() or any(
            site.digest.is_draining and site.digest.datacenter_id == self._to
            for site in host.sites()
        ):
            return True
        since_us = self._silent_since_us
        return since_us is not None and host.now.mono_us - since_us >= SILENT_MAX_US

    def _is_far(self) -> bool:
        """Whether another region has the backups, and one of our own could.

        At our birth the far ones may be heard of first; and an adopter looks in its region.
        """
        host = self._host
        regions = {digest.datacenter_id: digest.region for digest in self._candidates()}
        return regions.get(self._to, host.region) != host.region and any(
            region == host.region and dc not in self._avoided for dc, region in regions.items()
        )

    def _candidates(self) -> Iterator[Digest]:
        """Yield the digests of those that could have the backups."""
        host = self._host
        for site in host.sites():
            is_old = site.age_us is None or site.age_us > DIGEST_AGE_US
            is_own = site.digest.datacenter_id == host.datacenter_id
            if not (is_own or is_old or site.digest.is_draining):
                yield site.digest

    def _choose(self) -> None:
        """Choose by an order that is our own: not all datacenters burden the same one."""
        host = self._host
        if self._to:
            self._avoided[self._to] = None
        found = []
        for digest in self._candidates():
            dc = digest.datacenter_id
            rank = hashlib.blake2b(f"{host.datacenter_id}/{dc}".encode(), digest_size=8).digest()
            found.append((dc in self._avoided, digest.region != host.region, rank, dc))
        if not found or min(found)[-1] == self._to:
            self._avoided.clear()
            self._silent_since_us = None
            return
        self._to, self._kept, self._silent_since_us = min(found)[-1], None, None

    def _ask_kept(self) -> None:
        """Learn what the other has, as after an election; what is not as here goes anew."""
        to = self._to

        def done(body: Any, error: str) -> None:
            self._is_busy = False
            if not self._heard(error) or self._to != to:
                return
            self._kept, self._turn = dict(body["Kept"]), int(body["Turn"])
            self._is_whole = False
            for record in self._host.state.jobs:
                if is_backed(record):
                    self._note(record.uid)
            self._due |= dict.fromkeys(self._purged())
            for one in rollouts_of(self._host.state).values():
                self._due_rollouts[one.namespace, one.job_id] = None

        self._is_busy = True
        self._host.ask(to, "Backup.Kept", {"Source": self._host.datacenter_id}, CALL_TIMEOUT_US,
                       done)  # fmt: skip

    def _send(self, kept: dict[str, str]) -> None:
        state, to = self._host.state, self._to
        batch = list(self._due)[:BATCH]
        backups: list[Backup] = []
        gone = []
        for uid in batch:
            record = state.jobs.by_uid(uid)
            if record is None or not is_backed(record):
                gone += [uid] if uid in kept else []
            elif kept.get(uid) != stamp_of(state, record):
                backups.append(backup_of(state, record))
        for uid in batch:
            del self._due[uid]
        names = list(self._due_rollouts)[:BATCH]
        for name in names:
            del self._due_rollouts[name]
        rollouts = [one for name in names if (one := find_rollout(state, *name)) is not None]
        is_last = not self._is_whole and not self._due and not self._due_rollouts
        if not backups and not gone and not rollouts and not is_last:
            return
        turn = max(self._turn + 1, state.index) if is_last else self._turn

        def done(body: Any, error: str) -> None:
            self._is_busy = False
            if self._heard(error) and not body["Refused"] and self._to == to:
                self._turn, self._is_whole = turn, self._is_whole or is_last
                kept.update({one.member.home.uid: one.stamp for one in backups})
                for uid in gone:
                    kept.pop(uid, None)
                return
            self._due |= dict.fromkeys(batch)
            self._due_rollouts |= dict.fromkeys(names)
            if not error:
                self._kept = None  # somebody else speaks for this datacenter there

        self._is_busy = True
        body = {
            "Source": state.datacenter_id, "Turn": turn, "Backups": backups, "Gone": gone,
            "Rollouts": rollouts,
        }  # fmt: skip
        self._host.ask(to, "Backup.Put", body, CALL_TIMEOUT_US, done)

    def _heard(self, error: str) -> bool:
        if not error:
            self._silent_since_us = None
        elif self._silent_since_us is None:
            self._silent_since_us = self._host.now.mono_us
        return not error and self._is_active and self._host.is_serving

    # --- calls of other homes ---------------------------------------------------------------

    def on_kept(self, body: Any, source: Peer, reply: Done) -> None:
        """Say what is kept here for a datacenter: {"Turn", "Kept": {uid: stamp}}."""
        given = str(body["Source"])
        if wrong := is_not_from(source, given):
            reply(None, wrong)
            return
        state = self._host.state
        kept = {one.member.home.uid: one.stamp for one in backups_of(state, given)}
        reply({"Turn": turn_of(state, given), "Kept": kept}, "")

    def on_put(self, body: Any, source: Peer, reply: Done) -> None:
        """Keep backups: {"Refused": reason or ""}."""
        given = str(body["Source"])
        if wrong := is_not_from(source, given):
            reply(None, wrong)
            return
        backups = msgspec.convert(msgspec.to_builtins(body["Backups"]), list[Backup])
        rollouts = msgspec.convert(msgspec.to_builtins(body.get("Rollouts", [])), list[Rollout])
        command = PutBackups(
            source=given, turn=int(body["Turn"]), backups=backups, gone=list(body["Gone"]),
            rollouts=rollouts,
        )  # fmt: skip
        self._host.propose([command], reply)
