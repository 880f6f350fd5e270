"""Why a group could not be placed, in Nomad's words: its `AllocMetric` as lines."""

from collections.abc import Iterable
from typing import Any

from core.cli.output import Output, layout

Metric = dict[str, Any]


def failure_lines(metric: Metric, *, indent: str = "") -> list[str]:
    """Return one line per reason, each beginning with `indent` and "* "."""
    lines = []
    if not metric.get("NodesEvaluated"):
        lines.append("No nodes were eligible for evaluation")
    for datacenter, count in sorted((metric.get("NodesAvailable") or {}).items()):
        if not count:
            lines.append(f'No nodes are available in datacenter "{datacenter}"')
    for name, count in sorted((metric.get("ClassFiltered") or {}).items()):
        lines.append(f'Class "{name}": {count} nodes excluded by filter')
    for text, count in sorted((metric.get("ConstraintFiltered") or {}).items()):
        lines.append(f'Constraint "{text}": {count} nodes excluded by filter')
    if exhausted := metric.get("NodesExhausted"):
        lines.append(f"Resources exhausted on {exhausted} nodes")
    for name, count in sorted((metric.get("ClassExhausted") or {}).items()):
        lines.append(f'Class "{name}" exhausted on {count} nodes')
    for dimension, count in sorted((metric.get("DimensionExhausted") or {}).items()):
        lines.append(f'Dimension "{dimension}" exhausted on {count} nodes')
    for dimension in metric.get("QuotaExhausted") or []:
        lines.append(f'Quota limit hit "{dimension}"')
    return [f"{indent}* {line}" for line in lines]


def group_failures(failed: dict[str, Metric] | None, *, indent: str = "") -> Iterable[str]:
    """Yield a heading and the reasons for each task group that failed to be placed."""
    for group, metric in sorted((failed or {}).items()):
        total = (metric.get("CoalescedFailures") or 0) + 1
        noun = "allocation" if total == 1 else "allocations"
        yield f'{indent}Task Group "{group}" (failed to place {total} {noun}):'
        yield from failure_lines(metric, indent=f"{indent}  ")


def looked_at(metric: Metric) -> str:
    """Return how many nodes a placement looked at, and what became of them, in one line."""
    evaluated = metric.get("NodesEvaluated") or 0
    pool, size = metric.get("NodePool") or "default", metric.get("NodesInPool") or 0
    return (
        f'Nodes evaluated: {evaluated} of {size} in pool "{pool}"'
        f" (filtered: {metric.get('NodesFiltered') or 0},"
        f" exhausted: {metric.get('NodesExhausted') or 0})"
    )


def show_placements(out: Output, placed: dict[str, Metric], *, indent: str = "") -> None:
    """Write for each group how its placements were chosen: nodes, filters, scores."""
    for group, metric in sorted(placed.items()):
        out.line(f'{indent}Task Group "{group}":')
        out.line(f"{indent}  {looked_at(metric)}")
        if metric.get("NodesEvaluated"):
            for line in failure_lines(metric, indent=f"{indent}  "):
                out.line(line)
        header, rows = score_rows(metric)
        for line in layout([header, *rows]) if rows else []:
            out.line(f"{indent}  {line}")


def score_rows(metric: Metric) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the nodes that were scored for a placement."""
    scored = metric.get("ScoreMetaData") or []
    names = sorted({name for one in scored for name in one.get("Scores") or {}})
    rows = []
    for one in scored:
        scores = one.get("Scores") or {}
        cells = [f"{scores.get(name, 0):.3g}" for name in names]
        rows.append([one["NodeID"][:8], *cells, f"{one.get('NormScore', 0):.3g}"])
    return ["Node", *names, "final score"], rows


def verdict_rows(
    verdicts: list[dict[str, Any]], *, verbose: bool = False
) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of what each datacenter says of a job (Serai's own).

    With `verbose` also how many instances of each group would fit there now.
    """
    rows = []
    for verdict in verdicts:
        age_ms = verdict.get("DigestAgeMS")
        score = verdict.get("Score")
        rows.append(
            [
                verdict.get("Region", ""),
                verdict.get("Datacenter", ""),
                verdict.get("Verdict", ""),
                "" if score is None else f"{score:.2f}",
                "own state" if age_ms is None else f"{age_ms / 1000:.1f}s",
                *([_takes(verdict)] if verbose else []),
                verdict.get("Reason", ""),
            ]
        )
    room = ["Room For"] if verbose else []
    return ["Region", "Datacenter", "Verdict", "Score", "Digest Age", *room, "Reason"], rows


def _takes(verdict: dict[str, Any]) -> str:
    said = []
    for group, room in sorted((verdict.get("Takes") or {}).items()):
        low, high = room.get("AtLeast", 0), room.get("AtMost", 0)
        said.append(f"{low} {group}" if low == high else f"{low} to {high} {group}")
    return ", ".join(said)


def verdicts_of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the verdicts in an answer of the API, [] when it carries none."""
    return answer.get("SeraiVerdicts") or answer.get("SeraiDatacenters") or []
