"""The live view of a deployment on a terminal (rich)."""

import time
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from core.cli.client import Api
from core.cli.output import Output, short
from core.cli.views import BRIEF_ALLOC_HEADER, alloc_row, deployed_rows

_WAIT = "1s"
_ENDED = {"successful", "failed", "cancelled", "blocked"}
_STYLES = {
    "running": "green", "successful": "green", "complete": "green", "pending": "yellow",
    "failed": "red", "lost": "red", "blocked": "yellow", "paused": "yellow",
}  # fmt: skip
_SHOWN_ALLOCS = 15  # a view that scrolls is no view


def watch_deployment(
    api: Api, out: Output, deployment_id: str, query: dict[str, str], *, verbose: bool
) -> dict[str, Any]:
    """Show a deployment in place until it ends, and return it as it was last seen."""
    from core.cli.monitor import hint_of

    console = Console(file=out.stream, no_color=not out.has_colour, highlight=False)
    spinner = Spinner("dots")
    index = 0
    with Live(console=console, refresh_per_second=8, transient=False) as live:
        while True:
            reply = api.read(f"/v1/deployment/{deployment_id}", index=index or None, wait=_WAIT)
            deployment: dict[str, Any] = reply.body
            allocs = api.get(f"/v1/deployment/allocations/{deployment_id}", **query) or []
            # Who finds it paused waits for nothing that comes by itself.
            is_paused = deployment["Status"] == "paused" and not index
            has_ended = deployment["Status"] in _ENDED or is_paused
            hint = hint_of(deployment, short(deployment_id))
            live.update(
                _view(deployment, allocs, None if has_ended else spinner, hint, verbose=verbose)
            )
            if has_ended:
                return deployment
            if not reply.index:
                time.sleep(0.5)
            index = reply.index


def _view(
    deployment: dict[str, Any],
    allocs: list[dict[str, Any]],
    spinner: Spinner | None,
    hint: str,
    *,
    verbose: bool,
) -> RenderableType:
    status = deployment["Status"]
    head = Text.assemble(
        f"Deployment {short(deployment['ID'], verbose=verbose)} is ",
        (status, _STYLES.get(status, "")),
        f": {deployment.get('StatusDescription', '')}",
    )
    if spinner is not None:
        spinner.update(text=head)
    parts: list[RenderableType] = [spinner or head, Text(), _table(*deployed_rows(deployment))]
    newest = sorted(allocs, key=lambda a: (-a.get("CreateIndex", 0), a["Name"]))
    rows = [alloc_row(alloc, verbose=False) for alloc in newest[:_SHOWN_ALLOCS]]
    if rows:
        parts += [Text(), _table(list(BRIEF_ALLOC_HEADER), rows)]
    if len(newest) > _SHOWN_ALLOCS:
        parts.append(Text(f"... and {len(newest) - _SHOWN_ALLOCS} more"))
    if hint:
        parts += [Text(), Text(hint, "yellow")]
    return Group(*parts)


def _table(header: list[str], rows: list[list[Any]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in header:
        table.add_column(name)
    for row in rows:
        cells = [str(cell).lower() if isinstance(cell, bool) else str(cell) for cell in row]
        table.add_row(*[Text(cell, _STYLES.get(cell, "")) for cell in cells])
    return table
