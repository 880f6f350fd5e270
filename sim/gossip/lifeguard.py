"""`python -m sim.gossip lifeguard`: what Lifeguard's parts are worth, on and off.

Pools in trouble: a share of the members is slow (Dadgar et al., 2017, section "Evaluation"),
packets are lost, the pool is parted for minutes, or members flap. A slow member reads and
writes seconds late, or is stopped again and again: it misses answers that came in time, and
may accuse the innocent.

Counted, per member and hour: false deaths, a live member that anybody declared dead; among
them the *innocent*, who were not in trouble themselves. These are the paper's false positives,
as we read it: to say of a member that answers nothing for seconds that it failed is what a
detector is for. So "ten times fewer" is asked of the innocent; both are reported. And how long
it takes to see a real death: by the first member, and by all that are well.

"off" is plain SWIM on the same machine: no local health (`health_max=1`), no buddy, and
suspicions of fixed length (`dynamic_suspicion=False`).
"""

import argparse
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from gossip.settings import LAN
from gossip.views import EventKind, MemberEvent
from sim.gossip_member import REGION
from sim.gossip_world import GossipWorld, S
from sim.lastline import last_line

MEMBERS: Final = 100
MINUTES: Final = 20
SEEDS: Final = 3
OFF: Final = replace(LAN, health_max=1, buddy=False, dynamic_suspicion=False)

Trouble = Callable[["Trial"], None]


@dataclass
class Figures:
    """Of one scenario, summed over its seeds."""

    member_hours: float = 0.0
    false_deaths: int = 0
    innocent: int = 0
    first_s: list[float] = field(default_factory=list)
    all_s: list[float] = field(default_factory=list)

    def add(self, other: "Figures") -> None:
        self.member_hours += other.member_hours
        self.false_deaths += other.false_deaths
        self.innocent += other.innocent
        self.first_s += other.first_s
        self.all_s += other.all_s

    def per_hour(self, count: int) -> float:
        return count / self.member_hours

    def summary(self) -> dict[str, float]:
        return {
            "false_deaths_per_member_hour": round(self.per_hour(self.false_deaths), 3),
            "innocent_per_member_hour": round(self.per_hour(self.innocent), 3),
            "detection_s_p50": round(statistics.median(self.first_s), 2) if self.first_s else 0.0,
            "known_by_all_s_p50": round(statistics.median(self.all_s), 2) if self.all_s else 0.0,
        }


class Trial:
    """One pool in one kind of trouble."""

    def __init__(self, seed: int, *, is_on: bool, loss: float = 0.0, members: int = MEMBERS):
        self.rng = random.Random(f"lifeguard/{seed}")  # the same trouble on and off
        self.world = GossipWorld(
            seed=seed, settings=LAN if is_on else OFF, loss=loss, on_event=self._on_event
        )
        self.names = self.world.form_at_once(members)
        self.troubled: set[str] = set()
        self.killed_us: dict[str, int] = {}
        self.figures = Figures()
        self._declared: set[tuple[str, int]] = set()
        self._seen_by: dict[str, dict[str, int]] = {}  # the killed -> by whom, when

    def _on_event(self, now_us: int, observer: str, event: MemberEvent) -> None:
        name = event.member.name
        if event.kind is not EventKind.FAILED:
            return
        if name in self.killed_us:
            self._seen_by.setdefault(name, {})[observer] = now_us
            return
        # one death, however many hear of it
        key = (name, event.member.incarnation)
        if key not in self._declared:
            self._declared.add(key)
            self.figures.false_deaths += 1
            self.figures.innocent += name not in self.troubled

    def play(self, trouble: Trouble, minutes: float) -> Figures:
        """Let the pool come to itself, then suffer, then die a little."""
        world = self.world
        world.run(30)
        trouble(self)
        began_us = world.now_us
        world.run(minutes * 60)
        for _ in range(3):
            well = [name for name in self.names if name not in self.troubled]
            victim = self.rng.choice([name for name in well if name not in self.killed_us])
            self.killed_us[victim] = world.now_us
            world.kill(victim)
            world.run(60)
        self.figures.member_hours = len(self.names) * (world.now_us - began_us) / S / 3600
        for victim, killed_us in self.killed_us.items():
            seen = [
                at_us for who, at_us in self._seen_by.get(victim, {}).items()
                if who not in self.troubled
            ]  # fmt: skip
            if seen:
                self.figures.first_s.append((min(seen) - killed_us) / S)
                self.figures.all_s.append((max(seen) - killed_us) / S)
        return self.figures

    def take(self, share: float) -> list[str]:
        """Draw a share of the members, who are in trouble from now on."""
        count = max(1, round(len(self.names) * share))
        drawn = self.rng.sample(self.names[1:], count)
        self.troubled.update(drawn)
        return drawn


def slow(share: float, late_s: tuple[float, float] = (2, 6)) -> Trouble:
    """A share reads and writes seconds late, at times, for half a minute or so.

    Its timers run on time: so it misses answers that are on their way, and has itself to
    blame. (Whoever is late with everything notices it by its timers, and accuses nobody,
    with Lifeguard's parts or without.) Who is `late_s` late needs twice that to refute: once
    to hear of the suspicion, once to be heard. A hundred members give it 8 s, so one that is
    more than 4 s late is out of reach, and no part of Lifeguard could keep it.
    """

    def begin(trial: Trial) -> None:
        world, rng = trial.world, trial.rng

        def hinder(host: str) -> None:
            if host in world.members:
                late_us = int(rng.uniform(*late_s) * S)
                token = world.network.slow(world.address(host), REGION, late_us)
                world.wheel.after(int(rng.uniform(10, 40) * S), recover, (host, token))

        def recover(state: tuple[str, int]) -> None:
            world.network.heal(state[1])
            world.wheel.after(int(rng.uniform(10, 40) * S), hinder, state[0])

        for host in trial.take(share):
            world.wheel.after(int(rng.random() * 20 * S), hinder, host)

    return begin


def paused(share: float) -> Trouble:
    """A share is stopped for seconds, runs for a moment, and is stopped again."""

    def begin(trial: Trial) -> None:
        world, rng = trial.world, trial.rng

        def stop(host: str) -> None:
            if host in world.members:
                world.pause(host)
                world.wheel.after(int(rng.uniform(1, 16) * S), go_on, host)

        def go_on(host: str) -> None:
            if host in world.members:
                world.resume(host)
                world.wheel.after(int(rng.uniform(0.2, 5) * S), stop, host)

        for host in trial.take(share):
            world.wheel.after(int(rng.random() * 10 * S), stop, host)

    return begin


def flapping(share: float) -> Trouble:
    """The links of a share come and go within seconds."""

    def begin(trial: Trial) -> None:
        world, rng = trial.world, trial.rng

        def part(host: str) -> None:
            if host in world.members:
                world.wheel.after(int(rng.uniform(1, 6) * S), join, (host, world.isolate(host)))

        def join(cut: tuple[str, int]) -> None:
            world.network.heal(cut[1])
            world.wheel.after(int(rng.uniform(5, 30) * S), part, cut[0])

        for host in trial.take(share):
            world.wheel.after(int(rng.random() * 20 * S), part, host)

    return begin


def parted(trial: Trial) -> None:
    """A tenth of the pool is cut off for two minutes, again and again."""
    world = trial.world
    minority = trial.take(0.1)

    def part(_: object) -> None:
        cut = world.isolate(*(host for host in minority if host in world.members))
        world.wheel.after(120 * S, lambda _: world.network.heal(cut))
        world.wheel.after(420 * S, part)

    world.wheel.after(60 * S, part)


def nothing(trial: Trial) -> None:
    """No trouble but what the links make."""


SCENARIOS: Final[dict[str, tuple[Trouble, float]]] = {
    **{f"slow {percent}%": (slow(percent / 100), 0.0) for percent in (1, 5, 10)},
    "slow 5%, up to 3 s": (slow(0.05, (0.5, 3)), 0.0),
    **{f"paused {percent}%": (paused(percent / 100), 0.0) for percent in (1, 5, 10)},
    **{f"loss {percent}%": (nothing, percent / 100) for percent in (1, 5, 10, 30)},
    "slow 5%, loss 10%": (slow(0.05), 0.1),
    "flapping 5%": (flapping(0.05), 0.0),
    "a tenth parted": (parted, 0.0),
}


def measure(name: str, *, is_on: bool, seeds: int, minutes: float, members: int) -> Figures:
    """Play one scenario of `SCENARIOS`."""
    trouble, loss = SCENARIOS[name]
    total = Figures()
    for seed in range(seeds):
        trial = Trial(seed, is_on=is_on, loss=loss, members=members)
        total.add(trial.play(trouble, minutes))
    return total


def five_percent_slow(
    *, seeds: int = SEEDS, minutes: float = MINUTES, members: int = MEMBERS
) -> tuple[Figures, Figures]:
    """Return what happens with 5% slow members: Lifeguard's parts off, and on."""
    off, on = (
        measure("slow 5%", is_on=is_on, seeds=seeds, minutes=minutes, members=members)
        for is_on in (False, True)
    )
    return off, on


def times(off: int, on: int) -> float:
    """Return how many times as many; none counts as one, so that is a lower bound then."""
    return round(off / max(1, on), 1)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sim.gossip lifeguard", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of each, simulated")
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--scenario", action="append", choices=[*SCENARIOS], help="only this one")
    options = parser.parse_args(arguments)
    names = options.scenario or [*SCENARIOS]
    print(f"{'':20} {'false deaths':>23} {'innocent':>21} {'seen, s':>15} {'by all, s':>15}")
    print(f"{'per member-hour':20}" + f" {'off':>11} {'on':>11}" * 1, end="")
    print(f" {'off':>10} {'on':>10} {'off':>7} {'on':>7} {'off':>7} {'on':>7}")
    figures: dict[str, object] = {}
    ratio: float | None = None
    for name in names:
        off, on = (
            measure(
                name, is_on=is_on, seeds=options.seeds, minutes=options.minutes,
                members=options.members,
            )
            for is_on in (False, True)
        )  # fmt: skip
        a, b = off.summary(), on.summary()
        cells = [value for key in a for value in (a[key], b[key])]
        print(
            f"{name:20} {cells[0]:11.3f} {cells[1]:11.3f} {cells[2]:10.3f} {cells[3]:10.3f} "
            f"{cells[4]:7.1f} {cells[5]:7.1f} {cells[6]:7.1f} {cells[7]:7.1f}",
            flush=True,
        )
        figures[name] = {
            "off": a,
            "on": b,
            "innocent_off": off.innocent,
            "innocent_on": on.innocent,
        }
        if name == "slow 5%":
            ratio = times(off.innocent, on.innocent)
            figures["all_dead_off_on_ratio"] = times(off.false_deaths, on.false_deaths)
    is_full = options.minutes >= MINUTES and options.seeds >= SEEDS and options.members >= MEMBERS
    is_reduced = not is_full or len(names) < len(SCENARIOS)
    figures["false_dead_off_on_ratio"] = ratio
    sizes = {"members": options.members, "minutes": options.minutes, "seeds": options.seeds}
    print(
        last_line(figures, sizes=sizes, samples=len(names) * options.seeds, is_reduced=is_reduced)
    )
    if ratio is not None and ratio < 10:
        return 1
    return 3 if is_reduced else 0
