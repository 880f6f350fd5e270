"""Readers of lists over several datacenters: they ask, wait for a change, and ask again.

Each one sits at a server of a region and asks for all allocations of that region, at first at
once and then with the index of the last answer, as a blocking query; some take what is stale.
The list has a virtual index (core.server.virtual_index). What it may not do:

    missed      two lists under one index of one server, to whomever it gave them; or five quiet
                minutes after the last fault a reader has not heard of a change
    went back   an index is below the one before it, or an allocation older than it was
"""

import random
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from core.model.query import Answer, Query
from core.server.virtual_index import is_virtual
from sim.federation.workload import NAMESPACE
from sim.federation.world import S

if TYPE_CHECKING:
    from sim.federation.datacenter import Datacenter, ServerHost
    from sim.federation.world import World

NAMES: Final = (
    "reader woken by a change",
    "reader saw a list without a datacenter",
    "reader asked with an index that its server no longer knows",
)
PART: Final = 0.5  # of the seeds that have readers, two each
STALE_PART: Final = 0.5  # of the readers
FRESH_PART: Final = 0.2  # of the questions come without an index, as from somebody new
PAUSE_US: Final = (20_000, 2 * S)  # between an answer and the next question
AGAIN_US: Final = 2 * S  # after an error, or when the server is down
WAIT_US: Final = 3_600 * S  # beyond the end of the world: only a change answers
MISSING: Final = "X-Serai-Missing-Datacenters"

Rows = dict[str, tuple[int, str, str]]  # allocation id -> (modify index, desired, client)
Given = dict[tuple[str, int, int], Rows]  # (server's address, its life, index) -> list


class Reader:
    """One who waits for changes of a list, at one server."""

    def __init__(
        self, world: "World", host: "ServerHost", rng: random.Random, given: Given
    ) -> None:
        """Args: given: What servers gave to all readers so far."""
        self._world, self._host, self._rng, self._given = world, host, rng, given
        self._is_stale = rng.random() < STALE_PART
        self._number = 0  # of the question that counts
        self._life = host.life
        self.index = 0
        self.rows: Rows = {}
        self._is_fresh = True  # the last question had no index
        self._is_new = True  # to the server: what it answers now it may give any index
        world.after(rng.randrange(5 * S), self._ask)
        self._watch_over()

    @property
    def datacenter(self) -> "Datacenter":
        return self._host.datacenter

    def _watch_over(self) -> None:
        """A server that starts anew has forgotten its readers, who begin anew as well.

        Or they come with the index of before: the server does not know it, if it is a virtual one.
        """
        if self._host.is_up and self._host.life != self._life:
            self._life, self._is_new = self._host.life, True
            if self._rng.random() < 0.5:
                self.index = 0
            elif is_virtual(self.index):
                name = "reader asked with an index that its server no longer knows"
                self._world.situations[name] += 1
            self._ask()
        self._world.after(AGAIN_US, self._watch_over)

    def _ask(self) -> None:
        self._number += 1
        self._is_fresh = self._rng.random() < FRESH_PART
        index = 0 if self._is_fresh else self.index
        query = Query(
            method="Alloc.List", region=self.datacenter.region, namespace=NAMESPACE,
            stale=self._is_stale, min_index=index, wait_us=WAIT_US if index else 0,
            params={"task_states": "false"},
        )  # fmt: skip
        if self._host.is_up and self._host.life == self._life:
            self._host.on_query(query, partial(self._answered, self._number))

    def _answered(self, number: int, answer: Answer) -> None:
        if number != self._number:
            return
        world = self._world
        if answer.is_error:
            world.after(AGAIN_US, self._ask_again, number)
            return
        is_whole = MISSING not in answer.headers
        world.situations["reader saw a list without a datacenter"] += not is_whole
        self._judge(answer.index, _rows_of(answer.body))
        world.after(self._rng.randint(*PAUSE_US), self._ask_again, number)

    def _ask_again(self, number: int) -> None:
        if number == self._number:
            self._ask()

    def _judge(self, index: int, rows: Rows) -> None:
        """Hold an answer against the one before."""
        watch, title = self._world.watch, f"{self.datacenter.title} {self._host.address}"
        before, self.rows = self.rows, rows
        known, self.index = self.index, index
        if self._given.setdefault((self._host.address, self._life, index), rows) != rows:
            watch.fail("list change missed", f"{title}: two lists under index {index}")
        if self._is_new:
            self._is_new = False
            return
        # Who asks anew may be told of another list: one datacenter less is in it.
        if index < known and not (self._is_fresh and watch.off):
            watch.fail("list went back", f"{title}: index {index} after {known}")
        self._world.situations["reader woken by a change"] += index > known and rows != before
        if self._is_stale:
            return  # a follower may be behind the one who answered before
        for alloc_id, (modified, *_) in before.items():
            if alloc_id in rows and rows[alloc_id][0] < modified:
                text = f"{title}: {alloc_id} of {rows[alloc_id][0]} after {modified}"
                watch.fail("list went back", text)

    def check_end(self) -> None:
        """Whatever changed last, this reader has heard of it.

        Raises:
            Violation: It waits for news that it should have.
        """
        watch, own = self._world.watch, self.datacenter
        if own.id in watch.off or not self._host.is_up:
            return
        truth: Rows = {}
        for one in self._world.region(own.region):
            if one.id not in watch.off:
                allocs = one.state.allocs
                truth |= _rows_of([allocs.allocation(row) for row in allocs.rows().tolist()])
        seen = self.rows
        wrong = sorted(key for key in truth | seen if truth.get(key) != seen.get(key))
        if wrong:
            text = f"{own.title}: {wrong[0]} is {truth.get(wrong[0])}, seen {seen.get(wrong[0])}"
            watch.fail("list change missed", text)


def _rows_of(rows: list[Any]) -> Rows:
    found: Rows = {}
    for row in rows:
        if isinstance(row, dict):
            found[row["ID"]] = row["ModifyIndex"], row["DesiredStatus"], row["ClientStatus"]
        else:
            found[row.id] = row.modify_index, row.desired_status, row.client_status
    return found


class Readers:
    """The readers of one world: two in some worlds, else none."""

    def __init__(self, world: "World") -> None:
        rng = random.Random(f"federation/{world.seed}/readers")
        self.readers: list[Reader] = []
        given: Given = {}
        if rng.random() < PART:
            for _ in range(2):
                datacenter = rng.choice([*world.datacenters.values()])
                host = rng.choice(datacenter.servers)
                world.read[datacenter.region] = None
                chance = random.Random(rng.getrandbits(64))
                self.readers.append(Reader(world, host, chance, given))

    def check_end(self) -> None:
        """Look at each once.

        Raises:
            Violation: With the first change that was missed.
        """
        for reader in self.readers:
            reader.check_end()
