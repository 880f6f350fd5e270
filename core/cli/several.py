"""Lists that several datacenters answer together: whom to ask, and who did not answer."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from core.cli.client import ApiError, Reply
from core.cli.flags import option
from core.cli.output import NONE
from core.cli.session import Session

F = TypeVar("F", bound=Callable[..., Any])
Record = dict[str, Any]
ANY_REGION = "*"
MISSING = "x-serai-missing-datacenters"
NO_ANSWER = "did not answer"  # core.server.gathering


def several_flags(command: F) -> F:
    """Declare -datacenter and -stale: of whom, and what if some can't be asked."""
    add_stale = option(
        "-stale", is_flag=True, help="Also if datacenters do not answer: they are named"
    )
    return option("-datacenter", help="Only of this datacenter; with -region=* of any region")(
        add_stale(command)
    )


def read_list(
    session: Session, path: str, *, datacenter: str | None, stale: bool, **params: Any
) -> Reply:
    """GET a list; datacenters that are missing from it are named on stderr.

    Raises:
        ApiError: One did not answer, and `stale` is not set; the text names it.
    """
    reply = session.api.read(path, datacenter=datacenter, stale=stale or None, **params)
    if missing := reply.headers.get(MISSING):
        session.out.warn(f"the list is without: {missing.replace(',', ', ')}")
    return reply


def find_parts(session: Session, path: str, **params: Any) -> Any:
    """GET what all datacenters of one job tell together, None when it is not found.

    Those that do not answer are left out, and named on stderr: what the others run is shown.
    """
    try:
        return session.api.find(path, **params)
    except ApiError as error:
        if error.status < 500 or NO_ANSWER not in str(error):
            raise
    try:
        reply = session.api.read(path, stale=True, **params)
    except ApiError as error:
        if error.status == 404:
            return None
        raise
    if missing := reply.headers.get(MISSING):
        session.out.warn(f"{path.rpartition('/')[2]}: without {missing.replace(',', ', ')}")
    return reply.body


def places(
    session: Session, rows: Sequence[Record]
) -> tuple[list[str], Callable[[Record], list[str]]]:
    """Return the columns that say where each row is, and a row's cells in them.

    In one datacenter's list there are none; no region unless all are asked, or rows are of
    another: a job that was submitted here may have its home there.
    """
    regions = {row.get("Region") for row in rows}
    names = ["Region"] if session.region == ANY_REGION or len(regions) > 1 else []
    if any("Datacenter" in row for row in rows):
        names.append("Datacenter")
    if not any(name in row for row in rows for name in names):
        names = []
    return names, lambda row: [row.get(name) or NONE for name in names]


def newest_first(row: Record) -> tuple[int, int]:
    """Return the key that orders records by age; indices compare only within one log."""
    return -(row.get("CreateTime") or 0), -row.get("CreateIndex", 0)
