"""The roster of a region: which datacenters it has, and whose word counts no more.

It is written in the log of the region's authority, one datacenter at a time, and copied to
every datacenter of the federation. A datacenter is named by its id, which is drawn at its
birth: one that was declared off, or left, never comes back under that id.

    member   a datacenter of the region. It takes shares once its own log says that it is one,
             and it is told so only when all members before it know: so each member's copy
             names everybody who may hold an index
    off      an operator's word that it runs nothing, and won't again. It is final
    floor    shares of a home below this epoch are refused, for ever. Of who is off: all

    Invariant: floors only rise, in every log, whichever copy of a roster comes first.

Whoever wants to know what all datacenters hold of a job raises the floor of its home in each
of them first, and asks only then (core.federation.adopting).
"""

from typing import TYPE_CHECKING, Final

import msgspec

from core.state.state import register_table

if TYPE_CHECKING:
    from core.state.state import State
    from core.state.table import Table

ROSTERS: Final = "rosters"  # by region
FLOORS: Final = "home_floors"  # by datacenter id
OFF_FLOOR: Final = 1 << 62  # beyond every epoch


class Member(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    name: str
    since: int  # version of the roster that had it first


class Gone(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """A datacenter that was declared off, or left."""

    name: str
    since_us: int  # log time of the authority
    has_left: bool = False  # empty, and by itself


class Roster(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """One region. `members` and `gone` are by datacenter id."""

    region: str
    authority: str = ""  # datacenter id of who wrote it
    generation: int = 0  # of that authority
    version: int = 0
    members: dict[str, Member] = {}
    gone: dict[str, Gone] = {}

    def find(self, name: str) -> list[str]:
        """Return the ids of the members and the gone of this name, or with this id."""
        return [dc for dc, known in self.names.items() if name in (dc, known)]

    @property
    def names(self) -> dict[str, str]:
        """Return the names by id of the members and the gone."""
        members = {dc: one.name for dc, one in self.members.items()}
        return members | {dc: one.name for dc, one in self.gone.items()}


def rosters_of(state: "State") -> "Table[str, Roster]":
    return state.table(ROSTERS)


def roster_of(state: "State", region: str = "") -> Roster:
    """Return the roster of a region (the own one), as far as it is known here."""
    region = region or state.region
    return rosters_of(state).get(region) or Roster(region=region)


def is_newer(roster: Roster, known: Roster | None) -> bool:
    """Whether a copy takes the place of what is known.

    Two authorities at one generation were born in ignorance of each other: as with claims,
    the smaller id is everybody's choice.
    """
    if known is None or roster.generation != known.generation:
        return known is None or roster.generation > known.generation
    if roster.authority != known.authority:
        return roster.authority < known.authority
    return roster.version > known.version


def floor_of_home(state: "State", datacenter_id: str) -> int:
    """Return the epoch below which shares of a home are refused here; 0 for most."""
    return int(state.table(FLOORS).get(datacenter_id) or 0)


def is_off(state: "State", datacenter_id: str) -> bool:
    """Whether a datacenter was declared off, or left, as far as this log knows."""
    return floor_of_home(state, datacenter_id) >= OFF_FLOOR


def off_ones(state: "State") -> frozenset[str]:
    """Return the ids of all datacenters that were declared off, or left."""
    floors = state.table(FLOORS)
    return frozenset(dc for dc, floor in floors.items() if floor >= OFF_FLOOR)


def is_own_off(state: "State") -> bool:
    """Whether it is this datacenter: then others have its work, and it stops its own."""
    return is_off(state, state.datacenter_id)


def is_enrolled(state: "State") -> bool:
    """Whether this datacenter knows itself to be on its region's roster."""
    return state.datacenter_id in roster_of(state).members


register_table(ROSTERS, Roster)
register_table(FLOORS, int)
