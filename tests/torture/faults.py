"""The faults. Each draws its targets, strikes, holds and mends; what it did is counted.

A fault is counted only once it has had its effect, as seen from outside: the process is
gone by SIGKILL, the kernel calls it stopped, the relay dropped something, a server said
that its disk is full. A fault that never has one leaves its count at zero, and a full run
with a zero fails.
"""

import itertools
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import httpx
import trio

from tests.torture.cluster import Cluster, Server
from tests.torture.writers import Writers

_FULL_DISK_LIMIT_S: Final = 25.0  # to fill what the log has reserved
_POLL_S: Final = 0.1
_FULL_LOG_WORDS: Final = "is full"

Fault = Callable[[Cluster, Writers, random.Random, Counter[str]], Awaitable[None]]


async def kill_one(
    cluster: Cluster, writers: Writers, rng: random.Random, tally: Counter[str]
) -> None:
    await _kill(cluster, "kill one", rng.sample(cluster.servers, 1), rng, tally)


async def kill_leader(
    cluster: Cluster, writers: Writers, rng: random.Random, tally: Counter[str]
) -> None:
    leader = await cluster.leader()
    if leader is not None:
        await _kill(cluster, "kill the leader", [leader], rng, tally)


async def kill_minority(
    cluster: Cluster, writers: Writers, rng: random.Random, tally: Counter[str]
) -> None:
    victims = rng.sample(cluster.servers, cluster.minority)
    await _kill(cluster, "kill a minority", victims, rng, tally)


async def kill_all(
    cluster: Cluster, writers: Writers, rng: random.Random, tally: Counter[str]
) -> None:
    victims = rng.sample(cluster.servers, len(cluster.servers))
    await _kill(cluster, "kill all", victims, rng, tally)


async def _kill(
    cluster: Cluster, name: str, victims: list[Server], rng: random.Random, tally: Counter[str]
) -> None:
    down_s = rng.uniform(0.0, 3.0)
    victims = [server for server in victims if server.is_alive]
    async with trio.open_nursery() as nursery:
        for server in victims:
            nursery.start_soon(server.kill)
    # As many as it is called for: another fault of the round may have taken one before.
    if victims and all("signal 9" in server.agent.ending for server in victims):
        tally[name] += 1
    await trio.sleep(down_s)
    for server in victims:
        if not server.is_alive:
            cluster.start(server)
        await trio.sleep(rng.choice([0.0, rng.uniform(0.0, 0.8)]))


async def pause(
    cluster: Cluster, writers: Writers, rng: random.Random, tally: Counter[str]
) -> None:
    """SIGSTOP some, the leader among them half of the time; SIGCONT later."""
    leader = await cluster.leader()
    victims = rng.sample(cluster.servers, rng.randint(1, len(cluster.servers)))
    if leader is not None and leader not in victims and rng.random() < 0.5:
        victims.append(leader)
    held_s = rng.choice([rng.uniform(0.1, 0.8), rng.uniform(0.8, 5.0)])
    victims = [server for server in victims if server.is_running]
    for server in victims:
        server.agent.send(signal.SIGSTOP)
    await trio.sleep(held_s)
    for server in victims:
        if server.agent.state == "paused":
            tally["stop and continue"] += _kernel_state(server) == "T"
            server.agent.send(signal.SIGCONT)


def _kernel_state(server: Server) -> str:
    stat = Path(f"/proc/{server.agent.pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0]


async def cut(cluster: Cluster, writers: Writers, rng: random.Random, tally: Counter[str]) -> None:
    """Cut links in one of the shapes below; heal them later."""
    names = [server.name for server in cluster.servers]
    leader = await cluster.leader()
    first = leader.name if leader is not None else rng.choice(names)
    others = [name for name in names if name != first]
    shape = rng.choice(["isolate", "one-way out", "one-way in", "halves", "all apart", "bridge"])
    before = _dropped(cluster)
    match shape:
        case "isolate":
            cluster.links.cut(first)
        case "one-way out":
            for name in others:
                cluster.links.cut(first, name, is_one_way=True)
        case "one-way in":
            for name in others:
                cluster.links.cut(name, first, is_one_way=True)
        case "halves":
            side = set(rng.sample(names, cluster.minority))
            _cut_pairs(cluster, [(a, b) for a in side for b in names if b not in side])
        case "all apart":
            _cut_pairs(cluster, list(itertools.combinations(names, 2)))
        case "bridge":  # the first sees everyone, the others see nobody else
            _cut_pairs(cluster, list(itertools.combinations(others, 2)))
    await trio.sleep(rng.uniform(1.0, 6.0))
    tally["cut"] += _dropped(cluster) > before
    cluster.links.heal()


def _cut_pairs(cluster: Cluster, pairs: list[tuple[str, str]]) -> None:
    for one, other in sorted(pairs):
        cluster.links.cut(one, other)


def _dropped(cluster: Cluster) -> int:
    return sum(
        cluster.links.between(one, other).dropped
        for one, other in itertools.permutations(cluster.links.endpoints, 2)
    )


async def fill_disk(
    cluster: Cluster, writers: Writers, rng: random.Random, tally: Counter[str]
) -> None:
    """Leave no room on the disks of one, of a majority or of all servers, then free them.

    The log has room reserved, so big writes go on until a server says that it is full.
    """
    count = rng.choice([1, len(cluster.servers) // 2 + 1, len(cluster.servers)])
    victims = rng.sample(cluster.servers, count)
    offsets = {server.name: server.log_size() for server in victims}
    writers.is_bulky = True
    refused = writers.ledger.outcomes["refused for a full disk"]
    has_said = False
    with trio.move_on_after(_FULL_DISK_LIMIT_S):
        while not has_said:
            for server in victims:
                server.disk.fill()
            has_said = any(
                _FULL_LOG_WORDS in server.log_since(offsets[server.name]) for server in victims
            )
            await trio.sleep(_POLL_S)
    tally["full disk"] += has_said
    with trio.move_on_after(rng.uniform(1.0, 4.0)):
        while has_said:
            for server in victims:
                server.disk.fill()
            if await _can_read(cluster, rng):
                tally["read while a disk was full"] += 1
            await trio.sleep(_POLL_S)
    tally["write refused for a full disk"] += (
        writers.ledger.outcomes["refused for a full disk"] > refused
    )
    writers.is_bulky = False
    for server in victims:
        server.disk.free()


async def _can_read(cluster: Cluster, rng: random.Random) -> bool:
    """Make a default read, which a leader has to answer."""
    try:
        found = await cluster.get(rng.choice(cluster.servers), "nodes")
    except httpx.HTTPError:
        return False
    return found.status_code == 200


FAULTS: Final[dict[str, Fault]] = {
    "kill one": kill_one,
    "kill the leader": kill_leader,
    "kill a minority": kill_minority,
    "kill all": kill_all,
    "stop and continue": pause,
    "cut": cut,
    "full disk": fill_disk,
}
# What must happen besides: a full disk that refuses nothing has proved nothing.
SITUATIONS: Final = ("write refused for a full disk", "read while a disk was full")
