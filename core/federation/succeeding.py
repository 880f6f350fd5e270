"""What the leader of the succeeding datacenter does, and those that it asks.

core.federation.succession shows the rounds. Whom it waits for it says (`waiting`): a
datacenter that does not answer may have been given a name. An operator brings it back, or
declares it off too.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.federation.asking import Asking
from core.federation.claims import Claim, authority_of, epoch_of, generation_of
from core.federation.host import Done, is_not_from
from core.federation.known import Site
from core.federation.names_held import Names, joined, names_here
from core.federation.rhythm import Rhythm
from core.federation.roster import Roster, is_newer, is_off, roster_of, rosters_of
from core.federation.roster_log import CopyRoster, DeclareOff, EnrolMember
from core.federation.succession import (
    BeginSuccession,
    EndSuccession,
    NotePledges,
    Succession,
    TakePledge,
    pledge_of,
    succession_of,
)
from core.federation.transfer import BATCH, StageClaims, TakeAuthority
from core.model.host import Peer
from core.state.access import CallAnswer
from core.state.commands import Command

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator
    from core.state.state import State

LOOK_US: Final = 1_000_000
PAGE: Final = 2_000  # claims in one answer, of some 200 bytes
_PAGES_KEPT: Final = 4  # askers whose pages are remembered


class Succeeding:
    """One per coordinator. Works while this server leads."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self._coordinator = coordinator
        self._host = coordinator.host
        self._asking: Asking[str] = Asking(self._host, self.look)  # by whom; "" = our own log
        self._answers: dict[str, Names] = {}
        self._asked_of: tuple[str, ...] = ()  # the lost ones that the answers are about
        self._pages: dict[tuple[str, int], Names] = {}  # what is told in several answers
        self._rhythm = Rhythm(self._host, LOOK_US, self.look)

    def on_leadership(self, is_leader: bool) -> None:
        for memory in (self._asking, self._answers, self._pages):
            memory.clear()
        self._rhythm.on_leadership(is_leader)

    def waiting(self) -> dict[str, str]:
        """Return whom it waits for, and what they said last."""
        return dict(self._asking.errors)

    def look(self) -> None:
        """Take the succession one step further."""
        known = succession_of(self._host.state)
        if known is None or not known.is_under_way:
            self._answers.clear()
            self._asking.errors.clear()
        elif known.stage == "pledges":
            self._ask_pledges(known)
        else:
            self._ask_names(known)

    # --- first round ------------------------------------------------------------------------

    def _ask_pledges(self, known: Succession) -> None:
        for dc in [one for one, has_pledged in known.members.items() if not has_pledged]:
            if is_off(self._host.state, dc):
                self._asking.propose(
                    dc, [NotePledges(generation=known.generation, datacenter_ids=[dc])]
                )
                continue

            def done(body: Any, dc: str = dc) -> None:
                if body["Refused"]:
                    refused = f"{body['Refused']}: say authority adopt again, or leave it"
                    self._asking.errors[dc] = refused
                    return
                commands: list[Command] = []
                members: dict[str, None] = dict.fromkeys(body["Known"])
                for roster in msgspec.convert(msgspec.to_builtins(body["Rosters"]), list[Roster]):
                    members |= dict.fromkeys(roster.members)
                    if is_newer(roster, rosters_of(self._host.state).get(roster.region)):
                        commands.append(CopyRoster(roster=roster))
                note = NotePledges(
                    generation=known.generation, datacenter_ids=[dc],
                    members=[one for one in members if one != self._host.datacenter_id],
                )  # fmt: skip
                self._asking.propose(dc, [note, *commands])

            self._asking.ask(dc, dc, "Authority.Pledge", self._body(known), done)

    def _body(self, known: Succession) -> dict[str, Any]:
        host = self._host
        return {
            "Region": host.region, "Generation": known.generation, "By": host.datacenter_id,
            "Lost": list(known.lost),
        }  # fmt: skip

    def on_pledge(self, body: Any, source: Peer, reply: Done) -> None:
        """Pledge: {"Refused", "Generation", "Rosters", "Known": datacenter ids}."""
        command = _pledge_in(body)
        if wrong := is_not_from(source, command.by):
            reply(None, wrong)
            return
        host = self._host

        def done(value: Any, error: str) -> None:
            if not error:
                rosters = list(rosters_of(host.state).values())
                value = {**value, "Rosters": rosters, "Known": list(host.datacenters())}
            reply(value, error)

        host.propose([command], done)

    # --- second round -----------------------------------------------------------------------

    def _ask_names(self, known: Succession) -> None:
        if self._asked_of != tuple(known.lost):
            self._answers.clear()
            self._asked_of = tuple(known.lost)
        missing = [dc for dc in known.members if dc not in self._answers]
        for dc in missing:
            if is_off(self._host.state, dc):
                self._answers[dc] = Names()
            else:
                self._ask_page(known, dc, Names(), 0)
        if all(dc in self._answers for dc in known.members):
            self._take(known)

    def _ask_page(self, known: Succession, dc: str, before: Names, page: int) -> None:
        def done(body: Any) -> None:
            given = msgspec.convert(msgspec.to_builtins(body["Names"]), Names)
            names = Names(
                (*before.claims, *given.claims), (*before.backups, *given.backups),
                {**before.calls, **given.calls},
            )  # fmt: skip
            if body["HasMore"]:
                self._ask_page(known, dc, names, page + 1)
            elif self._asked_of == tuple(known.lost):
                self._answers[dc] = names

        body = {**self._body(known), "Page": page}
        self._asking.ask(dc, dc, "Authority.Names", body, done)

    def on_names(self, body: Any, source: Peer, reply: Done) -> None:
        """Say which names are held here, page by page: {"Names", "HasMore"}.

        The first page is as of an entry behind the pledge: what was given by the lost one's
        word before is in it, and nothing is afterwards.
        """
        command, page = _pledge_in(body), int(body["Page"])
        if wrong := is_not_from(source, command.by):
            reply(None, wrong)
            return
        host, key = self._host, (command.by, command.generation)
        if page:
            if key in self._pages:
                reply(*_page_of(self._pages[key], page))
            else:
                reply(None, "the leader has changed meanwhile: ask for the first page again")
            return

        def done(value: Any, error: str) -> None:
            if error or value["Refused"]:
                reply(None, error or value["Refused"])
                return
            self._pages.pop(key, None)
            self._pages[key] = names_here(host.state, command.region, command.lost)
            while len(self._pages) > _PAGES_KEPT:
                del self._pages[next(iter(self._pages))]
            reply(*_page_of(self._pages[key], 0))

        host.propose([command], done)

    # --- taking it --------------------------------------------------------------------------

    def _take(self, known: Succession) -> None:
        """Stage all claims, then be the authority."""
        if not self._asking.begin(""):
            return
        claims, twice = joined(self._answers[dc] for dc in known.members)
        for first, second in twice:
            self._host.log(
                "error", "two jobs of one name: stop one of them with job stop -purge",
                job=first.job_id, namespace=first.namespace, home=first.home, other=second.home,
            )  # fmt: skip
        newest = max((generation_of(claim.epoch) for claim in claims), default=0)
        if newest >= known.generation:
            self._asking.end("")
            self._begin_anew(known, newest + 1)
            return
        numbered, counter = _with_epochs(claims, known.generation)
        calls: dict[str, CallAnswer] = {}
        for names in self._answers.values():
            calls |= names.calls
        batches = [numbered[at : at + BATCH] for at in range(0, len(numbered), BATCH)] or [[]]

        def stage(number: int) -> None:
            if number == len(batches):
                self._end(known, counter, len(batches))
                return
            command = StageClaims(
                generation=known.generation, number=number, claims=batches[number],
                calls=calls if not number else {},
            )  # fmt: skip

            def done(_: Any, error: str) -> None:
                if error or not self._host.is_serving:
                    self._asking.end("")  # taken again, from the answers
                else:
                    stage(number + 1)

            self._host.propose([command], done)

        stage(0)

    def _end(self, known: Succession, counter: int, batches: int) -> None:
        host = self._host
        members = roster_of(host.state).members
        commands: list[Command] = [
            TakeAuthority(generation=known.generation, counter=counter, batches=batches),
            EnrolMember(datacenter_id=host.datacenter_id, name=host.datacenter),
            *(DeclareOff(datacenter_id=dc) for dc in known.lost if dc in members),
            EndSuccession(generation=known.generation),
        ]

        def done(value: Any, error: str) -> None:
            self._asking.end("")
            if not error and not value["Taken"]:
                host.log("error", "the authority is not taken", reason=value["Reason"])

        host.propose(commands, done)

    def _begin_anew(self, known: Succession, generation: int) -> None:
        """Go beyond an epoch that was given in a later generation than anybody has told."""
        lost, name = next(iter(known.lost.items()), ("", ""))
        again = BeginSuccession(
            lost=lost, name=name, generation=generation, members=list(known.members)
        )
        self._answers.clear()
        self._asking.propose("", [again])


def newest_generation(state: "State", sites: Sequence[Site]) -> int:
    """Return the newest generation of the own region's authority that anybody has told of."""
    seen = [s.digest.authority_generation for s in sites if s.digest.region == state.region]
    known = authority_of(state).generation, roster_of(state).generation
    return max(*known, pledge_of(state, state.region).generation, *seen)


def _pledge_in(body: Any) -> TakePledge:
    return TakePledge(
        region=str(body["Region"]), generation=int(body["Generation"]), by=str(body["By"]),
        lost=[str(dc) for dc in body["Lost"]],
    )  # fmt: skip


def _page_of(names: Names, page: int) -> tuple[dict[str, Any], str]:
    """Return one answer: claims by pages, all else with the first."""
    claims = names.claims[page * PAGE : (page + 1) * PAGE]
    shown = Names(claims) if page else Names(claims, names.backups, names.calls)
    return {"Names": shown, "HasMore": len(names.claims) > (page + 1) * PAGE}, ""


def _with_epochs(claims: list[Claim], generation: int) -> tuple[list[Claim], int]:
    """Give those an epoch whose home never needed to know one; return how many these are."""
    numbered, counter = [], 0
    for claim in claims:
        if not claim.epoch:
            counter += 1
            claim = msgspec.structs.replace(claim, epoch=epoch_of(generation, counter))
        numbered.append(claim)
    return numbered, counter
