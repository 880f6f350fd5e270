"""The simulated network: delay, jitter, loss, duplication, cuts in either direction.

Between two agents lies a link, found by what both belong to: the same datacenter, the
same region, or two regions. Datagrams and one-way messages may be lost, duplicated and
overtake each other as their delays fall; a stream (a call, an exchange) is lost as a
whole, and its caller hears of it by a timeout or, when nothing listens there, by a
refusal after one round trip.
"""

import random
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from sim.wheel import Wheel

FATES: Final = 256  # of datagrams, drawn together


class LinkModel(msgspec.Struct, frozen=True, kw_only=True):
    """How packets fare between two places. Times in microseconds."""

    latency_us: int = 500
    jitter_us: int = 200  # uniform, on top
    loss: float = 0.0  # of datagrams
    duplication: float = 0.0


class Place(msgspec.Struct, frozen=True):
    """Where an agent is."""

    region: str
    datacenter: str
    name: str

    def names(self) -> tuple[str, str, str]:
        """What a fault may call it: its region, its datacenter, itself."""
        return (self.region, f"{self.region}/{self.datacenter}", self.name)


class Station:
    """One agent's end of all its links. Who gets datagrams by `post` inherits it."""

    __slots__ = ("is_up", "name", "names", "network", "place", "site")

    def __init__(self, place: Place) -> None:
        self.name = place.name
        self.place = place
        self.names = place.names()
        self.site = (place.region, place.datacenter)
        self.is_up = True
        self.network: Network  # set by `Network.connect`

    def post(self, target: str, body: Any) -> None:
        """Send a datagram to the `receive` of another end, found by its name."""
        there = self.network.stations.get(target)
        if there is None:
            self.network.lose_one(self.kind_of(body) + "/cut")
        else:
            self.post_to(there, body)

    def post_to(self, there: "Station", body: Any) -> None:
        """Send a datagram to another end: as `Network.datagram`, but for hosts of ten
        thousand agents, where each look into a large table counts.
        """
        network = self.network
        if not self.is_up:
            network.lose_one(self.kind_of(body) + "/cut")
            return
        network.unsampled -= 1
        if not network.unsampled:
            network.take_sample(self, there, body)
        wheel, link = network.wheel, network.lan
        if self.site is there.site and not (network.is_broken or link.duplication):
            fates_us = network.fates_us
            if not fates_us or network.fated is not link:
                fates_us = network.draw_fates()
            delay_us = fates_us.pop()
            if delay_us < 0:
                network.lose_one(self.kind_of(body) + "/loss")
            else:
                wheel.at(wheel.now_us + delay_us, network.hand_over, (self, there, body))
            return
        for delay_us in network.delays_us(self, there, self.kind_of(body)):
            wheel.after(delay_us, network.hand_over, (self, there, body))

    def kind_of(self, body: Any) -> str:
        """Return under what a loss of `body` is counted."""
        return "post"

    def receive(self, here: "Station", body: Any) -> None:
        """Take what `post` brought from `here`."""


# What a datagram or stream carries on its way: from, to, what to call there, with what.
_Flight = tuple[Station, Station, Callable[[Any], None], Any]


class Network:
    """Carries things between named agents over the wheel."""

    def __init__(self, wheel: Wheel, rng: random.Random) -> None:
        self.lan = LinkModel(latency_us=250, jitter_us=100)
        self.region = LinkModel(latency_us=1_500, jitter_us=500)
        self.wan = LinkModel(latency_us=40_000, jitter_us=5_000)
        self.links: dict[tuple[str, str], LinkModel] = {}  # (region, region), sorted
        self.delivered = 0
        self.lost: dict[str, int] = {}
        self.wheel = wheel
        self.draw = rng.random
        self.fates_us: list[int] = []  # of datagrams yet to be posted over `fated`
        self.fated = self.lan
        self.stations: dict[str, Station] = {}
        self._sites: dict[tuple[str, str], tuple[str, str]] = {}
        self._cuts: dict[int, tuple[str, str, bool]] = {}  # id -> (from, to, both ways)
        self._splits: dict[int, tuple[frozenset[str], bool]] = {}  # id -> (side, both ways)
        self._is_parted = False  # whether there is any cut or split
        # where cuts name regions and datacenters only: who is cut off from whom, by site
        self._is_cut_by_site = False
        self._cut_sites: dict[tuple[tuple[str, str], tuple[str, str]], bool] = {}
        self.is_broken = False  # whether there is any fault now
        self._blocked: dict[int, str] = {}  # id -> the agent that no datagram reaches
        self._slow: dict[int, tuple[str, str, int]] = {}
        self._lossy: dict[int, tuple[float, frozenset[str] | None]] = {}  # of whom; None = all
        self.sample: Callable[[Station, Station, Any], int] | None = None  # see `sample_with`
        self.unsampled = 0  # so many more until the next one is sampled; below 0: never
        self._next_fault = 0

    def add(self, place: Place) -> None:
        """Connect an agent; it is up."""
        self.connect(Station(place))

    def connect(self, station: Station) -> None:
        """Connect an agent by a station of its own kind, in place of an earlier one."""
        # one object a site: most comparisons end with that
        station.site = self._sites.setdefault(station.site, station.site)
        station.network = self
        self.stations[station.name] = station

    def set_up(self, name: str, is_up: bool) -> None:
        self.stations[name].is_up = is_up

    def is_up(self, name: str) -> bool:
        station = self.stations.get(name)
        return station is not None and station.is_up

    # --- faults -------------------------------------------------------------------------

    def cut(self, source: str, target: str, *, both_ways: bool = True) -> int:
        """Cut everything from `source` to `target` (a region, datacenter or agent each)."""
        self._next_fault += 1
        self.is_broken = True
        self._cuts[self._next_fault] = (source, target, both_ways)
        self._note_parted()
        return self._next_fault

    def split(self, side: Iterable[str], *, both_ways: bool = True) -> int:
        """Cut these agents off from all others: all that leaves the side, or both ways."""
        self._next_fault += 1
        self.is_broken = True
        self._splits[self._next_fault] = (frozenset(side), both_ways)
        self._note_parted()
        return self._next_fault

    def block_datagrams(self, target: str) -> int:
        """Let no datagram reach an agent, as a firewall does; streams pass."""
        self._next_fault += 1
        self.is_broken = True
        self._blocked[self._next_fault] = target
        return self._next_fault

    def slow(self, source: str, target: str, extra_us: int) -> int:
        self._next_fault += 1
        self.is_broken = True
        self._slow[self._next_fault] = (source, target, extra_us)
        return self._next_fault

    def lose(self, fraction: float, names: Iterable[str] | None = None) -> int:
        """Lose this fraction of all datagrams, where a link doesn't lose more: everywhere, or
        of those that these agents send or get.
        """
        self._next_fault += 1
        self.is_broken = True
        self._lossy[self._next_fault] = (fraction, None if names is None else frozenset(names))
        return self._next_fault

    def heal(self, fault: int) -> None:
        self._cuts.pop(fault, None)
        self._splits.pop(fault, None)
        self._blocked.pop(fault, None)
        self._slow.pop(fault, None)
        self._lossy.pop(fault, None)
        self._note_parted()
        self.is_broken = self._is_parted or bool(self._blocked or self._slow or self._lossy)

    def is_cut(self, source: str, target: str) -> bool:
        """Return whether nothing goes from one agent to another now."""
        return self._is_cut(self.stations[source], self.stations[target])

    def _is_cut(self, source: Station, target: Station) -> bool:
        if not self._is_cut_by_site:
            return self._is_cut_off(source, target)
        pair = (source.site, target.site)
        is_cut = self._cut_sites.get(pair)
        if is_cut is None:
            is_cut = self._cut_sites[pair] = self._is_cut_off(source, target)
        return is_cut

    def _note_parted(self) -> None:
        """Cuts and splits changed: see whether sites alone say who is cut off from whom."""
        self._is_parted = bool(self._cuts or self._splits)
        self._cut_sites.clear()
        named = {name for start, end, _ in self._cuts.values() for name in (start, end)}
        self._is_cut_by_site = not self._splits and named.isdisjoint(self.stations)

    def _is_cut_off(self, source: Station, target: Station) -> bool:
        for side, both_ways in self._splits.values():
            starts_inside, ends_inside = source.name in side, target.name in side
            if starts_inside != ends_inside and (both_ways or starts_inside):
                return True
        here, there = source.names, target.names
        for start, end, both_ways in self._cuts.values():
            if _matches(start, here) and _matches(end, there, here, start):
                return True
            if both_ways and _matches(start, there) and _matches(end, here, there, start):
                return True
        return False

    # --- carrying -----------------------------------------------------------------------

    def sample_with(self, sample: Callable[[Station, Station, Any], int]) -> None:
        """Show a part of all that is sent to `sample(here, there, body)`, which says how many
        more until the next one. What it sees changes nothing.
        """
        self.sample, self.unsampled = sample, 1

    def take_sample(self, here: Station, there: Station, body: Any) -> None:
        if self.sample is not None:
            self.unsampled = self.sample(here, there, body)

    def datagram(
        self, source: str, target: str, deliver: Callable[[Any], None], body: Any, kind: str
    ) -> None:
        """Carry something that may be lost, doubled or overtaken."""
        here, there = self.stations[source], self.stations.get(target)
        if there is None or not here.is_up:
            self.lose_one(kind + "/cut")
            return
        delays_us = self.delays_us(here, there, kind)
        for delay_us in delays_us:
            self.wheel.after(delay_us, self._arrive, (here, there, deliver, body))

    def hand_over(self, flight: tuple[Station, Station, Any]) -> None:
        here, there, body = flight
        if there.is_up and not (self._is_parted and self._is_cut(here, there)):
            self.delivered += 1
            there.receive(here, body)
        else:
            self.lose_one("late/cut")

    def draw_fates(self) -> list[int]:
        """Decide what befalls the next datagrams that are posted within a datacenter: the
        delay of each, or -1 for one that is lost. Many at once cost half as much.
        """
        link, draw = self.lan, self.draw
        latency_us, jitter_us, loss = link.latency_us, link.jitter_us, link.loss
        self.fated = link
        self.fates_us = [
            -1 if loss and draw() < loss else latency_us + int(draw() * jitter_us)
            for _ in range(FATES)
        ]
        return self.fates_us

    def delays_us(self, here: Station, there: Station, kind: str) -> list[int]:
        """Return after which times a datagram arrives: none if it is lost, two if doubled."""
        if self._is_parted and self._is_cut(here, there):
            self.lose_one(kind + "/cut")
            return []
        if self._blocked and there.name in self._blocked.values():
            self.lose_one(kind + "/blocked")
            return []
        link = self._link(here, there)
        loss = self._loss(here, there, link) if self._lossy else link.loss
        if loss and self.draw() < loss:
            self.lose_one(kind + "/loss")
            return []
        delays_us = [self._delay_us(here, there, link)]
        if link.duplication and self.draw() < link.duplication:
            delays_us.append(self._delay_us(here, there, link))
        return delays_us

    def stream(
        self,
        source: str,
        target: str,
        deliver: Callable[[Any], None],
        refused: Callable[[Any], None],
        body: Any,
    ) -> None:
        """Carry something reliable: it arrives, is refused, or vanishes in a cut."""
        there = self.stations.get(target)
        if there is None:
            self.wheel.after(1_000, refused, body)
        else:
            self.stream_to(self.stations[source], there, deliver, refused, body)

    def stream_to(
        self,
        here: Station,
        there: Station,
        deliver: Callable[[Any], None],
        refused: Callable[[Any], None],
        body: Any,
    ) -> None:
        """As `stream`, between two ends that are at hand."""
        self.unsampled -= 1
        if not self.unsampled:
            self.take_sample(here, there, body)
        delay_us = self._delay_us(here, there, self._link(here, there))
        if not there.is_up:
            self.wheel.after(2 * delay_us, refused, body)
        elif self._is_parted and self._is_cut(here, there):
            self.lose_one("stream/cut")
        else:
            self.wheel.after(delay_us, self._arrive, (here, there, deliver, body))

    def _arrive(self, flight: _Flight) -> None:
        here, there, deliver, body = flight
        # A cut that fell while it was under way swallows it too.
        if there.is_up and not (self._is_parted and self._is_cut(here, there)):
            self.delivered += 1
            deliver(body)
        else:
            self.lose_one("late/cut")

    def _loss(self, here: Station, there: Station, link: LinkModel) -> float:
        loss = link.loss
        for fraction, names in self._lossy.values():
            if fraction > loss and (names is None or here.name in names or there.name in names):
                loss = fraction
        return loss

    def _delay_us(self, here: Station, there: Station, link: LinkModel) -> int:
        delay_us = link.latency_us + int(self.draw() * link.jitter_us)
        return delay_us + self._slowness_us(here, there) if self._slow else delay_us

    def _slowness_us(self, here: Station, there: Station) -> int:
        return sum(
            extra_us
            for start, end, extra_us in self._slow.values()
            if (start in here.names and end in there.names)
            or (start in there.names and end in here.names)
        )

    def _link(self, here: Station, there: Station) -> LinkModel:
        one, other = here.place.region, there.place.region
        if one != other:
            return self.links.get((min(one, other), max(one, other)), self.wan)
        return self.lan if here.site is there.site else self.region

    def lose_one(self, reason: str) -> None:
        self.lost[reason] = self.lost.get(reason, 0) + 1


def _matches(
    name: str, place: tuple[str, ...], other: tuple[str, ...] = (), other_name: str = ""
) -> bool:
    """ "*" is everybody else: all that the other side of the cut does not name."""
    if name == "*":
        return other_name not in place
    return name in place
