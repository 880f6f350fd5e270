"""One seed of `python -m sim.raft`, and what the run as a whole must have shown.

A seed draws a cluster, settings, clients and faults. Clients work while faults come and go;
then everything is mended, and within bounds the cluster must serve again, finish what the
clients still want and come to rest with equal states. Last, the history is judged.
"""

import argparse
import random
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from raft.core import Settings
from raft.engine import DEFAULT, ENGINES, EngineError, check
from sim.raft import faults, situations
from sim.raft.clients import Client
from sim.raft.faults import Faults
from sim.raft.history import Kind, Operation, Result, dump
from sim.raft.linearizable import explain
from sim.raft.world import SECOND_US, SETTINGS, World
from sim.seeds import Outcome, Program, Violation

CLIENTS: Final = (8, 10)
OPERATIONS: Final = 208  # of all clients, at least
FAULTY_US: Final = 12 * SECOND_US  # at most so long; it ends when all clients are done
SERVE_US: Final = 8 * SECOND_US  # from healing to the next acknowledged operation
FINISH_US: Final = 60 * SECOND_US  # until all clients are done
REST_US: Final = 20 * SECOND_US  # until all replicas are equal


class Trial:
    """One seed's world, its clients and its adversary."""

    def __init__(self, seed: int, options: argparse.Namespace) -> None:
        rng = random.Random(f"raft/{seed}/plan")
        self.seed = seed
        self.world = World(
            seed,
            rng.choice((1, 2, 3, 3, 3, 3, 5, 5)),
            settings=_settings(rng),
            engine=options.engine,
            is_black_box=options.black_box,
        )
        for host in self.world.hosts.values():
            host.pump_us = rng.choice((0, 0, 0, 500, 3_000))
        self._keys = [f"k{i}" for i in range(rng.randint(4, 6))]
        count = rng.randint(*CLIENTS)
        quota = -(-OPERATIONS // count)
        self.clients = [
            Client(self.world, i, self._keys, quota, random.Random(rng.getrandbits(64)))
            for i in range(count)
        ]
        self._faults = None
        if options.has_faults:
            self._faults = Faults(self.world, random.Random(rng.getrandbits(64)))

    @property
    def history(self) -> list[Operation]:
        return [operation for client in self.clients for operation in client.history]

    def play(self) -> None:
        """Run to the end.

        Raises:
            Violation: A checker fired.
        """
        world = self.world
        world.run(FAULTY_US, self._is_done)
        if self._faults is not None:
            self._faults.stop()
        world.mend()
        self._check_progress()
        if not world.run(FINISH_US, self._is_done):
            raise Violation("liveness", f"clients are not done in time: {world.story()}")
        for number, key in enumerate(self._keys):
            self.clients[number % len(self.clients)].ask(key)
        if not world.run(FINISH_US, self._is_done):
            raise Violation("liveness", f"the last reads are not answered: {world.story()}")
        world.come_to_rest(REST_US)
        self._count()
        text = explain(self.history)
        if text:
            raise Violation("linearizability", text)

    def _is_done(self) -> bool:
        return not self.world.busy_clients

    def _check_progress(self) -> None:
        """Once all is mended, some client gets an answer within the bound."""
        world = self.world
        before = world.answers
        world.run(SERVE_US, lambda: not world.busy_clients or world.answers > before)
        if world.busy_clients and world.answers == before:
            text = f"no answer {SERVE_US / 1e6:g} s after healing: {world.story()}"
            raise Violation("liveness", text)

    def _count(self) -> None:
        """What became of the operations that timed out."""
        seen, effects = self.world.situations, self.world.watch.effects
        for operation in self.history:
            if operation.result is Result.UNKNOWN and operation.kind is not Kind.READ:
                took = operation.call_id in effects
                seen["timed-out write took effect"] += took
                seen["timed-out write never took effect"] += not took
        for host in self.world.hosts.values():
            self.world.faults["flipped bit in a snapshot read"] += host.disk.flips


def run_seed(seed: int, options: argparse.Namespace) -> Outcome:
    """Play one seed; see `sim.seeds.Program`."""
    trial = Trial(seed, options)
    world = trial.world
    violations = []
    try:
        trial.play()
    except Violation as violation:
        violations.append((violation.checker, violation.text))
    if options.dump_history is not None:
        about = {"seed": seed, "clients": len(trial.clients), "engine": options.engine}
        dump(options.dump_history / f"seed-{seed}.jsonl", trial.history, about)
    return Outcome(
        violations=[*violations, *world.watch.assertions[:3]],
        faults=world.faults,
        situations=world.situations,
        acknowledged=len(world.watch.acknowledged),
    )


def _settings(rng: random.Random) -> Settings:
    """Return settings with small bounds, of which some seeds vary a few."""
    settings = replace(
        SETTINGS,
        trailing_entries=rng.choice((0, 0, 5, 40)),
        append_bytes=rng.choice((150, 600, 600, 5_000)),
        inflight_appends=rng.choice((1, 4, 16)),
        uncommitted_bytes=rng.choice((2_000, 1 << 20, 1 << 20, 1 << 20)),
        promotion_lag=rng.choice((0, 50)),
        election_max_us=rng.choice((1_000_000, 1_000_000, 560_000)),  # short: votes split
        chunk_bytes=rng.choice((400, 400, 1_500, 20_000)),
    )
    draw = rng.random()
    if draw < 0.45:
        settings = replace(settings, clock_drift_ppm=10_000)
    elif draw < 0.57:
        settings = replace(settings, is_pre_vote=False)
    elif draw < 0.63:
        settings = replace(settings, is_check_quorum=False)
    return settings


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--engine", choices=ENGINES, default=DEFAULT, help=f"(default {DEFAULT})", type=_engine
    )
    parser.add_argument(
        "--dump-history",
        metavar="DIR",
        type=_folder,
        help="write what the clients of each seed saw, as JSON lines (docs/raft-proof.md)",
    )
    parser.add_argument(
        "--black-box",
        action="store_true",
        help="only checkers that see what clients see, none at messages, disks and logs",
    )


def _engine(name: str) -> str:
    if name in ENGINES:
        try:
            check(name)
        except EngineError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
    return name


def _folder(name: str) -> Path:
    path = Path(name)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{name}: {error.strerror}") from error
    return path


def _sizes(options: argparse.Namespace) -> dict[str, Any]:
    return {"operations": OPERATIONS, "clients": CLIENTS[0], "engine": options.engine}


PROGRAM: Final = Program(
    name="sim.raft",
    about="Raft under simulated faults, seed by seed: is every promise kept?",
    faults=faults.NAMES,
    situations=situations.NAMES,
    run_seed=run_seed,
    add_arguments=_add_arguments,
    sizes=_sizes,
)
