"""The causal log: stamped once, copied as it is, bounded, and told in order of cause."""

import random

from core.federation.causes import (
    EVENTS_KEPT,
    KEPT_US,
    CausalClock,
    Event,
    Kind,
    RecordCause,
    cause,
    chain_of,
    chains_of,
    events_of,
    plain_events,
)
from core.federation.chains import Told, joined, sentence, told_here
from core.model.host import Now
from core.model.job import Job, TaskGroup
from core.state.commands import DeregisterJob, Entry, RegisterJob
from core.state.state import State

HOUR_US = 3_600_000_000
START_US = 1_800_000_000_000_000


def state_of(number: int = 1) -> State:
    state = State()
    state.become(f"{number:012x}", "eu", f"eu-{number}", is_authority=number == 1)
    return state


def commit(state: State, *commands: object, wall_us: int = START_US) -> None:
    state.apply_entry(state.index + 1, Entry(wall_us=wall_us, commands=list(commands)))


class Server:
    """A place with a clock that the test sets."""

    def __init__(self, state: State, wall_us: int = START_US) -> None:
        self.state = state
        self.wall_us = wall_us
        self.region, self.datacenter = state.region, state.datacenter
        self.datacenter_id = state.datacenter_id
        self.clock = CausalClock(self)

    @property
    def now(self) -> Now:
        return Now(0, self.wall_us)


def test_a_decision_is_stamped_where_it_is_committed_and_a_copy_stays_as_it_is() -> None:
    home, other = state_of(1), state_of(2)
    commit(home, cause(Kind.BLOCKED, "default", "web", "u1", count=3, reason="memory"))
    (event,) = chain_of(home, "default", "web").events
    assert (event.datacenter, event.wall_us) == ("eu-1", START_US)
    copies = events_of(plain_events([event]))
    for _ in range(2):  # it may arrive twice
        commit(
            other,
            RecordCause(namespace="default", job_id="web", events=copies),
            wall_us=START_US - HOUR_US,
        )
    assert chain_of(other, "default", "web").events == (event,)


def test_what_is_decided_after_a_call_is_later_even_by_a_clock_an_hour_behind() -> None:
    ahead, behind = Server(state_of(1)), Server(state_of(2), START_US - HOUR_US)
    asked = ahead.clock.event(Kind.ASKED, "u1", to="eu/eu-2")
    behind.clock.merge(ahead.clock.read())
    refused = behind.clock.event(Kind.REFUSED, "u1", after=[asked.id], reason="full")
    assert refused.hlc_us > asked.hlc_us
    assert refused.wall_us == START_US - HOUR_US  # what people there saw on their clock
    commit(behind.state, behind.clock.seen(cause(Kind.PARKED, "default", "web", "u1")),
           wall_us=behind.wall_us)  # fmt: skip
    (parked,) = chain_of(behind.state, "default", "web").events
    assert parked.hlc_us > asked.hlc_us
    # A new leader has only the log, and goes on from there.
    assert CausalClock(behind).read() > parked.hlc_us


def test_a_clock_days_ahead_is_not_followed_but_effects_still_come_after_causes() -> None:
    mad, sane = Server(state_of(1), START_US + 72 * HOUR_US), Server(state_of(2))
    asked = mad.clock.event(Kind.ASKED, "u1", to="eu/eu-2")
    sane.clock.merge(asked.hlc_us)
    sane.clock.merge("nonsense")
    refused = sane.clock.event(Kind.REFUSED, "u1", after=[asked.id], reason="full")
    assert refused.hlc_us < asked.hlc_us
    told = Told(region="eu", datacenter="eu-2", datacenter_id="2", events=[refused, asked])
    (story,) = joined([told])
    assert [(row["Kind"], row["Depth"]) for row in story["Events"]] == [
        ("asked", 0),
        ("refused", 1),
    ]


def test_a_refused_decision_leaves_no_trace() -> None:
    state = state_of()
    job = Job(id="web", namespace="default", uid="u1", task_groups=[TaskGroup(name="g", count=1)])
    commit(
        state,
        RegisterJob(job=job, check_index=99),
        cause(Kind.REGISTERED, "default", "web", "u1"),
    )
    assert not chain_of(state, "default", "web").events


def test_a_chain_is_bounded_and_outlives_its_job_by_a_day() -> None:
    state = state_of()
    job = Job(id="web", namespace="default", uid="u1", task_groups=[TaskGroup(name="g", count=1)])
    commit(state, RegisterJob(job=job))
    for count in range(EVENTS_KEPT + 5):
        commit(state, cause(Kind.MOVED, "default", "web", "u1", count=count))
    chain = chain_of(state, "default", "web")
    assert (len(chain.events), chain.dropped) == (EVENTS_KEPT, 5)
    assert chain.events[-1].facts["count"] == EVENTS_KEPT + 4
    # Of a job that is there nothing is forgotten; of one that is gone, after a day.
    later_us = START_US + KEPT_US + 1
    commit(state, cause(Kind.MOVED, "default", "other", "u2"), wall_us=later_us)
    assert chain_of(state, "default", "web").events
    purge = DeregisterJob(namespace="default", job_id="web", purge=True)
    purged = cause(Kind.PURGED, "default", "web", "u1")
    commit(state, purge, purged, wall_us=later_us)
    commit(state, cause(Kind.MOVED, "default", "other", "u2"), wall_us=later_us + KEPT_US)
    assert chain_of(state, "default", "web").events
    commit(state, cause(Kind.MOVED, "default", "other", "u2"), wall_us=later_us + KEPT_US + 2)
    assert list(chains_of(state)) == ["default\0other"]


def test_a_snapshot_keeps_chains_and_the_clock() -> None:
    state = state_of()
    commit(state, cause(Kind.MOVED, "default", "web", "u1", to="us/us-1"))
    copy = State.restore(state.image().chunks())
    assert copy.hash() == state.hash()
    assert chain_of(copy, "default", "web") == chain_of(state, "default", "web")


def test_versions_tell_of_a_job_that_never_left_home() -> None:
    state = state_of()
    for count in (1, 3):
        job = Job(
            id="web", namespace="default", uid="u1", submit_time_ns=(START_US + count) * 1000,
            task_groups=[TaskGroup(name="g", count=count)],
        )  # fmt: skip
        commit(state, RegisterJob(job=job), wall_us=START_US + count)
    (story,) = joined([told_here(state, "default", "web")])
    assert story["Home"] == "eu/eu-1"
    assert [row["Text"] for row in story["Events"]] == [
        "registered version 0: g 1",
        "registered version 1: g 3",
    ]
    assert not chains_of(state)  # and nothing was written for it


def test_every_kind_has_a_sentence_and_an_unknown_one_shows_its_facts() -> None:
    for kind in Kind:
        assert sentence(Event(kind=kind))
    assert sentence(Event(kind="fenced", facts={"lease": "5s"})) == "fenced: lease 5s"
    moved = Event(kind=Kind.MOVED, facts={"count": 2, "to": "us/us-1", "digest_age_ms": 3100})
    assert sentence(moved) == "2 moved to us/us-1, by its digest of 3.1 s ago"


def test_a_story_does_not_depend_on_who_tells_it_first_nor_end_in_circles() -> None:
    rng = random.Random(7)
    events = [Event(kind="k", uid="u", hlc_us=n, wall_us=n, datacenter_id="d") for n in range(1, 9)]
    ring = [
        Event(kind="k", uid="u", hlc_us=n, wall_us=n, datacenter_id="e", after=(f"{9 - n:x}.e",))
        for n in range(1, 9)
    ]
    parts = [
        Told(region="eu", datacenter=name, datacenter_id=name, events=[*events, *ring])
        for name in ("d", "e", "f")
    ]
    first = joined(parts)
    for _ in range(3):
        rng.shuffle(parts)
        for part in parts:
            rng.shuffle(part.events)
        assert joined(parts) == first
    assert len(first[0]["Events"]) == 16
