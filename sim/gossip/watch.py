"""The checkers: what a pool promises, judged from outside.

    incarnation   a member's view of another never goes back, nor its own
    false-death   nobody who is live and in reach is declared dead while all is calm
    detection     who died is known dead by all within a bound
    farewell      who left is never taken for dead, and nobody else says that one left
    tombstone     the dead are remembered as long as GOSSIP.md says, and then forgotten
    health        nobody doubts its own timing for long when all is well (Lifeguard IV-A)
    agreement     when all is mended, all live members believe just those alive, soon
    digest        the newest (term, sequence) wins at every reader and never goes back
    digest-age    a record's age is the truth, less the time on the wire
    memory        queues and timers stay small, and rumours die out
    refutation    who lives and is accused outbids it, and stays  (theme "accusers")
    woken         who was stopped accuses nobody for what it missed  (theme "dozing")
    storm         one that returns accuses nobody of its own absence  (theme "isolation")
    impostor      who claims the name of one that lives stays out  (theme "intruders")
    admission     whom the owners refuse is known to nobody  (ditto)
    needless      nobody is suspected whom others can reach  (theme "pairs")
    rounds        everybody is probed by everybody within two rounds  (theme "quiet")
    retransmit    a rumour is sent as often as GOSSIP.md says, no more and no less  (ditto)

What they do, packet by packet, is judged by sim.gossip.traffic.

"Calm" means that nobody has been slow, stopped or out of reach for `CALM_US`: a member in
such a state may accuse the innocent, and only Lifeguard makes that rare.
"""

import math
from collections import Counter

from gossip.machine import GossipMachine
from gossip.settings import Settings
from gossip.suspicion import suspicion_terms
from gossip.views import DigestView, EventKind, MemberEvent, Status
from sim.gossip.pool import STRANGER, Pool
from sim.gossip.traffic import Traffic
from sim.gossip_world import S
from sim.seeds import Violation

SAMPLE_US = 1 * S
SLACK_US = 2 * S
REAP_INTERVAL_US = 60 * S


def suspicion_max_us(settings: Settings, members: int) -> int:
    """Return the longest suspicion of GOSSIP.md's table."""
    shortest = settings.suspicion_multiplier * max(1.0, math.log10(members))
    return int(settings.suspicion_max_multiplier * shortest * settings.probe_interval_us)


def detection_us(settings: Settings, members: int) -> int:
    """Return within what time a death must be known to all that are well.

    Probed within two rounds by one prober (SWIM, section 4.3), by some prober within 20
    intervals but for a chance of e^-20 (section 3.1); then a probe, a suspicion, and gossip.
    """
    probed = min(2 * members, 20) + 2
    return (
        probed * settings.probe_interval_us
        + suspicion_max_us(settings, members)
        + settings.exchange_interval_us // 3
    )


class Watch:
    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.traffic = Traffic(pool)
        self.events: Counter[EventKind] = Counter()
        self.is_needless_checked = False
        self._largest = len(pool.fates)
        # (observer's life, subject) -> incarnation; lives count by machine
        self._seen: dict[tuple[int, str], int] = {}
        self._machines: dict[str, GossipMachine] = {}
        self._lives: dict[str, int] = {}
        self._life = 0
        # (origin, term, sequence) -> when it was published; the newest of each origin
        self.published: dict[tuple[str, int, int], int] = {}
        self.newest: dict[str, tuple[int, int]] = {}
        self._read: dict[tuple[int, str], tuple[int, int]] = {}
        self._watched_dead: dict[str, int] = {}  # who died -> until when all must know
        self._mistaken: dict[str, dict[str, None]] = {}  # who left -> by whom taken for dead
        self.woken = ""  # who was stopped, and may accuse nobody for what it missed
        self._accused: dict[tuple[str, str], int] = {}  # (observer, suspect) -> incarnation
        self._gone_us: dict[tuple[str, str], int] = {}  # (observer, who is gone) -> since when
        pool.on_event = self._on_event

    # -- what is said -----------------------------------------------------------------

    def publish(self, publisher: str, origin: str, term: int, sequence: int) -> None:
        """Let a member publish a record."""
        pool = self.pool
        self.published[origin, term, sequence] = pool.now_us
        self.newest[origin] = max(self.newest.get(origin, (0, 0)), (term, sequence))
        data = f"{origin}/{term}/{sequence}".encode()
        pool.do(publisher, lambda m, now_us: m.publish_digest(origin, term, sequence, data, now_us))

    def expect_death(self, name: str) -> None:
        """Somebody was killed: all must know in time, if nothing else is wrong till then."""
        pool = self.pool
        due_us = pool.now_us + detection_us(pool.settings, len(pool.fates))
        self._watched_dead[name] = due_us

    # -- what happens -----------------------------------------------------------------

    def _on_event(self, now_us: int, observer: str, event: MemberEvent) -> None:
        pool, name = self.pool, event.member.name
        pool.events.append((now_us, observer, event))
        del pool.events[:-200]
        self.events[event.kind] += 1
        self.traffic.on_event(now_us, observer, event)
        self._check_tombstone(now_us, observer, event)
        self._check_acquittal(observer, event)
        if event.kind is EventKind.SUSPECTED and self.is_needless_checked:
            self.fail("needless", f"{observer} suspects {name}, whom others reach")
        if observer == self.woken and event.kind in (EventKind.SUSPECTED, EventKind.FAILED):
            self.fail("woken", f"{observer}, just woken, takes {name} for {event.kind}")
        if event.kind is EventKind.LEFT and name not in pool.may_leave:
            self.fail("farewell", f"{observer} believes that {name} left, which never said so")
        if name == STRANGER and observer in pool.fates:
            self.fail("admission", f"{observer} admits {name}")
        fate = pool.fates.get(name)
        if event.kind is not EventKind.FAILED or fate is None or observer not in pool.fates:
            return
        calm_us = pool.calm_for_us()
        settled_us = min(calm_us, now_us - fate.since_us)
        limit_us = self._calm_us()
        if fate.state == "up" and settled_us > limit_us and fate.address == event.member.address:
            self.fail("false-death", f"{observer} declares {name} dead, which is well")
        if fate.state == "left" and calm_us > limit_us and not pool.network.lan.loss > 0.1:
            # chance may keep a farewell from one, who then finds it gone by itself
            mistaken = self._mistaken.setdefault(name, {})
            mistaken[observer] = None
            if len(mistaken) > 1:
                self.fail("farewell", f"{', '.join(mistaken)} take {name} for dead, which left")

    def _check_tombstone(self, now_us: int, observer: str, event: MemberEvent) -> None:
        key = (observer, event.member.name)
        if event.kind in (EventKind.FAILED, EventKind.LEFT):
            self._gone_us.setdefault(key, now_us)
            return
        gone_us = self._gone_us.pop(key, None)
        if event.kind is not EventKind.REAPED:
            return
        self._seen.pop((self._lives.get(observer, 0), key[1]), None)
        if gone_us is not None and now_us - gone_us < self.pool.settings.tombstone_us:
            took_s = (now_us - gone_us) / S
            self.fail("tombstone", f"{observer} forgets {key[1]} {took_s:.0f} s after it was gone")

    def _check_acquittal(self, observer: str, event: MemberEvent) -> None:
        """Only a higher incarnation clears a suspect (SWIM, section 4.2)."""
        key, incarnation = (observer, event.member.name), event.member.incarnation
        if event.kind is EventKind.SUSPECTED:
            self._accused[key] = incarnation
            return
        accused = self._accused.pop(key, 0)
        if event.kind is EventKind.UPDATED and incarnation <= accused:
            text = f"{observer} clears {key[1]}, accused at {accused}, by its word at {incarnation}"
            self.fail("acquittal", text)

    def _calm_us(self) -> int:
        settings = self.pool.settings
        return detection_us(settings, len(self.pool.fates)) + settings.exchange_interval_us

    def fail(self, checker: str, text: str) -> None:
        raise Violation(checker, f"{self.pool.now_us / S:.1f} s: {text}\n{self.pool.story(12)}")

    # -- looking now and then -----------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Let time pass, and look once a second."""
        end_us = self.pool.now_us + int(seconds * S)
        while self.pool.now_us < end_us:
            self.pool.run(min(SAMPLE_US, end_us - self.pool.now_us) / S)
            self.look()

    def look(self) -> None:
        pool = self.pool
        self._largest = max(self._largest, len(pool.fates))
        for host, member in pool.members.items():
            machine = member.machine
            if self._machines.get(host) is not machine:
                self._machines[host] = machine
                self._life += 1
                self._lives[host] = self._life
            life = self._lives[host]
            self._check_incarnations(host, life, machine)
            self._check_digests(host, life, machine.digests(pool.now_us))
            self._check_memory(host, machine)
        self._check_deaths()

    def _check_incarnations(self, host: str, life: int, machine: GossipMachine) -> None:
        for view in machine.members():
            key = (life, view.name)
            before = self._seen.get(key, 0)
            if view.incarnation < before:
                self.fail(
                    "incarnation",
                    f"{host}'s view of {view.name} went from {before} to {view.incarnation}",
                )
            self._seen[key] = view.incarnation

    def _check_digests(self, host: str, life: int, digests: list[DigestView]) -> None:
        pool = self.pool
        for view in digests:
            version = (view.term, view.sequence)
            before = self._read.get((life, view.origin), (0, 0))
            if version < before:
                self.fail("digest", f"{host} reads {view.origin} at {version} after {before}")
            self._read[life, view.origin] = version
            born_us = self.published.get((view.origin, *version))
            if born_us is None or view.data != f"{view.origin}/{version[0]}/{version[1]}".encode():
                self.fail("digest", f"{host} reads {view.origin} at {version}, never published")
                continue
            late_us = pool.now_us - born_us - view.age_us
            if late_us < -1_000 or (late_us > SLACK_US and not pool.is_age_blurred):
                self.fail(
                    "digest-age",
                    f"{host} takes {view.origin} for {view.age_us / S:.2f} s old, which is "
                    f"{(pool.now_us - born_us) / S:.2f} s old",
                )

    def _check_memory(self, host: str, machine: GossipMachine) -> None:
        known = len(machine.members())
        if machine.rumours_queued > known + 1:
            self.fail("memory", f"{host} queues {machine.rumours_queued} rumours of {known}")
        timers = machine.timers_armed
        if timers > 64 + 16 * self._largest:
            self.fail("memory", f"{host} has {timers} timers for {known} members")

    def _check_deaths(self) -> None:
        pool = self.pool
        for name, due_us in [*self._watched_dead.items()]:
            if pool.fates[name].state == "up" or pool.hardships:
                del self._watched_dead[name]  # it is back, or others can't be expected to know
            elif pool.now_us >= due_us:
                del self._watched_dead[name]
                for host in pool.up():
                    view = pool.machine(host).member(name)
                    if view is not None and view.status in (Status.ALIVE, Status.SUSPECT):
                        self.fail("detection", f"{host} still takes {name} for {view.status}")

    # -- the end ------------------------------------------------------------------------

    def disagreement(self) -> str:
        """Return why the members up do not agree with the truth, or ""."""
        pool = self.pool
        up = {name: pool.fates[name].address for name in pool.up()}
        first: dict[str, tuple[str, int]] = {}
        for host in up:
            alive = {
                view.name: (view.address, view.incarnation)
                for view in pool.machine(host).members()
                if view.status is Status.ALIVE
            }
            told = {name: address for name, (address, _) in alive.items()}
            for name in sorted({*told, *up}):
                if told.get(name) != up.get(name):
                    return f"{host} has {name} at {told.get(name)}, truly at {up.get(name)}"
            first = first or alive
            for name, (_, incarnation) in alive.items():
                if first[name][1] != incarnation:
                    return f"{host} has {name} at incarnation {incarnation}, not {first[name][1]}"
        return ""

    def refutations(self) -> int:
        """Return how often all members up refuted so far."""
        return sum(self.pool.machine(host).counters.refutations for host in self.pool.up())

    def lost_by(self, name: str) -> list[str]:
        """Return the members up that do not take `name` for one of them."""
        pool = self.pool
        views = {host: pool.machine(host).member(name) for host in pool.up()}
        return [
            host
            for host, view in views.items()
            if view is None or view.status not in (Status.ALIVE, Status.SUSPECT)
        ]

    def agree(self, within_s: float) -> float:
        """Run until all agree; return the seconds it took."""
        began_us = self.pool.now_us
        while reason := self.disagreement():
            took_s = (self.pool.now_us - began_us) / S
            if took_s > within_s:
                self.fail("agreement", f"after {took_s:.0f} s {reason}")
            self.run(1)
        return (self.pool.now_us - began_us) / S

    def check_digests_arrived(self, within_s: float) -> None:
        """All readers have the newest of every origin, in time."""
        pool = self.pool
        end_us = pool.now_us + int(within_s * S)
        while True:
            stale = [
                (host, origin)
                for host in pool.up()
                for origin, version in self.newest.items()
                if version not in _versions(pool.machine(host), origin, pool.now_us)
            ]
            if not stale:
                return
            if pool.now_us > end_us:
                self.fail("digest", f"{stale[0][0]} lacks the newest of {stale[0][1]}")
            self.run(1)

    def check_quiet(self) -> None:
        """Nothing more is told when nothing more happens."""
        for host in self.pool.up():
            queued = self.pool.machine(host).rumours_queued
            if queued:
                self.fail("memory", f"{host} still tells {queued} rumours of nothing new")

    def check_forgotten(self) -> None:
        """Whose tombstone is over is remembered by nobody; it is looked for once a minute."""
        pool = self.pool
        over_us = pool.now_us - pool.settings.tombstone_us - REAP_INTERVAL_US - SLACK_US
        for (host, name), gone_us in self._gone_us.items():
            if gone_us < over_us and pool.fates[host].state == "up":
                view = pool.machine(host).member(name)
                if view is not None and view.status in (Status.DEAD, Status.LEFT):
                    self.fail("tombstone", f"{host} still remembers {name}")

    def check_healthy(self) -> None:
        """Who answers and is answered does not doubt itself."""
        for host in self.pool.up():
            score = self.pool.machine(host).health_score
            if score:
                self.fail("health", f"{host} has a health of {score} with nothing wrong")

    def check_retransmits(self, subject: str) -> None:
        """One change in a quiet pool is sent 4 * ceil(log10(n + 1)) times by each member."""
        pool = self.pool
        members = len(pool.up())
        settings = pool.settings
        limit = settings.retransmit_multiplier * max(1, math.ceil(math.log10(members + 1)))
        before = pool.rumours
        pool.change_meta(subject, str(pool.now_us))
        self.run(2 * limit * settings.gossip_interval_us / S + 2 * settings.probe_interval_us / S)
        sent = pool.rumours - before
        incarnation = max(self._incarnations(subject))
        # chance may keep it from one, who then waits for the next exchange of tables
        told = self._incarnations(subject).count(incarnation)
        if sent != told * limit or told < members - 1:
            self.fail(
                "retransmit",
                f"{told} of {members} members sent a rumour {sent} times, each should {limit}",
            )

    def check_confirmed(self, name: str) -> None:
        """One that just died in a pool without losses is found dead long before a single accuser
        would be believed, as all who probe it confirm it (Lifeguard, "LHA-Suspicion"); and nobody
        takes its silence for his own fault, as helpers answer ("LHA-Probe").
        """
        pool, up = self.pool, self.pool.up()
        terms = suspicion_terms(pool.settings, len(up) + 1)
        # everybody probes everybody within two rounds
        limit_us = max(terms.min_us, 2 * len(up) * pool.settings.probe_interval_us) + 3 * S
        if limit_us >= terms.waits_us[0] or len(up) <= pool.settings.indirect_probes + 1:
            return
        suspected_us = 0
        while (statuses := pool.statuses(name)) != {"dead"}:
            if statuses == {"alive"}:
                suspected_us = pool.now_us
            elif pool.now_us - suspected_us > limit_us:
                self.fail("detection", f"{name} is dead, and merely suspected for {limit_us} us")
            for host in up:
                if pool.machine(host).health_score:
                    self.fail("health", f"{host} doubts itself because {name} does not answer")
            self.run(0.1)

    def _incarnations(self, subject: str) -> list[int]:
        """Return at what incarnation each member up has `subject`."""
        views = (self.pool.machine(host).member(subject) for host in self.pool.up())
        return [view.incarnation if view is not None else 0 for view in views]

    def check_rounds(self) -> None:
        """Everybody probes everybody within two rounds (SWIM, section 4.3)."""
        pool = self.pool
        up = pool.up()
        began_us = pool.now_us
        self.run((2 * len(up) + 1) * pool.settings.probe_interval_us / S)
        for asker in up:
            for target in up:
                if asker != target and pool.pinged_us.get((asker, target), -1) < began_us:
                    self.fail("rounds", f"{asker} did not probe {target} for two rounds")


def _versions(machine: GossipMachine, origin: str, now_us: int) -> list[tuple[int, int]]:
    return [(d.term, d.sequence) for d in machine.digests(now_us) if d.origin == origin]
