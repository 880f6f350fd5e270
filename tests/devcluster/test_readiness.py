"""What a federation still waits for is said in words."""

import pytest

from core.devcluster.layout import PerRegion, Plan
from core.devcluster.readiness import PlaceState

ONE = PerRegion(1, {})
PLAN = Plan.build(
    ["eu", "us"],
    net=20,
    datacenters=ONE,
    servers=ONE,
    clients=ONE,
    cpu_mhz=ONE,
    memory_mib=ONE,
)


@pytest.mark.parametrize(
    ("state", "lack"),
    [
        (PlaceState("eu/dc1", "", 1, 2, 2), "has no leader"),
        (PlaceState("eu/dc1", "x:1", 0, 2, 2), "0 of 1 clients are ready"),
        (PlaceState("eu/dc1", "x:1", 1, 1, 2), "knows 1 of 2 regions"),
        (PlaceState("eu/dc1", "x:1", 1, 2, 1), "heard from 1 of 2 datacenters"),
    ],
)
def test_each_lack_has_its_words(state: PlaceState, lack: str) -> None:
    assert lack in state.lacks(PLAN)


@pytest.mark.parametrize("known", [2, None])
def test_nothing_lacks_when_all_is_there(known: int | None) -> None:
    assert PlaceState("eu/dc1", "x:1", 1, 2, known).lacks(PLAN) == ""
