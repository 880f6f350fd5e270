"""Which HTTP route becomes which `Query`: the table, and how a path is matched.

A pattern's `{name}` takes one segment, `{name...}` takes any rest, slashes included:
ids of dispatched and periodic jobs contain them. Patterns are tried in order, so a more
special one stands first.
"""

import re
from typing import Final, NamedTuple

READ: Final = frozenset({"GET", "HEAD"})
WRITE: Final = frozenset({"PUT", "POST"})
DELETE: Final = frozenset({"DELETE"})
READ_WRITE: Final = READ | WRITE


class Route(NamedTuple):
    methods: frozenset[str]
    pattern: str
    query: str  # Query.method; a leading "@" is answered by core.api itself


ROUTES: Final = (
    Route(READ, "jobs", "Job.List"),
    Route(WRITE, "jobs", "Job.Register"),
    Route(WRITE, "jobs/parse", "@parse"),
    Route(WRITE, "validate/job", "Job.Validate"),
    Route(WRITE, "job/{job_id...}/plan", "Job.Plan"),
    Route(WRITE, "job/{job_id...}/evaluate", "Job.Evaluate"),
    Route(READ, "job/{job_id...}/allocations", "Job.Allocations"),
    Route(READ, "job/{job_id...}/evaluations", "Job.Evaluations"),
    Route(READ, "job/{job_id...}/deployments", "Job.Deployments"),
    Route(READ, "job/{job_id...}/deployment", "Job.LatestDeployment"),
    Route(READ, "job/{job_id...}/multiregion", "Job.Rollout"),
    Route(READ, "job/{job_id...}/summary", "Job.Summary"),
    Route(READ, "job/{job_id...}/shares", "Job.Shares"),
    Route(WRITE, "job/{job_id...}/versions/{name}/tag", "Job.TagVersion"),
    Route(DELETE, "job/{job_id...}/versions/{name}/tag", "Job.UntagVersion"),
    Route(READ, "job/{job_id...}/versions", "Job.Versions"),
    Route(WRITE, "job/{job_id...}/revert", "Job.Revert"),
    Route(WRITE, "job/{job_id...}/start", "Job.Start"),
    Route(WRITE, "job/{job_id...}/stable", "Job.Stable"),
    Route(READ, "job/{job_id...}/scale", "Job.ScaleStatus"),
    Route(WRITE, "job/{job_id...}/scale", "Job.Scale"),
    Route(READ, "job/{job_id...}/submission", "Job.Submission"),
    Route(READ, "job/{job_id...}/why", "Job.Why"),
    Route(READ, "job/{job_id...}/services", "Job.Services"),
    Route(WRITE, "job/{job_id...}/dispatch", "Job.Dispatch"),
    Route(WRITE, "job/{job_id...}/periodic/force", "Job.PeriodicForce"),
    Route(READ, "job/{job_id...}", "Job.Get"),
    Route(WRITE, "job/{job_id...}", "Job.Register"),
    Route(DELETE, "job/{job_id...}", "Job.Deregister"),
    Route(READ, "allocations", "Alloc.List"),
    Route(WRITE, "allocation/{alloc_id}/stop", "Alloc.Stop"),
    Route(READ, "allocation/{alloc_id}/services", "Alloc.Services"),
    Route(READ, "allocation/{alloc_id}/checks", "Client.Checks"),
    Route(READ, "allocation/{alloc_id}", "Alloc.Get"),
    Route(READ, "client/fs/logs/{alloc_id}", "@logs"),
    Route(READ, "client/fs/stream/{alloc_id}", "@stream"),
    Route(READ, "client/fs/cat/{alloc_id}", "@cat"),
    Route(READ, "client/fs/readat/{alloc_id}", "@readat"),
    Route(READ, "client/fs/ls/{alloc_id}", "Client.FS.List"),
    Route(READ, "client/fs/stat/{alloc_id}", "Client.FS.Stat"),
    Route(READ, "client/stats", "Client.Stats"),
    Route(READ, "client/allocation/{alloc_id}/stats", "Client.AllocStats"),
    Route(READ, "client/allocation/{alloc_id}/checks", "Client.Checks"),
    Route(WRITE, "client/allocation/{alloc_id}/restart", "Client.Restart"),
    Route(WRITE, "client/allocation/{alloc_id}/signal", "Client.Signal"),
    Route(READ, "evaluations", "Eval.List"),
    Route(DELETE, "evaluations", "Eval.Delete"),
    Route(READ, "evaluations/count", "Eval.Count"),
    Route(READ, "evaluation/{eval_id}/allocations", "Eval.Allocations"),
    Route(READ, "evaluation/{eval_id}", "Eval.Get"),
    Route(READ, "deployments", "Deployment.List"),
    Route(READ, "deployment/allocations/{deployment_id}", "Deployment.Allocations"),
    Route(WRITE, "deployment/fail/{deployment_id}", "Deployment.Fail"),
    Route(WRITE, "deployment/pause/{deployment_id}", "Deployment.Pause"),
    Route(WRITE, "deployment/unblock/{deployment_id}", "Deployment.Unblock"),
    Route(WRITE, "deployment/promote/{deployment_id}", "Deployment.Promote"),
    Route(WRITE, "deployment/allocation-health/{deployment_id}", "Deployment.SetAllocHealth"),
    Route(READ, "deployment/{deployment_id}", "Deployment.Get"),
    Route(READ, "nodes", "Node.List"),
    Route(READ, "federation/status", "Federation.Status"),
    Route(READ, "authority", "Authority.Status"),
    Route(READ, "authority/own", "Authority.Own"),
    Route(WRITE, "authority/transfer", "Authority.Transfer"),
    Route(WRITE, "authority/adopt", "Authority.Adopt"),
    Route(WRITE, "datacenter/leave", "Datacenter.Leave"),
    Route(WRITE, "datacenter/off", "Datacenter.Off"),
    Route(WRITE, "datacenter/adopt", "Datacenter.Adopt"),
    Route(READ, "datacenter/adoptions", "Datacenter.Adoptions"),
    Route(READ, "datacenter/drain", "Datacenter.Drain"),
    Route(WRITE, "datacenter/drain", "Datacenter.SetDrain"),
    Route(READ, "scaling/policies", "Scaling.ListPolicies"),
    Route(READ, "scaling/policy/{id}", "Scaling.GetPolicy"),
    Route(READ, "node/pools", "NodePool.List"),
    Route(WRITE, "node/pools", "NodePool.Upsert"),
    Route(READ, "node/pool/{name}/nodes", "NodePool.Nodes"),
    Route(READ, "node/pool/{name}/jobs", "NodePool.Jobs"),
    Route(READ, "node/pool/{name}", "NodePool.Get"),
    Route(WRITE, "node/pool/{name}", "NodePool.Upsert"),
    Route(DELETE, "node/pool/{name}", "NodePool.Delete"),
    Route(READ, "node/{node_id}/allocations", "Node.AllocationsOf"),
    Route(WRITE, "node/{node_id}/evaluate", "Node.Evaluate"),
    Route(WRITE, "node/{node_id}/drain", "Node.Drain"),
    Route(WRITE, "node/{node_id}/eligibility", "Node.Eligibility"),
    Route(WRITE, "node/{node_id}/purge", "Node.Purge"),
    Route(READ, "node/{node_id}", "Node.Get"),
    Route(READ, "services", "Service.List"),
    Route(DELETE, "service/{name}/{id}", "Service.Delete"),
    Route(READ, "service/{name}", "Service.Get"),
    Route(READ, "namespaces", "Namespace.List"),
    Route(WRITE, "namespace", "Namespace.Upsert"),
    Route(READ, "namespace/{name}", "Namespace.Get"),
    Route(WRITE, "namespace/{name}", "Namespace.Upsert"),
    Route(READ, "quotas", "Quota.List"),
    Route(WRITE, "quota", "Quota.Upsert"),
    Route(READ, "quota-usages", "Quota.Usages"),
    Route(READ, "quota/usage/{name}", "Quota.Usage"),
    Route(READ, "quota/{name}", "Quota.Get"),
    Route(WRITE, "quota/{name}", "Quota.Upsert"),
    Route(DELETE, "quota/{name}", "Quota.Delete"),
    Route(WRITE, "acl/bootstrap", "ACL.Bootstrap"),
    Route(READ, "acl/tokens", "ACL.Token.List"),
    Route(READ, "acl/token/self", "ACL.Token.Self"),
    Route(WRITE, "acl/token", "ACL.Token.Create"),
    Route(READ, "acl/token/{accessor_id}", "ACL.Token.Get"),
    Route(WRITE, "acl/token/{accessor_id}", "ACL.Token.Update"),
    Route(DELETE, "acl/token/{accessor_id}", "ACL.Token.Delete"),
    Route(READ, "agent/self", "Agent.Self"),
    Route(READ, "agent/members", "Agent.Members"),
    Route(READ, "agent/nodes", "Agent.Nodes"),
    Route(READ, "agent/servers", "Agent.Servers"),
    Route(WRITE, "agent/join", "Agent.Join"),
    Route(WRITE, "agent/force-leave", "Agent.ForceLeave"),
    Route(READ_WRITE, "agent/keyring/list", "Agent.Keyring.List"),
    Route(WRITE, "agent/keyring/install", "Agent.Keyring.Install"),
    Route(WRITE, "agent/keyring/use", "Agent.Keyring.Use"),
    Route(WRITE | DELETE, "agent/keyring/remove", "Agent.Keyring.Remove"),
    Route(READ, "agent/health", "Agent.Health"),
    Route(READ, "agent/monitor", "@monitor"),
    Route(READ, "status/leader", "Status.Leader"),
    Route(READ, "status/peers", "Status.Peers"),
    Route(READ, "regions", "Region.List"),
    Route(READ, "metrics", "@metrics"),
    Route(WRITE, "search", "Search.Prefix"),
    Route(WRITE, "search/fuzzy", "Search.Fuzzy"),
    Route(READ, "operator/scheduler/configuration", "Operator.SchedulerGet"),
    Route(WRITE, "operator/scheduler/configuration", "Operator.SchedulerSet"),
    Route(READ, "operator/raft/configuration", "Operator.RaftConfiguration"),
    Route(WRITE, "operator/raft/transfer-leadership", "Operator.TransferLeadership"),
    Route(DELETE, "operator/raft/peer", "Operator.RemovePeer"),
    Route(WRITE, "operator/raft/verify", "Operator.RaftVerify"),
    Route(READ, "operator/autopilot/configuration", "Operator.AutopilotGet"),
    Route(WRITE, "operator/autopilot/configuration", "Operator.AutopilotSet"),
    Route(READ, "operator/autopilot/health", "Operator.AutopilotHealth"),
    Route(READ, "operator/snapshot", "@save-snapshot"),
    Route(WRITE, "operator/snapshot", "@restore-snapshot"),
    Route(WRITE, "operator/raft/measure", "Operator.RaftMeasure"),
    Route(frozenset({"PUT"}), "system/gc", "System.GC"),
    Route(frozenset({"PUT"}), "system/reconcile/summaries", "System.ReconcileSummaries"),
)

# Nomad's enterprise routes: its tools ask, and expect this very answer.
ENTERPRISE: Final = re.compile(r"(sentinel/polic(y|ies)|recommendations?)(/.*)?$|operator/license$")


def _compile(pattern: str) -> re.Pattern[str]:
    source = re.sub(r"\{(\w+)\.\.\.\}", r"(?P<\1>.+)", pattern)
    source = re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", source)
    return re.compile(source, re.DOTALL)


_BY_FIRST_SEGMENT: Final[dict[str, list[tuple[re.Pattern[str], Route]]]] = {}
for _route in ROUTES:
    _BY_FIRST_SEGMENT.setdefault(_route.pattern.split("/", 1)[0], []).append(
        (_compile(_route.pattern), _route)
    )


class NoRoute(Exception):
    """No such path; or not with this method, then `allowed` says with which."""

    def __init__(self, path: str, allowed: frozenset[str]) -> None:
        super().__init__("Invalid method" if allowed else f"there is no route /v1/{path}")
        self.allowed = allowed


def match(method: str, path: str) -> tuple[Route, dict[str, str]]:
    """Return the route of a path below /v1/, and its path parameters.

    Raises:
        NoRoute: Nothing matches.
    """
    allowed: frozenset[str] = frozenset()
    for pattern, route in _BY_FIRST_SEGMENT.get(path.split("/", 1)[0], ()):
        found = pattern.fullmatch(path)
        if found is None:
            continue
        if method in route.methods:
            return route, found.groupdict()
        allowed |= route.methods
    raise NoRoute(path, allowed)
