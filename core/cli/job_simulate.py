"""`serai job plan -simulate`: the job on a simulated copy of the cluster."""

import math
from typing import TYPE_CHECKING, Any

from core.cli.client import Api
from core.cli.errors import CliError
from core.cli.output import Output, layout
from core.cli.session import Session

if TYPE_CHECKING:
    from sim.rehearsal import Rehearsal

NODES_MAX = 5_000  # beyond that nobody waits for it: serai sim from-nomad, and serai sim run
_NOTES = 5


def simulate(session: Session, job: dict[str, Any], region: str) -> "Rehearsal":
    """Read the cluster, copy it, and submit the job there. Nothing of the cluster is changed.

    Args:
        session: Whose agent is asked.
        job: As the API takes it.
        region: Where it would be submitted, "" = the agent's own.

    Raises:
        CliError: The cluster can't be read, is too large, or can't be copied.
    """
    import msgspec

    from core.cli.sim_live import failures_told, getter
    from core.model.job import Job
    from sim.live import read_clusters
    from sim.rehearsal import rehearse

    api = Api(session.connection)
    try:
        with failures_told():
            inventory = read_clusters([(session.connection.address, getter(api))])
    finally:
        api.close()
    nodes = sum(len(found) for found in inventory.datacenters.values())
    if nodes > NODES_MAX:
        raise CliError(
            f"{nodes:,} nodes are too many to simulate while one waits: serai sim from-nomad writes"
            " a scenario of them"
        )
    if not nodes:
        raise CliError("the cluster has no node that takes work: there is nothing to simulate")
    from core.cli.sim import failures_told as scenario_failures_told

    with scenario_failures_told():
        return rehearse(inventory, msgspec.convert(job, Job), region)


def show(out: Output, found: "Rehearsal") -> None:
    size = f"{found.nodes:,} nodes and {found.jobs:,} jobs"
    out.line(out.style(f"Simulated on a copy of {size} ({found.sim_s:g} s):", "bold"))
    if found.refused:
        out.line(out.style(f"- WARNING: it was not taken: {found.refused}", "yellow"))
    else:
        _show_job(out, found)
    if found.others:
        out.line(out.style("- Other services run less than before:", "yellow"))
        rows = [[one.job, str(one.before), str(one.least), str(one.after)] for one in found.others]
        for line in layout([["Job ID", "Before", "Least", "After"], *rows]):
            out.line(f"    {line}")
    else:
        out.line("- Other services run as before.")
    for text in found.violations:
        out.line(out.style(f"- WARNING: {text}", "red"))
    if not found.violations:
        out.line(f"- Invariants: looked at {found.checked:,} times, none violated.")
    for text in found.notes[:_NOTES]:
        out.note(text)
    if len(found.notes) > _NOTES:
        out.note(f"and {len(found.notes) - _NOTES:,} more that the copy does without")
    out.line()


def _show_job(out: Output, found: "Rehearsal") -> None:
    where = ", ".join(f"{name} {count:,}" for name, count in sorted(found.by_region.items()))
    wanted = "" if found.wanted is None else f" of {found.wanted:,}"
    text = f"{found.running:,}{wanted} instances run" + (f" ({where})" if where else "")
    if found.wanted is None:
        out.line(f"- {text}.")
    elif found.whole_after_s is None:
        out.line(out.style(f"- WARNING: {text}, never all of them at once.", "yellow"))
    else:
        within_s = math.ceil(found.whole_after_s)  # looked at once a second
        out.line(out.style(f"- All ran within {within_s} s of its submission.", "green"))
        out.line(f"- At the end {text}.")
