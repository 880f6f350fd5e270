"""What the torture of three regions counts, and that its judge sees what it is to see."""

import os
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace

from tests.torture.instances import Instance, Processes, places_of
from tests.torture.regions import HOLD, SURGE, Trial


def a_trial(running: set[Instance]) -> Trial:
    federation = SimpleNamespace(processes=SimpleNamespace(look=lambda: running))
    return Trial(federation, seed=1)  # type: ignore[arg-type]


def instance(job: str, index: int, place: str, alloc: str = "a") -> Instance:
    region, _, datacenter = place.partition("/")
    return Instance(job, index, region, datacenter, alloc)


def test_a_task_is_known_by_its_environment(tmp_path: Path) -> None:
    told = {
        "NOMAD_JOB_ID": "hold", "NOMAD_ALLOC_INDEX": "3", "NOMAD_REGION": "eu",
        "NOMAD_DC": "dc1", "NOMAD_ALLOC_ID": "a1", "NOMAD_TASK_DIR": f"{tmp_path}/x/local",
    }  # fmt: skip
    processes = Processes(tmp_path)
    task = subprocess.Popen(["/bin/sleep", "60"], env={**os.environ, **told})
    try:
        give_up_s = time.monotonic() + 10
        while not (found := processes.look()) and time.monotonic() < give_up_s:
            pass
        assert found == {Instance("hold", 3, "eu", "dc1", "a1")}
        assert places_of(found, "hold") == {3: ["eu/dc1"]}
        assert Processes(tmp_path / "other").look() == set(), "another federation's"
    finally:
        task.kill()
        task.wait()
    assert processes.look() == set()


def test_an_index_in_two_datacenters_is_seen_unless_it_may_have_a_copy() -> None:
    both = {instance(SURGE, 0, "eu/dc1"), instance(SURGE, 0, "us/dc1")}
    trial = a_trial(both)
    trial.look()
    assert not trial.violations and trial.seen["copy of an index ran"]
    trial = a_trial({instance(HOLD, 0, "eu/dc1"), instance(HOLD, 0, "us/dc1")})
    trial.look()
    assert trial.violations == ["hold[0] runs in eu/dc1, us/dc1 at once"]


def test_what_runs_is_held_against_what_was_acknowledged() -> None:
    running = {instance(HOLD, 0, "eu/dc1"), instance(HOLD, 1, "us/dc1")}
    trial = a_trial(running)
    trial.ledgers[HOLD].took(2)
    assert not trial._unsettled(HOLD, places_of(running, HOLD))
    trial.ledgers[HOLD].took(3)
    assert trial._unsettled(HOLD, places_of(running, HOLD))
    trial.ledgers[HOLD].counts.append((time.monotonic(), 2))  # nothing was heard of that write
    assert not trial._unsettled(HOLD, places_of(running, HOLD))
    twice = running | {instance(HOLD, 1, "us/dc1", "b")}
    assert trial._unsettled(HOLD, places_of(twice, HOLD))
