"""Which faults come when: those that come again and again become single ones with times.

All is drawn from the seed before the run begins, so a run's faults can be listed, and one
taken away without moving another.
"""

import random

import msgspec

from sim.plans import FaultPlan, Scenario

MAX_TIMES = 100_000  # of one fault block: beyond, a rate is a mistake


def concrete_faults(scenario: Scenario, seed: int) -> list[FaultPlan]:
    """Return every fault of a run, by time; none of them recurs.

    Raises:
        ValueError: A rate gives more faults than a run could hold.
    """
    faults: list[FaultPlan] = []
    for number, fault in enumerate(scenario.faults):
        rng = random.Random(f"{seed}/schedule/{number}/{fault.kind}")
        faults += _times_of(fault, scenario, rng)
    return sorted(faults, key=lambda fault: fault.at_us)


def _times_of(fault: FaultPlan, scenario: Scenario, rng: random.Random) -> list[FaultPlan]:
    until_us = fault.until_us or max(fault.at_us, scenario.duration_us - scenario.settle_us)
    times_us: list[int] = []
    if fault.every_us:
        times_us = list(range(fault.at_us, until_us, fault.every_us))
    elif fault.rate_per_s:
        at_us = float(fault.at_us)
        while len(times_us) <= MAX_TIMES:
            at_us += rng.expovariate(fault.rate_per_s) * 1e6
            if at_us >= until_us:
                break
            times_us.append(int(at_us))
    else:
        times_us = [fault.at_us]
    if len(times_us) > MAX_TIMES:
        raise ValueError(f"fault {fault.kind!r} comes more than {MAX_TIMES:,} times: a lower rate?")
    single = msgspec.structs.replace(fault, every_us=0, rate_per_s=0.0, until_us=0, lasts=None)
    return [
        msgspec.structs.replace(
            single,
            at_us=at_us,
            for_us=fault.for_us if fault.lasts is None else max(1, fault.lasts.draw_us(rng)),
        )
        for at_us in times_us
    ]
