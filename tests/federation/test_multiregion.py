"""Every step of a rollout over several regions, whatever becomes of the messages.

The coordinator's record is the shipped one; each region's home is played as
core.federation.copies has it. What is sent either way may be lost, come late or twice.
"""

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.federation import multiregion
from core.federation.multiregion import OVER, OnFailure, Region, Report, Rollout, Status, Want

NAMES = ("eu", "us", "asia", "africa")
GENERATION = 7


def rollout(**changes: object) -> Rollout:
    regions = tuple(Region(name=name) for name in NAMES)
    given = {"regions": regions, "body": {"Job": {}}, **changes}
    first = Rollout(
        namespace="default", job_id="web", generation=GENERATION, coordinator="here", **given
    )
    return multiregion.begun(first, None)


@dataclass
class Home:
    """One region's home: what steers it takes effect once, in order of what may follow what."""

    name: str
    status: Status = Status.PENDING
    is_taken: bool = False

    def steer(self, want: Want) -> Report | None:
        self.is_taken |= want is Want.HOLD
        match want, self.status:
            case (Want.RUN, Status.PENDING):
                self.status = Status.RUNNING
            case (Want.UNBLOCK, Status.BLOCKED):
                self.status = Status.SUCCESSFUL
            case (Want.FAIL, Status.PENDING | Status.RUNNING | Status.BLOCKED):
                self.status = Status.FAILED
        return self.report()

    def report(self) -> Report | None:
        said = Report(region=self.name, generation=GENERATION, status=self.status, home=self.name)
        return said if self.is_taken else None


@dataclass
class World:
    rollout: Rollout
    homes: dict[str, Home] = field(default_factory=dict)
    told: list[tuple[str, Want]] = field(default_factory=list)  # on their way, in any order
    said: list[Report] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)  # by themselves

    def __post_init__(self) -> None:
        self.homes = {name: Home(name) for name in NAMES}

    def send(self) -> None:
        self.told += [(one.name, one.want) for one in self.rollout.regions if not one.is_done]

    def deliver(self, number: int, *, is_doubled: bool) -> None:
        """Bring one message over; a doubled one stays on its way as well."""
        total = len(self.told) + len(self.said)
        if not total:
            return
        number %= total
        if number < len(self.told):
            name, want = self.told[number] if is_doubled else self.told.pop(number)
            said = self.homes[name].steer(want)
            self.said += [said] if said is not None else []
            return
        number -= len(self.told)
        said = self.said[number] if is_doubled else self.said.pop(number)
        self.take(said)

    def take(self, said: Report) -> None:
        before = self.rollout
        self.rollout = multiregion.report(before, said)
        for old, new in zip(before.regions, self.rollout.regions, strict=True):
            assert [*Status].index(old.status) <= [*Status].index(new.status), "it went back"
            assert [*Want].index(old.want) <= [*Want].index(new.want), "it was wanted back"
            assert new.status is old.status or not old.is_over, "what is over stays so"

    def heal(self) -> None:
        """Deliver everything, and again, until nothing changes any more."""
        for _ in range(40):
            self.told.clear()
            self.said.clear()
            self.send()
            for name, want in self.told:
                self.homes[name].steer(want)
            for home in self.homes.values():
                if home.status is Status.RUNNING:
                    home.status = Status.BLOCKED
                if (said := home.report()) is not None:
                    self.take(said)

    def check(self) -> None:
        statuses = [home.status for home in self.homes.values()]
        parallel = self.rollout.max_parallel or len(NAMES)
        assert statuses.count(Status.RUNNING) <= parallel, "more than may run at a time"
        if not all(home.is_taken for home in self.homes.values()):
            assert set(statuses) <= {Status.PENDING, Status.FAILED}, "not all have taken it"
        if Status.SUCCESSFUL in statuses:
            waiting = {Status.PENDING, Status.RUNNING}
            assert not waiting & set(statuses), "successful before all are complete"


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["send", "deliver", "double", "drop", "complete", "fail"]),
        st.integers(0, 40),
    ),
    max_size=120,
)


@settings(max_examples=120, deadline=None)
@given(STEPS, st.integers(0, 4), st.sampled_from([*OnFailure]))
def test_no_message_that_is_lost_late_or_doubled_breaks_a_promise(
    steps: list[tuple[str, int]], max_parallel: int, on_failure: OnFailure
) -> None:
    world = World(rollout(max_parallel=max_parallel, on_failure=on_failure))
    for step, number in steps:
        home = world.homes[NAMES[number % len(NAMES)]]
        match step:
            case "send":
                world.send()
            case "deliver" | "double":
                world.deliver(number, is_doubled=step == "double")
            case "drop" if world.told or world.said:
                messages = world.told or world.said
                messages.pop(number % len(messages))
            case "complete" if home.status is Status.RUNNING:
                home.status = Status.BLOCKED
                world.said.append(home.report())
            case "fail" if home.status in (Status.RUNNING, Status.BLOCKED):
                if not world.rollout.is_unblocked:
                    world.failed.append(home.name)
                home.status = Status.FAILED
        world.check()
    world.heal()
    assert all(region.is_done for region in world.rollout.regions), "something is never heard"
    expected = ends(world.failed, on_failure)
    for name, home in world.homes.items():
        if not world.rollout.is_unblocked:
            assert home.status in expected[name], f"{name} after {world.failed} failed"
        else:
            assert home.status in OVER


def ends(failed: list[str], on_failure: OnFailure) -> dict[str, set[Status]]:
    """Return how each region may end, given those that failed by themselves."""
    if not failed:
        return {name: {Status.SUCCESSFUL} for name in NAMES}
    first = min(map(NAMES.index, failed))
    found = {}
    for place, name in enumerate(NAMES):
        shall_fail = {
            OnFailure.ALL: True, OnFailure.LATER: place >= first, OnFailure.LOCAL: name in failed,
        }[on_failure]  # fmt: skip
        found[name] = {Status.FAILED} if shall_fail else {Status.BLOCKED}
    return found


def test_the_barrier_is_in_the_record_before_anybody_can_be_told() -> None:
    world = World(rollout(max_parallel=0))
    for home in world.homes.values():
        home.steer(Want.HOLD)
        home.status = Status.BLOCKED
    for home in list(world.homes.values())[:-1]:
        world.take(home.report())
        assert not any(one.want is Want.UNBLOCK for one in world.rollout.regions)
    world.take(world.homes[NAMES[-1]].report())
    wants = {region.want for region in world.rollout.regions}
    assert world.rollout.is_unblocked and wants == {Want.UNBLOCK}
    again = msgspec.msgpack.decode(msgspec.msgpack.encode(world.rollout), type=Rollout)
    assert again == world.rollout, "a new leader finds the same"


def test_a_newer_submission_ends_the_older_one_wherever_it_was_made() -> None:
    one = rollout()
    told = Report(region="us", generation=GENERATION + 1, status=Status.CANCELLED)
    over = multiregion.report(one, told)
    assert over.superseded_by == GENERATION + 1 and over.is_over
    assert over.status is Status.CANCELLED
    late = Report(region="us", generation=GENERATION, status=Status.BLOCKED)
    assert multiregion.report(over, late) == over
    older = Report(region="us", generation=GENERATION - 1, status=Status.FAILED)
    assert multiregion.report(one, older) == one


def test_a_region_that_is_listed_no_more_is_let_go() -> None:
    before = rollout(max_parallel=1)
    regions = tuple(Region(name=name) for name in NAMES[1:])
    newer = msgspec.structs.replace(before, generation=8, regions=regions)
    after = multiregion.begun(newer, before)
    assert [region.name for region in after.regions] == [*NAMES[1:], NAMES[0]]
    assert after.regions[-1].want is Want.CANCEL and not after.regions[-1].is_done
    gone = Report(region=NAMES[0], generation=8, status=Status.CANCELLED)
    after = multiregion.report(after, gone)
    assert after.regions[-1].is_done and after.status is Status.PENDING


@pytest.mark.parametrize("has_barrier", [True, False])
def test_a_system_job_s_regions_wait_for_their_turn_but_not_for_those_that_failed(
    has_barrier: bool,
) -> None:
    world = World(rollout(max_parallel=1, has_barrier=has_barrier))
    for home in world.homes.values():
        home.steer(Want.HOLD)
        world.take(home.report())
    world.homes["us"].status = Status.FAILED
    world.take(world.homes["us"].report())
    world.heal()
    statuses = [home.status for home in world.homes.values()]
    if has_barrier:
        assert statuses == [Status.BLOCKED, Status.FAILED, Status.FAILED, Status.FAILED]
    else:
        assert statuses == [Status.SUCCESSFUL, Status.FAILED, Status.SUCCESSFUL, Status.SUCCESSFUL]


def test_two_coordinators_never_number_two_submissions_alike() -> None:
    """Both may have heard the same time in the same call."""
    time_us = 1_800_000_000_000_000
    one, two = (multiregion.generation_beyond(time_us, dc) for dc in ("aa", "bb"))
    assert one != two and min(one, two) > time_us
    assert multiregion.generation_beyond(one, "aa") > one
    assert multiregion.generation_beyond(one, "bb") > one
