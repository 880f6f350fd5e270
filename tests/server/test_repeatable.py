"""The same seed gives the same effects, whatever PYTHONHASHSEED is."""

import os
import subprocess
import sys
from pathlib import Path

STORY = """
import hashlib, re
from harness import World
from stories import clients, datacenter, leader, register, until_running

digest = hashlib.sha256()
carry_out = World._carry_out
def noting(world, agent, effect):
    shown = re.sub(" at 0x[0-9a-f]+", "", repr(effect))  # of objects without a repr
    digest.update(f"{world.now_us} {agent.name} {shown}".encode())
    carry_out(world, agent, effect)
World._carry_out = noting
world = datacenter(3, 3, seed=7)
register(world, count=5)
until_running(world, 5)
world.kill(leader(world))
world.until(world.leader)
world.kill(clients(world)[0])
register(world, ID="other", Name="other", count=3)
world.run(30)
print(digest.hexdigest(), leader(world).state.hash())
"""


def test_a_story_repeats_bit_for_bit() -> None:
    root = Path(__file__).parents[2]
    told = {
        subprocess.run(
            [sys.executable, "-c", STORY],
            env={**os.environ, "PYTHONHASHSEED": seed,
                 "PYTHONPATH": f"{root}:{Path(__file__).parent}"},
            capture_output=True, text=True, check=True, timeout=60,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(told) == 1
