"""How well jobs find room over many datacenters: `python -m bench.federation`.

The shipped servers on virtual time (bench.federated): 20 datacenters in 5 regions at 95% load,
5% of the jobs ask for more than half a node. Digests are 1, 10 and 30 s old on average, which
means that they are published every 2, 20 and 60 s. The oracle is the same shipped scheduler in
one datacenter that has all the nodes: it knows everything and is never refused.

    bounces_per_job              refusals of other datacenters, for each job that came
    placed_ratio                 jobs that ran within 30 s, against the oracle's
    forward_p99_ms               from the request to the answer, of jobs taken elsewhere
    oscillation_moves_per_hour   of divided services' instances: out to another region and back
    heal_to_converged_s_p99      after the cut of a region, until all parts are settled
    digest_ms_*, digest_bytes    making a digest of 10,000 nodes, few and many allocations

The figures without an age are those at 30 s, all are over all seeds (`--seeds`, each about two
minutes of a processor; `--ages 30` plays that age alone, in half the time). Times are virtual but
for `digest_ms_*`, which is processor time. The last line is one JSON object; a reduced run says so
and exits 3.
"""

import argparse
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.digests import digest_figures
from bench.federated import (
    REPORT_US,
    Arrival,
    Datacenter,
    Federation,
    S,
    Size,
    arrivals,
    job,
    stock,
)
from bench.parts import COUNTS, Services
from core.model.query import Answer, Query
from sim.lastline import last_line

LOAD: Final = 0.95
AGES_S: Final = (1, 10, 30)
PATIENCE_US: Final = 30 * S
AFTER_S: Final = 10  # jobs that prefer their region wait for so long before they leave it
SERVICES: Final = 1  # divided ones for each datacenter
FULL: Final[dict[str, Any]] = {"size": Size(5, 20, 1, 25), "life_s": 400, "seconds": 120}
REDUCED: Final[dict[str, Any]] = {"size": Size(2, 4, 1, 20), "life_s": 200, "seconds": 60}


@dataclass
class Outcome:
    """What one federation made of the plan."""

    jobs: int = 0
    placed: int = 0
    bounces: int = 0
    refused: int = 0  # answered with an error
    forward_ms: list[float] = field(default_factory=list)
    ages_s: list[float] = field(default_factory=list)  # of what a choice was based on
    load: list[float] = field(default_factory=list)
    moves: dict[str, int] = field(default_factory=dict)  # instances of services, by why
    undone: int = 0  # moves of these that went back, and those that they undid
    divided: int = 0  # services that run in more than one
    healed_s: list[float] = field(default_factory=list)
    cpu_s: float = 0.0


class Trial:
    """One federation under the plan."""

    def __init__(self, size: Size, *, age_s: float, life_s: int, seconds: int, seed: int) -> None:
        self.federation = Federation(size, digest_interval_us=int(2 * age_s * S), seed=seed)
        self.outcome = Outcome()
        self._seed = seed
        self._life_us = life_s * S
        self._seconds = seconds
        self._lives = random.Random(f"{seed}/lives")
        self._job_lives: dict[str, int] = {}
        self._is_open = False
        self.services = Services(self.federation, SERVICES * size.datacenters)

    def run(self) -> Outcome:
        began = time.process_time()
        federation, wheel = self.federation, self.federation.world.wheel
        federation.start()
        self._fill()
        self._settle(2 * federation.digest_interval_us + 10 * S)
        self._is_open = True  # from now on work ends, and as much of it comes
        self.outcome.load.clear()
        start_us = wheel.now_us
        before, moves = self._bounces(), self.services.moves()
        self.services.forget()
        end_us = self._seconds * S
        for one in arrivals(
            federation.size.capacity, LOAD, self._life_us, end_us + PATIENCE_US,
            random.Random(f"{self._seed}/arrivals"),
        ):  # fmt: skip
            # Those of the last half minute keep the load up; nobody looks what became of them.
            wheel.at(start_us + one.at_us, self._submit, (one, one.at_us < end_us))
        self._settle(end_us + PATIENCE_US)
        self.outcome.bounces = self._bounces() - before
        after = self.services.moves()
        self.outcome.moves = {why: after[why] - moves.get(why, 0) for why in sorted(after)}
        self.outcome.undone = self.services.undone
        self.outcome.divided = self.services.divided()
        self.outcome.cpu_s = time.process_time() - began
        return self.outcome

    def _fill(self) -> None:
        """Bring every datacenter to the load with instances of their own lifetimes."""
        size = self.federation.size
        for number, datacenter in enumerate(self.federation.datacenters):
            rng = random.Random(f"{self._seed}/stock/{number}")
            whole = size.capacity // size.datacenters
            groups = stock(whole, LOAD - self.services.demand / size.capacity, rng)
            wanted = job("stock", groups, ID=f"stock-{number}", Region=datacenter.region,
                         Datacenters=[datacenter.name])  # fmt: skip
            self._register(datacenter, wanted, _must_be_taken)
        self._settle(20 * S)
        self.services.register(COUNTS[0])
        self._settle(20 * S)

    def _settle(self, for_us: int) -> None:
        wheel = self.federation.world.wheel
        end_us = wheel.now_us + for_us
        while wheel.now_us < end_us:
            self.federation.run_until(min(end_us, wheel.now_us + REPORT_US))
            self.outcome.load.append(self.federation.used())
            if self._is_open:
                self.services.look()
                for datacenter in self.federation.datacenters:
                    datacenter.report(wheel.now_us, self._life_of)

    def _life_of(self, job_id: str) -> int:
        known = self._job_lives.get(job_id)
        # What is in stock has run for a while: its remaining life is as long as any other's.
        return int(self._lives.expovariate(1 / self._life_us)) + S if known is None else known

    def heal(self) -> None:
        """Cut off each region in turn, and note how long each healing took."""
        regions = sorted({one.region for one in self.federation.datacenters})
        self.outcome.healed_s = self.services.heal_times_s(regions, self._settle)

    def _bounces(self) -> int:
        servers = [server for one in self.federation.datacenters for server in one.servers]
        return sum(one.server.measures.bounces for one in servers if one.server is not None)

    # --- one job ----------------------------------------------------------------------------

    def _register(self, datacenter: Datacenter, wanted: dict[str, Any], then: Any) -> None:
        query = Query(
            method="Job.Register", body={"Job": wanted}, region=datacenter.region,
            namespace="default",
        )  # fmt: skip
        self.federation.ask(datacenter, query, then)

    def _submit(self, coming: tuple[Arrival, bool]) -> None:
        arrival, is_counted = coming
        federation, wheel = self.federation, self.federation.world.wheel
        places = federation.datacenters
        entrance = places[int(arrival.entrance * len(places))]
        name = f"job-{arrival.number}"
        self._job_lives[name] = arrival.life_us
        where: dict[str, Any] = {"Region": "*"}
        if not arrival.is_anywhere:
            where = {"Federation": {"Spillover": {"Regions": ["*"], "After": AFTER_S * 10**9}}}
        wanted = job(name, [(arrival.cpu, arrival.count)], **where)
        self.outcome.jobs += is_counted
        sent_us = wheel.now_us

        def answered(answer: Answer) -> None:
            if not is_counted:
                return
            if answer.is_error:
                self.outcome.refused += 1
                return
            verdicts = answer.body.get("SeraiVerdicts", []) if isinstance(answer.body, dict) else []
            chosen = next((one for one in verdicts if one["Chosen"]), None)
            if chosen is not None and chosen["Datacenter"] != entrance.name:
                self.outcome.forward_ms.append((wheel.now_us - sent_us) / 1000)
                self.outcome.ages_s.append((chosen["DigestAgeMS"] or 0) / 1000)

        self._register(entrance, wanted, answered)
        if is_counted:
            wheel.after(PATIENCE_US, self._look, (name, arrival.count, entrance))

    def _look(self, asked: tuple[str, int, Datacenter]) -> None:
        """Count a job that runs whole; nobody waits longer for one that does not."""
        name, count, entrance = asked
        running = 0
        for datacenter in self.federation.datacenters:
            state = datacenter.state
            record = state.jobs.get("default", name)
            if record is not None:
                running += len(state.allocs.rows_of_job(record.ordinal))
        if running >= count:
            self.outcome.placed += 1
            return
        query = Query(
            method="Job.Deregister", params={"job_id": name, "purge": True},
            region=entrance.region, namespace="default",
        )  # fmt: skip
        self.federation.ask(entrance, query, lambda answer: None)


def _must_be_taken(answer: Answer) -> None:
    if answer.is_error:
        raise RuntimeError(f"the stock was refused: {answer.error}")


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


@dataclass
class Seeds:
    """What all seeds made, by age of the digests."""

    seconds: int
    oracles: list[Outcome] = field(default_factory=list)
    ages_s: Sequence[int] = AGES_S
    found: dict[int, list[Outcome]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.found = {age_s: [] for age_s in self.ages_s}

    def told(self, age_s: int) -> dict[str, Any]:
        """Return the figures of one age, over all seeds that were run."""
        outcomes = self.found[age_s]
        jobs = sum(one.jobs for one in outcomes)
        watched_s = len(outcomes) * (self.seconds + PATIENCE_US // S)
        forward_ms = [ms for one in outcomes for ms in one.forward_ms]
        return {
            "bounces_per_job": round(sum(one.bounces for one in outcomes) / jobs, 4),
            "placed_ratio": round(
                sum(one.placed for one in outcomes) / sum(one.placed for one in self.oracles), 4
            ),
            "forward_p99_ms": round(percentile(forward_ms, 0.99), 1),
            "digest_age_p50_s": round(
                percentile([age for one in outcomes for age in one.ages_s], 0.5), 1
            ),
            "oscillation_moves_per_hour": round(
                sum(one.undone for one in outcomes) * 3600 / watched_s, 1
            ),
            "moves": {
                why: sum(one.moves.get(why, 0) for one in outcomes)
                for why in sorted({why for one in outcomes for why in one.moves})
            },
            "divided_services": sum(one.divided for one in outcomes),
            "refused": sum(one.refused for one in outcomes),
            "load": round(statistics.mean(x for one in outcomes for x in one.load), 3),
            "cpu_s": round(sum(one.cpu_s for one in outcomes), 1),
            "bounces_by_seed": [round(one.bounces / one.jobs, 4) for one in outcomes],
            "placed_by_seed": [
                round(one.placed / oracle.placed, 4)
                for one, oracle in zip(outcomes, self.oracles, strict=True)
            ],
        }

    def healed_s(self) -> list[float]:
        return sorted(took for one in self.found[self.ages_s[-1]] for took in one.healed_s)


def run_seed(seeds: Seeds, size: Size, plan: dict[str, int]) -> None:
    """Play one plan at every age, and before a datacenter that knows all."""
    whole = Size(1, 1, size.servers, size.nodes * size.datacenters)
    oracle = Trial(whole, age_s=1, **plan).run()
    seeds.oracles.append(oracle)
    print(f"seed {plan['seed']}: oracle placed {oracle.placed} of {oracle.jobs}, "
          f"load {statistics.mean(oracle.load):.3f}", flush=True)  # fmt: skip
    for age_s in seeds.ages_s:
        trial = Trial(size, age_s=age_s, **plan)
        found = trial.run()
        seeds.found[age_s].append(found)
        print(f"  {age_s:3} s  bounces {found.bounces / found.jobs:.4f} a job, placed "
              f"{found.placed / oracle.placed:.4f}, undone moves {found.undone}, "
              f"{found.cpu_s:.0f} CPU-s", flush=True)  # fmt: skip
        if age_s == seeds.ages_s[-1]:
            trial.heal()
            healed = ", ".join(f"{one:.1f}" for one in found.healed_s)
            print(f"  healed after {healed} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--reduced", action="store_true", help="a short run that proves nothing")
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--seeds", type=int, default=3, help="how many; one if reduced")
    parser.add_argument(
        "--ages", type=int, nargs="+", choices=AGES_S, default=AGES_S,
        help="of the digests, in seconds; fewer than all is a reduced run",
    )  # fmt: skip
    parser.add_argument("--servers", type=int, default=1, help="of each datacenter: 1, 3 or 5")
    arguments = parser.parse_args()
    sizes = REDUCED if arguments.reduced else FULL
    size: Size = sizes["size"]._replace(servers=arguments.servers)
    plan = {"life_s": sizes["life_s"], "seconds": sizes["seconds"]}
    count = 1 if arguments.reduced else max(1, arguments.seeds)
    ages_s = sorted({*arguments.ages})
    is_reduced = arguments.reduced or len(ages_s) < len(AGES_S)
    seeds = Seeds(plan["seconds"], ages_s=ages_s)
    for seed in range(arguments.seed, arguments.seed + count):
        run_seed(seeds, size, {**plan, "seed": seed})
    figures: dict[str, Any] = {}
    for age_s in ages_s:
        told = seeds.told(age_s)
        print(f"{age_s:3} s    " + "  ".join(f"{name} {value}" for name, value in told.items()))
        figures |= {f"{name}_{age_s}s": value for name, value in told.items()}
    for name in (
        "bounces_per_job", "placed_ratio", "forward_p99_ms", "oscillation_moves_per_hour",
    ):  # fmt: skip
        figures[name] = figures[f"{name}_{ages_s[-1]}s"]
    healed_s = seeds.healed_s()
    print(f"healed   {', '.join(f'{one:.1f}' for one in healed_s)} s")
    figures["heal_to_converged_s_p99"] = round(percentile(healed_s, 0.99), 1)
    figures |= digest_figures(is_reduced=arguments.reduced)
    print(
        last_line(
            figures,
            sizes={**size._asdict(), **plan, "seed": arguments.seed, "seeds": count, "load": LOAD,
                   "ages_s": ages_s,
                   "oracle_placed": sum(one.placed for one in seeds.oracles)},
            samples=sum(one.jobs for one in seeds.oracles) * len(ages_s),
            is_reduced=is_reduced,
        )
    )  # fmt: skip
    return 3 if is_reduced else 0


if __name__ == "__main__":
    sys.exit(main())
