"""Agent.*, Status.*, Region.*: what a server says of itself and of those it knows."""

from collections.abc import Sequence
from typing import Any

from core.model.host import with_port
from core.model.query import Answer
from core.server.request import Deferred, Endpoint, Kind, QueryError, Request, Respond
from gossip.addresses import parse_address
from gossip.key_messages import KeyOperation, KeyQuestion, MemberKeys
from gossip.keyring import decode_key, encode_key
from gossip.machine import GossipMachine
from gossip.views import MemberView, Status

# Nomad's words for a member's state.
_STATUS = {
    Status.ALIVE: "alive",
    Status.SUSPECT: "alive",
    Status.DEAD: "failed",
    Status.LEFT: "left",
}
_JOIN_TIMEOUT_US = 10_000_000


def status_leader(request: Request) -> Answer:
    return Answer(body=request.server.consensus.leader_address())


def status_peers(request: Request) -> Answer:
    consensus = request.server.consensus
    return Answer(body=sorted(filter(None, map(consensus.address_of, consensus.voters()))))


def region_list(request: Request) -> Answer:
    return Answer(body=request.server.membership.regions())


def agent_self(request: Request) -> Answer:
    server = request.server
    config, consensus = server.config, server.consensus
    own = server.membership.wan.member(server.membership.wan_name)
    shown: dict[str, Any] = {
        "Name": config.name,
        "NodeName": config.name,
        "Region": config.region,
        "Datacenter": config.datacenter,
        "SeraiDatacenterID": server.datacenter_id,
        "DevMode": config.is_dev,
        "Version": {"Version": config.version, "Revision": "", "VersionPrerelease": ""},
        "ACL": {"Enabled": config.acl_enabled},
        "Server": {"Enabled": True, "BootstrapExpect": config.bootstrap_expect},
        "Client": {"Enabled": config.is_client},
        "UI": {"Enabled": False},
        "AdvertiseAddrs": {
            "HTTP": config.http_addr,
            "RPC": config.rpc_addr,
            "Serf": config.gossip_addr,
        },
    }
    shown.update(config.shown)
    stats = {
        "nomad": {
            "server": "true",
            "leader": str(consensus.is_leader).lower(),
            "leader_addr": consensus.leader_address(),
            "bootstrap": str(config.bootstrap_expect == 1).lower(),
            "known_regions": str(len(server.membership.regions())),
        },
        "raft": {
            "state": consensus.raft.role.value.capitalize(),
            "term": str(consensus.term),
            "commit_index": str(consensus.raft.commit_index),
            "applied_index": str(consensus.applied_index),
            "last_log_index": str(consensus.raft.last_index),
            "num_peers": str(max(0, len(consensus.voters()) - 1)),
        },
    }
    member = _member(own) if own is not None else None
    return Answer(body={"config": shown, "member": member, "stats": stats})


def agent_members(request: Request) -> Answer:
    return Answer(body=_members(request, request.server.membership.wan))


def agent_nodes(request: Request) -> Answer:
    return Answer(body=_members(request, request.server.membership.lan))


def _members(request: Request, pool: GossipMachine) -> dict[str, Any]:
    config = request.server.config
    members = sorted(pool.members(), key=lambda member: member.name)
    return {
        "ServerName": config.name,
        "ServerRegion": config.region,
        "ServerDC": config.datacenter,
        "Members": [_member(member) for member in members],
    }


def _member(member: MemberView) -> dict[str, Any]:
    """Return Nomad's AgentMember; its tools look for role "nomad", `port` and `build`."""
    host, _, port = member.address.rpartition(":")
    tags = dict(member.meta)
    if tags.get("role") == "server":
        tags["role"] = "nomad"
    rpc_host, _, rpc_port = tags.get("rpc", "").rpartition(":")
    if rpc_port:
        tags["port"], tags["rpc_addr"] = rpc_port, rpc_host
    return {
        "Name": member.name,
        "Addr": host,
        "Port": int(port) if port.isdigit() else 0,
        "Tags": tags,
        "Status": _STATUS[member.status],
        "ProtocolMin": 1,
        "ProtocolMax": 1,
        "ProtocolCur": 1,
        "DelegateMin": 1,
        "DelegateMax": 1,
        "DelegateCur": 1,
    }


def agent_join(request: Request) -> Deferred:
    given = request.query.params.get("address")
    addresses = [given] if isinstance(given, str) else given
    if not isinstance(addresses, list) or not all(isinstance(a, str) and a for a in addresses):
        raise QueryError(400, "missing address to join")
    # without a port it is that of our own gossip
    port = int(request.server.config.wan_addr.rpartition(":")[2])
    completed = [with_port(address, port) for address in addresses]
    try:
        for address in completed:
            parse_address(address)
    except ValueError as error:
        raise QueryError(400, f"address to join: {error}") from None

    def start(respond: Respond) -> None:
        def done(joined: int, refusals: list[str]) -> None:
            error = "; ".join(dict.fromkeys(refusals))
            if not joined and not error:
                error = f"no answer from {', '.join(completed)}; our agent's log says why"
            respond(Answer(body={"num_joined": joined, "error": error}, index=1))

        request.server.membership.join(completed, _JOIN_TIMEOUT_US, done)

    return Deferred(start)


def agent_force_leave(request: Request) -> Answer:
    membership = request.server.membership
    error = membership.force_leave(request.required("node"), is_pruned=request.flag("prune"))
    # not a failure to callers of the API, who may say it twice
    return Answer(body={"error": error} if error else {})


def keyring_list(request: Request) -> Deferred:
    return _ask_keys(request, KeyQuestion(KeyOperation.LIST))


def keyring_install(request: Request) -> Deferred:
    return _ask_keys(request, KeyQuestion(KeyOperation.INSTALL, _key(request)))


def keyring_use(request: Request) -> Deferred:
    return _ask_keys(request, KeyQuestion(KeyOperation.USE, _key(request)))


def keyring_remove(request: Request) -> Deferred:
    return _ask_keys(request, KeyQuestion(KeyOperation.REMOVE, _key(request)))


def _key(request: Request) -> bytes:
    text = request.field("Key", str, "") or request.text("key")
    try:
        return decode_key(text)
    except ValueError as error:
        raise QueryError(400, f"{error}: serai operator gossip keyring generate") from None


def _ask_keys(request: Request, question: KeyQuestion) -> Deferred:
    def start(respond: Respond) -> None:
        def done(answers: Sequence[MemberKeys], refusal: str) -> None:
            if refusal:
                respond(QueryError(400, refusal).answer())
            elif answers and all(one.error and not one.keys for one in answers):
                respond(QueryError(500, answers[0].error).answer())
            else:
                respond(Answer(body=_keyring(answers), index=1))

        request.server.keyring.ask(question, done)

    return Deferred(start)


def _keyring(answers: Sequence[MemberKeys]) -> dict[str, Any]:
    """Return Nomad's KeyringResponse, and what each member has."""
    keys: dict[str, int] = {}
    primary: dict[str, int] = {}
    for one in answers:
        for key in map(encode_key, one.keys):
            keys[key] = keys.get(key, 0) + 1
        for key in map(encode_key, one.keys[:1]):
            primary[key] = primary.get(key, 0) + 1
    failed = {one.name: one.error for one in answers if one.error}
    return {
        "Messages": failed,
        "Keys": keys,
        "PrimaryKeys": primary,
        "NumNodes": len(answers),
        "NumResp": len(answers) - len(failed),
        "NumErr": len(failed),
        "Members": [
            {"Name": one.name, "Keys": [encode_key(key) for key in one.keys], "Error": one.error}
            for one in sorted(answers, key=lambda one: one.name)
        ],
    }


def agent_health(request: Request) -> Answer:
    server = request.server
    asked = request.text("type")
    body: dict[str, Any] = {}
    has_leader = bool(server.consensus.leader_address())
    if asked in ("", "server"):
        message = "ok" if has_leader else "No cluster leader"
        body["server"] = {"ok": has_leader, "message": message}
    if asked in ("", "client") and server.config.is_client:
        body["client"] = {"ok": True, "message": "ok"}
    is_ok = all(part["ok"] for part in body.values())
    return Answer(status=200 if is_ok else 500, body=body)


def agent_servers(request: Request) -> Answer:
    servers = request.server.membership.own_servers()
    return Answer(body=[site.rpc for site in servers if site.is_alive])


ENDPOINTS = {
    "Status.Leader": Endpoint(Kind.AGENT, status_leader, is_public=True),
    "Status.Peers": Endpoint(Kind.AGENT, status_peers, is_public=True),
    "Region.List": Endpoint(Kind.AGENT, region_list, is_public=True),
    "Agent.Self": Endpoint(Kind.AGENT, agent_self),
    "Agent.Members": Endpoint(Kind.AGENT, agent_members),
    "Agent.Nodes": Endpoint(Kind.AGENT, agent_nodes),
    "Agent.Join": Endpoint(Kind.AGENT, agent_join),
    "Agent.ForceLeave": Endpoint(Kind.AGENT, agent_force_leave),
    "Agent.Keyring.List": Endpoint(Kind.AGENT, keyring_list),
    "Agent.Keyring.Install": Endpoint(Kind.AGENT, keyring_install),
    "Agent.Keyring.Use": Endpoint(Kind.AGENT, keyring_use),
    "Agent.Keyring.Remove": Endpoint(Kind.AGENT, keyring_remove),
    "Agent.Health": Endpoint(Kind.AGENT, agent_health, is_public=True),
    "Agent.Servers": Endpoint(Kind.AGENT, agent_servers),
}
