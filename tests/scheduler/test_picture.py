"""What a planner keeps from batch to batch tells it nothing else than a fresh look would."""

import random

import numpy as np

from core.model.node import Node
from core.scheduler.picture import Picture
from core.scheduler.place import Placed, Placer, Wish
from core.scheduler.room import Ask, Room
from core.scheduler.view import Ints, NodesView

NODES, BATCHES = 60, 12
ASKS = [Ask(100, 64, 10), Ask(400, 512, 0), Ask(1_000, 256, 10), Ask(100, 64, 10, (80,), 1)]


def _view(records: list[Node | None], used: Ints) -> NodesView:
    zeros = np.zeros(NODES, np.int64)
    return NodesView(
        records=records,
        cpu_capacity=zeros + 4_000,
        memory_capacity=zeros + 2_048,
        disk_capacity=zeros + 100,
        cpu_used=used[0].copy(),
        memory_used=used[1].copy(),
        disk_used=used[2].copy(),
        is_ready=np.ones(NODES, np.bool_),
        class_id=zeros.copy(),
    )


def _placed(room: Room, ask: Ask, wanted: int, eligible: np.ndarray, number: int) -> Placed:
    none = np.zeros(NODES, np.int64)
    wish = Wish(ask, eligible, wanted, none, candidates=number)
    return Placer(room).place(wish, wanted)


def _batch(room: Room, rng: random.Random, masks: list[np.ndarray]) -> list[object]:
    found: list[object] = []
    for _ in range(8):
        ask, number = rng.choice(ASKS), rng.randrange(len(masks))
        placed = _placed(room, ask, rng.randint(1, 12), masks[number], number)
        standing = room.standings.of(ask, masks[number], number)
        lacks = [standing.lacks.tolist(), standing.short.tolist()]
        found.append((placed.nodes.tolist(), placed.scores.tolist(), placed.ports, lacks))
    return found


def test_a_room_that_follows_is_one_made_anew() -> None:
    for seed in range(4):
        rng = random.Random(seed)
        records: list[Node | None] = [Node(id=f"{n:012x}") for n in range(NODES)]
        masks = [np.array([rng.random() < 0.7 for _ in range(NODES)]) for _ in range(3)]
        picture, used = Picture(), np.zeros((3, NODES), np.int64)
        for batch in range(BATCHES):
            view = _view(records, used)
            kept = picture.room(view, random.Random(batch), "binpack")
            assert _batch(kept, random.Random(seed), masks) == _batch(
                Room(view, random.Random(batch)), random.Random(seed), masks
            )
            for _ in range(10):  # some of it was refused, some came from elsewhere, some ended
                used[0, rng.randrange(NODES)] = rng.randrange(4_000)
                used[1, rng.randrange(NODES)] = rng.randrange(2_048)
            if batch == BATCHES // 2:  # a node changed
                records = [*records]
