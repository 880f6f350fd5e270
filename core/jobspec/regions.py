"""The `multiregion` block: what each region's copy of a job is.

    region = regional(job, "eu")

A copy is a job of that region alone, with the region's own datacenters, node pool and meta,
and its count for groups that say 0. It keeps the block, which says where the others are.
"""

from collections.abc import Iterable
from typing import Any, Final

import msgspec

from core.model.job import Job

GENERATION: Final = "SeraiGeneration"  # of the submission that a copy is of
COORDINATOR: Final = "SeraiCoordinator"  # datacenter id of whoever steers its rollout
CALL: Final = "SeraiCall"  # id of the call that submitted it
_MARKS: Final = (GENERATION, COORDINATOR, CALL)
_ON_FAILURE: Final = ("", "fail_all", "fail_local")


def region_blocks(job: Job) -> list[dict[str, Any]]:
    """Return the block's regions in order, [] for a job of one region."""
    return list((job.multiregion or {}).get("Regions") or [])


def region_names(job: Job) -> list[str]:
    """Return the names of the regions that a job runs in by its `multiregion` block, in order."""
    return [str(block.get("Name") or "") for block in region_blocks(job)]


def strategy(job: Job) -> tuple[int, str]:
    """Return (`max_parallel`, `on_failure`); 0 = all regions at once."""
    said = (job.multiregion or {}).get("Strategy") or {}
    return int(said.get("MaxParallel") or 0), str(said.get("OnFailure") or "")


def regional(job: Job, region: str) -> Job:
    """Return the copy of a canonical job for one of its regions.

    Raises:
        ValueError: The job does not list this region.
    """
    block = next((one for one in region_blocks(job) if one.get("Name") == region), None)
    if block is None:
        raise ValueError(f"region {region!r} is not one of the job's: {region_names(job)}")
    count = block.get("Count")
    groups = [
        group if group.count != 0 or count is None else msgspec.structs.replace(group, count=count)
        for group in job.task_groups or []
    ]
    return msgspec.structs.replace(
        job,
        region=region,
        datacenters=list(block.get("Datacenters") or []) or job.datacenters,
        node_pool=block.get("NodePool") or job.node_pool,
        meta={**(job.meta or {}), **(block.get("Meta") or {})},
        task_groups=groups,
        multiregion=_unmarked(job.multiregion or {}),
    )


def generation_of(job: Job) -> int:
    """Return the generation that a copy is of, 0 for what is no copy."""
    found = (job.multiregion or {}).get(GENERATION)
    return found if isinstance(found, int) else 0


def coordinator_of(job: Job) -> str:
    """Return the datacenter id of a copy's coordinator, "" for what is no copy."""
    return str((job.multiregion or {}).get(COORDINATOR) or "")


def call_of(job: Job) -> str:
    """Return the id of the call that submitted a copy, "" for what is no copy."""
    return str((job.multiregion or {}).get(CALL) or "")


def marked(job: Job, generation: int, coordinator: str, call_id: str) -> Job:
    """Return a copy with the submission that it is of."""
    marks = {GENERATION: generation, COORDINATOR: coordinator, CALL: call_id}
    return msgspec.structs.replace(job, multiregion={**(job.multiregion or {}), **marks})


def unmarked(job: Job) -> Job:
    """Return a job without the marks of a copy: as somebody may have written it."""
    if job.multiregion is None:
        return job
    return msgspec.structs.replace(job, multiregion=_unmarked(job.multiregion))


def _unmarked(block: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in block.items() if name not in _MARKS}


def check_multiregion(job: Job) -> Iterable[str]:
    """Yield what is wrong with a job's `multiregion` block; API JSON may hold anything in it."""
    block = job.multiregion
    if block is None:
        return
    regions, said = block.get("Regions"), block.get("Strategy")
    if not isinstance(regions, list) or not all(isinstance(one, dict) for one in regions):
        yield "multiregion: must name the regions that the job runs in, one block each"
        return
    names = [one.get("Name") for one in regions]
    if not names or not all(isinstance(name, str) and name not in ("", "*") for name in names):
        yield "multiregion: must name the regions that the job runs in, one block each"
        return
    for name in dict.fromkeys(name for name in names if names.count(name) > 1):
        yield f'multiregion: region "{name}" is named twice'
    for one in regions:
        head = f'multiregion: region "{one["Name"]}": '
        if not _is_count(one.get("Count")):
            yield f"{head}count must be a number and not negative"
        datacenters, meta = one.get("Datacenters") or [], one.get("Meta") or {}
        if not isinstance(datacenters, list) or not all(isinstance(d, str) for d in datacenters):
            yield f"{head}datacenters must be a list of names"
        if not isinstance(meta, dict) or not all(isinstance(v, str) for v in meta.values()):
            yield f"{head}meta must be a map of texts"
        if not isinstance(one.get("NodePool") or "", str):
            yield f"{head}node_pool must be a name"
    if not isinstance(said or {}, dict):
        yield "multiregion: strategy must be a block"
        return
    if not _is_count((said or {}).get("MaxParallel")):
        yield "multiregion: max_parallel must be a number and not negative; 0 = all at once"
    if ((said or {}).get("OnFailure") or "") not in _ON_FAILURE:
        yield 'multiregion: on_failure must be "", "fail_all" or "fail_local"'
    if job.federation is not None and job.federation.spillover is not None:
        yield "multiregion: each region has a copy of its own, so the job can't spill over as well"


def _is_count(value: Any) -> bool:
    return value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0)
