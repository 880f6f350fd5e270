"""The kinds of trouble: each a story drawn from the seed, and what it promises beyond the rest.

A theme gets a pool that agrees, makes trouble, and mends it all before it returns. What
must hold in the end (agreement, quiet, digests) is checked by `program` after each.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from gossip.messages import (
    ACK,
    DEAD,
    GOSSIP,
    LEFT,
    SUSPECT,
    SYNC_TABLE,
    Identity,
    Packet,
    make_update,
)
from gossip.views import Status
from sim.gossip.pool import STRANGER, Plight, Pool
from sim.gossip.watch import Watch

INCARNATION_LEAP = 1 << 21  # no honest member is ahead of what is known by so much
SOON_US = 20_000  # with more jitter than that, a nack may come too late


@dataclass
class Story:
    """What a theme works on."""

    pool: Pool
    watch: Watch
    rng: random.Random
    situations: Counter[str] = field(default_factory=Counter)
    terms: dict[str, int] = field(default_factory=dict)
    sequences: dict[str, int] = field(default_factory=dict)

    def someone(self, *besides: str) -> str:
        return self.rng.choice([name for name in self.pool.up() if name not in besides])

    def some(self, count: int) -> list[str]:
        return self.rng.sample(self.pool.up(), min(count, len(self.pool.up())))

    def publish(self, origin: str) -> None:
        """Publish the origin's next record at somebody: any member of it may be its leader."""
        self.sequences[origin] = self.sequences.get(origin, 0) + 1
        term = self.terms.setdefault(origin, 1)
        self.watch.publish(self.someone(), origin, term, self.sequences[origin])

    def accuse(self, victim: str, accuser: str, hearer: str, status: int, *, leap: int = 0) -> None:
        """Let a member hear a lie about another, of an incarnation so much off the true one."""
        view = self.pool.machine(victim).member(victim)
        assert view is not None
        claim = make_update(victim, max(1, view.incarnation + leap) << 2 | status, accuser)
        self.pool.faults["accused"] += 1
        self.watch.traffic.spared.add(victim)
        if status == DEAD:
            self.pool.may_leave.add(victim)  # of one held dead, anybody may say so
        machine = self.pool.machine(hearer)
        refuted, score = machine.counters.refutations, machine.health_score
        self.pool.hear(hearer, accuser, Packet(GOSSIP, sender=accuser, updates=(claim,)))
        if hearer == victim and status != LEFT and machine.counters.refutations > refuted:
            self.situations["accused to its face"] += 1
            if machine.health_score < min(score + 1, self.pool.settings.health_max - 1):
                self.watch.fail("health", f"{victim} was missed, and trusts its own timing")

    def accuse_by_table(self, victim: str, teller: str, hearer: str) -> None:
        """Let a member be asked by one whose table has a living member dead: it may suspect it."""
        before = self.pool.machine(hearer).member(victim)
        if before is None or before.status != Status.ALIVE:
            return
        key = before.incarnation << 2 | DEAD
        identity = Identity(victim, before.address, dict(before.meta))
        row = make_update(victim, key, victim, identity)
        packet = Packet(SYNC_TABLE, sender=teller, updates=(row,))
        self.pool.faults["accused"] += 1
        self.watch.traffic.spared.add(victim)
        source = self.pool.address(teller)
        self.pool.do(
            hearer, lambda machine, now_us: machine.on_exchange_request(0, source, packet, now_us)
        )
        after = self.pool.machine(hearer).member(victim)
        if after is None or after.status != Status.SUSPECT:
            self.watch.fail("haste", f"{hearer} took {victim} for dead at once, of a table's row")

    def slander(self, hearer: str, teller: str, victim: str) -> None:
        """Let a member hear what it must not believe: of one unknown, or far from the truth."""
        machine = self.pool.machine(hearer)
        before = machine.member(victim)
        if before is None:
            return
        far = before.incarnation + INCARNATION_LEAP
        unknown = make_update(victim, before.incarnation << 2 | SUSPECT, "nobody")
        lies = [make_update(victim, far << 2 | SUSPECT, teller)]
        if victim != hearer:  # who hears it of itself refutes whoever said it
            lies.append(unknown)
        self.pool.faults["slandered"] += 1
        self.pool.hear(hearer, teller, Packet(GOSSIP, sender=teller, updates=tuple(lies)))
        if machine.member(victim) != before:
            self.watch.fail("slander", f"{hearer} believes {machine.member(victim)} of {before}")

    def kill(self, name: str, fault: str = "killed") -> list[tuple[str, str]]:
        self.pool.faults[fault] += 1
        self.watch.look()
        known = self.pool.end(name)
        self.watch.expect_death(name)
        return known

    def see_dying(self, name: str) -> None:
        """Kill it; where all packets arrive soon, see that all agree on it."""
        self.kill(name)
        link = self.pool.network.lan
        if not link.loss and link.jitter_us <= SOON_US:
            self.watch.check_confirmed(name)
            self.situations["a death confirmed by others"] += 1

    def restart(self, name: str, known: list[tuple[str, str]]) -> None:
        """Start it again: at its old address or a new one, by its disk or told whom to join."""
        pool, rng = self.pool, self.rng
        address = ""
        if rng.random() < 0.5:
            address = pool.new_address()
            pool.faults["moved"] += 1
        has_disk = rng.random() < 0.5 and bool(known)
        pool.again(name, address=address, known=known if has_disk else [])
        pool.faults["restarted"] += 1
        if has_disk:
            self.situations["rejoined by its disk alone"] += 1
        else:
            pool.join(name, self.someone(name))


Theme = Callable[[Story], None]


def quiet(story: Story) -> None:
    """Nothing happens but single changes: what they cost, and who is probed."""
    watch = story.watch
    watch.run(20)
    watch.check_quiet()
    if story.pool.is_perfect:
        watch.check_rounds()
        watch.check_retransmits(story.someone())
        watch.traffic.check_rounds_width()
        story.situations["a rumour's copies counted"] += 1
    story.see_dying(story.someone())
    name = story.someone()
    story.pool.farewell(name)
    watch.run(10)
    story.pool.end(name)
    watch.run(40)


def deaths(story: Story) -> None:
    """Members die, one by one or many at once, and some come back."""
    watch, rng, pool = story.watch, story.rng, story.pool
    story.see_dying(story.someone())
    for _ in range(rng.randint(2, 4)):
        up = len(pool.up())
        count = rng.choice((1, 1, 1, max(1, up // 3)))
        if up - count < 3:
            break
        fault = "killed together" if count > 1 else "killed"
        gone = {name: story.kill(name, fault) for name in story.some(count)}
        if rng.random() < 0.3:
            # a newcomer gets the address of one that is gone, and must not answer for it
            taken = rng.choice([*gone])
            pool.faults["address taken over"] += 1
            address = pool.fates[taken].address
            pool.begin(f"heir{len(pool.fates)}", joins=story.someone(), address=address)
            del gone[taken]
        watch.run(rng.choice((3, 12, 30, 75)))
        for name, known in gone.items():
            if rng.random() < 0.6:
                story.restart(name, known)
        watch.run(rng.random() * 10)
        story.publish("dc-a")
    watch.run(75)


def flapping(story: Story) -> None:
    """One member dies and comes back, over and over."""
    watch, rng = story.watch, story.rng
    name = story.someone()
    for _ in range(rng.randint(3, 8)):
        known = story.kill(name, "flapped")
        watch.run(rng.choice((0.5, 2, 8, 20)))
        story.restart(name, known)
        watch.run(rng.choice((0.5, 2, 8)))


def pairs(story: Story) -> None:
    """Two members can't reach each other, but all others reach both: nobody is suspected."""
    watch, rng, pool = story.watch, story.rng, story.pool
    watch.run(30)
    watch.is_needless_checked = not pool.network.lan.loss and len(pool.up()) >= 5
    if watch.is_needless_checked:
        story.situations["a cut pair bridged by others"] += 1
    for _ in range(3):
        one, two = story.some(2)
        pool.faults["pair cut"] += 1
        cut = pool.network.cut(pool.address(one), pool.address(two))
        watch.run(rng.choice((10, 30)))
        pool.network.heal(cut)
    blocked = story.someone()
    pool.faults["datagrams blocked"] += 1
    block = pool.network.block_datagrams(pool.address(blocked))
    watch.run(20)
    pool.network.heal(block)
    watch.run(5)
    watch.is_needless_checked = False


def partition(story: Story) -> None:
    """The pool falls in two, or one direction is lost, for seconds or minutes."""
    watch, rng, pool = story.watch, story.rng, story.pool
    for _ in range(rng.randint(1, 2)):
        up = pool.up()
        side = rng.sample(up, rng.randint(1, len(up) - 1))
        both_ways = rng.random() < 0.7
        plight = pool.suffer(
            "split" if both_ways else "one way lost",
            lambda side=side, both_ways=both_ways: pool.network.split(  # type: ignore[misc]
                map(pool.address, side), both_ways=both_ways
            ),
            pool.network.heal,
        )
        watch.run(rng.choice((5, 20, 60, 150)))
        story.publish("dc-a")
        plight.end()
        watch.run(rng.choice((1, 20)))


def isolation(story: Story) -> None:
    """One member is alone, sees all others die, and may come back as another address."""
    watch, rng, pool = story.watch, story.rng, story.pool
    name = story.someone()
    plight = pool.isolated([name])
    # beyond the reap time where tombstones are short
    watch.run(rng.choice((60, 120, 400)))
    if rng.random() < 0.5:
        known = pool.end(name)
        pool.faults["moved"] += 1
        address = pool.new_address()
        pool.again(name, address=address, known=known)
        plight.end()
        plight = pool.isolated([name])
        watch.run(rng.choice((1, 20)))
    else:
        story.situations["back without a restart"] += 1
        if not pool.machine(name).health_score:
            watch.fail("health", f"{name} reached nobody, and trusts its own timing")
    refuted = watch.refutations()
    was_alone = pool.machine(name).member_count == 1
    plight.end()
    watch.agree(90)
    # what it held of the others while it was alone is withdrawn, not refuted one by one
    if was_alone and watch.refutations() - refuted > 2 and not pool.network.lan.loss:
        watch.fail("storm", f"{watch.refutations() - refuted} had to refute what {name} told")
    story.situations["isolated and back"] += 1


def slow(story: Story) -> None:
    """Some are slow or stopped for a while."""
    watch, rng, pool = story.watch, story.rng, story.pool
    for _ in range(rng.randint(1, 3)):
        plights: list[Plight] = []
        late: list[str] = []  # by more than an honest judgement allows
        for name in story.some(rng.choice((1, 1, 2))):
            if rng.random() < 0.5:
                plights.append(pool.paused(name))
                continue
            lag_us = rng.choice((200_000, 700_000, 3_000_000))
            plights.append(pool.slowed(name, lag_us))
            late += [name] * (lag_us > pool.settings.probe_timeout_us)
        seconds = rng.choice((2, 6, 15, 40))
        watch.run(seconds)
        for name in late if seconds >= 6 else ():
            story.situations["starved, and knew it"] += 1
            if not pool.machine(name).health_score:
                watch.fail("health", f"{name} is late with everything, and trusts its own timing")
        for plight in plights:
            plight.end()
        watch.run(rng.choice((1, 10)))


def dozing(story: Story) -> None:
    """One is stopped for seconds, or longer than a suspicion lasts that it has of another: what
    it missed is its own fault, and lies in its queue.
    """
    watch, rng, pool = story.watch, story.rng, story.pool
    for _ in range(2):
        watch.run(20)
        name, other, accuser = story.some(3)
        is_long = rng.random() < 0.5
        if is_long:
            story.accuse(other, accuser, name, SUSPECT)
            watch.run(rng.choice((0.05, 0.25)))
        else:
            watch.traffic.await_ping(name)  # and stop it before the answer is there
        plight = pool.paused(name)
        watch.run(30 if is_long else rng.choice((2, 4, 7)))
        watch.woken = "" if pool.network.lan.loss else name
        plight.end()
        watch.run(0.9)
        watch.woken = ""
        watch.agree(90)


def intruders(story: Story) -> None:
    """A second process claims the name of one that lives, and a stranger wants to join."""
    watch, rng, pool = story.watch, story.rng, story.pool
    owner = story.someone()
    view = pool.machine(owner).member(owner)
    assert view is not None
    pool.faults["name claimed twice"] += 1
    pool.add(owner, host="impostor", meta={"role": "impostor"})
    pool.join("impostor", story.someone(owner))
    pool.faults["stranger"] += 1
    pool.add(STRANGER, meta={"role": STRANGER})
    pool.join(STRANGER, *story.some(2))
    # and somebody careless speaks of it
    identity = Identity(STRANGER, pool.address(STRANGER), {"role": STRANGER})
    rumour = make_update(STRANGER, 1 << 2, STRANGER, identity)
    hearer, teller = story.some(2)
    pool.hear(hearer, teller, Packet(GOSSIP, sender=teller, updates=(rumour,)))
    for _ in range(rng.choice((20, 60))):
        watch.run(1)
        for host in pool.up():
            found = pool.machine(host).member(owner)
            if found is None or found.address != view.address:
                watch.fail("impostor", f"{host} has {owner} at {found and found.address}")
            elif found.incarnation > view.incarnation + 50:
                watch.fail("impostor", f"{owner} and its impostor outbid each other")
    pool.kill("impostor")
    pool.kill(STRANGER)


def accusers(story: Story) -> None:
    """Members are accused, by anybody and of anything: who lives refutes, and stays."""
    watch, rng, pool = story.watch, story.rng, story.pool
    for _ in range(rng.randint(5, 10)):
        victim, accuser, hearer = story.some(3)
        hearer = rng.choice((victim, hearer, hearer))
        status = rng.choice((SUSPECT, SUSPECT, DEAD, LEFT))
        story.accuse(victim, accuser, hearer, status, leap=rng.choice((0, 0, 0, 1, -1)))
        story.slander(hearer, accuser, rng.choice((victim, hearer)))
        if hearer != victim and rng.random() < 0.3:
            story.accuse_by_table(victim, accuser, hearer)
        watch.run(rng.choice((0.1, 1, 8)))
        if rng.random() < 0.3:
            pool.change_meta(story.someone(), str(pool.now_us))
    watch.run(45)
    for name in pool.up():
        if watch.lost_by(name):
            watch.fail("refutation", f"{name} lives, was accused, and is lost")
    story.situations["accused and refuted"] += 1


def echoes(story: Story) -> None:
    """Old packets come again, in any order, any number of times."""
    watch, rng, pool = story.watch, story.rng, story.pool
    name = story.someone()
    pool.farewell(name)
    watch.run(3)
    pool.end(name)
    # answers of earlier, which say nothing of one that is silent now
    acks = {
        flight.target: flight
        for flight in pool.flights
        if isinstance(flight.body, Packet) and flight.body.kind == ACK
    }
    victim = story.someone()
    story.kill(victim)
    for _ in range(300 if rng.random() < 0.5 else 0):  # longer than to find it dead takes
        for flight in acks.values():
            pool.repeat(flight)
        watch.run(0.2)
    for _ in range(rng.randint(10, 30)):
        if rng.random() < 0.3:
            pool.change_meta(story.someone(), str(pool.now_us))
            story.publish(rng.choice(("dc-a", "dc-b")))
        flights = [*pool.flights]
        for flight in rng.sample(flights, min(20, len(flights))):
            for _ in range(rng.choice((1, 1, 3))):
                pool.repeat(flight)
        watch.run(rng.choice((0.2, 2)))
    watch.run(60)


def digests(story: Story) -> None:
    """Records of several origins: leaders change, old ones go on talking, readers restart."""
    watch, rng, pool = story.watch, story.rng, story.pool
    origins = ("dc-a", "dc-b", "dc-c")
    began_us, lives = pool.now_us, 0
    watch.traffic.records.clear()
    for _ in range(rng.randint(8, 16)):
        origin = rng.choice(origins)
        chance = rng.random()
        if chance < 0.25:
            story.terms[origin] = story.terms.get(origin, 1) + 1  # a new leader counts anew
            story.sequences[origin] = rng.randint(0, 3)
            pool.faults["leader changed"] += 1
        if chance > 0.8 and story.terms.get(origin, 1) > 1:
            # a leader that was deposed and does not know it
            pool.faults["deposed leader published"] += 1
            watch.publish(
                story.someone(), origin, story.terms[origin] - 1, 1_000 + len(watch.published)
            )
            story.situations["a record of the past refused"] += 1
        story.publish(origin)
        if rng.random() < 0.2:
            watch.run(5)  # or the publisher takes the record with it
            name = story.someone()
            story.restart(name, story.kill(name))
            lives += 1
        watch.run(rng.choice((0.5, 3, 8)))
    watch.traffic.check_budget(began_us, lives)
    watch.check_digests_arrived(90)
    story.situations["records at every reader"] += 1


def farewells(story: Story) -> None:
    """Members leave, are forced to leave, and come back under their names."""
    watch, rng, pool = story.watch, story.rng, story.pool
    for _ in range(2):
        if len(pool.up()) < 5:
            break
        name = story.someone()
        pool.farewell(name)
        watch.run(rng.choice((5, 10)))
        known = pool.end(name)
        watch.run(rng.choice((2, 40)))
        views = [pool.machine(host).member(name) for host in pool.up()]
        missed = sum(view is not None and view.status != "left" for view in views)
        if not pool.network.lan.loss and missed > 1:  # chance may keep it from one
            watch.fail("farewell", f"{name} left, and not all know")
        if rng.random() < 0.5:
            story.restart(name, known)
            story.situations["back after a farewell"] += 1
            watch.run(10)
    name = story.someone()
    story.kill(name)
    watch.run(75)
    asked = story.someone()
    pool.may_leave.add(name)
    if pool.do(asked, lambda machine, now_us: machine.force_leave(name, now_us)):
        pool.faults["forced to leave"] += 1
        watch.run(10)


THEMES: dict[str, Theme] = {
    "quiet": quiet, "deaths": deaths, "flapping": flapping, "pairs": pairs,
    "partition": partition, "isolation": isolation, "slow": slow, "accusers": accusers,
    "echoes": echoes, "digests": digests, "farewells": farewells, "dozing": dozing,
    "intruders": intruders,
}  # fmt: skip

FAULTS = (
    "killed", "killed together", "restarted", "moved", "flapped", "pair cut",
    "datagrams blocked", "split", "one way lost", "isolated", "paused", "slow", "accused",
    "packet repeated", "leader changed", "deposed leader published", "left", "forced to leave",
    "name claimed twice", "stranger", "address taken over", "slandered",
)  # fmt: skip
