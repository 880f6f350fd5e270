"""Which names of a region a datacenter can vouch for, when their authority is lost. Pure.

The claims of a lost authority are made anew from those who were given them:

    homes      what is at home here; also a home that is frozen, on its way elsewhere
    arrivals   homes on their way here: claimed for where they come from, as before the move
    backups    jobs of a lost datacenter whose backup is here; only the newest turn counts
    shares     what runs here of jobs of a lost datacenter: their names are not free either
    calls      the answers to calls about names that were given up, as the authority kept them

Of several words on one job the largest epoch is the newest.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from core.federation.backup import backups_of, turn_of
from core.federation.claims import Claim, claim_key
from core.federation.handing import arrivals_of
from core.federation.home_log import homes_of
from core.federation.homes import Home
from core.federation.share_log import watermarks_of
from core.model.child import parent_name
from core.state.access import CallAnswer

if TYPE_CHECKING:
    from core.state.state import State


class Kept(msgspec.Struct, frozen=True):
    """What one datacenter has of a lost one's jobs as their backup."""

    source: str  # datacenter id of the lost one
    turn: int
    claims: tuple[Claim, ...]


class Names(msgspec.Struct, frozen=True):
    """One datacenter's word on the names of a region."""

    claims: tuple[Claim, ...] = ()
    backups: tuple[Kept, ...] = ()
    calls: dict[str, CallAnswer] = {}  # first answers to calls about names that were given up


def names_here(state: "State", region: str, lost: Sequence[str]) -> Names:
    """Return the claims on names of a region that this datacenter vouches for."""
    claims: list[Claim] = []
    for record in state.jobs:
        home = homes_of(state).get(record.uid)
        if record.home or (record.is_purged and home is None):
            continue
        named = home or Home(
            namespace=record.namespace, job_id=record.id, uid=record.uid, epoch=0,
            region=record.job.region or state.region,
        )  # fmt: skip
        claims += _claim(named, state.datacenter_id, region, state.region)
    for arrival in arrivals_of(state).values():
        if arrival.parcel is not None:
            home = msgspec.structs.replace(arrival.parcel.members[0].home, epoch=arrival.epoch)
            claims += _claim(home, arrival.source, region, arrival.claim_region)
    for mark in watermarks_of(state).values():
        if mark.home in lost and not mark.is_gone:
            held = Home(
                namespace=mark.namespace, job_id=mark.job_id, uid=mark.uid, epoch=mark.epoch,
                region=mark.region, regions=(state.region,),
            )  # fmt: skip
            claims += _claim(held, mark.home, region, region)
    kept = [
        Kept(source, turn_of(state, source), tuple(_backed(state, source, region)))
        for source in lost
    ]
    return Names(tuple(claims), tuple(one for one in kept if one.turn), _calls(state, region))


def _calls(state: "State", region: str) -> dict[str, CallAnswer]:
    """Return the answers about names of the own region that nobody here has a job of."""
    found: dict[str, CallAnswer] = {}
    for namespace, job_id in state.calls.jobs() if state.region == region else ():
        if state.jobs.get(namespace, job_id) is None:
            found |= state.calls.of_job(namespace, job_id)
    return found


def _backed(state: "State", source: str, region: str) -> list[Claim]:
    found: list[Claim] = []
    for backup in backups_of(state, source):
        found += _claim(backup.member.home, source, region, region)
    return found


def _claim(home: Home, dc: str, region: str, home_region: str) -> list[Claim]:
    """Return the claim that a job has on its name in `region`; [] when it has none there.

    Args:
        dc: Whose home it is.
        home_region: Of that datacenter.
    """
    if parent_name(home.job_id):
        return []  # a child has no claim of its own
    first = home_region if home.region in ("", "*") else home.region
    if region not in (first, home_region, *home.regions):
        return []
    return [
        Claim(
            namespace=home.namespace,
            job_id=home.job_id,
            uid=home.uid,
            home=dc,
            epoch=home.epoch,
            origin="" if first == region else first,
            follows=0 if first == region else home.epoch,
            regions=tuple(one for one in home.regions if one != region) if first == region else (),
        )
    ]


def joined(words: Iterable[Names]) -> tuple[list[Claim], list[tuple[Claim, Claim]]]:
    """Return the claims that follow from all words, by name, and those that exclude each other.

    Of two jobs of one name, which no authority would have let happen, the one whose name it is
    stays, then the newer one.
    """
    words = list(words)
    given = [claim for word in words for claim in word.claims]
    newest: dict[str, Kept] = {}
    for kept in (kept for word in words for kept in word.backups):
        if kept.source not in newest or newest[kept.source].turn < kept.turn:
            newest[kept.source] = kept
    given += [claim for source in sorted(newest) for claim in newest[source].claims]
    found: dict[str, Claim] = {}
    twice: list[tuple[Claim, Claim]] = []
    for claim in sorted(given, key=_order):
        key = claim_key(claim.namespace, claim.job_id)
        first = found.get(key)
        if first is None:
            found[key] = claim
        elif first.uid == claim.uid:
            regions = tuple(dict.fromkeys((*first.regions, *claim.regions)))
            found[key] = msgspec.structs.replace(first, regions=regions)
        else:
            twice.append((first, claim))
    return list(found.values()), twice


def _order(claim: Claim) -> tuple[bool, int, str, str]:
    return bool(claim.origin), -claim.epoch, claim.home, claim.uid
