"""The leader who has just decided something is replaced, before others can have heard of it.

Faults at random moments seldom strike between a decision and the calls that follow from it, for
those are sent at once. Here each kind of decision has a chance of its own, drawn by the seed: the
rarer the decision, the larger.
"""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from core.federation.adoption import BeginAdoption, NoteClaims, NoteCollected, NoteFloors
from core.federation.authority import YieldAuthority
from core.federation.claims import CloseClaim, CreateClaim, ExtendClaim, MoveClaim
from core.federation.copies import RegisterCopy, SteerCopy
from core.federation.handing_log import ActivateHome, FreezeHome, ReleaseHome, TakeParcel, ThawHome
from core.federation.home_log import PutParts, TakeReport
from core.federation.multiregion import Want
from core.federation.rollout_log import BeginRollout, TakeRegionReport, find_rollout
from core.federation.share_log import ParkShare, PutShare
from core.federation.succession import EndSuccession, NotePledges, TakePledge
from core.federation.transfer import GiveAuthority, TakeAuthority
from core.state.result import Applied
from sim.federation.workload import NAMESPACE
from sim.federation.world import S

if TYPE_CHECKING:
    from sim.federation.datacenter import Datacenter
    from sim.federation.world import World

RARE: Final = (
    FreezeHome, TakeParcel, ActivateHome, ReleaseHome, ThawHome, MoveClaim, GiveAuthority,
    TakeAuthority, YieldAuthority, BeginAdoption, NoteClaims, NoteFloors, NoteCollected,
    TakePledge, NotePledges, EndSuccession, ParkShare,
)  # fmt: skip
COMMON: Final = (
    PutParts, TakeReport, PutShare, CreateClaim, CloseClaim, ExtendClaim, BeginRollout,
    RegisterCopy, SteerCopy,
)  # fmt: skip
PARTS: Final = (0.0, 0.3, 1.0)  # of the chances below, in the seeds of a third each
RARE_CHANCE: Final = 0.3
COMMON_CHANCE: Final = 0.01
BARRIER_CHANCE: Final = 0.6
SOON_US: Final = 3_000
PAUSE_US: Final = 2 * S  # between two


class Ambush:
    """Lies in wait in one world."""

    def __init__(self, world: "World", strike: Callable[["Datacenter"], None]) -> None:
        self._world, self._strike = world, strike
        self._rng = random.Random(f"federation/{world.seed}/ambush")
        self._part = self._rng.choice(PARTS)
        self._not_before_us = 0
        world.watch.on_decision = self.on_entry

    def on_entry(self, datacenter: "Datacenter", commands: list[Any], applied: Applied) -> None:
        """An entry was applied that is no repetition."""
        world = self._world
        if not self._part or world.is_quiet or world.now_us < self._not_before_us:
            return
        chance = max((self._chance(datacenter, one) for one in commands), default=0.0)
        if chance and self._rng.random() < chance * self._part:
            self._not_before_us = world.now_us + PAUSE_US
            world.faults["leader changed: just after a decision"] += 1
            world.after(self._rng.randrange(SOON_US), self._strike, datacenter)

    def _chance(self, datacenter: "Datacenter", command: Any) -> float:
        if isinstance(command, TakeRegionReport):
            rollout = find_rollout(datacenter.state, NAMESPACE, command.job_id)
            is_to_be_told = rollout is not None and any(
                one.want is Want.UNBLOCK and not one.is_done for one in rollout.regions
            )
            return BARRIER_CHANCE if is_to_be_told else 0.0
        if isinstance(command, RARE):
            return RARE_CHANCE
        return COMMON_CHANCE if isinstance(command, COMMON) else 0.0
