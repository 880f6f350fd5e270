"""The seam between a replicated log and who uses it: what every engine offers.

    engine = make("core", replica_id=..., settings=..., rng=..., boot=..., now_us=...)

`Engine` is the surface of `raft.core.RaftCore`; its driver's contract is written there and
holds for every engine: no engine has a clock, a socket, a file or a thread. A host hands
in messages, ticks and reports of its disk, and takes `Output`: messages to send, a batch
for the write-ahead log, committed entries, reads that may be served, chunks of snapshots.

    core       `RaftCore`: the default, and what the rest of Serai is written for
    pysyncobj  the library PySyncObj behind the same verbs (raft.pysyncobj_engine says what
               it can't do); needs the extra `serai[pysyncobj]`

Nobody who uses an engine may ask which one it is. Engines don't understand each other's
messages: all replicas of one log run the same.
"""

import random
from collections import Counter
from typing import Any, Final, Protocol

from raft.core import RaftCore
from raft.messages import Configuration, Entry, Message, SnapshotMeta
from raft.output import Boot, Change, Output, Refusal, Role
from raft.settings import Settings

DEFAULT: Final = "core"
ENGINES: Final = (DEFAULT, "pysyncobj")

# What an operator is told at each start with an engine that is not the default.
WARNINGS: Final = {
    "pysyncobj": "its replicas can diverge when connections break under load, it commits on "
    "acknowledgements of older terms and counts votes without asking whose; acknowledged "
    'writes can be lost. It is here to be compared with; remove raft { engine = "pysyncobj" } '
    "and begin with empty data folders for the default engine",
}


class EngineError(Exception):
    """There is no such engine here; the text says what to do."""


class Engine(Protocol):
    """One replica of a log. See `raft.core` for what each verb means and when to call it."""

    cluster_id: str  # set by the host once it knows; a snapshot of another one is dropped

    @property
    def replica_id(self) -> str: ...

    @property
    def role(self) -> Role: ...

    @property
    def term(self) -> int: ...

    @property
    def leader_id(self) -> str:
        """Return the leader, "" = nobody known."""
        ...

    @property
    def commit_index(self) -> int: ...

    @property
    def term_start_index(self) -> int:
        """The leader's first entry of its term; it serves once that is applied."""
        ...

    @property
    def snapshot(self) -> SnapshotMeta:
        """The newest durable one."""
        ...

    @property
    def refusal(self) -> Refusal:
        """Why the last verb returned None or False."""
        ...

    @property
    def transfer_to(self) -> str:
        """Who is being handed leadership, "" = nobody."""
        ...

    @property
    def dropped(self) -> Counter[str]:
        """Messages not heeded, by reason."""
        ...

    @property
    def last_index(self) -> int: ...

    @property
    def configuration(self) -> Configuration: ...

    @property
    def configuration_index(self) -> int: ...

    @property
    def deadline_us(self) -> int:
        """When to `tick` next."""
        ...

    @property
    def is_disk_full(self) -> bool: ...

    def reachable_voters(self, now_us: int) -> list[str]: ...

    def followers(self) -> dict[str, tuple[int, int]]:
        """Return, of each other replica, (newest index known to be equal, when heard, us).

        Only a leader knows any.
        """
        ...

    def entries(self, first: int, last: int) -> list[Entry]:
        """Return the log from `first` to `last`, both included; [] unless all is held."""
        ...

    def has_lease(self, now_us: int) -> bool: ...

    # --- what the host asks -----------------------------------------------------------

    def bootstrap(
        self, configuration: Configuration, first_entries: list[bytes], now_us: int
    ) -> None: ...

    def propose(self, data: list[bytes], now_us: int) -> int | None:
        """Return the first one's index, None when refused."""
        ...

    def read_barrier(self, now_us: int) -> int | None:
        """Return a ticket that comes back in `reads_ready` or `reads_failed`."""
        ...

    def transfer_leadership(self, to: str, now_us: int) -> bool: ...

    def change_membership(self, change: Change, now_us: int) -> int | None: ...

    def snapshot_meta(self, index: int) -> SnapshotMeta: ...

    def compact(self, index: int, meta: SnapshotMeta) -> None: ...

    # --- what the host reports ----------------------------------------------------------

    def tick(self, now_us: int) -> None: ...

    def step(self, sender_id: str, message: Message, now_us: int) -> None: ...

    def read_message(self, data: Any) -> Message:
        """Return a message of this engine from bytes, plain values or the struct itself.

        Raises:
            MessageError: It is none.
        """
        ...

    def persisted(self, ticket: int, now_us: int) -> None: ...

    def persist_failed(self, ticket: int, is_full: bool, now_us: int) -> None: ...

    def chunk_read(
        self, ticket: int, data: bytes, is_last: bool, now_us: int, error: str = ""
    ) -> None: ...

    def chunk_staged(self, ticket: int, now_us: int, error: str = "") -> None: ...

    def take_output(self) -> Output: ...


def make(
    name: str,
    *,
    replica_id: str,
    settings: Settings,
    rng: random.Random,
    boot: Boot,
    now_us: int,
) -> Engine:
    """Build a replica of the engine `name`.

    Raises:
        EngineError: There is no such engine, or its extra is not installed.
    """
    check(name)
    if name == DEFAULT:
        return RaftCore(replica_id=replica_id, settings=settings, rng=rng, boot=boot, now_us=now_us)
    from raft.pysyncobj_engine import PySyncObjEngine

    return PySyncObjEngine(
        replica_id=replica_id, settings=settings, rng=rng, boot=boot, now_us=now_us
    )


def check(name: str) -> None:
    """Say now, not in the midst of a start, that an engine can't be had.

    Raises:
        EngineError: See `make`.
    """
    if name not in ENGINES:
        raise EngineError(f"raft.engine {name!r} is none: want one of {', '.join(ENGINES)}")
    if name == "pysyncobj":
        try:
            import pysyncobj  # noqa: F401
        except ImportError:
            raise EngineError(
                'raft.engine "pysyncobj" needs the library PySyncObj, which is not installed: '
                "pip install 'serai[pysyncobj]', or remove the key for the default engine"
            ) from None
