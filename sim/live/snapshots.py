"""An inventory out of operator snapshots, one of each datacenter.

The datacenters of the scenario begin from these very states, without their secrets
(sim.starting); or, `is_anew`, it is an equivalent one: the same nodes, and the same jobs
submitted anew. A job whose instances several datacenters share is submitted once, at its
home; of one whose home's snapshot is missing, as many instances as are shared here.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from core.model.allocation import ClientStatus
from core.model.job import Job
from core.server.views import node_view
from core.state.jobs import JobRecord
from core.state.snapshot import SnapshotError
from core.state.state import State
from sim.live.inventory import (
    Inventory,
    LiveError,
    LiveJob,
    fit_name,
    is_usable,
    live_node,
)
from sim.live.jobs import essence, is_submitted, references
from sim.live.stripping import strip

_CHUNK_BYTES: Final = 1 << 20


def read_snapshots(paths: Sequence[str], *, is_anew: bool = False) -> Inventory:
    """Return what the snapshots of a federation's datacenters hold together.

    Args:
        paths: Of one file of each datacenter.
        is_anew: Leave the states out: the scenario submits the jobs anew.

    Raises:
        LiveError: A file is no snapshot, is damaged, or is of a datacenter that another is of.
        OSError: A file can't be read.
    """
    inventory = Inventory(origin=", ".join(paths))
    states: dict[str, tuple[str, State]] = {}
    for path in paths:
        state = _restore(path)
        if state.datacenter_id in states:
            other = states[state.datacenter_id][0]
            where = f"{state.region}/{state.datacenter}"
            raise LiveError(f"{path} and {other} are both of {where}: one of each datacenter")
        states[state.datacenter_id] = (path, state)
    regions = {state.region for _, state in states.values()}
    shares: dict[str, LiveJob] = {}
    # Homes first: a share that another datacenter holds is a part of what is added there.
    for is_home in (True, False):
        for _, state in states.values():
            _add_jobs(state, inventory, regions, shares, is_home=is_home)
    asked = references(one.job for one in inventory.jobs)
    for _, state in states.values():
        place = (fit_name(state.region), fit_name(state.datacenter))
        nodes = inventory.datacenters.setdefault(place, [])
        views = [node_view(node) for node in state.nodes]
        usable = [view for view in views if is_usable(view)]
        nodes += [live_node(view, asked) for view in usable]
        if unused := len(views) - len(usable):
            text = "nodes that are down, draining or not eligible"
            text += " are left out" if is_anew else " stay so"
            inventory.note(f"{'/'.join(place)}: {text}: {unused:,}")
    if not is_anew:
        _add_images(states.values(), inventory)
    return inventory


def _add_images(states: Iterable[tuple[str, State]], inventory: Inventory) -> None:
    """Add the states themselves; they are of no use for anything else from then on."""
    for path, state in states:
        place = (state.region, state.datacenter)
        if place != (fit_name(state.region), fit_name(state.datacenter)):
            raise LiveError(
                f"{path}: a scenario can't call a datacenter {'/'.join(place)!r}, and one that"
                " begins from a snapshot keeps its names: -anew submits its jobs anew"
            )
        strip(state, "", inventory.note)
        inventory.images[place] = b"".join(state.image().chunks())


def _restore(path: str) -> State:
    try:
        with open(path, "rb") as file:
            return State.restore(iter(lambda: file.read(_CHUNK_BYTES), b""))
    except SnapshotError as error:
        raise LiveError(f"{path}: {error}") from None


def _add_jobs(
    state: State,
    inventory: Inventory,
    regions: set[str],
    shares: dict[str, LiveJob],
    *,
    is_home: bool,
) -> None:
    """Add the jobs whose home is here, or is not; `shares` finds them by uid."""
    running = _running_by_group(state)
    for record in state.jobs:
        job = record.job
        if bool(record.home) is is_home or record.is_stopped or record.status == "dead":
            continue
        if not is_submitted(
            record.id,
            is_parameterized=job.parameterized_job is not None,
            has_parent=bool(job.parent_id),
            note=inventory.note,
        ):  # fmt: skip
            continue
        here = int(running[record.group_rows].sum()) if record.group_rows else 0
        known = shares.get(record.uid)
        if known is not None:
            known.running += here
            continue
        if record.home:
            job = _shared(record)
            text = f"the snapshot of its home is missing: as much of it as {state.datacenter} runs"
            inventory.note(f"job {record.id}: {text}")
        # A job that lives in another region than it was submitted to is submitted there again.
        region = fit_name(job.region if job.region in regions else state.region)
        kept = essence(job, region, {}, inventory.note)
        live = LiveJob(name=record.id, region=region, job=kept, running=here)
        inventory.add(live, f"{region}, namespace {record.namespace}")
        shares[record.uid] = live


def _shared(record: JobRecord) -> Job:
    """Return a job with as many instances as its share has."""
    share = record.share()
    counts = {name: sum(high - low for low, high in parts) for name, parts in share.items()}
    groups = [
        msgspec.structs.replace(group, count=counts.get(group.name, 0))
        for group in record.job.task_groups or []
    ]
    return msgspec.structs.replace(record.job, task_groups=groups)


def _running_by_group(state: State) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return how many allocations run, by row of the groups."""
    rows = state.allocs.rows()
    columns = state.allocs.columns
    rows = rows[columns.client[rows] == ClientStatus.RUNNING]
    return np.bincount(columns.group_row[rows], minlength=state.jobs.columns.length)
