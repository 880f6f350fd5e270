"""What the leader of a region's authority does with the roster: write it, and tell everybody.

A datacenter of the region that gossip shows is enrolled, one in one look. Every datacenter of
the federation gets each version until it has answered it; a member that is new gets its first
one last, when all members before it know of it. So whoever may hold a part of a job is on the
copy of every member.
"""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation.claims import authority_of
from core.federation.host import CALL_TIMEOUT_US, Done, is_not_from
from core.federation.rhythm import Rhythm
from core.federation.roster import FLOORS, Roster, floor_of_home, is_newer, roster_of, rosters_of
from core.federation.roster_log import CopyRoster, EnrolMember
from core.model.host import Peer

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator

LOOK_US: Final = 1_000_000
RETRY_US: Final = 5_000_000  # whoever did not answer is told again so much later

_Version = tuple[int, int, int]  # generation, version, number of floors


class Enrolling:
    """One per coordinator. Works while this server leads the authority."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self._coordinator = coordinator
        self._host = coordinator.host
        self._told: dict[str, _Version] = {}  # by datacenter id: what it has answered
        self._due_us: dict[str, int] = {}  # when it may be told again
        self._is_busy = False
        self._rhythm = Rhythm(self._host, LOOK_US, self.look)

    def on_leadership(self, is_leader: bool) -> None:
        self._told.clear()
        self._due_us.clear()
        self._is_busy = False
        self._rhythm.on_leadership(is_leader)

    def look(self) -> None:
        state = self._host.state
        if not state.is_authority:
            return
        newcomer = self._newcomer()
        if newcomer and not self._is_busy:
            self._is_busy = True
            dc, name = newcomer
            self._host.propose([EnrolMember(datacenter_id=dc, name=name)], self._enrolled)
        self._tell_all()

    def _newcomer(self) -> tuple[str, str] | None:
        """Return who is to be written down next; ourselves first, in each generation."""
        host, roster = self._host, roster_of(self._host.state)
        own, generation = host.datacenter_id, authority_of(host.state).generation
        is_ours = (roster.authority, roster.generation) == (own, generation)
        if not is_ours or own not in roster.members:
            return own, host.datacenter
        for dc, (region, name) in sorted(host.datacenters().items()):
            if region == host.region and dc not in roster.members:
                return dc, name
        return None

    def _enrolled(self, _value: Any, _error: str) -> None:
        self._is_busy = False

    # --- telling ----------------------------------------------------------------------------

    def _tell_all(self) -> None:
        host, roster = self._host, roster_of(self._host.state)
        if roster.authority != host.datacenter_id:
            return
        floors = dict(host.state.table(FLOORS).items())
        version = roster.generation, roster.version, len(floors)
        for dc in dict.fromkeys((*roster.members, *host.datacenters(), *roster.gone)):
            if dc == host.datacenter_id or self._told.get(dc) == version:
                continue
            is_due = self._due_us.get(dc, 0) <= host.now.mono_us
            if is_due and self._may_hear(roster, dc):
                self._due_us[dc] = host.now.mono_us + RETRY_US
                self._tell(dc, roster, floors, version)

    def _may_hear(self, roster: Roster, dc: str) -> bool:
        """Whether all members that came before this one know of it."""
        member = roster.members.get(dc)
        return member is None or all(
            self._told.get(other, (-1, 0, 0))[:2] >= (roster.generation, member.since)
            for other, known in roster.members.items()
            if known.since < member.since and other != self._host.datacenter_id
        )

    def _tell(self, dc: str, roster: Roster, floors: dict[str, int], version: _Version) -> None:
        def done(_: Any, error: str) -> None:
            if not error:
                self._told[dc] = version
                self._due_us.pop(dc, None)

        body = {"Roster": roster, "Floors": floors}
        self._host.ask(dc, "Roster.Put", body, CALL_TIMEOUT_US, done)

    # --- calls ------------------------------------------------------------------------------

    def on_put(self, body: Any, source: Peer, reply: Done) -> None:
        """Keep the roster of an authority, with all floors that it knows."""
        given = body["Roster"]
        roster = given if isinstance(given, Roster) else msgspec.convert(given, Roster)
        floors = {str(dc): int(floor) for dc, floor in body["Floors"].items()}
        if wrong := is_not_from(source, roster.authority):
            reply(None, wrong)
            return
        state = self._host.state
        is_news = is_newer(roster, rosters_of(state).get(roster.region)) or any(
            floor > floor_of_home(state, dc) for dc, floor in floors.items()
        )
        if not is_news:
            reply({}, "")
            return
        command = CopyRoster(roster=roster, floors=floors)
        self._host.propose([command], lambda _value, error: reply(None if error else {}, error))
