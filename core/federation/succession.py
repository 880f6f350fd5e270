"""A region's authority is lost with its datacenter, and another one succeeds it: the log's part.

An operator's word begins it, as for every lost datacenter (core.federation.adoption): the
authority is off for good. The successor, B, does not know which names the lost one gave away in
its last moments. Those who do are the homes. So, in two rounds:

    pledges   first round: every datacenter of the federation commits "in region R nobody below
              generation g is the authority, and A is off". From then on it takes no word of A,
              and an answer of A that is on its way comes too late (`ask_authority`)
    claims    second round, once **all** have pledged: each says which names it holds as a home,
              and what it keeps of A's own jobs, as their backup or as a share of them
    take      B stages these claims and is the authority, in generation g: one entry, which
              also takes A off the roster. A's own jobs are claimed for A still, so nobody gets
              their names before `datacenter adopt` gives them another home

One round is not enough: a home that was asked before it pledged may get a name from A (which
lives, only cut off) a moment later, and B would give the same name to somebody else.

    Invariant: nobody is asked for claims before every datacenter asked has pledged.
    Invariant: pledges only rise; of two datacenters that want to succeed in one generation a
        member pledges to the first.

What an authority kept beside claims is lost with it: tombstones of names that were given up. A
create that would need one was addressed to A, whose word nobody takes.
"""

from typing import TYPE_CHECKING, Final

import msgspec

from core.federation.authority import claim_own_jobs
from core.federation.claims import authority_of, put_authority
from core.federation.roster import OFF_FLOOR, roster_of
from core.federation.roster_log import raise_to
from core.state.commands import Command
from core.state.entry import register_handler
from core.state.result import CommandResult
from core.state.state import register_table

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

TABLE: Final = "succession"
PLEDGES: Final = "authority_pledges"  # by region
_OWN: Final = "own"


class Pledge(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """Below this generation nobody is the authority of the region."""

    generation: int
    by: str  # datacenter id of who is to be it


class Succession(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """How far this datacenter is on its way to be the authority."""

    generation: int
    since_us: int
    lost: dict[str, str] = {}  # datacenter id -> name; the authority first
    members: dict[str, bool] = {}  # datacenter id -> has pledged
    superseded_by: str = ""  # datacenter id of who wants it in a later generation
    is_done: bool = False

    @property
    def stage(self) -> str:
        if self.is_done or self.superseded_by:
            return "superseded" if self.superseded_by else "done"
        return "claims" if all(self.members.values()) else "pledges"

    @property
    def is_under_way(self) -> bool:
        return not (self.is_done or self.superseded_by)


class BeginSuccession(Command):
    """Be the authority in place of a lost one. `members`: whoever may hold a name.

    `lost` "" = in place of itself: it lost its newest claims (core.federation.seal).
    """

    lost: str
    name: str
    generation: int
    members: list[str]


class TakePledge(Command):
    """Take no word of the lost ones, and of no authority below this generation."""

    region: str
    generation: int
    by: str
    lost: list[str]


class NotePledges(Command):
    """These have pledged; those are members too, as they say."""

    generation: int
    datacenter_ids: list[str]
    members: list[str] = []  # noqa: RUF012


class AddLost(Command):
    """One more datacenter of the region is off: while nobody is the authority it is said here."""

    datacenter_id: str
    name: str


class EndSuccession(Command):
    """Behind the entry that takes the authority; or another one has it by a later generation."""

    generation: int
    superseded_by: str = ""


def succession_of(state: "State") -> Succession | None:
    found: Succession | None = state.table(TABLE).get(_OWN)
    return found


def pledge_of(state: "State", region: str) -> Pledge:
    """Return below which generation nobody counts as the authority of a region."""
    found: Pledge | None = state.table(PLEDGES).get(region)
    return found or Pledge(generation=0, by="")


def begin_succession(state: "State", command: BeginSuccession, context: "Context") -> CommandResult:
    """Begin, or begin anew in a later generation. `value`: {Generation}."""
    known = succession_of(state)
    if state.is_authority and command.lost:
        text = f"datacenter {state.datacenter} is the authority of region {state.region} already"
        return CommandResult(error=text, status=409)
    if known is not None and known.is_under_way and known.generation >= command.generation:
        return CommandResult(value={"Generation": known.generation})
    lost = {command.lost: command.name} if command.lost else {}
    if known is not None and known.is_under_way:
        lost = {**known.lost, **lost}
    own = state.datacenter_id
    taken = _pledge(state, state.region, command.generation, own, list(lost), context)
    if taken.value["Refused"]:
        return CommandResult(error=taken.value["Refused"], status=409)
    if state.is_authority:
        claim_own_jobs(state, context)
        state.is_authority = False
    members = {dc: dc == own for dc in (own, *command.members)}
    members = {dc: told for dc, told in members.items() if dc not in lost}
    begun = Succession(
        generation=command.generation, since_us=context.time_us, lost=lost, members=members
    )
    _put(state, begun, context)
    return CommandResult(value={"Generation": command.generation})


def take_pledge(state: "State", command: TakePledge, context: "Context") -> CommandResult:
    """Pledge. `value`: {Refused: why, Generation: the newest that is known here}.

    Given again it changes nothing: a barrier.
    """
    by, lost = command.by, command.lost
    return _pledge(state, command.region, command.generation, by, lost, context)


def _pledge(
    state: "State", region: str, generation: int, by: str, lost: list[str], context: "Context"
) -> CommandResult:
    known = pledge_of(state, region)
    newest = max(known.generation, roster_of(state, region).generation)
    if region == state.region:
        newest = max(newest, authority_of(state).generation)
    said = {"Generation": newest, "Refused": ""}
    if (known.generation, known.by) == (generation, by):
        return CommandResult(value=said)
    if newest >= generation:
        whom = f"datacenter {known.by}" if known.generation == newest else "somebody"
        text = f"{whom} is the authority of region {region} in generation {newest}, or on its way"
        return CommandResult(value={**said, "Refused": text})
    if state.datacenter_id in lost:
        return CommandResult(value={**said, "Refused": "this datacenter itself is said to be off"})
    state.table(PLEDGES).put(region, Pledge(generation=generation, by=by))
    for dc in lost:
        raise_to(state, dc, OFF_FLOOR, context)
    if region == state.region and by != state.datacenter_id:
        _give_way(state, by, generation, context)
    context.changed("authority", "AuthorityPledged", region)
    return CommandResult(value={**said, "Generation": generation})


def _give_way(state: "State", by: str, generation: int, context: "Context") -> None:
    """Be neither the authority nor on the way to it: a later generation has begun."""
    under_way = succession_of(state)
    if under_way is not None and under_way.is_under_way:
        _put(state, msgspec.structs.replace(under_way, superseded_by=by), context)
    if state.is_authority:
        claim_own_jobs(state, context)
        state.is_authority = False
        known = authority_of(state)
        put_authority(
            state,
            msgspec.structs.replace(known, to=by, to_generation=generation, is_told=True),
        )


def note_pledges(state: "State", command: NotePledges, context: "Context") -> CommandResult:
    known = succession_of(state)
    if known is None or known.generation != command.generation or not known.is_under_way:
        return CommandResult()
    more = {dc: False for dc in command.members if dc not in known.lost}
    told = {dc: True for dc in command.datacenter_ids if dc in known.members}
    members = {**more, **known.members, **told}
    _put(state, msgspec.structs.replace(known, members=members), context)
    return CommandResult()


def add_lost(state: "State", command: AddLost, context: "Context") -> CommandResult:
    """Count one more as off. Those who pledged before hear of it by the roster."""
    known, dc = succession_of(state), command.datacenter_id
    if known is None or not known.is_under_way:
        return CommandResult(error="nobody is succeeding the authority here", status=409)
    if dc == state.datacenter_id:
        return CommandResult(error="a datacenter can't declare itself off", status=409)
    members = {one: told for one, told in known.members.items() if one != dc}
    lost = {**known.lost, dc: command.name}
    _put(state, msgspec.structs.replace(known, members=members, lost=lost), context)
    raise_to(state, dc, OFF_FLOOR, context)
    return CommandResult(value={"Version": roster_of(state).version})


def end_succession(state: "State", command: EndSuccession, context: "Context") -> CommandResult:
    known = succession_of(state)
    if known is not None and known.generation == command.generation and known.is_under_way:
        is_done = not command.superseded_by and state.is_authority
        ended = msgspec.structs.replace(known, is_done=is_done, superseded_by=command.superseded_by)
        _put(state, ended, context)
    return CommandResult()


def _put(state: "State", succession: Succession, context: "Context") -> None:
    state.table(TABLE).put(_OWN, succession)
    context.changed("authority", "SuccessionChanged", state.region)


register_table(TABLE, Succession)
register_table(PLEDGES, Pledge)
register_handler(BeginSuccession, begin_succession)
register_handler(TakePledge, take_pledge)
register_handler(NotePledges, note_pledges)
register_handler(AddLost, add_lost)
register_handler(EndSuccession, end_succession)
