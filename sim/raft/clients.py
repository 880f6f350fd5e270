"""Clients that read and write registers, and what each of them saw.

A client has one operation at a time. It sends it to the server that it takes for the
leader, and again (a write with the same call id) to another when the answer is a refusal,
is lost, or does not come. When its patience ends the operation is timed out: it may take
effect at any time after, or never.
"""

import random
from typing import TYPE_CHECKING, Final

from core.state.result import Applied
from sim.raft import registers
from sim.raft.history import Kind, Operation, Result

if TYPE_CHECKING:
    from sim.raft.host import Host
    from sim.raft.world import World

DELAY_US: Final = (100, 1_500)  # client to server and back
ATTEMPT_US: Final = (250_000, 900_000)  # then the next server is asked
PATIENCE_US: Final = (1_200_000, 4_000_000)
HASTE_US: Final = (200, 9_000)  # the patience of every `HASTY_SHARE`th operation
HASTY_SHARE: Final = 0.08
THINK_US: Final = (1_000, 120_000)
RETRY_US: Final = (1_000, 150_000)  # after a refusal
PADDING: Final = (
    "",
    "",
    "",
    "",
    "." * 150,
    "." * 150,
    "." * 900,
)  # values differ in length, so that windows fill


class Attempt:
    """One request on its way to one server; what the server says goes back to the client."""

    __slots__ = (
        "_client", "_number", "asked_us", "call_id", "floor_index", "is_read", "key", "operation",
    )  # fmt: skip

    def __init__(self, client: "Client", operation: Operation, number: int) -> None:
        self._client = client
        self._number = number
        self.operation = operation
        self.call_id = operation.call_id
        self.key = operation.key
        self.is_read = operation.kind is Kind.READ
        self.floor_index = 0  # a read must cover it; see Watch.on_read
        self.asked_us = 0  # when its server asked for a read, on that one's clock

    def entry(self, wall_us: int) -> bytes:
        """Return the log entry of a write as its server proposes it."""
        return self._client.entry(self.operation, wall_us)

    def read(self, value: str) -> None:
        self._client.reply(self._number, "ok", value)

    def written(self, applied: Applied) -> None:
        result = applied.results[0]
        if result.is_error:
            self._client.reply(self._number, "too old", "")
        else:
            self._client.reply(self._number, "ok", str(result.value))

    def refused(self, leader: str) -> None:
        """Not taken here; `leader` may know better."""
        self._client.reply(self._number, "refused", leader)

    def lost(self, leader: str) -> None:
        """Leadership was lost: the write may still take effect."""
        self._client.reply(self._number, "lost", leader)


class Client:
    """One client with `quota` operations to do."""

    def __init__(
        self, world: "World", number: int, keys: list[str], quota: int, rng: random.Random
    ) -> None:
        self.world = world
        self.number = number
        self.history: list[Operation] = []
        self.quota = quota
        self.has_haste = True  # some operations are given up early
        self._keys = keys
        self._rng = rng
        self._known: dict[str, str] = {}  # key -> the value seen last
        self._operation: Operation | None = None
        self._issued_wall_us: list[int] = []  # by operation: it stays so in late requests
        self._give_up_us = 0
        self._attempt = 0
        self._target = ""
        world.busy_clients += 1
        world.after(rng.randrange(200_000), self._begin)

    # --- operations -------------------------------------------------------------------

    def _begin(self) -> None:
        if len(self.history) >= self.quota:
            self.world.busy_clients -= 1
            return
        rng = self._rng
        draw = rng.random()
        kind = Kind.READ if draw < 0.4 else Kind.WRITE if draw < 0.75 else Kind.SWAP
        self._start(kind, rng.choice(self._keys))

    def ask(self, key: str) -> None:
        """Read a key once more, beyond the quota."""
        self.quota += 1
        self.world.busy_clients += 1
        self.has_haste = False
        self._start(Kind.READ, key)

    def _start(self, kind: Kind, key: str) -> None:
        rng, world = self._rng, self.world
        operation = Operation(self.number, len(self.history), kind, key, call_us=world.now_us)
        if kind is not Kind.READ:
            operation.value = operation.call_id + rng.choice(PADDING)
        if kind is Kind.SWAP:
            operation.expected = self._known.get(key, "")
        self.history.append(operation)
        self._operation = operation
        self._issued_wall_us.append(world.wall_us)
        is_hasty = self.has_haste and rng.random() < HASTY_SHARE
        self._give_up_us = world.now_us + _between(rng, *(HASTE_US if is_hasty else PATIENCE_US))
        world.after(self._give_up_us - world.now_us, self._give_up, operation)
        self._send()

    def entry(self, operation: Operation, wall_us: int) -> bytes:
        """Return the log entry of a write; it is known from here on as this call's."""
        command = registers.SetRegister(
            key=operation.key,
            value=operation.value,
            is_swap=operation.kind is Kind.SWAP,
            expected=operation.expected,
        )
        issued_us = self._issued_wall_us[operation.number]
        data = registers.encode(command, operation.call_id, issued_us=issued_us, wall_us=wall_us)
        self.world.watch.calls[data] = operation.call_id
        return data

    def _end(self, result: Result) -> None:
        operation = self._operation
        assert operation is not None
        operation.result = result
        if result is Result.OK:
            operation.return_us = self.world.now_us
            self.world.answers += 1
        self._operation = None
        self.world.after(_between(self._rng, *THINK_US), self._begin)

    def _give_up(self, operation: Operation) -> None:
        if self._operation is operation:
            self._end(Result.UNKNOWN)  # also when refused so far: a request may be on its way

    # --- attempts ---------------------------------------------------------------------

    def _send(self) -> None:
        operation = self._operation
        if operation is None:
            return
        world, rng = self.world, self._rng
        names = world.member_names()
        if self._target not in names or rng.random() < 0.1:
            self._target = rng.choice(names)
        self._attempt += 1
        attempt = Attempt(self, operation, self._attempt)
        if rng.random() >= world.loss:
            host = world.hosts[self._target]
            world.after(_between(rng, *DELAY_US), self._arrive, host, attempt)
        world.after(_between(rng, *ATTEMPT_US), self._again, self._attempt)

    def _arrive(self, host: "Host", attempt: Attempt) -> None:
        host.after(0, host.request, attempt)

    def _again(self, attempt: int) -> None:
        """No answer came: ask another server."""
        if self._operation is not None and attempt == self._attempt:
            self._target = ""
            self._send()

    def reply(self, attempt: int, answer: str, text: str) -> None:
        """A server answers; the answer takes its time, or is lost."""
        if self._rng.random() >= self.world.loss:
            delay_us = _between(self._rng, *DELAY_US)
            self.world.after(delay_us, self._on_reply, attempt, answer, text)

    def _on_reply(self, attempt: int, answer: str, text: str) -> None:
        operation = self._operation
        if operation is None or attempt != self._attempt:
            return
        if answer == "ok":
            if operation.kind is Kind.READ:
                operation.value = text
                self._known[operation.key] = text
            elif operation.kind is Kind.SWAP:
                operation.found = text
                self._known[operation.key] = text
                if text == operation.expected:
                    self._known[operation.key] = operation.value
            else:
                self._known[operation.key] = operation.value
            self._end(Result.OK)
        elif answer == "too old":
            # An earlier attempt may have taken effect; this one did not.
            self._end(Result.UNKNOWN)
        else:
            self._target = text if text != self._target else ""  # it may know no better
            self._attempt += 1  # whatever else is said of this attempt comes too late
            self.world.after(_between(self._rng, *RETRY_US), self._send_again, self._attempt)

    def _send_again(self, attempt: int) -> None:
        if self._operation is not None and attempt == self._attempt:
            self._send()


def _between(rng: random.Random, low: int, high: int) -> int:
    """Like `randint`, in a third of the time."""
    return low + int(rng.random() * (high - low))
