"""From what people type to one record: exact ids, unique prefixes, else the candidates."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from core.cli.client import segment
from core.cli.errors import CliError
from core.cli.output import layout, short
from core.cli.session import Session

Record = dict[str, Any]
FULL_ID = 36  # characters of a UUID


class Kind(NamedTuple):
    """A table of records that UUIDs name."""

    name: str  # "allocation"
    collection: str  # list route, takes ?prefix=
    item: str  # route of one record
    header: Sequence[str]  # of the list of candidates
    row: Callable[[Record], Sequence[str]]


ALLOCATION = Kind(
    "allocation",
    "/v1/allocations",
    "/v1/allocation/",
    ("ID", "Job ID", "Task Group", "Desired", "Status"),
    lambda a: (a["ID"], a["JobID"], a["TaskGroup"], a["DesiredStatus"], a["ClientStatus"]),
)
NODE = Kind(
    "node",
    "/v1/nodes",
    "/v1/node/",
    ("ID", "DC", "Name", "Status"),
    lambda n: (n["ID"], n["Datacenter"], n["Name"], n["Status"]),
)
EVALUATION = Kind(
    "evaluation",
    "/v1/evaluations",
    "/v1/evaluation/",
    ("ID", "Job ID", "Triggered By", "Status"),
    lambda e: (e["ID"], e["JobID"], e["TriggeredBy"], e["Status"]),
)
DEPLOYMENT = Kind(
    "deployment",
    "/v1/deployments",
    "/v1/deployment/",
    ("ID", "Job ID", "Job Version", "Status"),
    lambda d: (d["ID"], d["JobID"], str(d["JobVersion"]), d["Status"]),
)


def resolve(session: Session, kind: Kind, typed: str) -> Record:
    """Return the record of `kind` that `typed`, an id or a unique prefix, names.

    Raises:
        CliError: None matches, or several; then the message lists them.
    """
    return fetch(session, kind, resolve_id(session, kind, typed))


def resolve_id(session: Session, kind: Kind, typed: str) -> str:
    """Return the full id that `typed` names; a full one is taken as it is."""
    if len(typed) == FULL_ID:
        return typed
    if len(typed) < 2:
        raise CliError(f"the id of {_an(kind.name)} needs at least two characters")
    # Prefix searches take whole bytes; the odd digit is compared here. Prefixes of all
    # namespaces are searched unless one was named.
    digits = len(typed.replace("-", ""))
    prefix = typed if digits % 2 == 0 else typed[:-1]
    namespace = session.namespace or ("*" if kind is not NODE else "")
    found = session.api.get(kind.collection, prefix=prefix, namespace=namespace) or []
    matches = [record for record in found if record["ID"].startswith(typed)]
    if not matches and not session.region:
        # Not of this region: a prefix is looked for in all that can be reached.
        found = session.api.get(
            kind.collection, prefix=prefix, namespace=namespace, region="*", stale="true"
        )
        matches = [record for record in found or [] if record["ID"].startswith(typed)]
    if not matches:
        raise CliError(f'no {kind.name} with the id or prefix "{typed}"')
    if len(matches) > 1:
        raise _ambiguous(kind.name, typed, kind.header, [kind.row(one) for one in matches])
    return str(matches[0]["ID"])


def fetch(session: Session, kind: Kind, full_id: str) -> Record:
    record = session.api.find(kind.item + segment(full_id))
    if record is None:
        raise CliError(f'no {kind.name} with the id or prefix "{full_id}"')
    assert isinstance(record, dict)
    return record


def find_by_prefix(session: Session, kind: Kind, typed: str) -> list[Record]:
    """Return the stubs of all records whose id begins with `typed`."""
    digits = len(typed.replace("-", ""))
    prefix = typed if digits % 2 == 0 else typed[:-1]
    found = session.api.get(kind.collection, prefix=prefix) or []
    return [record for record in found if record["ID"].startswith(typed)]


class JobRef(NamedTuple):
    """Which job: its id, its namespace ("" = the default one) and region ("" = as asked)."""

    id: str
    namespace: str
    region: str = ""

    @property
    def route(self) -> str:
        return f"/v1/job/{segment(self.id)}"

    @property
    def query(self) -> dict[str, str]:
        """The parameters that name namespace and region, for any call about this job."""
        named = {"namespace": self.namespace, "region": self.region}
        return {name: value for name, value in named.items() if value}


def resolve_job(session: Session, typed: str) -> JobRef:
    """Return the job that `typed`, an id or a unique prefix, names.

    Raises:
        CliError: None matches, or several; then the message lists them.
    """
    # The exact name first: it is found wherever the job's home is, a prefix is not. But of
    # all regions it may name several jobs.
    whole = JobRef(typed, session.namespace)
    in_any_region = session.region == "*"
    if not in_any_region and session.api.find(whole.route, **whole.query) is not None:
        return whole
    found = session.api.get("/v1/jobs", prefix=typed) or []
    exact = [job for job in found if job["ID"] == typed]
    matches = exact or found
    if not matches:
        raise CliError(f'no job with the id or prefix "{typed}"{_elsewhere(session, typed)}')
    if len(matches) > 1:
        header = ["ID", "Namespace", *(["Region"] * in_any_region), "Type", "Status"]
        rows = [[str(one.get(name, "")) for name in header] for one in matches]
        raise _ambiguous("job", typed, header, rows)
    one = matches[0]
    region = one.get("Region", "") if in_any_region else ""
    return JobRef(one["ID"], one.get("Namespace") or session.namespace, region)


def _elsewhere(session: Session, typed: str) -> str:
    """Return a hint at the regions that have jobs of this name, "" when none is known."""
    if session.region:
        return ""
    try:
        found = session.api.get("/v1/jobs", prefix=typed, region="*", stale="true") or []
    except CliError:
        return ""
    regions = sorted({str(job["Region"]) for job in found if job.get("Region")})
    return f" here; there is in: {', '.join(regions)} (-region)" if regions else ""


def self_node_id(session: Session) -> str:
    """Return the id of the node that the agent we speak to is a client of."""
    stats = (session.api.get("/v1/agent/self") or {}).get("stats") or {}
    node_id = (stats.get("client") or {}).get("node_id", "")
    if not node_id:
        raise CliError("the agent asked is no client; -self needs one")
    return str(node_id)


def _ambiguous(
    name: str, typed: str, header: Sequence[str], rows: Sequence[Sequence[str]]
) -> CliError:
    shown = [[short(row[0], verbose=True), *row[1:]] for row in rows]
    table = "\n".join(layout([list(header), *shown]))
    return CliError(f'"{typed}" is the beginning of several {name}s:\n\n{table}')


def _an(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
