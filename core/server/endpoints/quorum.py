"""Operator.Raft*, Operator.Autopilot* and Operator.Snapshot*: the quorum and its state."""

from collections.abc import Callable
from typing import Any, Final

import msgspec

from core.jobspec.durations import duration_text, parse_duration_ns
from core.model.query import Answer
from core.model.timestamp import rfc3339
from core.server.autopilot import MAX_VOTERS, Standing
from core.server.config import AutopilotConfig
from core.server.endpoints.shared import checked
from core.server.proposal import Outcome
from core.server.request import Deferred, Endpoint, Kind, Proposal, QueryError, Request, Respond
from core.state.commands import RemoveServer, SetAutopilotConfig
from core.state.operating import AUTOPILOT
from core.state.result import Applied
from raft.core import ChangeKind

_WAIT_US: Final = 10_000_000
_POLL_US: Final = 50_000


def raft_configuration(request: Request) -> Answer:
    server = request.server
    consensus = server.consensus
    names = {site.id: site.name for site in server.membership.own_servers()}
    configuration = consensus.raft.configuration
    rows = [
        {
            "ID": replica_id,
            "Node": names.get(replica_id, "(unknown)"),
            "Address": consensus.address_of(replica_id),
            "Leader": replica_id == consensus.raft.leader_id,
            "Voter": replica_id in configuration.voters,
            "RaftProtocol": "3",
        }
        for replica_id in configuration.addresses
    ]
    index = max(1, consensus.raft.commit_index)
    return Answer(body={"Servers": rows, "Index": index}, index=index)


def transfer_leadership(request: Request) -> Deferred:
    """Hand over, and answer once the heir leads, or with the reason why it does not."""
    server = request.server
    consensus = server.consensus
    heir = ""
    if request.text("id") or request.query.params.get("address"):
        heir = _named_server(request)
        if heir not in consensus.voters():
            raise QueryError(500, f"server {heir} has no vote, so it can't lead")
        if heir == server.config.server_id:
            raise QueryError(400, f"server {heir} leads already")
    reason = consensus.transfer_leadership(heir)
    if reason:
        raise QueryError(500, f"leadership was not handed over: {reason}")
    heir = consensus.raft.transfer_to
    body = {
        "From": {"ID": server.config.server_id, "Address": server.config.rpc_addr},
        "To": {"ID": heir, "Address": consensus.address_of(heir)},
    }

    def is_done() -> bool:
        return not consensus.is_leader and bool(consensus.raft.leader_id)

    def ended() -> str:
        if is_done() or not consensus.is_leader or consensus.raft.transfer_to:
            return ""
        return f"leadership was not handed over: {heir} did not take it in time; all is as before"

    return Deferred(lambda respond: _when(request, is_done, ended, body, respond))


def remove_peer(request: Request) -> Deferred:
    """Take a server out of the quorum for good; answer once that is committed."""
    server = request.server
    server_id = _named_server(request)
    raft = server.consensus.raft
    if server_id in raft.configuration.voters:
        if refusal := server.autopilot.refuse_removal(server_id):
            raise QueryError(500, f"server {server_id} is not removed: {refusal}")

    def is_done() -> bool:
        is_committed = raft.configuration_index <= raft.commit_index
        return server_id not in raft.configuration.addresses and is_committed

    def start(respond: Respond) -> None:
        give_up_us = server.now.mono_us + _WAIT_US

        def change() -> None:
            reason = server.consensus.change_membership(ChangeKind.REMOVE, server_id)
            if not reason:
                server.outbox.log("info", "a server is removed by an operator", id=server_id)
                _when(request, is_done, lambda: "", None, respond)
            elif "try again" in reason and server.now.mono_us < give_up_us:
                server.outbox.after(_POLL_US, change)
            else:
                respond(Answer(status=500, error=f"server {server_id} is not removed: {reason}"))

        def noted(outcome: Outcome) -> None:
            if outcome.applied is None:
                respond(Answer(status=500, error=outcome.reason))
            else:
                change()

        server.consensus.propose([RemoveServer(server_id=server_id)], noted)

    return Deferred(start)


def _named_server(request: Request) -> str:
    """Return the id of the server of the configuration that `id` or `address` names.

    Raises:
        QueryError: Neither or both are given, or there is no such server.
    """
    wanted_id, address = request.text("id"), request.query.params.get("address", "")
    if isinstance(address, list):  # HTTP lets a join name several
        address = str(address[-1]) if address else ""
    if bool(wanted_id) == bool(address):
        raise QueryError(400, "name a server by one of id and address")
    consensus = request.server.consensus
    configuration = consensus.raft.configuration
    if wanted_id in configuration.addresses:
        return wanted_id
    for replica_id, known in configuration.addresses.items():
        if address and address in (known, consensus.address_of(replica_id)):
            return replica_id
    what = f"id {wanted_id!r}" if wanted_id else f"address {address!r}"
    raise QueryError(
        500, f"no server with {what} in the quorum: serai operator raft list-peers shows them"
    )


def _when(
    request: Request,
    is_done: Callable[[], bool],
    ended: Callable[[], str],
    body: Any,
    respond: Respond,
) -> None:
    """Answer with `body` once something is done; with why not when `ended` says so."""
    server = request.server
    give_up_us = server.now.mono_us + _WAIT_US

    def look() -> None:
        if is_done():
            respond(Answer(body=body, index=max(1, server.consensus.raft.commit_index)))
        elif reason := ended():
            respond(Answer(status=500, error=reason))
        elif server.now.mono_us >= give_up_us:
            respond(
                Answer(status=500, error="it was begun, but not confirmed within 10 s: look again")
            )
        else:
            server.outbox.after(_POLL_US, look)

    look()


def raft_verify(request: Request) -> Deferred:
    return Deferred(request.server.hashes.verify)


# --- autopilot ----------------------------------------------------------------------


def autopilot_get(request: Request) -> Answer:
    index = request.state.table_index(AUTOPILOT)
    config = request.server.autopilot.config()
    return Answer(body=_shown(config, index), index=max(1, index))


def _shown(config: AutopilotConfig, index: int) -> dict[str, Any]:
    """Return the configuration in Nomad's JSON."""
    return {
        "CleanupDeadServers": config.cleanup_dead_servers,
        "LastContactThreshold": duration_text(config.last_contact_threshold_us * 1000),
        "MaxTrailingLogs": config.max_trailing_logs,
        "MinQuorum": config.min_quorum,
        "ServerStabilizationTime": duration_text(config.server_stabilization_time_us * 1000),
        "EnableRedundancyZones": False,
        "DisableUpgradeMigration": False,
        "EnableCustomUpgrades": False,
        "CreateIndex": index,
        "ModifyIndex": index,
    }


def autopilot_set(request: Request) -> Proposal:
    """Replace the configuration; what the body leaves out gets its default."""
    body = request.body()
    default = AutopilotConfig()
    config = AutopilotConfig(
        cleanup_dead_servers=_boolean(body, "CleanupDeadServers", default.cleanup_dead_servers),
        last_contact_threshold_us=_duration_us(
            body, "LastContactThreshold", default.last_contact_threshold_us
        ),
        max_trailing_logs=_count(body, "MaxTrailingLogs", default.max_trailing_logs, 1, 1 << 32),
        min_quorum=_count(body, "MinQuorum", default.min_quorum, 0, MAX_VOTERS),
        server_stabilization_time_us=_duration_us(
            body, "ServerStabilizationTime", default.server_stabilization_time_us
        ),
    )
    for name in ("EnableRedundancyZones", "DisableUpgradeMigration", "EnableCustomUpgrades"):
        if body.get(name):
            raise QueryError(400, f"{name} is not carried out by Serai: leave it out")
    expected = request.number("cas") if request.text("cas") else None

    def answer(applied: Applied) -> Answer:
        done = bool(checked(applied).results[0].value)
        if expected is None:
            return Answer(body=None, index=applied.index)
        return Answer(body=done, index=applied.index)

    return Proposal(
        [SetAutopilotConfig(config=msgspec.to_builtins(config), check_index=expected)], answer
    )


def _boolean(body: dict[str, Any], name: str, default: bool) -> bool:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise QueryError(400, f"{name} is {value!r}: want true or false")
    return value


def _count(body: dict[str, Any], name: str, default: int, low: int, high: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise QueryError(400, f"{name} is {value!r}: want a number from {low} to {high}")
    return value


def _duration_us(body: dict[str, Any], name: str, default_us: int) -> int:
    value = body.get(name)
    if value is None:
        return default_us
    try:
        ns = parse_duration_ns(value) if isinstance(value, str) else int(value)
    except (TypeError, ValueError):
        raise QueryError(400, f'{name} is {value!r}: want a duration such as "200ms"') from None
    if not 0 < ns < 1 << 62:
        raise QueryError(400, f"{name} is {value!r}: want more than 0")
    return ns // 1000


def autopilot_health(request: Request) -> Answer:
    """Say which servers are healthy. Status 429 when one is not, as Nomad's."""
    server = request.server
    standings = server.autopilot.standings()
    voters = [one for one in standings if one.is_voter]
    healthy = sum(one.is_healthy for one in voters)
    is_healthy = all(one.is_healthy for one in standings)
    term = server.consensus.term
    body = {
        "Healthy": is_healthy,
        "FailureTolerance": max(0, healthy - (len(voters) // 2 + 1)),
        "Leader": server.config.server_id,
        "Voters": [one.id for one in voters],
        "Servers": [_health_row(one, term) for one in standings],
    }
    index = max(1, server.consensus.raft.commit_index)
    return Answer(status=200 if is_healthy else 429, body=body, index=index)


def _health_row(one: Standing, term: int) -> dict[str, Any]:
    site = one.site
    status = "none" if site is None else "alive" if site.is_alive else "failed"
    if site is not None and site.has_left:
        status = "left"
    return {
        "ID": one.id,
        "Name": site.name if site else "(unknown)",
        "Address": one.address,
        "SerfStatus": status,
        "Version": site.build if site else "",
        "Leader": one.is_leader,
        "LastContact": duration_text(one.last_contact_ms * 1_000_000),
        "LastTerm": term,
        "LastIndex": one.last_index,
        "Healthy": one.is_healthy,
        "Voter": one.is_voter,
        "StableSince": rfc3339(one.since_us),
    }


# --- snapshots ----------------------------------------------------------------------


def snapshot_open(request: Request) -> Answer:
    # "index" is the blocking query's; this one names a moment of the state.
    opened = request.server.exports.open(request.number("at_index"))
    return Answer(body=opened, index=opened["Index"])


def snapshot_chunk(request: Request) -> Deferred:
    return request.server.exports.chunk(request)


def snapshot_stage(request: Request) -> Proposal:
    return request.server.exports.stage(request)


def snapshot_restore(request: Request) -> Deferred:
    return request.server.exports.restore(request)


ENDPOINTS = {
    "Operator.RaftConfiguration": Endpoint(Kind.READ, raft_configuration),
    "Operator.TransferLeadership": Endpoint(Kind.WRITE, transfer_leadership),
    "Operator.RemovePeer": Endpoint(Kind.WRITE, remove_peer),
    "Operator.RaftVerify": Endpoint(Kind.WRITE, raft_verify),
    "Operator.AutopilotGet": Endpoint(Kind.READ, autopilot_get),
    "Operator.AutopilotSet": Endpoint(Kind.WRITE, autopilot_set),
    "Operator.AutopilotHealth": Endpoint(Kind.WRITE, autopilot_health),
    "Operator.SnapshotOpen": Endpoint(Kind.READ, snapshot_open),
    "Operator.SnapshotChunk": Endpoint(Kind.AGENT, snapshot_chunk),
    "Operator.SnapshotStage": Endpoint(Kind.WRITE, snapshot_stage),
    "Operator.SnapshotRestore": Endpoint(Kind.WRITE, snapshot_restore),
}
