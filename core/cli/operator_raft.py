"""`serai operator raft ...` and `serai operator autopilot ...`: a datacenter's quorum."""

from typing import Any

from core.cli.client import ApiError
from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.session import Session, api_command

Record = dict[str, Any]


@api_command()
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-stale", is_flag=True, help="Ask any server, not the leader alone")
@option("-t", "template", metavar="template", help="Write through a Go template")
def list_peers(session: Session, *, as_json: bool, stale: bool, template: str | None) -> int:
    """List the Raft peers of the agent's datacenter."""
    answer = session.api.get("/v1/operator/raft/configuration", stale=stale)
    if session.out.render(answer, as_json=as_json, template=template):
        return 0
    rows = [
        [
            one.get("Node", ""),
            one["ID"],
            one["Address"],
            "leader" if one.get("Leader") else "follower",
            bool(one.get("Voter")),
            one.get("RaftProtocol", ""),
        ]
        for one in answer.get("Servers") or []
    ]
    session.out.table(("Node", "ID", "Address", "State", "Voter", "RaftProtocol"), rows)
    return 0


@api_command()
@option("-peer-address", metavar="address", help="RPC address of the server")
@option("-peer-id", metavar="id", help="Its id in list-peers")
def remove_peer(session: Session, *, peer_address: str | None, peer_id: str | None) -> int:
    """Remove a server from the quorum for good.

    It is not taken in again under its id: to come back it needs an empty data folder.
    A removal that would lose the quorum is refused.
    """
    _one_of(peer_address, peer_id)
    session.api.delete("/v1/operator/raft/peer", address=peer_address, id=peer_id)
    session.out.line(f"Removed peer {peer_id or peer_address}")
    return 0


@api_command()
@option("-peer-address", metavar="address", help="RPC address of the new leader")
@option("-peer-id", metavar="id", help="Its id in list-peers")
def transfer_leadership(session: Session, *, peer_address: str | None, peer_id: str | None) -> int:
    """Hand the leadership of the datacenter to another server, the best one if none is named."""
    if peer_address and peer_id:
        raise CliError("-peer-address and -peer-id exclude each other")
    answer = session.api.put(
        "/v1/operator/raft/transfer-leadership", address=peer_address, id=peer_id
    )
    heir = (answer or {}).get("To") or {}
    session.out.line(f"Leadership is handed over to {heir.get('Address')} ({heir.get('ID')})")
    return 0


def _one_of(address: str | None, server_id: str | None) -> None:
    if bool(address) == bool(server_id):
        raise CliError("name the server by one of -peer-id and -peer-address")


@api_command()
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
def verify(session: Session, *, as_json: bool, template: str | None) -> int:
    """Compare the state of all servers of the datacenter at one index.

    Exits 1 when two differ, naming the tables and groups of records; 2 when a server could
    not be asked.
    """
    answer = session.api.put("/v1/operator/raft/verify")
    servers = answer["Servers"]
    is_different = len({one["Hash"] for one in servers if one["Hash"]}) > 1
    is_missing = any(one["Error"] for one in servers)
    code = 1 if is_different else 2 if is_missing else 0
    out = session.out
    if out.render(answer, as_json=as_json, template=template):
        return code
    rows = [
        [one["Node"], one["ID"], one["Address"], one["Hash"] or one["Error"]] for one in servers
    ]
    out.table(("Node", "ID", "Address", "State Hash"), rows)
    for one in answer["Differences"] or []:
        said = ", ".join(f"{name} {found or '(absent)'}" for name, found in one["Servers"].items())
        out.line(f"different: table {one['Table']}, {one['Group']}: {said}")
    if is_different:
        out.error(f"the states differ at index {answer['Index']}")
    elif is_missing:
        out.error("not every server could be compared")
    else:
        out.line(f"All {len(servers)} servers hold the same state at index {answer['Index']}")
    return code


# --- autopilot ----------------------------------------------------------------------

_CONFIGURATION = "/v1/operator/autopilot/configuration"
_SHOWN = (
    "CleanupDeadServers", "LastContactThreshold", "MaxTrailingLogs", "MinQuorum",
    "ServerStabilizationTime",
)  # fmt: skip


@api_command()
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
def get_config(session: Session, *, as_json: bool, template: str | None) -> int:
    """Show how the leader keeps the quorum."""
    config = session.api.get(_CONFIGURATION)
    if not session.out.render(config, as_json=as_json, template=template):
        session.out.pairs([(name, config[name]) for name in _SHOWN])
    return 0


@api_command()
@option("-cleanup-dead-servers", type=bool, metavar="bool", help="Remove servers that are dead")
@option("-last-contact-threshold", metavar="duration", help="Not heard for longer: unhealthy")
@option("-max-trailing-logs", type=int, help="Entries behind the leader: unhealthy")
@option("-min-quorum", type=int, help="Clean-up leaves at least so many voters")
@option("-server-stabilization-time", metavar="duration", help="Healthy so long before it votes")
def set_config(
    session: Session,
    *,
    cleanup_dead_servers: bool | None,
    last_contact_threshold: str | None,
    max_trailing_logs: int | None,
    min_quorum: int | None,
    server_stabilization_time: str | None,
) -> int:
    """Change how the leader keeps the quorum; what is not named stays."""
    config = session.api.get(_CONFIGURATION)
    index = config.pop("ModifyIndex", 0)
    given = {
        "CleanupDeadServers": cleanup_dead_servers,
        "LastContactThreshold": last_contact_threshold,
        "MaxTrailingLogs": max_trailing_logs,
        "MinQuorum": min_quorum,
        "ServerStabilizationTime": server_stabilization_time,
    }
    config.update({name: value for name, value in given.items() if value is not None})
    # As text: a parameter of 0 would be left out.
    if not session.api.put(_CONFIGURATION, config, cas=str(index)):
        raise CliError("the configuration changed in between; nothing was done")
    session.out.line("Configuration updated!")
    return 0


@api_command()
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
def health(session: Session, *, as_json: bool, template: str | None) -> int:
    """Show which servers of the datacenter are healthy. Exits 2 when one is not."""
    found = _health(session)
    code = 0 if found["Healthy"] else 2
    out = session.out
    if out.render(found, as_json=as_json, template=template):
        return code
    out.pairs(
        [
            ("Healthy", found["Healthy"]),
            ("FailureTolerance", found["FailureTolerance"]),
            ("Leader", found["Leader"]),
            ("Voters", ",".join(found["Voters"])),
        ]
    )
    out.line()
    header = (
        "Name", "ID", "Address", "SerfStatus", "Version", "Leader", "Voter", "Healthy",
        "LastContact", "LastIndex", "StableSince",
    )  # fmt: skip
    rows = [[one[name] for name in header] for one in found["Servers"] or []]
    out.table(header, rows)
    return code


def _health(session: Session) -> Record:
    """Return the health; that one is not healthy comes as an error with a body."""
    import json

    try:
        return dict(session.api.get("/v1/operator/autopilot/health"))
    except ApiError as error:
        if error.status == 429 and error.body.startswith("{"):
            return dict(json.loads(error.body))
        raise
