"""Lists over several logs: pages, waiting, indices, prefixes; nothing missed, nobody hidden."""

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
from clients import FakeClient, job
from harness import World
from hypothesis import given, settings
from hypothesis import strategies as st

from core.federation.floors import RaiseIndexFloor
from core.federation.where import Everywhere
from core.model.host import Now
from core.model.query import Answer, Query
from core.server.config import LimitsConfig
from core.server.gathering import Gathering, Watches
from core.server.joining import joined, part_params
from core.server.measures import Measures
from core.server.outbox import Outbox
from core.server.request import Endpoint, Kind, Respond
from core.server.virtual_index import FIRST, KEPT, VirtualIndices, is_virtual

JOIN = ("10.0.0.1:4648", "10.0.0.2:4648")
DELAYS_US = (500, 2_000, 2_000, 2_000, 900_000)  # one way; some answers are overtaken by far
LISTED = Endpoint(Kind.READ, lambda request: Answer())


def two_regions() -> World:
    """eu with eu-1 and eu-2, us with us-1: a server and a node each."""
    world = World()
    for number, name in enumerate(("eu-1", "eu-2", "us-1"), start=1):
        world.add_server(
            f"s{number}", number, region=name[:2], datacenter=name, retry_join=JOIN
        )  # fmt: skip
        world.until(lambda: world.leader(name))  # noqa: B023
        if name == "eu-1":
            world.run(8)
        client = FakeClient(world, f"c{number}", number, [f"10.0.0.{number}:4647"])
        client.datacenter = name
    world.until(lambda: all(len(one.state.nodes) == 1 for one in world.servers()))
    world.run(12)
    return world


# --- virtual indices ----------------------------------------------------------------------


def test_an_index_is_kept_while_nothing_changes_and_never_goes_back() -> None:
    indices = VirtualIndices(tag=7)
    first = indices.index_of("jobs", (("a", 10), ("b", 5)), wall_us=0)
    assert is_virtual(first) and first & 0xFFF == 7
    assert indices.index_of("nodes", (("a", 1),), wall_us=0) > first
    assert indices.index_of("jobs", (("a", 10), ("b", 5)), wall_us=10**15) == first
    # The sum is the same, the list is not.
    second = indices.index_of("jobs", (("a", 5), ("b", 10)), wall_us=0)
    assert second > first
    assert indices.vector_of("jobs", first) == (("a", 10), ("b", 5))
    assert indices.vector_of("nodes", first) is None


def test_a_caller_never_sees_an_index_go_back_when_the_datacenters_are_others_now() -> None:
    indices = VirtualIndices(tag=1)
    now = indices.index_of("jobs of b", (("b", 5),), wall_us=0)
    before = indices.index_of("jobs of a and b", (("a", 10), ("b", 5)), wall_us=0)
    assert indices.index_of("jobs of b", (("b", 5),), 0, known=now) == now
    assert indices.index_of("jobs of b", (("b", 5),), 0, known=before) > before > now
    foreign = before + (1 << 40)  # not one of this server's: it says nothing
    newest = indices.index_of("jobs of b", (("b", 5),), 0)
    assert indices.index_of("jobs of b", (("b", 5),), 0, known=foreign) == newest


def test_a_server_knows_its_last_indices_only() -> None:
    indices = VirtualIndices(tag=1)
    given_out = [indices.index_of("jobs", (("a", n),), wall_us=0) for n in range(KEPT + 3)]
    assert given_out == sorted(set(given_out))
    assert indices.vector_of("jobs", given_out[2]) is None
    assert indices.vector_of("jobs", given_out[3]) == (("a", 3),)
    assert indices.index_of("other", (("a", 1),), wall_us=0) > given_out[-1]


# --- waiting: no change is missed -----------------------------------------------------------


@dataclass
class Logs:
    """Datacenters with one number each, and the network to them, for `Gathering`."""

    rng: random.Random
    values: dict[str, int]
    outbox: Outbox = field(default_factory=lambda: Outbox(Now(0, 1_700_000_000_000_000)))
    config: Any = None
    measures: Measures = field(default_factory=Measures)
    silent: set[str] = field(default_factory=set)
    parked: list[tuple[str, Query, Respond]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.config = type("Config", (), {"limits": LimitsConfig(), "region": "eu"})()

    @property
    def now(self) -> Now:
        return self.outbox.now

    def name_of(self, datacenter_id: str) -> str:
        return datacenter_id

    def count_missing(self, datacenter_ids: Any) -> None:
        """Nobody reads it here."""

    def ask_one(self, datacenter_id: str, _: Endpoint, query: Query, respond: Respond) -> None:
        """Answer after a delay both ways; a query with an index waits there for a newer one."""
        self.outbox.after(
            self.rng.choice(DELAYS_US), lambda: self._arrive(datacenter_id, query, respond)
        )

    def ask(self, ids: Any, endpoint: Endpoint, query_for: Any, then: Any) -> None:
        answers: dict[str, Answer] = {}

        def collect(one: str, answer: Answer) -> None:
            answers[one] = answer
            if len(answers) == len(ids):
                then({name: answers[name] for name in ids})

        for one in ids:
            self.ask_one(one, endpoint, query_for(one), lambda a, one=one: collect(one, a))

    def _arrive(self, datacenter_id: str, query: Query, respond: Respond) -> None:
        if datacenter_id in self.silent:
            self._answer(Answer(status=500, error="silent"), respond)
        elif query.min_index and self.values[datacenter_id] <= query.min_index:
            entry = (datacenter_id, query, respond)
            self.parked.append(entry)
            self.outbox.after(query.wait_us, lambda: self._release([entry]))
        else:
            self._answer(self._now(datacenter_id), respond)

    def _now(self, datacenter_id: str) -> Answer:
        value = self.values[datacenter_id]
        return Answer(body=[{"ID": datacenter_id, "Value": value}], index=value)

    def _release(self, entries: list[Any]) -> None:
        for entry in entries:
            if entry in self.parked:
                self.parked.remove(entry)
                self._answer(self._now(entry[0]), entry[2])

    def _answer(self, answer: Answer, respond: Respond) -> None:
        self.outbox.after(self.rng.choice(DELAYS_US), lambda: respond(answer))

    def change(self, datacenter_id: str) -> None:
        self.values[datacenter_id] += 1
        self._release([one for one in self.parked if one[0] == datacenter_id])

    def run(self, microseconds: int) -> None:
        end_us = self.now.mono_us + microseconds
        while self.outbox.deadline_us <= end_us:
            moment = max(self.outbox.deadline_us, self.now.mono_us)
            self.outbox.now = Now(moment, 1_700_000_000_000_000 + moment)
            self.outbox.run_due()
        self.outbox.now = Now(end_us, 1_700_000_000_000_000 + end_us)


class Caller:
    """Asks for the list again and again, each time with the index it was given."""

    def __init__(self, gathering: Gathering, stale: bool) -> None:
        self.gathering = gathering
        self.stale = stale
        self.seen: dict[str, int] = {}
        self.index = 0
        self.indices: list[int] = []
        self.ask()

    def ask(self) -> None:
        query = Query(
            method="Job.List", min_index=self.index, wait_us=600_000_000, stale=self.stale
        )
        self.gathering.start(Everywhere(("a", "b", "c")), LISTED, query, self.answered)

    def answered(self, answer: Answer) -> None:
        if answer.is_error:
            self.gathering._server.outbox.after(1_000_000, self.ask)
            return
        self.seen = {row["ID"]: row["Value"] for row in answer.body}
        self.index = answer.index
        self.indices.append(answer.index)
        self.ask()


STEP = st.one_of(
    st.tuples(st.just("change"), st.sampled_from("abc")),
    st.tuples(st.just("change"), st.sampled_from("abc")),
    st.tuples(st.just("silence"), st.sampled_from("abc")),
    st.tuples(st.just("run"), st.sampled_from([1_000, 5_000, 30_000, 900_000, 31_000_000])),
)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(steps=st.lists(STEP, max_size=25), seed=st.integers(0, 999))
def test_a_blocking_query_over_several_logs_misses_no_change(
    steps: list[tuple[str, Any]], seed: int
) -> None:
    logs = Logs(random.Random(seed), {"a": 5, "b": 9, "c": 3})
    logs.rng.seed(seed)
    gathering = Gathering(logs, logs)  # type: ignore[arg-type]
    callers = [Caller(gathering, stale) for stale in (False, True, False)]
    for action, what in steps:
        if action == "change":
            logs.change(what)
        elif action == "silence":
            logs.silent ^= {what}
        else:
            logs.run(what)
    logs.silent.clear()
    logs.run(12_000_000)  # every answer is at most 2 s away, an error pauses for 1 s
    for caller in callers:
        assert caller.seen == logs.values
        assert caller.indices == sorted(set(caller.indices)), "an index never goes back"
    quiet = len(logs.parked)
    answered = [len(caller.indices) for caller in callers]
    logs.run(100_000_000)
    assert [len(caller.indices) for caller in callers] == answered, "nothing changed"
    assert len(logs.parked) <= max(quiet, 6), "questions are shared, and end"
    logs.change("b")
    logs.run(8_000_000)
    assert all(caller.seen == logs.values for caller in callers), "and it is told soon"


# --- pages ----------------------------------------------------------------------------------


def parts(query: Query, logs: dict[str, list[str]]) -> dict[str, Answer]:
    """Answer as datacenters do: ordered by key, cut after a page, `next_token` a key."""
    params = part_params(query)
    page, token = int(params.get("per_page", 0)), str(params.get("next_token", ""))
    backwards = "reverse" in params
    answers = {}
    for name, keys in logs.items():
        left = sorted(keys, reverse=backwards)
        left = [key for key in left if not token or (key <= token if backwards else key >= token)]
        shown = left[:page] if page else left
        following = left[page] if page and len(left) > page else ""
        rows = [{"ID": key, "At": name} for key in shown]
        answers[name] = Answer(body=rows, keys=shown, next_token=following, index=1)
    return answers


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    logs=st.lists(st.sets(st.sampled_from("abcdefghij")), min_size=1, max_size=4),
    page=st.integers(1, 5),
    backwards=st.booleans(),
)
def test_pages_of_a_merged_list_hold_every_row_once_and_in_order(
    logs: list[set[str]], page: int, backwards: bool
) -> None:
    named = {f"{number:012x}": sorted(keys) for number, keys in enumerate(logs)}
    extra = {"reverse": "true"} if backwards else {}
    whole = joined(parts(Query(method="Job.List", params=extra), named), Query(method="Job.List",
                   params=extra))  # fmt: skip
    rows: list[Any] = []
    token = ""
    for _ in range(50):
        params = {**extra, "per_page": str(page), **({"next_token": token} if token else {})}
        query = Query(method="Job.List", params=params)
        answer = joined(parts(query, named), query)
        assert len(answer.body) == page or not answer.next_token, "a page is full but for the last"
        rows += answer.body
        token = answer.next_token
        if not token:
            break
    assert rows == whole.body
    assert len(rows) == sum(len(keys) for keys in named.values())


# --- whole servers --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def world() -> World:
    world = two_regions()
    for number, name in enumerate(("eu-1", "eu-2", "us-1")):
        for one in "ab":
            server = world.leader("us-1" if name == "us-1" else "eu-1")
            body = {"Job": job(f"{one}{number % 2}", count=1, Datacenters=[name])}
            answer = world.ask(server, "Job.Register", body=body)
            assert not answer.is_error, answer
    world.until(lambda: all(len(one.state.allocs) == 2 for one in world.servers()))
    world.run(8)
    return world


def pages(world: World, method: str, **params: Any) -> list[Any]:
    rows: list[Any] = []
    token = ""
    while True:
        more = {"next_token": token} if token else {}
        answer = world.ask(world.servers()[0], method, region="*", params={**params, **more})
        assert not answer.is_error, answer
        rows += answer.body
        token = answer.next_token
        if not token:
            return rows


def test_lists_of_all_regions_say_where_each_row_is(world: World) -> None:
    rows = pages(world, "Job.List", per_page="2")
    assert [(row["ID"], row["Region"], row["Datacenter"]) for row in rows] == [
        ("a0", "eu", "eu-1"),
        ("a0", "us", "us-1"),
        ("a1", "eu", "eu-2"),
        ("b0", "eu", "eu-1"),
        ("b0", "us", "us-1"),
        ("b1", "eu", "eu-2"),
    ]
    newest_first = pages(world, "Alloc.List", per_page="4", reverse="true")
    times = [row["CreateTime"] for row in newest_first]
    assert len(times) == 6 and times == sorted(times, reverse=True)


def test_one_datacenter_of_any_region_can_be_named(world: World) -> None:
    one = world.servers()[0]
    for name, region in (("eu-2", ""), ("eu-2", "*"), ("us-1", "*"), ("us-1", "us")):
        answer = world.ask(one, "Node.List", region=region, datacenter=name)
        assert [row["Datacenter"] for row in answer.body] == [name], (name, region)
    for region, told in (("", "known there: eu-1, eu-2"), ("*", "eu/eu-1, eu/eu-2, us/us-1")):
        answer = world.ask(one, "Node.List", region=region, datacenter="eu-9")
        assert answer.status == 500 and "'eu-9'" in answer.error and told in answer.error
    assert world.ask(one, "Eval.Count").body["Count"] == len(world.ask(one, "Eval.List").body)


def test_a_prefix_is_asked_for_everywhere_and_two_that_fit_are_named(world: World) -> None:
    one = world.servers()[0]
    allocs = {row["ID"]: row for row in world.ask(one, "Alloc.List").body}
    far = next(key for key, row in allocs.items() if row["Datacenter"] == "eu-2")
    answer = world.ask(one, "Alloc.Get", params={"alloc_id": far[:8]})
    assert answer.body["ID"] == far
    stopped = world.ask(one, "Alloc.Stop", params={"alloc_id": far[:8]})
    assert not stopped.is_error, stopped
    nothing = world.ask(one, "Alloc.Get", params={"alloc_id": "ffffffffffff"})
    assert (nothing.status, nothing.error) == (404, "alloc not found")
    nodes = world.ask(one, "Node.List", region="*").body
    common = [row["ID"] for row in nodes]
    for row in nodes:
        found = world.ask(one, "Node.Get", region="*", params={"node_id": row["ID"][:10]})
        assert found.body["ID"] == row["ID"]
    assert len(common) == 3


def test_an_index_of_several_logs_is_answered_soon_by_a_single_one(world: World) -> None:
    us = world.leader("us-1")
    number = world.begin(
        us, Query(method="Node.List", min_index=FIRST + 5, wait_us=300_000_000)
    )  # fmt: skip
    world.run(1.2)
    assert world.answers[number].index < FIRST
    # A region that had two datacenters keeps its virtual indices.
    assert is_virtual(world.ask(world.servers()[0], "Node.List").index)
    assert is_virtual(world.ask(us, "Node.List", region="*").index)


def test_a_moved_job_goes_on_beyond_the_index_it_had(world: World) -> None:
    us = world.leader("us-1")
    before = world.ask(us, "Job.Get", params={"job_id": "a0"}).index
    command = RaiseIndexFloor(namespace="default", job_id="a0", floor=before + 100_000)
    done: list[str] = []
    us.server.federation.host.propose([command], lambda _, error: done.append(error))
    world.run(0.1)
    world.until(lambda: done)
    after = world.ask(us, "Job.Get", params={"job_id": "a0"}).index
    waiting = world.begin(
        us, Query(method="Job.Get", params={"job_id": "a0"}, min_index=before + 100_000)
    )
    world.run(1)
    body = {"Job": job("a0", count=2, Datacenters=["us-1"])}
    assert not world.ask(us, "Job.Register", body=body).is_error
    answer = world.until(lambda: world.answers.get(waiting), 2)
    assert answer.index > before + 100_000 and after < answer.index


def test_a_blocking_list_is_woken_by_a_far_change_at_once(world: World) -> None:
    one = world.servers()[0]
    world.run(10)  # what earlier tests did has settled
    index = world.ask(one, "Job.List", region="*").index
    number = world.begin(one, Query(method="Job.List", region="*", min_index=index))
    world.run(2)
    assert number not in world.answers
    body = {"Job": job("late", count=0, Datacenters=["us-1"])}
    assert not world.ask(world.leader("us-1"), "Job.Register", body=body).is_error
    answer = world.until(lambda: world.answers.get(number), 0.2)
    assert "late" in [row["ID"] for row in answer.body]


def test_a_region_that_can_not_be_reached_is_named() -> None:
    world = two_regions()
    one, us = world.servers()[0], world.leader("us-1")
    world.kill(us)
    answer = world.ask(one, "Job.List", region="*")
    assert answer.status == 500 and "us/us-1" in answer.error
    partly = world.ask(one, "Job.List", region="*", stale=True)
    assert partly.headers["X-Serai-Missing-Datacenters"] == "us/us-1"
    assert {row["Region"] for row in partly.body} <= {"eu"}
    assert one.measures.missing == {"us/us-1": 2}
    whole = world.ask(one, "Job.List")
    assert not whole.is_error and not whole.headers, "what is whole is not called partial"


def test_who_waits_from_an_older_index_than_others_is_not_left_waiting() -> None:
    logs = Logs(random.Random(1), {"a": 6})
    watches = Watches(logs)  # type: ignore[arg-type]
    woken: list[str] = []

    def ask(index: int, wait_us: int, respond: Respond) -> None:
        query = Query(method="Job.List", min_index=index, wait_us=wait_us)
        logs.ask_one("a", LISTED, query, respond)

    watches.wait("jobs", "a", 6, ask, lambda: woken.append("new"))
    logs.run(2_000_000)
    watches.wait("jobs", "a", 5, ask, lambda: woken.append("old"))  # its answer was overtaken
    logs.run(2_000_000)
    assert "old" in woken
