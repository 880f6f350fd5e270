"""Jobs: their versions, groups, share of indices, and counters.

A job's **uid** has an ordinal that is never given again; allocations name their job by
it. A job that was purged while allocations of it remain stays as a record with
`is_purged`, found by ordinal and uid only; its name is free for a new uid.

Counters live in columns with one row per (job, group), so that a plan with 100,000
placements moves them with one addition. Group ordinals within a job are never
reused either: a group removed from the job file keeps its number and its counts.
"""

import heapq
from collections.abc import Iterator
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from core.model.job import Job
from core.model.summary import JobChildrenSummary, JobSummary, TaskGroupSummary
from core.state.columns import ENCODER, Columns
from core.state.table import Table

VERSIONS_KEPT: Final = 6
STATUSES: Final = ("pending", "running", "dead")  # positions in JobRecord.children

# What apply and the federation set; two jobs that differ in these only are the same job.
_NOT_SPEC: Final[dict[str, Any]] = dict.fromkeys(
    (
        "status",
        "status_description",
        "stable",
        "version",
        "submit_time_ns",
        "create_index",
        "modify_index",
        "job_modify_index",
        "version_tag",
        "nomad_token_id",
        "uid",
    )
)


class GroupColumns(Columns):
    """One row per (job, group). Status counts are by core.model.allocation.ClientStatus."""

    NAME = "group_columns"
    DTYPES = {  # noqa: RUF012
        "job": "<i4",  # job ordinal, -1: a free row
        "group": "|u1",  # ordinal of the group in the job
        "counts": "(6,)<i4",  # allocations by client status, those collected included
        "collected": "(6,)<i4",  # of these, how many rows were collected
        "live": "<i4",  # allocations wanted to run whose client is not done with them
        "queued": "<i4",  # what the last evaluation could not place
        "allocs_index": "<i8",  # last index that changed an allocation of the group
    }

    job: npt.NDArray[np.int32]
    group: npt.NDArray[np.uint8]
    counts: npt.NDArray[np.int32]
    collected: npt.NDArray[np.int32]
    live: npt.NDArray[np.int32]
    queued: npt.NDArray[np.int32]
    allocs_index: npt.NDArray[np.int64]


class JobRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """All that is kept of one job uid. A value: changed by `msgspec.structs.replace`."""

    ordinal: int
    uid: str
    namespace: str
    id: str
    job: Job  # newest version, with its status and indexes
    older: list[Job] = []  # older versions, newest first
    sources: dict[str, dict[str, Any]] = {}  # submissions by version in decimal
    indices: dict[str, list[tuple[int, int]]] = {}  # the share by group, half-open; {} = all
    groups: list[str] = []  # name by group ordinal
    group_rows: list[int] = []  # row in GroupColumns by group ordinal
    children: tuple[int, int, int] = (0, 0, 0)  # child jobs by STATUSES
    summary_create_index: int = 0
    summary_modify_index: int = 0
    modify_time_us: int = 0
    launched_us: int = 0  # of a periodic job: its last launch, or the skip of one
    is_purged: bool = False
    home: str = ""  # datacenter id of its home, when this is a share of it; "" = here
    elsewhere: int = 0  # at the home: unfinished instances in other datacenters

    @property
    def version(self) -> int:
        return self.job.version or 0

    @property
    def status(self) -> str:
        return self.job.status or "pending"

    @property
    def submissions(self) -> dict[int, dict[str, Any]]:
        """Return what was submitted, by version; only kept versions have it."""
        return {int(version): source for version, source in self.sources.items()}

    @property
    def is_stopped(self) -> bool:
        return self.is_purged or bool(self.job.stop)

    def share(self) -> dict[str, list[tuple[int, int]]]:
        """Return the indices to run here, by group; all of [0, count) unless told less."""
        return self.indices or {
            group.name: [(0, 1 if group.count is None else group.count)]
            for group in self.job.task_groups or []
        }


def spec_key(job: Job) -> bytes:
    """Return bytes that are equal for jobs of equal specification."""
    said = {"namespace": job.namespace or "default", "stop": bool(job.stop)}
    return ENCODER.encode(msgspec.structs.replace(job, **_NOT_SPEC, **said))


class JobTable:
    """Jobs by (namespace, id), by uid and by ordinal."""

    def __init__(self) -> None:
        self.records: Table[int, JobRecord] = Table("jobs", int, JobRecord)
        self.columns = GroupColumns()
        self.next_ordinal = 0
        self._by_name: dict[tuple[str, str], int] = {}
        self._by_uid: dict[str, int] = {}
        self._children: dict[tuple[str, str], dict[int, None]] = {}
        self._free_rows: list[int] = []

    # --- reading -------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[JobRecord]:
        """Iterate over the jobs that have a name, in the order of their uids' ordinals."""
        return (record for record in self.records.values() if not record.is_purged)

    def get(self, namespace: str, job_id: str) -> JobRecord | None:
        ordinal = self._by_name.get((namespace, job_id))
        return None if ordinal is None else self.records.get(ordinal)

    def job(self, namespace: str, job_id: str) -> Job | None:
        record = self.get(namespace, job_id)
        return None if record is None else record.job

    def by_uid(self, uid: str) -> JobRecord | None:
        """Return the job of a uid, a purged one too as long as allocations of it remain."""
        ordinal = self._by_uid.get(uid)
        return None if ordinal is None else self.records.get(ordinal)

    def record(self, ordinal: int) -> JobRecord | None:
        return self.records.get(ordinal)

    def version(self, ordinal: int, version: int) -> Job | None:
        """Return that version of the job; None when it is no longer kept."""
        record = self.records.get(ordinal)
        if record is None:
            return None
        if record.version == version:
            return record.job
        return next((job for job in record.older if job.version == version), None)

    def versions(self, namespace: str, job_id: str) -> list[Job]:
        """Return the kept versions, newest first."""
        record = self.get(namespace, job_id)
        return [] if record is None else [record.job, *record.older]

    def ids_with_prefix(self, namespace: str, prefix: str) -> list[tuple[str, str]]:
        """Return (namespace, id) of jobs whose id begins so, sorted; "*" = any namespace."""
        return sorted(
            name
            for name in self._by_name
            if name[1].startswith(prefix) and namespace in {"*", name[0]}
        )

    def children_of(self, namespace: str, job_id: str) -> list[JobRecord]:
        """Return the periodic or dispatched children, in order of registration."""
        found = (self.records.get(n) for n in self._children.get((namespace, job_id), {}))
        return [record for record in found if record is not None]

    def group_ordinal(self, record: JobRecord, group: str) -> int | None:
        try:
            return record.groups.index(group)
        except ValueError:
            return None

    def summary(self, record: JobRecord) -> JobSummary:
        """Return the counters as Nomad shows them."""
        groups = {}
        for name, row in zip(record.groups, record.group_rows, strict=True):
            pending, running, complete, failed, lost, unknown = self.columns.counts[row].tolist()
            groups[name] = TaskGroupSummary(
                queued=int(self.columns.queued[row]),
                starting=pending,
                running=running,
                complete=complete,
                failed=failed,
                lost=lost,
                unknown=unknown,
            )
        pending, running, dead = record.children
        return JobSummary(
            job_id=record.id,
            namespace=record.namespace,
            summary=groups,
            children=JobChildrenSummary(pending=pending, running=running, dead=dead),
            create_index=record.summary_create_index,
            modify_index=max(record.summary_modify_index, self.allocs_index(record)),
        )

    def live(self, record: JobRecord) -> int:
        """Return how many allocations are wanted and not done."""
        if len(record.group_rows) == 1:  # asked of each job that a report touches
            return self.columns.live.item(record.group_rows[0])
        return int(self.columns.live[record.group_rows].sum()) if record.group_rows else 0

    def allocs_index(self, record: JobRecord) -> int:
        """Return the last index that changed an allocation of the job."""
        rows = record.group_rows
        return int(self.columns.allocs_index[rows].max()) if rows else 0

    # --- changing: for the handlers only -----------------------------------------------

    def put(self, record: JobRecord) -> None:
        self.records.put(record.ordinal, record)
        self._index(record)

    def with_groups(self, record: JobRecord, names: list[str]) -> JobRecord:
        """Return the record with ordinals and counter rows for groups it had none for."""
        fresh = [name for name in names if name not in record.groups]
        if not fresh:
            return record
        rows = []
        for number, _ in enumerate(fresh, start=len(record.groups)):
            row = heapq.heappop(self._free_rows) if self._free_rows else self.columns.extend(1)
            self.columns.touch(row)
            self.columns.job[row] = record.ordinal
            self.columns.group[row] = number
            rows.append(row)
        return msgspec.structs.replace(
            record, groups=[*record.groups, *fresh], group_rows=[*record.group_rows, *rows]
        )

    def set_queued(self, record: JobRecord, queued: dict[str, int]) -> None:
        for name, row in zip(record.groups, record.group_rows, strict=True):
            wanted = queued.get(name)
            if wanted is not None and wanted != self.columns.queued[row]:
                self.columns.touch(row)
                self.columns.queued[row] = wanted

    def purge(self, record: JobRecord) -> None:
        """Free the job's name; the record stays for its allocations until `forget`."""
        del self._by_name[record.namespace, record.id]
        self._children.get(_parent_of(record), {}).pop(record.ordinal, None)
        self.records.put(record.ordinal, msgspec.structs.replace(record, is_purged=True))

    def forget(self, ordinal: int) -> None:
        """Remove the record of a purged job without allocations."""
        record = self.records.delete(ordinal)
        assert record is not None and record.is_purged
        del self._by_uid[record.uid]
        for row in record.group_rows:
            self.columns.touch(row)
            for name in self.columns.DTYPES:
                getattr(self.columns, name)[row] = 0
            self.columns.job[row] = -1
            heapq.heappush(self._free_rows, row)

    def restored(self) -> None:
        """Rebuild what is derived from the records."""
        for record in self.records.values():
            self._index(record)
        free = np.flatnonzero(self.columns.job[: self.columns.length] < 0)
        self._free_rows = free.tolist()

    def _index(self, record: JobRecord) -> None:
        self._by_uid[record.uid] = record.ordinal
        if not record.is_purged:
            self._by_name[record.namespace, record.id] = record.ordinal
            if record.job.parent_id:
                self._children.setdefault(_parent_of(record), {})[record.ordinal] = None


def _parent_of(record: JobRecord) -> tuple[str, str]:
    return record.namespace, record.job.parent_id or ""
