"""serf's contender: one agent process a member, as it is run; see bench.peers.

The ports are fixed: the network namespace is this program's alone.
"""

import subprocess
import sys
import time
from typing import Final

from bench.peers.ours import HOST, LIMIT_S, say

GOSSIP_PORT: Final = 10_000
RPC_PORT: Final = 20_000
ASKED: Final = 4  # as many agents are asked what they know; each question is a process


def run(count: int, quiet_s: int) -> None:
    agents = [_start(0)]
    try:
        while not _alive(0):  # else the others come too early, and try again half a minute later
            time.sleep(0.1)
        began = time.monotonic()
        agents += [_start(number) for number in range(1, count)]
        say("joined", _agreed(count, began))
        time.sleep(quiet_s)
        say("quiet", time.monotonic() - began)
        agents[-1].kill()
        say("detected", _agreed(count - 1, time.monotonic()))
    finally:
        for agent in agents:
            agent.kill()
        for agent in agents:
            agent.wait()


def _start(number: int) -> subprocess.Popen[bytes]:
    command = ["serf", "agent", f"-node=m{number:04}", "-log-level=err", "-profile=lan"]
    command += [f"-bind={HOST}:{GOSSIP_PORT + number}", f"-rpc-addr={HOST}:{RPC_PORT + number}"]
    if number:
        command.append(f"-retry-join={HOST}:{GOSSIP_PORT}")
    return subprocess.Popen(command, stdout=subprocess.DEVNULL)


def _agreed(count: int, began: float) -> float:
    """Return the seconds until some agents know exactly `count` members alive."""
    while any(_alive(number) != count for number in range(ASKED)):
        if time.monotonic() - began > LIMIT_S:
            raise SystemExit(f"no agreement within {LIMIT_S:.0f} s")
        time.sleep(0.1)
    return time.monotonic() - began


def _alive(number: int) -> int:
    command = ["serf", "members", f"-rpc-addr={HOST}:{RPC_PORT + number}", "-status=alive"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return len(answer.stdout.splitlines()) if answer.returncode == 0 else 0


if __name__ == "__main__":
    run(int(sys.argv[1]), int(sys.argv[2]))
