"""A job over several regions, as status commands show it: one row a region."""

from typing import Any

from core.cli.client import Api, ApiError, segment
from core.cli.output import NONE, Output, short

Record = dict[str, Any]


def region_names(job: Record) -> list[str]:
    """Return the regions of a job's `multiregion` block in order, [] when it has none."""
    block = job.get("Multiregion") or {}
    return [one["Name"] for one in block.get("Regions") or [] if one.get("Name")]


def job_of_deployment(api: Api, deployment: Record) -> Record:
    """Return the job of a deployment of several regions, from any region that has it."""
    path, namespace = f"/v1/job/{segment(deployment['JobID'])}", deployment.get("Namespace", "")
    for region in [None, *(api.get("/v1/regions") or [])]:
        try:
            found = api.find(path, namespace=namespace, region=region)
        except ApiError:
            continue
        if found and region_names(found):
            assert isinstance(found, dict)
            return found
    return {}


def regions_table(api: Api, out: Output, job: Record, *, verbose: bool) -> None:
    """Write how far each region's part of the newest rollout is; nothing for one region's job.

    A region that can't be asked is there as well, with "(error)". What somebody, or
    `auto_revert`, rolled out in one region alone is not shown.
    """
    names = region_names(job)
    if not names:
        return
    path = f"/v1/job/{segment(job['ID'])}/deployments"
    rows, is_deployed = [], False
    for name in names:
        try:
            listed = api.find(path, region=name, namespace=job.get("Namespace")) or []
        except ApiError:
            rows.append([f"{name} (error)", NONE, NONE])
            continue
        found = next((one for one in listed if one.get("IsMultiregion")), None)
        is_deployed |= found is not None
        known = (short(found["ID"], verbose=verbose), found["Status"]) if found else (NONE, NONE)
        rows.append([name, *known])
    if is_deployed:
        out.heading("Multiregion Deployment")
        out.table(("Region", "ID", "Status"), rows)
