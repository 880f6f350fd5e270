"""`python -m sim.gossip isolation`: who was cut off finds back, always.

A seed: a pool of 64 and more, formed long ago. One member is cut off from all others for an
hour. To it all others die, and to them it does; where tombstones are short, both sides have
even forgotten each other's names when the cut heals. In half of the runs it restarts
meanwhile, with a new address and what its disk remembers. After healing it must be back
within 60 s: alive at every other member, and every other member alive to it.

What costs time in such an hour are the others, who only probe and compare. So in all seeds
but every fiftieth they probe every 30 s instead of every second and compare tables every
five minutes; all else of their settings, and all of the lone member's, is the LAN profile.
"""

import argparse
import random
from dataclasses import replace
from typing import Any, Final

from gossip.settings import LAN, Settings
from gossip.views import Status
from sim.gossip_world import META, GossipWorld, S
from sim.seeds import Outcome, Program, Violation

MEMBERS: Final = (64, 64, 96, 128)
CUT_OFF_S: Final = 3_600
BACK_S: Final = 60.0
REAPED_AFTER_S: Final = 1_200
SPARSE_PROBE_US: Final = 30 * S
SPARSE_EXCHANGE_US: Final = 300 * S
FULL_EVERY: Final = 50  # seeds

FAULTS: Final = ("cut off for an hour", "restarted at a new address", "datagrams lost")
SITUATIONS: Final = (
    "all others died to it",
    "all had forgotten it",
    "it had forgotten all",
    "back without a restart",
    "back at a new address",
    "LAN profile throughout",
)


def run_seed(seed: int, options: argparse.Namespace) -> Outcome:
    rng = random.Random(f"isolation/{seed}")
    outcome = Outcome()
    is_full = seed % FULL_EVERY == 0
    tombstone_us = rng.choice((LAN.tombstone_us, REAPED_AFTER_S * S))
    lan = replace(LAN, tombstone_us=tombstone_us)
    loss = rng.choice((0.0, 0.0, 0.01, 0.1))
    world = GossipWorld(seed=seed, loss=loss, settings=lan if is_full else _sparse(lan))
    names = world.form_at_once(rng.choice(MEMBERS))
    outcome.situations["LAN profile throughout"] += is_full
    outcome.faults["datagrams lost"] += loss > 0
    lone = rng.choice(names)
    if not is_full:
        known = world.kill(lone)
        world.add(lone, settings=lan, meta=META, known=known)
    world.run(rng.uniform(20, 60))
    if options.has_faults:
        _cut_off(world, lone, rng, outcome)
    try:
        took_s = _until_back(world, lone)
        outcome.acknowledged += took_s <= BACK_S
    except Violation as violation:
        outcome.violations.append((violation.checker, violation.text))
    return outcome


def _sparse(lan: Settings) -> Settings:
    return replace(lan, probe_interval_us=SPARSE_PROBE_US, exchange_interval_us=SPARSE_EXCHANGE_US)


def _cut_off(world: GossipWorld, lone: str, rng: random.Random, outcome: Outcome) -> None:
    """Let the hour pass; the cut is healed at the end."""
    outcome.faults["cut off for an hour"] += 1
    # by both addresses: the new one is in reach of nobody either
    address = "moved:4648"
    cuts = [world.isolate(lone)]
    left_s = float(CUT_OFF_S)
    is_moving = rng.random() < 0.5
    if is_moving:
        before_s = rng.uniform(1, CUT_OFF_S - 1)
        world.run(before_s)
        left_s -= before_s
        cuts.append(world.network.split([address]))
        world.restart(lone, address=address)
        outcome.faults["restarted at a new address"] += 1
        outcome.situations["back at a new address"] += 1
    else:
        outcome.situations["back without a restart"] += 1
    world.run(left_s)
    machine = world.machine(lone)
    views = [view for view in machine.members() if view.name != lone]
    outcome.situations["all others died to it"] += all(v.status == Status.DEAD for v in views)
    outcome.situations["it had forgotten all"] += not views and not is_moving
    outcome.situations["all had forgotten it"] += all(
        member.machine.member(lone) is None
        for host, member in world.members.items()
        if host != lone
    )
    for cut in cuts:
        world.network.heal(cut)


def _until_back(world: GossipWorld, lone: str) -> float:
    """Return how many seconds it took until all believe each other alive.

    Raises:
        Violation: longer than `BACK_S`.
    """
    began_us = world.now_us
    while reason := _missing(world, lone):
        took_s = (world.now_us - began_us) / S
        if took_s > BACK_S:
            raise Violation("isolation", f"{took_s:.0f} s after healing {reason}")
        world.run(0.5)
    return (world.now_us - began_us) / S


def _missing(world: GossipWorld, lone: str) -> str:
    address = world.address(lone)
    machine = world.machine(lone)
    for host, member in world.members.items():
        if host == lone:
            continue
        view = member.machine.member(lone)
        if view is None or view.status is not Status.ALIVE or view.address != address:
            return f"{lone} is {view and view.status} at {host}"
        back = machine.member(host)
        if back is None or back.status not in (Status.ALIVE, Status.SUSPECT):
            return f"{host} is {back and back.status} to {lone}"
    return ""


def _sizes(options: argparse.Namespace) -> dict[str, Any]:
    return {"members": list(MEMBERS), "cut_off_s": CUT_OFF_S, "back_s": BACK_S}


PROGRAM: Final = Program(
    name="sim.gossip isolation",
    about="One member is cut off for an hour and finds back within a minute.",
    faults=FAULTS,
    situations=SITUATIONS,
    run_seed=run_seed,
    sizes=_sizes,
)
