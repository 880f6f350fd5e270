"""Which links are cut or slow: rules by name, compiled to one `Link` per pair of agents.

A name is a region ("eu"), a datacenter ("eu/dc1") or an agent ("eu-dc1-server-1"). A rule
with two names is about everything between them; with one, about everything between it and
the rest.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import trio


class Endpoint(NamedTuple):
    """One agent as the relay sees it."""

    name: str
    region: str
    datacenter: str
    host: str  # where the agent binds
    face: str  # what it advertises; the relay listens there
    tcp_ports: tuple[int, ...]
    udp_ports: tuple[int, ...]

    def is_named(self, name: str) -> bool:
        return name in {self.name, self.region, f"{self.region}/{self.datacenter}"}


class UnknownName(ValueError):
    """Nothing in the federation has this name."""


@dataclass
class Rule:
    """`delay_s` 0 means cut. `target` "" is "everything but `source`"."""

    source: str
    target: str
    delay_s: float = 0.0
    is_one_way: bool = False

    @property
    def is_cut(self) -> bool:
        return self.delay_s == 0

    def concerns(self, sender: Endpoint, receiver: Endpoint) -> bool:
        if self._leads(sender, receiver):
            return True
        return not self.is_one_way and self._leads(receiver, sender)

    def _leads(self, sender: Endpoint, receiver: Endpoint) -> bool:
        if not sender.is_named(self.source):
            return False
        if not self.target:
            return not receiver.is_named(self.source)
        return receiver.is_named(self.target)

    def __str__(self) -> str:
        arrow = "->" if self.is_one_way else "<->"
        what = "cut" if self.is_cut else f"slow by {self.delay_s * 1000:g} ms"
        return f"{self.source} {arrow} {self.target or 'all others'}: {what}"


@dataclass
class Link:
    """What happens to traffic from one agent to another, now."""

    is_cut: bool = False
    delay_s: float = 0.0
    passed: int = 0  # packets, and chunks of streams
    dropped: int = 0  # packets
    _cleared: trio.Event = field(default_factory=trio.Event)

    async def wait_until_clear(self) -> None:
        """Return when the link is not cut."""
        while self.is_cut:
            await self._cleared.wait()

    def change(self, *, is_cut: bool, delay_s: float) -> None:
        self.is_cut, self.delay_s = is_cut, delay_s
        if not is_cut:
            self._cleared.set()
            self._cleared = trio.Event()


class Links:
    """The rules, and the links they make. Rules take effect at once, on open streams too."""

    def __init__(self, endpoints: Iterable[Endpoint]) -> None:
        self.endpoints = list(endpoints)
        self.rules: list[Rule] = []
        self._links: dict[tuple[str, str], Link] = {}
        self._by_name = {endpoint.name: endpoint for endpoint in self.endpoints}

    def between(self, sender: Endpoint | None, receiver: Endpoint) -> Link:
        """Return the link; a sender that is no agent has one that is always clear."""
        if sender is None:
            return Link()
        key = (sender.name, receiver.name)
        link = self._links.get(key)
        if link is None:
            link = self._links[key] = Link()
            self._apply(link, sender, receiver)
        return link

    def cut(self, source: str, target: str = "", *, is_one_way: bool = False) -> Rule:
        """Let nothing pass between two names (or from `source` to `target` only).

        Raises:
            UnknownName: A name means nobody.
        """
        return self._add(Rule(source, target, is_one_way=is_one_way))

    def slow(self, source: str, target: str, delay_s: float, *, is_one_way: bool = False) -> Rule:
        """Delay everything between two names by `delay_s` in each direction.

        Raises:
            UnknownName: A name means nobody.
            ValueError: The delay is not above zero.
        """
        if delay_s <= 0:
            raise ValueError("a delay is more than zero")
        return self._add(Rule(source, target, delay_s, is_one_way))

    def heal(self, source: str = "", target: str = "") -> list[Rule]:
        """Drop all rules, those that name `source`, or those between the two; return them.

        Raises:
            UnknownName: A name means nobody.
        """
        for name in (source, target):
            self._check(name)
        wanted = {source, target} - {""}
        gone = [rule for rule in self.rules if wanted <= {rule.source, rule.target}]
        self.rules = [rule for rule in self.rules if rule not in gone]
        self._recompute()
        return gone

    def matching(self, name: str) -> list[Endpoint]:
        """Return the agents that a name means.

        Raises:
            UnknownName: It means nobody.
        """
        self._check(name)
        return [endpoint for endpoint in self.endpoints if endpoint.is_named(name)]

    def _add(self, rule: Rule) -> Rule:
        self._check(rule.source)
        self._check(rule.target)
        same_ends = {rule.source, rule.target}
        # A new word about a pair replaces the old one of its kind.
        self.rules = [
            old
            for old in self.rules
            if {old.source, old.target} != same_ends or old.is_cut != rule.is_cut
        ]
        self.rules.append(rule)
        self._recompute()
        return rule

    def _check(self, name: str) -> None:
        if name and not any(endpoint.is_named(name) for endpoint in self.endpoints):
            known = sorted(
                {e.region for e in self.endpoints}
                | {f"{e.region}/{e.datacenter}" for e in self.endpoints}
            )
            raise UnknownName(
                f'nothing is called "{name}"; there are {", ".join(known)} and the agents '
                'that "serai dev status" lists'
            )

    def _recompute(self) -> None:
        for (sender, receiver), link in self._links.items():
            self._apply(link, self._by_name[sender], self._by_name[receiver])

    def _apply(self, link: Link, sender: Endpoint, receiver: Endpoint) -> None:
        rules = [rule for rule in self.rules if rule.concerns(sender, receiver)]
        link.change(
            is_cut=any(rule.is_cut for rule in rules),
            delay_s=max((rule.delay_s for rule in rules), default=0.0),
        )
