"""The replicated state of a datacenter: a function of its log, and of nothing else.

    state = State()
    applied = state.apply(index, data)     # data: core.state.entry.encode_entry(Entry(...))

`apply` never raises for a command that is refused (its `CommandResult` says why), and
raises `UnknownCommand` for what this version can't understand: then the host halts. The
commands of an entry are carried out in order; a refused one does not undo the others.

Reading: `nodes`, `jobs`, `allocs`, `evals`, `deployments`, `services`, `tokens`, `calls`,
`scheduler_config`, and `table(name)` for tables that other floors registered. Whoever
reads must not write; records are values and may be kept, column arrays must not be
kept over an apply.

Snapshots: `image()` is taken in microseconds and copies nothing; `image().chunks()`
may run in a worker while apply goes on; `State.restore(chunks)` gives an equal state.

Floors above add commands with `core.state.entry.register_handler` and tables with
`register_table`, at import.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from core.state.access import CallAnswer, CallTable, TokenTable, refuse_call
from core.state.allocs import AllocTable
from core.state.commands import Entry
from core.state.context import Context
from core.state.entry import HANDLERS, SCHEMA, UnknownCommand, decode_entry
from core.state.handlers import register_all
from core.state.job_status import settle_jobs
from core.state.jobs import JobTable
from core.state.nodes import NodeTable
from core.state.operating import REMOVED, REPLACED, RESTORE, Decoded
from core.state.quotas import recount
from core.state.result import Applied, Change, CommandResult
from core.state.rollouts import DeploymentTable, EvalTable
from core.state.services import ServiceTable
from core.state.snapshot import META, Meta, Part, SnapshotError, StateImage, read_frames
from core.state.table import Table

__all__ = [
    "Applied",
    "Change",
    "CommandResult",
    "SnapshotError",
    "State",
    "StateImage",
    "UnknownCommand",
    "register_table",
]

register_all()

_TABLES: Final[dict[str, Any]] = {}  # name -> record type, in order of registration


def register_table(name: str, record_type: Any) -> None:
    """Give every state a table `name` of `record_type` by text key, in snapshot and hash.

    Raises:
        ValueError: The name is taken by another type.
    """
    if _TABLES.setdefault(name, record_type) is not record_type:
        raise ValueError(f"a table named {name!r} is registered already")


class State:
    """Invariant: two states that applied the same entries have the same `hash()`."""

    def __init__(self, schema_max: int = SCHEMA) -> None:
        self.schema_max = schema_max  # what this replica understands; no part of the state
        self.decoded: Decoded | None = None  # what the next entry restores; no part of it either
        self.index = 0  # of the last applied entry, moved on by what was restored
        self.index_offset = 0  # `index` less the entry's place in the log
        self.log_time_us = 0
        self.schema = 1  # committed; entries above it are not written
        self.datacenter_id = ""
        self.region = ""
        self.datacenter = ""
        self.is_authority = False
        self.region_origin = ""  # id of the region's first datacenter; "" = not settled yet
        self.acl_bootstrap_index = 0
        self.scheduler_config: dict[str, Any] = {}
        self.nodes = NodeTable()
        self.jobs = JobTable()
        self.allocs = AllocTable(self.nodes, self.jobs)
        self.evals = EvalTable()
        self.deployments = DeploymentTable()
        self.services = ServiceTable()
        self.tokens = TokenTable()
        self.calls = CallTable()
        self.pools: Table[str, dict[str, Any]] = Table("node_pools", str, dict[str, Any])
        self.quotas: Table[str, dict[str, Any]] = Table("quotas", str, dict[str, Any])
        self.namespaces: Table[str, dict[str, Any]] = Table("namespaces", str, dict[str, Any])
        self.spent: dict[str, list[int]] = {}  # see core.state.quotas; derived
        self.scaling_events: Table[str, dict[str, Any]] = Table(
            "scaling_events", str, dict[str, Any]
        )
        self.operator: Table[str, dict[str, Any]] = Table("operator", str, dict[str, Any])
        self.staged: Table[int, bytes] = Table("staged_snapshot", int, bytes)
        self._tables: dict[str, Table[str, Any]] = {
            name: Table(name, str, record_type) for name, record_type in _TABLES.items()
        }
        self._table_indexes: dict[str, int] = {}

    # --- reading -------------------------------------------------------------------

    def table_index(self, table: str) -> int:
        """Return the last index that changed a table: "jobs", "allocs", "nodes", "evals",
        "deployment", "services", "acl_token", "scheduler_config"; 0 = never."""
        return self._table_indexes.get(table, 0)

    def table(self, name: str) -> Table[str, Any]:
        """Return a table that another floor registered.

        Raises:
            KeyError: Nobody did, before this state was made.
        """
        return self._tables[name]

    def hash(self) -> str:
        """Return 32 hex digits over every field of every record."""
        return self.image().hash()

    # --- changing ------------------------------------------------------------------

    def apply(self, index: int, data: bytes) -> Applied:
        """Carry out one committed entry.

        Raises:
            UnknownCommand: It can't be understood; nothing was changed, the host must stop.
            ValueError: `index` is not beyond the last applied one: the caller is at fault.
        """
        return self.apply_entry(index, decode_entry(data, self.schema_max))

    def apply_entry(self, index: int, entry: Entry) -> Applied:
        """Carry out one committed entry that is decoded already. See `apply`."""
        index += self.index_offset
        if index <= self.index:
            raise ValueError(f"entry {index} comes after {self.index} was applied")
        if unknown := [c for c in entry.commands if type(c) not in HANDLERS]:
            raise UnknownCommand(f"no handler for command {type(unknown[0]).__name__!r}")
        self.index = index
        self.log_time_us = max(entry.wall_us, self.log_time_us)
        call = entry.call
        if call is not None:
            if error := refuse_call(call, self.log_time_us):
                refused = [CommandResult(error=error, status=409) for _ in entry.commands]
                return Applied(index, refused, [])
            self.calls.expire(self.log_time_us)
            known = self.calls.get(call.call_id)
            if known is not None:
                return Applied(known.index, known.results, [], is_repeat=True)
        context = Context(self, index, self.log_time_us)
        results = context.results
        for command in entry.commands:
            results.append(HANDLERS[type(command)](self, command, context))
        settle_jobs(self, context)
        if call is not None:
            changed = ((one.namespace, one.key) for one in context.changes if one.table == "jobs")
            jobs = tuple(dict.fromkeys(changed))
            self.calls.put(call.call_id, CallAnswer(call.issued_us, self.index, results, jobs))
        return Applied(self.index, results, context.changes)

    def set_table_index(self, table: str, index: int) -> None:
        """For handlers, through `Context.changed`."""
        self._table_indexes[table] = index

    # --- snapshots -----------------------------------------------------------------

    def image(self) -> StateImage:
        """Return the state as it is now; it stays so while this one moves on."""
        meta = Meta(
            index=self.index,
            index_offset=self.index_offset,
            log_time_us=self.log_time_us,
            schema=self.schema,
            datacenter_id=self.datacenter_id,
            region=self.region,
            datacenter=self.datacenter,
            is_authority=self.is_authority,
            region_origin=self.region_origin,
            next_job_ordinal=self.jobs.next_ordinal,
            acl_bootstrap_index=self.acl_bootstrap_index,
            scheduler_config=self.scheduler_config,
            table_indexes=self._table_indexes.copy(),
        )
        return StateImage(meta, [part.view() for part in self._parts()])

    @classmethod
    def restore(cls, chunks: Iterable[bytes | memoryview], schema_max: int = SCHEMA) -> "State":
        """Return the state that `image().chunks()` was taken of.

        Args:
            chunks: The snapshot's bytes, cut anyhow.
            schema_max: The newest schema that this replica understands.

        Raises:
            SnapshotError: They are no whole, undamaged snapshot that this version reads.
        """
        state = cls(schema_max)
        parts = {part.name: part for part in state._parts()}
        is_described = False
        for section, piece in read_frames(chunks, schema_max):
            try:
                if section == META:
                    state._take_meta(msgspec.msgpack.decode(piece, type=Meta))
                    is_described = True
                elif section in parts:
                    parts[section].load(piece)
                else:
                    raise SnapshotError(
                        f"snapshot has a section {section!r} that this version does not know"
                    )
            except msgspec.MsgspecError as error:
                raise SnapshotError(f"snapshot section {section!r}: {error}") from error
        if not is_described:
            raise SnapshotError("snapshot does not say whose it is")
        state.nodes.restored()
        state.jobs.restored()
        state.allocs.restored()
        recount(state)
        return state

    def _take_meta(self, meta: Meta) -> None:
        self.index = meta.index
        self.index_offset = meta.index_offset
        self.log_time_us = meta.log_time_us
        self.schema = meta.schema
        self.become(meta.datacenter_id, meta.region, meta.datacenter, meta.is_authority)
        self.region_origin = meta.region_origin
        self.jobs.next_ordinal = meta.next_job_ordinal
        self.acl_bootstrap_index = meta.acl_bootstrap_index
        self.scheduler_config = meta.scheduler_config
        self._table_indexes = meta.table_indexes

    def become(self, datacenter_id: str, region: str, datacenter: str, is_authority: bool) -> None:
        """Take on an identity: of the Bootstrap command, or of a snapshot."""
        self.datacenter_id = datacenter_id
        self.allocs.datacenter_id = datacenter_id
        self.region = region
        self.datacenter = datacenter
        self.is_authority = is_authority

    def take_over(self, fresh: "State", context: Context) -> None:
        """Become `fresh`, a restored state, but for what belongs to this datacenter alone.

        Kept are the identity, the committed schema, the answers to calls and the removed
        servers. Time and index move on from the later of both.
        """
        log_index = context.index - self.index_offset
        fresh.become(self.datacenter_id, self.region, self.datacenter, self.is_authority)
        fresh.region_origin = self.region_origin
        fresh.schema = max(self.schema, fresh.schema)
        fresh.log_time_us = max(self.log_time_us, fresh.log_time_us)
        fresh.index = max(context.index, fresh.index + 1)
        fresh.index_offset = fresh.index - log_index
        # Ids of allocations derive from ordinals: those of the lost time must not come again.
        fresh.jobs.next_ordinal = max(self.jobs.next_ordinal, fresh.jobs.next_ordinal)
        fresh.calls = self.calls
        fresh.staged = self.staged
        removed = self.operator.get(REMOVED)
        fresh.operator.delete(RESTORE)
        if removed is not None:
            fresh.operator.put(REMOVED, removed)
        known = dict.fromkeys([*self._table_indexes, *fresh._table_indexes])
        vars(self).update(vars(fresh))
        self._table_indexes = dict.fromkeys(sorted(known), self.index)
        context.index = self.index
        context.changed(REPLACED, "StateRestored")

    def _parts(self) -> list[Part]:
        """Return all that snapshots and the hash cover, in a fixed order."""
        allocs = self.allocs
        return [
            self.nodes.columns,
            self.nodes.records,
            self.nodes.classes,
            self.jobs.records,
            self.jobs.columns,
            allocs.columns,
            allocs.resources,
            allocs.metrics,
            allocs.evals,
            allocs.deployments,
            allocs.port_asks,
            allocs.texts,
            allocs.states.shapes,
            allocs.states.times,
            allocs.extras,
            allocs.ports,
            allocs.units,
            allocs.retired,
            self.evals,
            self.deployments,
            self.services,
            self.tokens,
            self.calls,
            self.pools,
            self.quotas,
            self.namespaces,
            self.scaling_events,
            self.operator,
            self.staged,
            *self._tables.values(),
        ]
