"""A job's counters by group: Nomad's `JobSummary`."""

from core.model.record import Record


class TaskGroupSummary(Record):
    queued: int = 0
    complete: int = 0
    failed: int = 0
    running: int = 0
    starting: int = 0
    lost: int = 0
    unknown: int = 0


class JobChildrenSummary(Record):
    pending: int = 0
    running: int = 0
    dead: int = 0


class JobSummary(Record):
    job_id: str
    namespace: str
    summary: dict[str, TaskGroupSummary]
    children: JobChildrenSummary | None = None
    create_index: int = 0
    modify_index: int = 0
