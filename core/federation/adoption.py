"""The jobs of a datacenter that was declared off get another home: what its log keeps of it.

    claims    whose names are they? The authorities of all regions concerned raise the floor of
              the lost one, and say which jobs are claimed for it, and who is on their roster
    floors    first round: every datacenter on these rosters raises the floor, so nobody takes
              a share of the lost one any more
    collect   second round, once **all** have done the first: each says what it holds of these
              jobs, and which of them it has a backup of; so do the datacenters of all other
              regions, for what they keep
    settle    each job with a backup comes as a parcel (core.federation.handing): its claim is
              moved by compare and set, and its home begins with the parts that were collected
    remove    what has no home any more ends

One round is not enough. While some have no floor yet, an index may still wander: X ends it, the
lost one (which lives, only cut off) hears of it and gives it to Y. Whoever asked X before and
Y after that counts it twice or not at all. After the first round what everybody holds only
shrinks, so what is collected is an upper bound, in one piece.

    Invariant: nobody is asked what it holds before every datacenter asked has the floor.

Each step is taken again by whoever leads next, from what stands here.
"""

from typing import TYPE_CHECKING, Final

import msgspec

from core.federation.roster import is_off, roster_of
from core.federation.share_log import drop_share, watermarks_of
from core.model.evaluation import Evaluation
from core.state.commands import Command
from core.state.entry import register_handler
from core.state.result import CommandResult
from core.state.state import register_table

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State
    from core.state.table import Table

TABLE: Final = "adoptions"


class Claimed(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """One job whose name is claimed for the lost datacenter."""

    namespace: str
    job_id: str
    uid: str
    epoch: int
    region: str  # whose authority has the first claim


class Adoption(msgspec.Struct, kw_only=True, omit_defaults=True, frozen=True):
    """How far the adoption of one datacenter's jobs is."""

    source: str  # datacenter id of the lost one
    name: str
    region: str
    since_us: int
    regions: dict[str, bool] = {}  # whose authority must be asked -> has answered
    members: dict[str, bool] = {}  # datacenter id -> has the floor
    jobs: dict[str, Claimed] = {}  # by uid
    is_collected: bool = False
    adopted: int = 0
    lost: tuple[str, ...] = ()  # names of jobs that nobody has a backup of
    refused: dict[str, str] = {}  # name -> why its home could not come here
    gone: tuple[str, ...] = ()  # uids of which nothing may run any more
    removed: tuple[str, ...] = ()  # datacenters that have heard that

    @property
    def stage(self) -> str:
        if not all(self.regions.values()):
            return "claims"
        if not all(self.members.values()):
            return "floors"
        if not self.is_collected:
            return "collect"
        if self.gone and len(self.removed) < len(self.members):
            return "remove"
        return "done"


class BeginAdoption(Command):
    source: str


class NoteClaims(Command):
    """What the authority of one region said."""

    source: str
    region: str
    members: list[str]
    jobs: list[Claimed]
    regions: list[str]  # further ones that must be asked


class NoteFloors(Command):
    """These datacenters have the floor, or are off themselves."""

    source: str
    datacenter_ids: list[str]


class NoteCollected(Command):
    source: str
    adopted: int
    lost: list[str]
    refused: dict[str, str]
    gone: list[str]


class NoteRemoved(Command):
    source: str
    datacenter_ids: list[str]


class RemoveShares(Command):
    """End what was a share of a lost home and has none now."""

    source: str
    uids: list[str]
    evaluations: dict[str, Evaluation] = {}  # noqa: RUF012 - by uid


def adoptions_of(state: "State") -> "Table[str, Adoption]":
    return state.table(TABLE)


def begin_adoption(state: "State", command: BeginAdoption, context: "Context") -> CommandResult:
    """Begin, or begin anew what is over. `value`: {Source, Stage}."""
    gone, known = roster_of(state).gone.get(command.source), adoptions_of(state).get(command.source)
    if gone is None:
        text = f"datacenter {command.source} was not declared off: datacenter off goes first"
        return CommandResult(error=text, status=409)
    if known is None or known.stage == "done":
        known = Adoption(
            source=command.source,
            name=gone.name,
            region=state.region,
            since_us=context.time_us,
            regions={state.region: False},
        )
        _put(state, known, context)
    return CommandResult(value={"Source": known.source, "Stage": known.stage})


def note_claims(state: "State", command: NoteClaims, context: "Context") -> CommandResult:
    known = adoptions_of(state).get(command.source)
    if known is None or known.regions.get(command.region, True):
        return CommandResult()
    regions = {**dict.fromkeys(command.regions, False), **known.regions, command.region: True}
    members = {dc: False for dc in command.members if dc != command.source}
    jobs = {one.uid: one for one in command.jobs}
    changed = msgspec.structs.replace(
        known,
        regions=regions,
        members={**members, **known.members},
        jobs={**known.jobs, **jobs},
    )
    _put(state, changed, context)
    return CommandResult()


def note_floors(state: "State", command: NoteFloors, context: "Context") -> CommandResult:
    known = adoptions_of(state).get(command.source)
    if known is not None:
        heard = {dc: True for dc in command.datacenter_ids if dc in known.members}
        _put(state, msgspec.structs.replace(known, members={**known.members, **heard}), context)
    return CommandResult()


def note_collected(state: "State", command: NoteCollected, context: "Context") -> CommandResult:
    known = adoptions_of(state).get(command.source)
    if known is not None and not known.is_collected:
        changed = msgspec.structs.replace(
            known,
            is_collected=True,
            adopted=command.adopted,
            lost=tuple(command.lost),
            refused=command.refused,
            gone=tuple(command.gone),
        )
        _put(state, changed, context)
    return CommandResult()


def note_removed(state: "State", command: NoteRemoved, context: "Context") -> CommandResult:
    known = adoptions_of(state).get(command.source)
    if known is not None:
        removed = tuple(dict.fromkeys((*known.removed, *command.datacenter_ids)))
        _put(state, msgspec.structs.replace(known, removed=removed), context)
    return CommandResult()


def remove_shares(state: "State", command: RemoveShares, context: "Context") -> CommandResult:
    if not is_off(state, command.source):
        return CommandResult(error=f"datacenter {command.source} is not off", status=409)
    for uid in command.uids:
        mark = watermarks_of(state).get(uid)
        if mark is not None and mark.home == command.source and not mark.is_gone:
            drop_share(state, mark, command.evaluations.get(uid), context)
    return CommandResult()


def _put(state: "State", adoption: Adoption, context: "Context") -> None:
    adoptions_of(state).put(adoption.source, adoption)
    context.changed("adoptions", "AdoptionChanged", adoption.source)


register_table(TABLE, Adoption)
register_handler(BeginAdoption, begin_adoption)
register_handler(NoteClaims, note_claims)
register_handler(NoteFloors, note_floors)
register_handler(NoteCollected, note_collected)
register_handler(NoteRemoved, note_removed)
register_handler(RemoveShares, remove_shares)
