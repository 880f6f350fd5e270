"""Whether all replicas hold the same state: hashed at one entry, compared by the leader.

The leader commits a `Checkpoint`. Every replica takes an image of its state right after
that entry, which costs microseconds, and has a worker hash it: the whole, each table, and
each group of some hundred records, so that a difference can be named. The leader then asks
each server of the configuration and compares. What is hashed is the state that serves
queries, not one rebuilt from the log.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.model.host import CallDone
from core.model.query import Answer
from core.server.request import Respond
from core.state.commands import Checkpoint

if TYPE_CHECKING:
    from core.server.context import Server
    from core.server.proposal import Outcome
    from core.state.snapshot import StateImage
    from core.state.state import State

STATE_HASH: Final = "Server.StateHash"
CALL_TIMEOUT_US: Final = 60_000_000
_WAIT_US: Final = 50_000_000
_KEPT: Final = 4
_GROUPS_NAMED: Final = 5  # of each table that differs

Reply = Callable[..., None]


class StateHash(msgspec.Struct):
    """Hashes of one state. A group is a run of records of one table, by what names it."""

    index: int
    hash: str
    tables: dict[str, str]
    groups: dict[str, list[tuple[str, str]]]  # table -> [(name of the group, hash)]


class HashProblem:
    """Hashing one image; for a worker."""

    def __init__(self, image: StateImage) -> None:
        self._image = image

    def solve(self) -> StateHash:
        tables: dict[str, Any] = {}
        groups: dict[str, list[tuple[str, str]]] = {}
        whole = hashlib.blake2b(digest_size=16)
        for table, piece in self._image.pieces():
            data = piece if isinstance(piece, bytes) else msgspec.msgpack.encode(piece)
            digest = hashlib.blake2b(data, digest_size=8).hexdigest()
            groups.setdefault(table, []).append((group_name(table, piece), digest))
            tables.setdefault(table, hashlib.blake2b(digest_size=16)).update(digest.encode())
            whole.update(table.encode() + digest.encode())
        return StateHash(
            index=self._image.index,
            hash=whole.hexdigest(),
            tables={table: digest.hexdigest() for table, digest in tables.items()},
            groups=groups,
        )


def group_name(table: str, piece: Any) -> str:
    """Return what people call the records of one piece of a snapshot."""
    if isinstance(piece, list):  # of columns: [first row, rows, column, bytes]
        first, rows, column, _ = piece
        return f"column {column}, rows {first} to {first + rows - 1}"
    try:
        found = msgspec.msgpack.decode(piece)
    except msgspec.MsgspecError:
        return table
    if isinstance(found, list) and found and isinstance(found[0], list):
        return f"{found[0][0]} to {found[-1][0]}" if len(found) > 1 else str(found[0][0])
    return table


class Hashes:
    """The hashes of this replica, and the leader's comparison of all."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._known: dict[int, StateHash] = {}
        self._computing: dict[int, None] = {}
        self._waiting: list[tuple[int, Reply, str]] = []

    # --- a replica ------------------------------------------------------------------------

    def on_checkpoint(self, state: State) -> None:
        """Hash the state as it is now: a checkpoint was just applied."""
        image = state.image()
        index = image.index
        self._computing[index] = None
        self._server.outbox.compute(HashProblem(image), lambda found: self._done(index, found))

    def _done(self, index: int, found: StateHash) -> None:
        self._computing.pop(index, None)
        self._known[index] = found
        while len(self._known) > _KEPT:
            del self._known[min(self._known)]
        self._answer()

    def on_call(self, body: Any, reply: Reply) -> None:
        """Answer `Server.StateHash` {index, table}: the hashes, or the groups of a table."""
        index = body.get("index") if isinstance(body, dict) else None
        if not isinstance(index, int):
            reply(None, f"{STATE_HASH} needs an index")
            return
        waiting = (index, reply, str(body.get("table", "")))
        self._waiting.append(waiting)
        self._answer()
        if waiting in self._waiting:
            self._server.outbox.after(_WAIT_US, lambda: self._give_up(waiting))

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        for index, reply, table in waiting:
            found = self._known.get(index)
            if found is not None and table:
                reply({"groups": found.groups.get(table, [])})
            elif found is not None:
                reply({"hash": found.hash, "tables": found.tables})
            elif index not in self._computing and self._server.state.index >= index:
                reply(None, f"it holds no hash of index {index}: a snapshot took it past there")
            else:
                self._waiting.append((index, reply, table))

    def _give_up(self, waiting: tuple[int, Reply, str]) -> None:
        if waiting in self._waiting:
            self._waiting.remove(waiting)
            waiting[1](None, f"it is at index {self._server.state.index}, before {waiting[0]}")

    # --- the leader -----------------------------------------------------------------------

    def verify(self, respond: Respond) -> None:
        """Commit a checkpoint, ask every server for its hashes there, and compare."""

        def then(outcome: Outcome) -> None:
            if outcome.applied is None:
                respond(Answer(status=500, error=outcome.reason))
            else:
                _Comparison(self._server, outcome.applied.index, respond).start()

        self._server.consensus.propose([Checkpoint()], then)

    def ask(self, server_id: str, body: Any, then: Callable[[Any, str], None]) -> None:
        """Ask a server of this datacenter, this one included, for its hashes."""
        if server_id == self._server.config.server_id:
            self.on_call(body, lambda found, error="": then(found, error))
            return
        address = self._server.consensus.address_of(server_id)

        def on_done(event: CallDone) -> None:
            then(event.body, event.error)

        self._server.outbox.ask(address, STATE_HASH, body, CALL_TIMEOUT_US, on_done)


class _Comparison:
    """One verification under way."""

    def __init__(self, server: Server, index: int, respond: Respond) -> None:
        self._server = server
        self._index = index
        self._respond = respond
        self._servers = list(server.consensus.raft.configuration.addresses)
        self._found: dict[str, dict[str, Any]] = {}
        self._errors: dict[str, str] = {}
        self._differences: list[dict[str, Any]] = []

    def start(self) -> None:
        self._ask_all({"index": self._index}, self._compare)

    def _ask_all(self, body: dict[str, Any], then: Callable[[dict[str, Any]], None]) -> None:
        found: dict[str, Any] = {}
        left = [one for one in self._servers if one not in self._errors]
        count = len(left)

        def answered(server_id: str) -> Callable[[Any, str], None]:
            def on_answer(answer: Any, error: str) -> None:
                nonlocal count
                count -= 1
                if error or not isinstance(answer, dict):
                    self._errors[server_id] = error or "its answer can't be read"
                else:
                    found[server_id] = answer
                if count == 0:
                    then(found)

            return on_answer

        for server_id in left:
            self._server.hashes.ask(server_id, body, answered(server_id))

    def _compare(self, found: dict[str, Any]) -> None:
        self._found = found
        tables = dict.fromkeys(name for answer in found.values() for name in answer["tables"])
        differing = [
            name
            for name in tables
            if len({answer["tables"].get(name) for answer in found.values()}) > 1
        ]
        self._next_table(differing)

    def _next_table(self, tables: list[str]) -> None:
        if not tables:
            self._finish()
            return
        table, rest = tables[0], tables[1:]

        def then(found: dict[str, Any]) -> None:
            self._differences += _groups_that_differ(table, found)
            self._next_table(rest)

        self._ask_all({"index": self._index, "table": table}, then)

    def _finish(self) -> None:
        names = {site.id: site.name for site in self._server.membership.own_servers()}
        rows = [
            {
                "ID": server_id,
                "Node": names.get(server_id, "(unknown)"),
                "Address": self._server.consensus.address_of(server_id),
                "Hash": self._found.get(server_id, {}).get("hash", ""),
                "Error": self._errors.get(server_id, ""),
            }
            for server_id in self._servers
        ]
        hashes = {row["Hash"] for row in rows if row["Hash"]}
        body = {
            "Index": self._index,
            "Equal": len(hashes) == 1 and not self._errors,
            "Servers": rows,
            "Differences": [
                {**one, "Servers": {names.get(k, k): v for k, v in one["Servers"].items()}}
                for one in self._differences
            ],
        }
        self._respond(Answer(body=body, index=self._index))


def _groups_that_differ(table: str, found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the first groups of a table that are not the same everywhere."""
    by_server = {key: dict(map(tuple, answer["groups"])) for key, answer in found.items()}
    names = dict.fromkeys(name for groups in by_server.values() for name in groups)
    differing = [
        {
            "Table": table,
            "Group": name,
            "Servers": {k: g.get(name, "") for k, g in by_server.items()},
        }
        for name in names
        if len({groups.get(name) for groups in by_server.values()}) > 1
    ]
    return differing[:_GROUPS_NAMED]
