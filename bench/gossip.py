"""What gossip costs and how fast it is: `python -m bench.gossip [--reduced] [--only PART ...]`.

The shipped `GossipMachine`s on virtual time (sim.gossip_world), 1% of all datagrams lost:
flat pools of 100, 1,000 and 10,000 members, and ten pools of 1,000 in one process. Each
size runs in a process of its own:

    quiet       members that know each other; CPU seconds a simulated second
    update      one member changes its metadata: when do 99% know it
    storm       1% are killed at once; CPU seconds a simulated second over the minute after;
                when is a dead member first suspected, when do all know that it is dead,
                and how many live ones were declared dead

Packets pass as objects. Up to 2,000 members the same run is made a second time with every
packet encoded and decoded; its events must be the same. That run counts bytes.

Then what Lifeguard's parts are worth with 5% slow members (sim.gossip.lifeguard), and real
sockets: our members, memberlist and serf, each with a loopback of its own, as far as they
are installed (bench.peers).

The last line is one JSON object with the figures. A reduced run (`--reduced`) says so and
exits 3: its figures are no claim. Exit 1: the events differ between objects and bytes.
"""

import argparse
import gc
import multiprocessing
import random
import resource
import sys
import time
from hashlib import blake2b
from typing import Any, Final

from bench.peers.contest import compare
from gossip.views import EventKind, MemberEvent
from sim.gossip.lifeguard import five_percent_slow, times
from sim.gossip_world import GossipWorld, S
from sim.lastline import last_line

SIZES: Final = {"100": (1, 100), "1000": (1, 1_000), "10000": (1, 10_000), "10x1000": (10, 1_000)}
PARTS: Final = (*SIZES, "lifeguard", "peers")
REDUCED: Final = ("100", "1000")
WIRE_MEMBERS_MAX: Final = 2_000
LOSS: Final = 0.01
KILLED: Final = 0.01
QUIET_S: Final = 20
UPDATE_S: Final = 15
STORM_S: Final = 60
SEED: Final = 1
# CPU seconds a simulated second, quiet and storm, of the experiment in GOSSIP.md
EXPERIMENT: Final = {
    "100": (0.0004, 0.002),
    "1000": (0.003, 0.025),
    "10000": (0.049, 1.00),
    "10x1000": (0.047, 0.27),
}
COLUMNS: Final = (
    "cpu_s_per_sim_s_quiet", "cpu_s_per_sim_s_storm", "rss_mb", "first_suspicion_s_p50",
    "dead_known_by_all_s_p99", "update_99_s", "false_deaths",
)  # fmt: skip


class Onlooker:
    """Looks at all members' events: what they learned, and when."""

    def __init__(self) -> None:
        self.updated_us: list[int] = []  # times at which a member heard of the update
        self.updated_name = ""
        self.victims: frozenset[str] = frozenset()
        self.suspected_us: dict[str, int] = {}  # victim -> first
        self.known_us: dict[str, int] = {}  # victim -> last
        self.knowers: dict[str, int] = {}
        self.false_deaths = 0

    def on_event(self, now_us: int, observer: str, event: MemberEvent) -> None:
        kind, member = event
        name = member.name
        if kind == EventKind.SUSPECTED:
            if name in self.victims:
                self.suspected_us.setdefault(name, now_us)
        elif kind == EventKind.FAILED:
            if name in self.victims:
                self.known_us[name] = now_us
                self.knowers[name] = self.knowers.get(name, 0) + 1
            else:
                self.false_deaths += 1
        elif kind == EventKind.UPDATED and name == self.updated_name:
            self.updated_us.append(now_us)


class Observer(Onlooker):
    """Keeps a digest of all events besides: two runs are the same if it is."""

    def __init__(self) -> None:
        super().__init__()
        self.hash = blake2b(digest_size=16)

    def on_event(self, now_us: int, observer: str, event: MemberEvent) -> None:
        kind, member = event
        told = f"{now_us} {observer} {kind} {member.name} {member.incarnation}\n"
        self.hash.update(told.encode())
        super().on_event(now_us, observer, event)


def run(size: str, *, is_wire: bool = False) -> dict[str, Any]:
    """Play one size through; return its figures, and the digest of its events."""
    pools, members = SIZES[size]
    gc.collect()
    gc.disable()  # no cycles are made; the collector would only look at 100 million bytes
    observer = Observer()
    world = GossipWorld(seed=SEED, loss=LOSS, wire=is_wire, on_event=observer.on_event)
    names = [
        name
        for number in range(pools)
        for name in world.form_at_once(members, pool=f"pool{number}")
    ]
    quiet_s = _cpu_s(world, QUIET_S)
    figures: dict[str, Any] = {"cpu_s_per_sim_s_quiet": round(quiet_s, 5)}
    if is_wire:
        figures["bytes_per_member_s"] = round(world.bytes / QUIET_S / len(names), 1)
    figures["update_99_s"] = _update_99_s(world, observer, names[0], members)
    chosen = random.Random(f"{SEED}/victims").sample(names[1:], max(1, int(KILLED * len(names))))
    observer.victims = frozenset(chosen)
    killed_us = world.now_us
    for name in chosen:
        world.kill(name)
    figures["cpu_s_per_sim_s_storm"] = round(_cpu_s(world, STORM_S), 5)
    figures["rss_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    living = dict.fromkeys(world.directories, 0)
    for member in world.members.values():
        living[member.pool] += 1
    unknown = sum(
        observer.knowers.get(name, 0) != living[name.rpartition("-")[0]] for name in chosen
    )
    first = [(observer.suspected_us[n] - killed_us) / S for n in chosen]
    known = [(observer.known_us[n] - killed_us) / S for n in chosen]
    figures |= {
        "first_suspicion_s_p50": round(percentile(first, 0.5), 2),
        "dead_known_by_all_s_p99": None if unknown else round(percentile(known, 0.99), 2),
        "false_deaths": observer.false_deaths,
        "events": observer.hash.hexdigest(),
        "packets": world.count("packets_sent"),
    }
    if is_wire:
        figures["largest_packet_bytes"] = world.largest_bytes
    return figures


def _cpu_s(world: GossipWorld, seconds: int) -> float:
    """Run so long; return the CPU seconds a simulated second took."""
    began = time.process_time()
    world.run(seconds)
    return (time.process_time() - began) / seconds


def _update_99_s(world: GossipWorld, observer: Observer, name: str, members: int) -> float | None:
    observer.updated_name = name
    told_us = world.now_us
    world.do(name, lambda machine, now_us: machine.set_meta({"role": "other"}, now_us))
    world.run(UPDATE_S)
    observer.updated_name = ""
    wanted = int(0.99 * (members - 1))
    if len(observer.updated_us) < wanted:
        return None
    return round((sorted(observer.updated_us)[wanted - 1] - told_us) / S, 3)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _child(size: str, is_wire: bool, answer: Any) -> None:
    answer.send(run(size, is_wire=is_wire))


def run_apart(size: str, *, is_wire: bool = False) -> dict[str, Any]:
    """As `run`, in a process of its own: its memory is nobody else's."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_child, args=(size, is_wire, theirs))
    process.start()
    theirs.close()
    try:
        figures: dict[str, Any] = ours.recv()
    except EOFError:
        process.join()
        raise SystemExit(f"the run of {size} ended with exit code {process.exitcode}") from None
    process.join()
    return figures


def _lifeguard(is_reduced: bool) -> dict[str, Any]:
    shorter: dict[str, Any] = {"seeds": 1, "minutes": 2.0, "members": 50} if is_reduced else {}
    off, on = five_percent_slow(**shorter)
    print(
        f"5% slow, without Lifeguard's parts and with them: {off.innocent} and {on.innocent} "
        f"false deaths of others, {off.false_deaths} and {on.false_deaths} with their own"
    )
    return {
        "false_dead_off_on_ratio": times(off.innocent, on.innocent),
        "all_dead_off_on_ratio": times(off.false_deaths, on.false_deaths),
    }


def _peers(is_reduced: bool) -> dict[str, Any]:
    peers = compare(8, 3) if is_reduced else compare()
    rates = {name: row and row["bytes_per_member_s"] for name, row in peers.items()}
    return {
        "peers": peers,
        "bytes_per_member_s": rates["ours"],
        "memberlist_bytes_per_member_s": rates["memberlist"],
        "serf_bytes_per_member_s": rates["serf"],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--reduced", action="store_true", help="a short run that proves nothing")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these parts; a reduced run")
    options = parser.parse_args()
    parts = options.only or (*(REDUCED if options.reduced else SIZES), *PARTS[len(SIZES) :])
    chosen = tuple(size for size in SIZES if size in parts)
    is_reduced = options.reduced or len(set(parts)) < len(PARTS)
    figures: dict[str, Any] = {}
    differing: list[str] = []
    print(f"{'members':8} " + " ".join(f"{column:>23}" for column in COLUMNS) + "  x experiment")
    for size in chosen:
        row = figures[size] = run_apart(size)
        events = row.pop("events")
        if SIZES[size][0] * SIZES[size][1] <= WIRE_MEMBERS_MAX:
            wired = run_apart(size, is_wire=True)
            row["bytes_per_member_s"] = wired["bytes_per_member_s"]
            row["largest_packet_bytes"] = wired["largest_packet_bytes"]
            if wired["events"] != events:
                differing.append(size)
        quiet, storm = EXPERIMENT[size]
        print(
            f"{size:8} "
            + " ".join(f"{row[column]!s:>23}" for column in COLUMNS)
            + f"  {row['cpu_s_per_sim_s_quiet'] / quiet:.1f} / "
            + f"{row['cpu_s_per_sim_s_storm'] / storm:.1f}",
            flush=True,
        )
    if "lifeguard" in parts:
        figures |= _lifeguard(options.reduced)
    if "peers" in parts:
        figures |= _peers(options.reduced)
    sizes = {size: SIZES[size][0] * SIZES[size][1] for size in chosen}
    print(last_line(figures, sizes=sizes, samples=sum(sizes.values()), is_reduced=is_reduced))
    if differing:
        print(f"bytes and objects gave other events: {', '.join(differing)}", file=sys.stderr)
        return 1
    return 3 if is_reduced else 0


if __name__ == "__main__":
    sys.exit(main())
