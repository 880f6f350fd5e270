"""Seeds under every fault at once: the promises hold, and the faults really happened."""

import hashlib
from collections import Counter

import pytest
from raft_cluster import SECOND_US, Cluster, torment

SEEDS = 100
SITUATIONS = (
    "crash",
    "batch torn by a crash",
    "partition",
    "one-way cut",
    "compaction",
    "snapshot installed",
    "read",
    "leadership lost during a read",
    "hand-over",
    "learner",
    "write refused by a full disk",
    "vote on a full disk",
)


def run_seed(seed: int) -> Cluster:
    cluster = Cluster(seed, size=5 if seed % 4 == 3 else 3)
    cluster.wait_for_leader()
    torment(cluster, 5 * SECOND_US)
    cluster.check_end()
    return cluster


@pytest.mark.parametrize("first", range(0, SEEDS, 25))
def test_no_promise_is_broken_under_faults(first: int) -> None:
    seen: Counter[str] = Counter()
    acknowledged = 0
    for seed in range(first, first + 25):
        cluster = run_seed(seed)
        seen += cluster.seen
        acknowledged += len(cluster.acknowledged)
    assert acknowledged > 500
    for situation in SITUATIONS:
        assert seen[situation], f"{situation} never happened: the seeds test too little"


def test_a_seed_repeats_bit_for_bit() -> None:
    def story(seed: int) -> str:
        cluster = run_seed(seed)
        text = repr((cluster.committed, cluster.leaders, cluster.now_us, cluster.seen))
        return hashlib.sha256(text.encode()).hexdigest()

    assert story(7) == story(7)
