"""Named situations: the corners that a run must have been in before its silence means much.

Counted here from the entries of all logs and from the calls that arrive, some in `watch.py`
and `ending.py`. `NAMES` is what `python -m sim.federation` declares; one that stays at zero
over 200 seeds fails the run. They count, they judge nothing: so they may read what the
federation's own records say.
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation import ranges
from core.federation.authority import DropClaims, YieldAuthority
from core.federation.claims import CloseClaim, CreateClaim, ExtendClaim, KeepCalls
from core.federation.handing import arrivals_of
from core.federation.handing_log import ActivateHome
from core.federation.home_log import ParkOwnPart, PutParts, TakeReport, homes_of
from core.federation.homes import Home
from core.federation.lifecycle import is_draining
from core.federation.roster import is_off
from core.federation.roster_log import DeclareOff
from core.federation.share_log import ParkShare, PutShare, SyncShares, synced_index, watermarks_of
from core.federation.shares import Share
from core.federation.succession import EndSuccession
from core.federation.transfer import GiveAuthority, TakeAuthority
from core.state.commands import RegisterJob
from core.state.result import Applied

if TYPE_CHECKING:
    from sim.federation.datacenter import Datacenter
    from sim.federation.world import World

NAMES: Final = (
    "claim race lost",
    "claim refused after it was given up",
    "claim refused by no authority",
    "claim closed",
    "claim extended to a region",
    "authority yielded",
    "authority given",
    "authority taken",
    "claims handed over",
    "name given away by two authorities",
    "write while a region had two authorities",
    "answers moved to the next job of a name",
    "job divided",
    "job divided at its registration",
    "decision overtaken",
    "share taken",
    "share refused whole",
    "share refused in part",
    "older share came late",
    "same share came again",
    "refusal raced by a duplicate",
    "tombstone refused a late share",
    "share of a job that is gone removed",
    "datacenter told of a version before another",
    "index released",
    "index released during a cut",
    "index moved to another datacenter",
    "index left a draining datacenter",
    "index spilled into another region",
    "index reclaimed from another region",
    "release answered while the process ran",
    "leader of a home changed before a release was answered",
    "part parked",
    "part started again",
    "parked until the end",
    "surge copy",
    "surge copy during a second cut",
    "surge copy released",
    "authority succeeded",
    "datacenter declared off",
    "lost with a backup of all its jobs",
    "job adopted",
    "job of which another ran a part adopted",
    "came back and stopped its work",
)


class Situations:
    """Looks at one world's entries and calls."""

    def __init__(self, world: "World") -> None:
        self._world = world
        self._seen = world.situations
        self._homes: dict[tuple[str, str], Home] = {}  # (datacenter, uid) -> as it was
        self._last_holder: dict[tuple[str, str, int], str] = {}  # index -> datacenter
        self._gone: dict[tuple[str, str], bool] = {}  # (datacenter, uid) -> is a tombstone

    # --- entries ------------------------------------------------------------------------

    def on_entry(self, datacenter: "Datacenter", commands: list[Any], applied: Applied) -> None:
        """An entry was applied that is no repetition."""
        seen = self._seen
        for command, result in zip(commands, applied.results, strict=True):
            match command:
                case CreateClaim():
                    seen["claim race lost"] += "is taken" in result.error
                    seen["claim refused after it was given up"] += "given up" in result.error
                    seen["claim refused by no authority"] += result.status == 503
                case CloseClaim():
                    seen["claim closed"] += not result.is_error
                case ExtendClaim():
                    seen["claim extended to a region"] += not result.is_error
                case YieldAuthority():
                    seen["authority yielded"] += 1
                case GiveAuthority():
                    seen["authority given"] += 1
                case TakeAuthority():
                    seen["authority taken"] += bool(result.value["Taken"])
                case DropClaims():
                    seen["claims handed over"] += len(command.claims)
                case PutParts():
                    is_new = any(isinstance(one, RegisterJob) for one in commands)
                    self._on_parts(datacenter, command, result.value, is_new=is_new)
                case KeepCalls():
                    seen["answers moved to the next job of a name"] += len(command.calls)
                case TakeReport():
                    self._look(datacenter, command.report.uid)
                case PutShare():
                    self._on_share(datacenter, command, result.value)
                case SyncShares():
                    self._on_sync(datacenter, command)
                case DeclareOff():
                    seen["datacenter declared off"] += not result.is_error
                case ActivateHome():
                    self._on_adopted(datacenter, command, result.is_error)
                case EndSuccession():
                    seen["authority succeeded"] += not command.superseded_by
                case ParkShare() | ParkOwnPart():
                    word = "parked" if command.is_parked else "started again"
                    seen[f"part {word}"] += not result.is_error

    def _on_parts(
        self, datacenter: "Datacenter", command: PutParts, value: Any, *, is_new: bool
    ) -> None:
        seen = self._seen
        if "Stale" in (value or {}):
            seen["decision overtaken"] += 1
            return
        before = self._homes.get((datacenter.id, command.uid))
        if before is None:
            seen["job divided"] += 1
            seen["job divided at its registration"] += is_new
        home = self._look(datacenter, command.uid)
        if home is None:
            return
        for to, part in home.parts.items():
            had = before.part(to) if before is not None else None
            if to == datacenter.id or had is None:
                continue
            if part.version == home.version != had.version and any(
                other.holds and other.version != home.version for other in home.parts.values()
            ):
                seen["datacenter told of a version before another"] += 1
            if ranges.without(had.allowed, part.allowed):
                seen["index released"] += 1
                is_cut = self._world.is_cut(datacenter.id, to)
                seen["index released during a cut"] += is_cut
        if command.copies:
            seen["surge copy"] += 1
            cut_off = [to for to in home.parts if self._world.is_cut(datacenter.id, to)]
            seen["surge copy during a second cut"] += len(cut_off) > 1

    def _on_adopted(
        self, datacenter: "Datacenter", command: ActivateHome, is_refused: bool
    ) -> None:
        arrival = arrivals_of(datacenter.state).get(command.uid)
        if is_refused or arrival is None or not is_off(datacenter.state, arrival.source):
            return
        self._seen["job adopted"] += 1
        home = homes_of(datacenter.state).get(command.uid)
        self._seen["job of which another ran a part adopted"] += (
            home is not None and len(home.parts) > 1
        )

    def _look(self, datacenter: "Datacenter", uid: str) -> Home | None:
        """Compare a home with what it was."""
        seen, key = self._seen, (datacenter.id, uid)
        home = homes_of(datacenter.state).get(uid)
        before = self._homes.pop(key, None)
        if home is None:
            return None
        self._homes[key] = home
        for to, part in home.parts.items():
            had = before.part(to) if before is not None else None
            if had is not None and had.copies and not part.copies:
                seen["surge copy released"] += 1
            is_acked = had is not None and had.acked != part.acked
            seen["release answered while the process ran"] += is_acked and bool(
                ranges.without(part.holds, part.allowed)
            )
            self._follow(datacenter, home, to, part.allowed)
        return home

    def _follow(
        self, datacenter: "Datacenter", home: Home, to: str, allowed: ranges.Indices
    ) -> None:
        """Follow each index from one datacenter to the next."""
        regions = {one.id: one.region for one in self._world.datacenters.values()}
        for group, found in allowed.items():
            for index in ranges.each(found):
                last = self._last_holder.get((home.uid, group, index))
                self._last_holder[home.uid, group, index] = to
                if last is None or last == to:
                    continue
                self._seen["index moved to another datacenter"] += 1
                emptied = is_draining(self._world.datacenters[last].state)
                self._seen["index left a draining datacenter"] += emptied
                own = datacenter.region if home.region == "*" else home.region
                left, came = regions[last] == own, regions[to] == own
                self._seen["index spilled into another region"] += left and not came
                self._seen["index reclaimed from another region"] += came and not left

    def _on_share(self, datacenter: "Datacenter", command: PutShare, value: Any) -> None:
        seen, share = self._seen, command.share
        mark = watermarks_of(datacenter.state).get(share.uid)
        if not value["IsApplied"] or mark is None:
            return
        key = datacenter.id, share.uid
        seen["share taken"] += bool(mark.accepts)
        refused = ranges.without(mark.allowed, mark.accepts)
        seen["share refused whole"] += bool(refused) and not mark.accepts
        seen["share refused in part"] += bool(refused) and bool(mark.accepts)
        is_gone_now = mark.is_gone and not self._gone.get(key, False)
        seen["share of a job that is gone removed"] += is_gone_now
        self._gone[key] = mark.is_gone

    def _on_sync(self, datacenter: "Datacenter", command: SyncShares) -> None:
        for mark in watermarks_of(datacenter.state).values():
            key = datacenter.id, mark.uid
            if mark.home == command.home and mark.is_gone and not self._gone.get(key, False):
                self._seen["full sync removed a share"] += 1
                self._gone[key] = True

    # --- calls and leaders ------------------------------------------------------------------

    def on_call(self, datacenter: "Datacenter", method: str, body: Any) -> None:
        """A call arrives at a server that is up."""
        if method != "Share.Put":
            return
        seen, state = self._seen, datacenter.state
        share = msgspec.convert(body["Share"], Share)
        mark = watermarks_of(state).get(share.uid)
        if mark is None:
            is_late = share.index <= synced_index(state, share.home)
            seen["tombstone refused a late share"] += is_late
            return
        if share.number > mark.number:
            return
        seen["older share came late"] += share.number < mark.number
        seen["same share came again"] += share.number == mark.number
        seen["tombstone refused a late share"] += mark.is_gone and share.job is not None
        was_refused = bool(ranges.without(mark.allowed, mark.accepts))
        seen["refusal raced by a duplicate"] += was_refused and not mark.is_gone

    def on_leader_lost(self, datacenter: "Datacenter") -> None:
        """A leader is about to be replaced."""
        waiting = any(
            part.acked != part.index or ranges.without(part.holds, part.allowed)
            for home in homes_of(datacenter.state).values()
            for to, part in home.parts.items()
            if to != datacenter.id
        )
        name = "leader of a home changed before a release was answered"
        self._seen[name] += waiting
