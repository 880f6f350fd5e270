"""One seed of `python -m sim.gossip`, and what the run as a whole must have shown."""

import argparse
import random
from collections import Counter
from dataclasses import replace
from typing import Any, Final

from gossip.settings import LAN, WAN, Settings
from gossip.views import EventKind
from sim.gossip.codec import check_codec
from sim.gossip.pool import Pool, draw_link
from sim.gossip.themes import FAULTS, THEMES, Story
from sim.gossip.watch import Watch
from sim.gossip_world import S
from sim.seeds import Outcome, Program, Violation

MEMBERS: Final = (4, 12)
MORE_MEMBERS: Final = (10, 24)  # where nothing happens: a rumour is sent twice as often from 10 on
PACKET_BYTES: Final = 1_400
AGREE_S: Final = 240  # after everything is mended, LAN; the WAN's clocks are five times slower

SITUATIONS: Final = (
    "suspected",
    "refuted",
    "declared dead",
    "back from the dead",
    "left",
    "reaped",
    "bridged by a stream",
    "an earlier life outbid, or an impostor met",
    "tables compared by summaries",
    "local health worse",
    "incarnation beyond one byte",
    "isolated and back",
    "back without a restart",
    "back after a farewell",
    "rejoined by its disk alone",
    "accused and refuted",
    "accused to its face",
    "a record of the past refused",
    "records at every reader",
    "a rumour's copies counted",
    "a cut pair bridged by others",
    "a death confirmed by others",
    "starved, and knew it",
    "packets through bytes",
)


def run_seed(seed: int, options: argparse.Namespace) -> Outcome:
    rng = random.Random(f"gossip/{seed}/plan")
    theme = rng.choice([*THEMES])
    is_larger = theme == "quiet" and rng.random() < 0.5
    members = rng.randint(*(MORE_MEMBERS if is_larger else MEMBERS))
    settings = draw_settings(rng, theme)
    pool = Pool(seed=seed, settings=settings, link=draw_link(rng), wire=rng.random() < 0.25)
    outcome = Outcome()
    story = Story(pool, Watch(pool), rng)
    try:
        _play(story, theme, members, has_faults=options.has_faults)
    except Violation as violation:
        text = f"theme {theme}, {members} members: {violation.text}"
        outcome.violations.append((violation.checker, text))
    outcome.faults = pool.faults
    outcome.situations = story.situations + _situations(story)
    outcome.acknowledged = len(story.watch.published) + story.watch.events[EventKind.JOINED]
    return outcome


def draw_settings(rng: random.Random, theme: str) -> Settings:
    """Return the LAN profile as a rule; at times the WAN's, short tombstones, small tables."""
    settings = LAN
    if theme in ("deaths", "digests", "quiet") and rng.random() < 0.1:
        settings = WAN
    if rng.random() < 0.35:
        settings = replace(settings, full_table_max_members=3)
    if theme in ("isolation", "deaths", "farewells", "echoes") and rng.random() < 0.5:
        settings = replace(settings, tombstone_us=rng.choice((60, 120)) * S)
    return settings


def _play(story: Story, theme: str, members: int, *, has_faults: bool) -> None:
    pool, watch, rng = story.pool, story.watch, story.rng
    scale = pool.settings.probe_interval_us / S
    names = [f"m{number}" for number in range(members)]
    for name in names:
        pool.begin(name, joins="" if name == names[0] else names[0], meta={"role": "client"})
    watch.run(2)
    watch.agree(AGREE_S * scale)
    if rng.random() < 0.2:
        # incarnations that no longer fit into the table's byte
        name = story.someone()
        for number in range(80):
            pool.change_meta(name, str(number))
        watch.agree(AGREE_S * scale)
    if has_faults:
        THEMES[theme](story)
    else:
        watch.run(60)
    watch.run(5)
    watch.agree(AGREE_S * scale)
    watch.check_digests_arrived(60 * scale)
    # what is left to tell dies out, and nobody changes his mind any more
    watch.run(30 * scale)
    watch.traffic.records.clear()
    watch.run(10 * scale)
    watch.traffic.check_records_told()
    if pool.network.lan.loss < 0.2:
        watch.check_quiet()
    if pool.network.lan.loss <= 0.01:
        watch.check_healthy()
    watch.check_forgotten()
    if pool.largest_bytes > PACKET_BYTES:
        watch.fail("packet", f"a datagram of {pool.largest_bytes} bytes")
    check_codec(pool, rng)


def _situations(story: Story) -> Counter[str]:
    pool, events = story.pool, story.watch.events
    counters = [*pool.counters, *(member.machine.counters for member in pool.members.values())]
    is_summary = pool.settings.full_table_max_members < len(pool.fates)
    return Counter(
        {
            "suspected": events[EventKind.SUSPECTED],
            "declared dead": events[EventKind.FAILED],
            "left": events[EventKind.LEFT],
            "reaped": events[EventKind.REAPED],
            "refuted": sum(one.refutations for one in counters),
            "back from the dead": events[EventKind.JOINED] - len(pool.fates),
            "bridged by a stream": sum(one.stream_fallbacks for one in counters),
            "an earlier life outbid, or an impostor met": sum(
                one.name_conflicts for one in counters
            ),
            "tables compared by summaries": sum(one.exchanges for one in counters) * is_summary,
            "local health worse": sum(
                member.machine.health_score > 0 for member in pool.members.values()
            )
            + sum(one.probes_failed for one in counters),
            "incarnation beyond one byte": sum(
                view.incarnation > 62
                for member in pool.members.values()
                for view in member.machine.members()
            ),
            "packets through bytes": pool.bytes,
        }
    )


def _sizes(options: argparse.Namespace) -> dict[str, Any]:
    return {"members": [MEMBERS[0], MORE_MEMBERS[1]]}


PROGRAM: Final = Program(
    name="sim.gossip",
    about="Pools of gossip machines under faults, judged from outside.",
    faults=FAULTS,
    situations=SITUATIONS,
    run_seed=run_seed,
    sizes=_sizes,
)
