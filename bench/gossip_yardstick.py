"""What gossip costs beside a bare SWIM core: `python -m bench.gossip_yardstick FOLDER`.

The yardstick is an experiment that lies outside this repository: `swim_core.py` and `sim.py` in
FOLDER, 570 lines without layers, joins, metadata or checks. Both programs run in one process,
a simulated second of one and then the same of the other, so that whatever else the machine does
befalls both alike. Same pools, 1% of all datagrams lost, 1% of the members killed; CPU time.

    quiet    members that know each other
    storm    the time after the kill, until both have told all there is to tell

How many of the killed are suspected at once is chance, in either program, and one storm of 1,000
may cost twice what another does. So the smaller sizes are run several times, from other seeds.

The last line is one JSON object: of each size and phase the CPU seconds a simulated second of
both, their ratio, and the median of the ratios of all seconds. Exit 1: a ratio above `--limit`.
"""

import argparse
import gc
import importlib.util
import random
import statistics
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from bench.gossip import KILLED, LOSS, SIZES, Onlooker
from sim.gossip_world import GossipWorld
from sim.lastline import last_line

WARM_S: Final = 2
# seeds, and of each simulated seconds, quiet and storm: a storm lasts as long as its suspicions
SPANS: Final = {"100": (8, 10, 30), "1000": (6, 6, 30), "10000": (1, 5, 24), "10x1000": (1, 8, 24)}
FULL_LIMIT: Final = 2.0


def load(folder: Path, name: str, alias: str) -> ModuleType:
    """Import FOLDER/name.py under another name: its `sim` is not ours."""
    spec = importlib.util.spec_from_file_location(alias, folder / f"{name}.py")
    if spec is None or spec.loader is None or not (folder / f"{name}.py").is_file():
        raise SystemExit(f"{folder} has no {name}.py: name the folder of the bare core")
    module = sys.modules[alias] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@dataclass
class Costs:
    """CPU seconds of simulated seconds, one after another."""

    ours_s: list[float] = field(default_factory=list)
    bare_s: list[float] = field(default_factory=list)

    def add(self, other: "Costs") -> None:
        self.ours_s += other.ours_s
        self.bare_s += other.bare_s

    def summary(self) -> dict[str, float]:
        ours_s, bare_s = sum(self.ours_s), sum(self.bare_s)
        ratios = map(float.__truediv__, self.ours_s, self.bare_s)
        return {
            "ours_cpu_s_per_sim_s": round(ours_s / len(self.ours_s), 6),
            "bare_cpu_s_per_sim_s": round(bare_s / len(self.bare_s), 6),
            "ratio": round(ours_s / bare_s, 2),
            "ratio_p50": round(statistics.median(ratios), 2),
        }


class Race:
    """Both programs, always at the same simulated time."""

    def __init__(self, size: str, seed: int, core: ModuleType, simulator: ModuleType) -> None:
        pools, members = SIZES[size]
        self.seed = seed
        self.world = GossipWorld(seed=seed, loss=LOSS, on_event=Onlooker().on_event)
        self.names = [
            name
            for number in range(pools)
            for name in self.world.form_at_once(members, pool=f"pool{number}")
        ]
        self.bare: Any = simulator.Sim(
            [members] * pools, core.Config(), seed, LOSS, 1, 5, size_model=False
        )
        self.bare.start()

    def run(self, seconds: int) -> "Costs":
        """Return the CPU seconds of each simulated second, ours and the bare core's."""
        ours_s: list[float] = []
        bare_s: list[float] = []
        for _ in range(seconds):
            began_s = time.process_time()
            self.world.run(1)
            between_s = time.process_time()
            self.bare.run_until(self.world.now_us)
            ours_s.append(between_s - began_s)
            bare_s.append(time.process_time() - between_s)
        return Costs(ours_s, bare_s)

    def kill(self) -> None:
        count = max(1, int(KILLED * len(self.names)))
        for name in random.Random(f"{self.seed}/victims").sample(self.names[1:], count):
            self.world.kill(name)
        for number in random.Random(self.seed).sample(range(len(self.names)), count):
            self.bare.kill(number)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="of swim_core.py and sim.py")
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["100", "1000"])
    parser.add_argument("--limit", type=float, default=FULL_LIMIT, help="of the ratio")
    options = parser.parse_args()
    core = load(options.folder, "swim_core", "swim_core")
    simulator = load(options.folder, "sim", "bare_sim")
    gc.disable()  # as in bench.gossip
    figures: dict[str, Any] = {}
    print(f"{'members':8} {'':6} {'ours, CPU-ms':>13} {'bare':>9} {'ratio':>6} {'median':>7}")
    for size in options.sizes:
        seeds, quiet_s, storm_s = SPANS[size]
        costs = {"quiet": Costs(), "storm": Costs()}
        for seed in range(1, seeds + 1):
            race = Race(size, seed, core, simulator)
            race.run(WARM_S)
            costs["quiet"].add(race.run(quiet_s))
            race.kill()
            costs["storm"].add(race.run(storm_s))
            del race
            gc.collect()
        figures[size] = {}
        for phase, cost in costs.items():
            row = figures[size][phase] = cost.summary()
            print(
                f"{size:8} {phase:6} {1_000 * row['ours_cpu_s_per_sim_s']:13.3f} "
                f"{1_000 * row['bare_cpu_s_per_sim_s']:9.3f} {row['ratio']:6.2f} "
                f"{row['ratio_p50']:7.2f}",
                flush=True,
            )
    sizes = {size: SIZES[size][0] * SIZES[size][1] for size in options.sizes}
    is_reduced = options.limit != FULL_LIMIT or len(sizes) < len(SIZES)
    print(last_line(figures, sizes=sizes, samples=sum(sizes.values()), is_reduced=is_reduced))
    worst = max(row["ratio"] for phases in figures.values() for row in phases.values())
    if worst > options.limit:
        return 1
    return 3 if is_reduced else 0


if __name__ == "__main__":
    sys.exit(main())
