"""More checkers: what members do, judged by the packets between them.

    haste      nobody is declared dead sooner than the number of its accusers allows
               (Lifeguard IV-B), or without ever having been suspected
    patience   who does not answer is asked about through others when the timeout is over,
               stretched by the asker's health, no sooner and no later (IV-A; SWIM 3.1)
    relay      who is asked to probe for another answers, with an ack or a nack (IV-A)
    buddy      a ping to a suspect tells it what it is accused of (IV-C), and so does the
               answer to one that is suspected or held dead, and evidently lives, and gossip
               to the recently dead
    waste      nobody probes those it knows to be gone
    fan-out    a round of gossip goes to as many members as GOSSIP.md says
    budget     a member sends records of origins as seldom as GOSSIP.md says, and not for ever

They see packets that pass as objects, when these arrive. Bounds are the papers' formulas,
written anew here.
"""

import math
from collections import Counter
from typing import Final

from gossip.messages import ACK, GOSSIP, NACK, PING, PING_REQUEST, SUSPECT, Packet
from gossip.settings import Settings
from gossip.views import EventKind, MemberEvent, Status
from sim.gossip.pool import Pool
from sim.gossip_world import S
from sim.network import Station
from sim.seeds import Violation

NO_PING: Final = (-1, 0, 0, 0, -S)
SETTLED_US: Final = 1 * S  # what is believed for so long has been acted on


def suspicion_us(settings: Settings, members: int, confirmations: int) -> int:
    """Return how long a suspicion lasts at least (Lifeguard IV-B), in a pool of `members`."""
    k = settings.suspicion_multiplier - 2
    shortest = settings.suspicion_multiplier * max(1.0, math.log10(members))
    if members - 2 < k or confirmations >= k:
        share = 1.0
    else:
        share = math.log(confirmations + 1) / math.log(k + 1)
    longest = settings.suspicion_max_multiplier * shortest
    return int((longest - share * (longest - shortest)) * settings.probe_interval_us)


class Traffic:
    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.spared: set[str] = set()  # whose deaths were made up: anything may come of it
        # (observer, member) -> since when it is suspected there, and how many were known then;
        # the suspicion of a later incarnation may begin later, untold
        self._suspected: dict[tuple[str, str], tuple[int, int]] = {}
        self._accusers: dict[tuple[str, int], set[str]] = {}  # of (member, incarnation)
        self._dead: set[tuple[str, int]] = set()
        self._talked_us: dict[str, int] = {}  # address -> its latest stream but for probes
        # asker -> its latest ping: (sequence, arrived, health, refutations, seen to rise when)
        self._pings: dict[str, tuple[int, int, int, int, int]] = {}
        self._answered: set[tuple[str, str, int]] = set()  # (helper, asker, sequence)
        self._asked_us: dict[tuple[str, str], int] = {}  # (helper, whom it shall probe)
        self._gone_since_us: dict[tuple[str, str], int] = {}  # (observer, who is gone)
        self._rounds: dict[str, tuple[int, int]] = {}  # teller -> (began, packets)
        self.widest: Counter[str] = Counter()  # teller -> most packets of a round
        self.records: Counter[str] = Counter()  # teller -> packets with records of origins
        self._jitter_us = pool.network.lan.jitter_us + pool.network.lan.latency_us
        pool.on_packet, pool.on_stream = self.on_packet, self.on_stream

    def _fail(self, checker: str, text: str) -> None:
        raise Violation(checker, f"{self.pool.now_us / S:.2f} s: {text}\n{self.pool.story(12)}")

    # -- beliefs ----------------------------------------------------------------------

    def on_event(self, now_us: int, observer: str, event: MemberEvent) -> None:
        kind, view = event
        about = (view.name, view.incarnation)
        if kind in (EventKind.FAILED, EventKind.LEFT):
            self._gone_since_us[observer, view.name] = now_us
        else:
            self._gone_since_us.pop((observer, view.name), None)
        if kind is EventKind.SUSPECTED:
            known = self.pool.machine(observer).member_count
            self._suspected[observer, view.name] = (now_us, known)
        elif kind is EventKind.JOINED:
            # told together with a suspicion, it came after it, and did not count yet
            for key, (began_us, known) in self._suspected.items():
                if key[0] == observer and began_us == now_us:
                    self._suspected[key] = (began_us, known - 1)
        elif kind is EventKind.FAILED and about not in self._dead:
            self._dead.add(about)
            if view.name not in self.spared:
                self._check_haste(now_us, observer, about)
        if kind in (EventKind.JOINED, EventKind.UPDATED, EventKind.FAILED, EventKind.LEFT):
            self._suspected.pop((observer, view.name), None)

    def _check_haste(self, now_us: int, observer: str, about: tuple[str, int]) -> None:
        pool = self.pool
        began = self._suspected.get((observer, about[0]))
        if began is None:
            self._fail("haste", f"{observer} declares {about[0]} dead, never having suspected it")
            return
        began_us, members = began
        members = min(members, pool.machine(observer).member_count + 1)
        accusers = {observer, *self._accusers.get(about, ())}
        confirmations = len(accusers) - 1
        if pool.is_wire or self._talked_us.get(pool.address(observer), -1) >= began_us:
            confirmations = members  # accusers it may have heard of unseen
        least_us = suspicion_us(pool.settings, members, confirmations)
        # who doubts its own timing gives a suspect longer, by an interval for each point
        least_us += pool.machine(observer).health_score * pool.settings.probe_interval_us
        if now_us - began_us < least_us - 1_000:
            self._fail(
                "haste",
                f"{observer} declares {about[0]} dead after {(now_us - began_us) / S:.2f} s; "
                f"{confirmations} confirmations of {members} members ask for {least_us / S:.2f} s",
            )

    # -- packets ----------------------------------------------------------------------

    def on_stream(self, source: str, target: str) -> None:
        """An exchange, or its answer, began between two addresses."""
        if self.pool.name_at(target):
            self._talked_us[source] = self._talked_us[target] = self.pool.now_us

    def on_packet(self, here: Station, there: Station, packet: Packet) -> None:
        pool, sender = self.pool, packet.sender
        for update in packet.updates:
            if update.status == SUSPECT:
                about = (update.name, update.incarnation)
                self._accusers.setdefault(about, set()).add(update.by)
        member = pool.members.get(sender)
        if member is None or member.address != here.name:
            return
        if packet.digests:
            self.records[sender] += 1
        kind = packet.kind
        if kind in (ACK, NACK):
            asker = pool.name_at(there.name)
            self._answered.add((sender, asker, packet.sequence))
            if kind == ACK:
                self._check_told(sender, asker, packet)
        elif kind == GOSSIP and not packet.digests:
            self._count_round(sender)
            self._check_told(sender, pool.name_at(there.name), packet)
        elif kind == PING:
            self._on_ping(sender, packet)
        elif kind == PING_REQUEST:
            helper = pool.name_at(there.name)
            self._asked_us[helper, packet.target] = pool.now_us
            self._asked_us[helper, sender] = pool.now_us  # whom the answer goes to
            if pool.calm_for_us() >= SETTLED_US and not pool.network.is_broken:
                self._check_patience(sender, packet)
                self._expect_answer(sender, helper, packet)

    def _count_round(self, sender: str) -> None:
        now_us = self.pool.now_us
        began_us, packets = self._rounds.get(sender, (-S, 0))
        if now_us - began_us > self._jitter_us:
            began_us, packets = now_us, 0
        self._rounds[sender] = (began_us, packets + 1)
        self.widest[sender] = max(self.widest[sender], packets + 1)

    def _on_ping(self, sender: str, packet: Packet) -> None:
        pool, target = self.pool, packet.target
        now_us = pool.now_us
        if now_us - self._asked_us.get((sender, target), -S) <= self._jitter_us:
            return  # for another, who may know better
        machine = pool.machine(sender)
        before = self._pings.get(sender, NO_PING)
        if before[0] == packet.sequence:
            return  # a double
        refuted = machine.counters.refutations
        risen_us = now_us if refuted != before[3] else before[4]
        self._pings[sender] = (packet.sequence, now_us, machine.health_score, refuted, risen_us)
        if pool.calm_for_us() < SETTLED_US or pool.faults["packet repeated"]:
            return  # a request of long ago may make anybody probe
        if now_us - self._gone_since_us.get((sender, target), now_us) > SETTLED_US:
            self._fail("waste", f"{sender} probes {target}, which it knows to be gone")
        view = machine.member(target)
        if view is None or view.status is not Status.SUSPECT:
            return
        began_us, _ = self._suspected.get((sender, target), (now_us, 0))
        if now_us - began_us > SETTLED_US and not any(
            update.name == target and update.status == SUSPECT for update in packet.updates
        ):
            self._fail("buddy", f"{sender} suspects {target} and pings it without a word of it")

    def _check_told(self, sender: str, asker: str, packet: Packet) -> None:
        """Judge an answer, unless it is one that is passed on, or gossip to one that is gone."""
        pool = self.pool
        view = pool.machine(sender).member(asker)
        asked_us = self._asked_us.get((sender, asker), -S)
        if (
            pool.faults["packet repeated"] or pool.now_us - asked_us < SETTLED_US
            or view is None or view.status not in (Status.SUSPECT, Status.DEAD)
            or (packet.kind == GOSSIP and view.status is Status.SUSPECT)
        ):  # fmt: skip
            return
        began_us, _ = self._suspected.get((sender, asker), (pool.now_us, 0))
        began_us = self._gone_since_us.get((sender, asker), began_us)
        if pool.now_us - began_us > SETTLED_US and all(u.name != asker for u in packet.updates):
            self._fail("buddy", f"{sender} takes {asker} for {view.status} and does not say so")

    def _check_patience(self, sender: str, packet: Packet) -> None:
        pool = self.pool
        sequence, pinged_us, score, _, risen_us = self._pings.get(sender, NO_PING)
        if packet.sequence != sequence or pinged_us - risen_us <= self._jitter_us:
            return  # the ping was lost, or the health may have changed on its way
        due_us = pool.settings.probe_timeout_us * (score + 1)
        took_us = pool.now_us - pinged_us
        if abs(took_us - due_us) > self._jitter_us:
            self._fail(
                "patience",
                f"{sender}, of health {score}, asks others about {packet.target} after "
                f"{took_us / S:.2f} s, not {due_us / S:.2f} s",
            )

    def _expect_answer(self, sender: str, helper: str, packet: Packet) -> None:
        pool = self.pool
        if pool.network.lan.loss or not helper:
            return
        if pool.machine(helper).member(packet.target) is None:
            return
        key = (helper, sender, packet.sequence)
        self._answered.discard(key)
        lives = (pool.machine(sender), pool.machine(helper))
        within_us = pool.settings.probe_timeout_us + 2 * self._jitter_us
        pool.wheel.after(within_us, lambda _: self._check_relayed(key, packet.target, lives))

    def _check_relayed(
        self, key: tuple[str, str, int], target: str, lives: tuple[object, object]
    ) -> None:
        pool = self.pool
        helper, asker, _ = key
        if key in self._answered or pool.calm_for_us() < S or pool.network.is_broken:
            return
        if any(pool.fates[name].state != "up" for name in (helper, asker)):
            return
        if lives == (pool.machine(asker), pool.machine(helper)):
            self._fail("relay", f"{helper} answers nothing to {asker}, who asked about {target}")

    # -- what a theme asks for --------------------------------------------------------

    def await_ping(self, name: str) -> None:
        """Run until the next ping of a member arrives somewhere, two seconds at most."""
        before = self._pings.get(name)
        for _ in range(2_000):
            if self.pool.is_wire or self._pings.get(name) != before:
                return
            self.pool.run(0.001)

    def check_rounds_width(self) -> None:
        """Rumours went to as many members a round as they should, and to no more."""
        pool = self.pool
        wanted = min(pool.settings.gossip_fanout, len(pool.up()) - 1)
        if max(self.widest.values()) != wanted:
            self._fail("fan-out", f"rounds of {max(self.widest.values())} packets, not {wanted}")

    def check_records_told(self) -> None:
        """Nothing more is told of origins, since the counts were cleared."""
        for name, packets in self.records.items():
            self._fail("budget", f"{name} sent {packets} packets with records that all have")

    def check_budget(self, since_us: int, lives: int) -> None:
        """Records were told as often as they may be, since the counts were cleared."""
        pool, settings = self.pool, self.pool.settings
        if pool.network.lan.duplication:
            return
        intervals = (pool.now_us - since_us) / settings.digest_interval_us + 1 + lives
        most = settings.gossip_fanout * settings.digest_packets * intervals
        for name, packets in self.records.items():
            if packets > most:
                self._fail("budget", f"{name} sent {packets} packets with records, not {most:.0f}")
