"""`serai job plan`: what a job file would change, and whether it would fit."""

from typing import Any

import click

from core.cli.client import segment
from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.job_diff import diff_lines
from core.cli.job_run import file_options
from core.cli.jobfile import apply_session, read_job, show_warnings
from core.cli.output import Output, layout, short
from core.cli.placement import group_failures, show_placements, verdict_rows, verdicts_of
from core.cli.regions import region_names
from core.cli.session import Session, api_command

NO_CHANGE = 0
CHANGES = 1
ERROR = 255
_VICTIMS_SHOWN = 10


@api_command(error_code=ERROR)
@click.argument("path", type=click.Path())
@file_options
@option("-diff/-no-diff", "wants_diff", default=True, help="Show the difference (default true)")
@option("-json-output", "is_json", is_flag=True, help="Write the API's answer, and no text")
@option(
    "-simulate", "is_simulated", is_flag=True, help="Also try it on a simulated copy of the cluster"
)
@option("-policy-override", is_flag=True, hidden=True)
@option("-verbose", is_flag=True, help="Whole ids, unchanged fields, all that is preempted")
def plan(
    session: Session,
    *,
    path: str,
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
    as_json: bool,
    is_strict: bool,
    wants_diff: bool,
    is_json: bool,
    is_simulated: bool,
    policy_override: bool,
    verbose: bool,
) -> int:
    """Show what running the job file PATH would change, without changing anything.

    With -simulate the nodes and jobs of all regions are read, copied into the simulator, and the
    job is submitted there: where it runs and how soon, and what it takes from other jobs. The
    token must be able to read nodes and the jobs of all namespaces.

    Exit code 0: nothing would change; 1: something would; 255: an error.
    """
    file = read_job(
        path, variables=variables, var_files=var_files, as_json=as_json, is_strict=is_strict
    )
    show_warnings(session.out, file.warnings)
    query = apply_session(session, file.job)
    out, request = session.out, {"Job": file.job, "Diff": wants_diff}
    route = f"/v1/job/{segment(file.job.get('ID') or '')}/plan"
    names = region_names(file.job)
    # Each region of a job plans its own copy; the index to hold on to is the first one's.
    answers = [
        session.api.put(route, request, **(query | ({"region": name} if name else {})))
        for name in names or [""]
    ]
    rehearsal = None
    if is_simulated:
        from core.cli.job_simulate import simulate

        if names:
            raise CliError("-simulate is for a job without a multiregion block")
        rehearsal = simulate(session, file.job, query.get("region", ""))
    if is_json:
        if rehearsal is not None:
            import msgspec

            answers[0]["SeraiSimulation"] = msgspec.to_builtins(rehearsal)
        out.json(dict(zip(names, answers, strict=True)) if names else answers[0])
        return max(map(exit_code, answers))
    for name, answer in zip(names or [""], answers, strict=True):
        if name:
            out.line(out.style(f'Region: "{name}"', "bold"))
        if wants_diff and answer.get("Diff"):
            for line in diff_lines(out, answer["Diff"], verbose=verbose):
                out.line(line)
            out.line()
        _show_dry_run(out, answer, verbose=verbose)
        if text := (answer.get("Warnings") or "").strip():
            show_warnings(out, [text])
    if rehearsal is not None:
        from core.cli.job_simulate import show

        show(out, rehearsal)
    where = [f"-region={names[0]}"] if names else []  # whose index it is
    _show_hint(out, answers[0].get("JobModifyIndex") or 0, where, path, variables, var_files)
    return max(map(exit_code, answers))


def exit_code(answer: dict[str, Any]) -> int:
    """Return 1 when the plan would place, stop or change anything, else 0."""
    updates = (answer.get("Annotations") or {}).get("DesiredTGUpdates") or {}
    is_changed = any(
        count for update in updates.values() for kind, count in update.items() if kind != "Ignore"
    )
    if is_changed or answer.get("FailedTGAllocs"):
        return CHANGES
    return CHANGES if (answer.get("Diff") or {}).get("Type", "None") != "None" else NO_CHANGE


def _show_dry_run(out: Output, answer: dict[str, Any], *, verbose: bool) -> None:
    out.line(out.style("Scheduler dry-run:", "bold"))
    failed = answer.get("FailedTGAllocs")
    if failed:
        out.line(out.style("- WARNING: Failed to place all allocations.", "yellow"))
        for line in group_failures(failed, indent="  "):
            out.line(out.style(line, "yellow"))
    else:
        out.line(out.style("- All tasks successfully allocated.", "green"))
    if verdicts := verdicts_of(answer):
        header, rows = verdict_rows(verdicts, verbose=verbose)
        out.line("- Datacenters:")
        for line in layout([header, *rows]):
            out.line(f"    {line}")
    if placed := answer.get("SeraiPlacements"):
        out.line("- Placements:")
        show_placements(out, placed, indent="    ")
    preempted = (answer.get("Annotations") or {}).get("PreemptedAllocs") or []
    if preempted:
        _show_preempted(out, preempted, verbose=verbose)
    launch = answer.get("NextPeriodicLaunch") or ""
    if launch and not launch.startswith("0001-"):
        out.line(f"- If submitted now, next periodic launch would be at {launch}.")
    out.line()


def _show_preempted(out: Output, preempted: list[dict[str, Any]], *, verbose: bool) -> None:
    noun = "allocation" if len(preempted) == 1 else "allocations"
    out.line(
        out.style(f"- {len(preempted)} {noun} of lower priority would be preempted:", "yellow")
    )
    shown = preempted if verbose else preempted[:_VICTIMS_SHOWN]
    rows = [
        [short(one["ID"], verbose=verbose), one["JobID"], one["TaskGroup"], one.get("NodeName", "")]
        for one in shown
    ]
    for line in layout([["Alloc ID", "Job ID", "Task Group", "Node"], *rows]):
        out.line(f"    {line}")
    if len(preempted) > len(shown):
        out.line(f"    and {len(preempted) - len(shown)} more: see them with -verbose")


def _show_hint(
    out: Output,
    index: int,
    where: list[str],
    path: str,
    variables: tuple[str, ...],
    var_files: tuple[str, ...],
) -> None:
    import shlex

    words = ["serai", "job", "run", *where, "-check-index", str(index)]
    words += [f"-var={item}" for item in variables] + [f"-var-file={file}" for file in var_files]
    out.line(out.style(f"Job Modify Index: {index}", "bold"))
    out.line("To run the job only if nobody changed it in between:")
    out.line()
    out.line(shlex.join([*words, path]))
