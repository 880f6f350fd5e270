"""The simulated network, disk and processes, each alone."""

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.client import effects as fx
from raft.messages import Entry
from raft.output import HardState, Persist
from sim.disk import DiskModel, SimDisk
from sim.network import LinkModel, Network, Place
from sim.tasks import KILL_US, START_US, SimTasks
from sim.wheel import Wheel

A, B, C = (
    Place("eu", "paris", "eu-a"),
    Place("eu", "paris", "eu-b"),
    Place("us", "ohio", "us-c"),
)


class Net:
    def __init__(self, link: LinkModel | None = None) -> None:
        self.wheel = Wheel()
        self.network = Network(self.wheel, random.Random(1))
        if link is not None:
            self.network.lan = self.network.wan = link
        for place in (A, B, C):
            self.network.add(place)
        self.got: list[tuple[str, int]] = []

    def send(self, source: Place, target: Place, what: str = "x") -> None:
        self.network.datagram(source.name, target.name, self._take, what, "test")

    def call(self, source: Place, target: Place) -> None:
        refused = lambda _: self._take("refused")  # noqa: E731
        self.network.stream(source.name, target.name, self._take, refused, "x")

    def _take(self, what: Any) -> None:
        self.got.append((what, self.wheel.now_us))

    def settle(self) -> list[str]:
        self.wheel.run_until(self.wheel.now_us + 10_000_000)
        names = [what for what, _ in self.got]
        self.got.clear()
        return names


def test_delay_is_the_links():
    net = Net()
    net.send(A, B)
    net.send(A, C)
    net.wheel.run_until(1_000_000)
    (_, near), (_, far) = net.got
    assert 250 <= near <= 350
    assert 40_000 <= far <= 45_000


def test_loss_and_duplication_are_near_their_fractions():
    net = Net(LinkModel(loss=0.2, duplication=0.1))
    for _ in range(5_000):
        net.send(A, B)
    assert len(net.settle()) == pytest.approx(5_000 * 0.8 * 1.1, rel=0.05)
    assert net.network.lost["test/loss"] == pytest.approx(1_000, rel=0.15)


def test_overlapping_losses_end_each_for_itself():
    net = Net()
    first, second = net.network.lose(1.0), net.network.lose(0.5)
    net.send(A, B)
    assert net.settle() == []
    net.network.heal(first)
    for _ in range(400):
        net.send(A, B)
    assert 120 < len(net.settle()) < 280
    net.network.heal(second)
    assert not net.network.is_broken
    for _ in range(50):
        net.send(A, B)
    assert len(net.settle()) == 50


@pytest.mark.parametrize(("source", "target"), [("eu", "us"), ("eu/paris", "us-c"), ("eu-a", "us")])
def test_a_cut_one_way_lets_the_other_way_pass(source: str, target: str):
    net = Net()
    number = net.network.cut(source, target, both_ways=False)
    net.send(A, C)
    assert net.settle() == []
    net.send(C, A)
    assert net.settle() == ["x"]
    net.network.heal(number)
    net.send(A, C)
    assert net.settle() == ["x"]


def test_a_partition_cuts_both_ways_and_what_is_under_way():
    net = Net()
    net.send(C, A)
    net.wheel.run_until(10_000)
    net.network.cut("eu", "*")
    net.send(A, C)
    net.send(A, B)  # inside eu nothing is cut
    assert net.settle() == ["x"]
    assert net.network.lost == {"late/cut": 1, "test/cut": 1}


def test_cuts_of_regions_and_of_agents_overlap_and_end_each_for_itself():
    net = Net()
    region, agent = net.network.cut("eu", "us"), net.network.cut("eu-a", "eu-b")
    assert net.network.is_cut("eu-a", "us-c") and net.network.is_cut("eu-a", "eu-b")
    net.network.heal(agent)
    assert net.network.is_cut("us-c", "eu-b")  # asked by site, and remembered
    assert not net.network.is_cut("eu-a", "eu-b")
    again = net.network.cut("us-c", "*", both_ways=False)
    net.network.heal(region)
    assert net.network.is_cut("us-c", "eu-a")
    assert not net.network.is_cut("eu-a", "us-c")
    net.network.heal(again)
    assert not net.network.is_cut("us-c", "eu-a")


def test_slow_adds_its_time():
    net = Net()
    number = net.network.slow("eu", "us", 300_000)
    net.send(A, C)
    net.send(A, B)
    net.wheel.run_until(1_000_000)
    assert [time_us > 340_000 for _, time_us in net.got] == [False, True]
    net.network.heal(number)
    assert not net.network.is_broken


def test_a_call_to_one_that_is_down_is_refused_and_one_into_a_cut_vanishes():
    net = Net()
    net.network.set_up(B.name, False)
    net.call(A, B)
    assert net.settle() == ["refused"]
    net.network.cut("eu", "us")
    net.call(A, C)
    assert net.settle() == []


# --- the disk -------------------------------------------------------------------------


def entries(first: int, count: int, term: int = 1) -> list[Entry]:
    return [Entry(index=first + i, term=term, data=b"x") for i in range(count)]


@given(st.integers(0, 200), st.integers(0, 6), st.integers(0, 6))
def test_a_crash_leaves_a_prefix_and_never_touches_what_was_synced(
    seed: int, synced: int, torn: int
):
    disk = SimDisk(DiskModel(), random.Random(seed))
    disk.apply(
        Persist(ticket=1, hard_state=HardState(term=3, voted_for="a"), entries=entries(1, synced))
    )
    batch = Persist(
        ticket=1, hard_state=HardState(term=4, voted_for="b"), entries=entries(synced + 1, torn)
    )
    disk.apply(batch, torn=True)
    boot, image = disk.boot()
    indexes = [entry.index for entry in boot.entries]
    assert image is None
    assert indexes == list(range(1, len(indexes) + 1))
    assert synced <= len(indexes) <= synced + torn
    assert (boot.term, boot.voted_for) in {(3, "a"), (4, "b")}
    # Entries of a batch come after its hard state: they can't be there without it.
    assert len(indexes) == synced or boot.term == 4


def test_a_conflicting_tail_is_replaced_and_writes_queue():
    disk = SimDisk(DiskModel(jitter_us=0), random.Random(1))
    disk.apply(Persist(ticket=1, entries=entries(1, 5)))
    disk.apply(Persist(ticket=1, truncate_from=3, entries=entries(3, 1, term=2)))
    assert [(e.index, e.term) for e in disk.boot()[0].entries] == [(1, 1), (2, 1), (3, 2)]
    assert disk.duration_us(0, 0) == 1_500
    assert disk.duration_us(200_000, 0) == 1_500 + 1_500 + 1_000


# --- processes ------------------------------------------------------------------------


class Tasks:
    def __init__(self) -> None:
        self.wheel = Wheel()
        self.tasks = SimTasks(self.wheel, random.Random(1))
        self.events: list[Any] = []
        self.tasks.attach(self.take)

    def take(self, event: Any) -> None:
        self.events.append(event)

    def start(self, **env: str) -> None:
        spec = fx.TaskSpec(driver="raw_exec", config={}, env=env, logs=fx.LogLimits(1, 1))
        self.tasks.carry_out(fx.StartTask("alloc", "task", 1, spec))

    def signal(self, name: str) -> None:
        self.tasks.carry_out(fx.SignalTask("alloc", "task", 1, name))

    def reattach(self, handle: fx.TaskHandle) -> Any:
        spec = fx.TaskSpec(driver="raw_exec", config={}, env={}, logs=fx.LogLimits(1, 1))
        self.tasks.carry_out(fx.ReattachTask("alloc", "task", 1, handle, spec))
        return self.after(1)[-1]

    def after(self, seconds: float) -> list[Any]:
        self.wheel.run_until(self.wheel.now_us + int(seconds * 1e6))
        return self.events


def test_a_task_runs_for_its_time_and_exits_with_its_code():
    node = Tasks()
    node.start(SIM_RUN_TIME="2", SIM_EXIT_CODE="3")
    node.after(1)
    assert [type(event) for event in node.events] == [fx.TaskStarted]
    assert len(node.tasks.running()) == 1
    exited = node.after(2)[-1]
    assert (exited.exit_code, exited.signal) == (3, 0)
    assert node.tasks.running() == []


def test_a_range_of_run_times_is_drawn_from():
    node = Tasks()
    node.start(SIM_RUN_TIME="10..30")
    assert len(node.after(9.9)) == 1
    assert len(node.after(21)) == 2


@pytest.mark.parametrize(
    ("signal", "code", "took_us"), [("SIGTERM", 0, 50_000), ("SIGKILL", 9, KILL_US)]
)
def test_signals_end_a_task(signal: str, code: int, took_us: int):
    node = Tasks()
    node.start()
    node.after(1)
    node.signal(signal)
    node.wheel.run_until(node.wheel.now_us + took_us - 1)
    assert len(node.events) == 1
    node.wheel.run_until(node.wheel.now_us + 1)
    assert node.events[-1].signal == code


def test_a_task_outlives_its_agent_and_is_found_again():
    node = Tasks()
    node.start()
    handle = node.after(1)[-1].handle
    node.tasks.attach(None)
    node.wheel.run_until(node.wheel.now_us + 5_000_000)
    node.tasks.attach(node.take)
    again = node.reattach(handle)
    assert isinstance(again, fx.TaskStarted)
    assert again.is_recovered
    assert again.handle == handle
    assert len(node.tasks.running()) == 1


def test_a_task_that_ended_unseen_tells_its_code():
    node = Tasks()
    node.start(SIM_RUN_TIME="2", SIM_EXIT_CODE="5")
    handle = node.after(1)[-1].handle
    node.tasks.attach(None)
    node.after(5)
    node.tasks.attach(node.take)
    exited = node.reattach(handle)
    assert isinstance(exited, fx.TaskExited)
    assert exited.exit_code == 5


def test_after_a_power_loss_a_task_is_lost_and_one_never_begun_may_start():
    node = Tasks()
    node.start()
    handle = node.after(1)[-1].handle
    node.tasks.power_off()
    assert node.tasks.running() == []
    assert node.reattach(handle).is_lost
    assert node.reattach(fx.NO_HANDLE).is_recoverable


def test_an_event_for_an_agent_that_crashed_goes_nowhere():
    node = Tasks()
    node.start()
    node.tasks.attach(None)
    node.tasks.attach(node.take)
    node.wheel.run_until(START_US * 2)
    assert node.events == []
