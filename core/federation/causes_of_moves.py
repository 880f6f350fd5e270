"""A decision about who runs what, in the words of the causal log (core.federation.causes)."""

from typing import TYPE_CHECKING

from core.federation import ranges
from core.federation.causes import Kind, cause, chain_of
from core.federation.homes import Home
from core.federation.splitting import Division
from core.state.commands import Command

if TYPE_CHECKING:
    from core.federation.host import FederationHost


class CausesOfMoves:
    """What a division's causes are; they are committed with it."""

    def __init__(self, host: "FederationHost") -> None:
        self._host = host

    def _place(self, dc: str) -> str:
        return "/".join(self._host.datacenters().get(dc, ("", dc)))

    def split(self, home: Home, division: Division) -> Command:
        counts = ", ".join(
            f"{self._place(dc)} {ranges.size(allowed)}"
            for dc, allowed in sorted(division.allowed.items())
            if allowed
        )
        return cause(
            Kind.SPLIT, home.namespace, home.job_id, home.uid, after=self._after(home),
            counts=counts,
        )  # fmt: skip

    def of(self, home: Home, division: Division) -> list[Command]:
        made: list[Command] = []
        after = self._after(home)
        name = (home.namespace, home.job_id, home.uid)
        for why, dc, count in division.moves:
            place = self._place(dc)
            age_ms = self._digest_age_ms(dc)
            if why in ("spilled", "tried"):
                made.append(
                    cause(Kind.SPILLED, *name, after=after, to=place, count=count,
                          digest_age_ms=age_ms)
                )  # fmt: skip
            elif why == "reclaimed":
                made.append(cause(Kind.RECLAIMED, *name, after=after, source=place, count=count))
            elif why == "evacuated":
                made.append(cause(Kind.EVACUATED, *name, after=after, source=place, count=count))
            elif why == "placed" and dc != self._host.datacenter_id:
                indices = ranges.shown(division.allowed.get(dc, {}))
                made.append(
                    cause(Kind.SHARED, *name, after=after, to=place, count=count, indices=indices,
                          digest_age_ms=age_ms)
                )  # fmt: skip
        for cut_off, to, copied in division.copies:
            places = {"to": self._place(to), "source": self._place(cut_off)}
            count = ranges.size(copied)
            made.append(cause(Kind.SURGED, *name, after=after, count=count, **places))
        return made

    def _digest_age_ms(self, dc: str) -> int | None:
        """Return how old that is by which a datacenter was chosen; None for our own."""
        ages = (s.age_us for s in self._host.sites() if s.digest.datacenter_id == dc)
        age_us = next(ages, None)
        return None if age_us is None else age_us // 1000

    def _after(self, home: Home) -> list[str]:
        events = chain_of(self._host.state, home.namespace, home.job_id).events
        return [events[-1].id] if events else []
