"""What must hold once every fault of a round is mended.

Every server, asked for its own state (a stale read of itself, no leader involved), shows
each acknowledged write and no write that can't have happened; and all show the same.
"""

from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import trio

from tests.torture.cluster import Cluster, ClusterError, Server
from tests.torture.writers import Ledger

_LIMIT_S: Final = 60.0
_POLL_S: Final = 0.1
_OWN_STATE: Final = {"stale": "true", "datacenter": "dc1", "meta": "true"}


@dataclass(slots=True)
class Findings:
    lost: list[str] = field(default_factory=list)  # acknowledged, and not there
    wrong: list[str] = field(default_factory=list)  # anything else that must not be

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.wrong)


async def check(cluster: Cluster, ledger: Ledger, marker: str, prefix: str) -> Findings:
    """Compare all servers with the ledger and with each other.

    Args:
        marker: The id of a job to write, so that "caught up" has a meaning.
        prefix: What the ids of the ledger's jobs begin with.

    Raises:
        ClusterError: A server does not catch up in a minute.
    """
    index = await _mark(cluster, marker)
    findings = Findings(wrong=list(ledger.violations))
    seen: dict[str, dict[str, Any]] = {}
    for server in cluster.servers:
        jobs = await _jobs_at(cluster, server, index, prefix)
        seen[server.name] = jobs
        compare(server.name, jobs, ledger, findings)
    first, *others = cluster.servers
    for server in others:
        if seen[server.name] != seen[first.name]:
            differing = sorted(
                key
                for key in seen[first.name].keys() | seen[server.name].keys()
                if seen[first.name].get(key) != seen[server.name].get(key)
            )
            findings.wrong.append(f"{first.name} and {server.name} differ in {differing[:5]}")
    findings.wrong += await _differing_hashes(cluster)
    return findings


async def _differing_hashes(cluster: Cluster) -> list[str]:
    """Have the leader compare the hashes of all states at one index; return what differs.

    Raises:
        ClusterError: Not every server can be compared.
    """
    reason = ""
    with trio.move_on_after(_LIMIT_S):
        while True:
            for server in cluster.servers:
                try:
                    url = f"{server.spec.api}/v1/operator/raft/verify"
                    answer = await cluster.http.put(url, timeout=_LIMIT_S)
                except httpx.HTTPError as error:
                    reason = f"{server.name}: {error!r}"
                    continue
                if answer.status_code != 200:
                    reason = f"{server.name}: {answer.text[:200]}"
                    continue
                found = answer.json()
                hashes = {one["Hash"] for one in found["Servers"]}
                if "" in hashes or len(found["Servers"]) < len(cluster.servers):
                    reason = f"{[(one['Node'], one['Error']) for one in found['Servers']]}"
                    continue
                if found["Equal"]:
                    return []
                return [f"states at index {found['Index']} differ: {found['Differences']}"]
            await trio.sleep(_POLL_S)
    raise ClusterError(f"the states can't be compared: {reason}")


def compare(server: str, jobs: dict[str, Any], ledger: Ledger, findings: Findings) -> None:
    """Add to `findings` what a server's jobs, by id, have to do with the ledger and should not."""
    for job_id, value in ledger.created.items():
        found = jobs.get(job_id)
        if found is None:
            findings.lost.append(f"{server} lacks {job_id}")
        elif found["Meta"]["value"] != value or found["Version"] != 0:
            findings.wrong.append(f"{server} shows {job_id} as {found}, written was {value}")
    for job_id in sorted(ledger.unsent & jobs.keys()):
        findings.wrong.append(f"{server} has {job_id}, which was never sent")
    for job_id, counted in ledger.counted.items():
        found = jobs.get(job_id)
        value = int(found["Meta"]["value"]) if found else 0
        if value < counted.acknowledged:
            findings.lost.append(
                f"{server} shows {job_id} at {value}, {counted.acknowledged} was acknowledged"
            )
        elif value > counted.tried:
            findings.wrong.append(f"{server} shows {job_id} at {value}, never written")
        elif found and found["Version"] != value - 1:
            findings.wrong.append(
                f"{server} shows {job_id} at {value} in version {found['Version']}: "
                "a write was carried out twice"
            )


async def _mark(cluster: Cluster, marker: str) -> int:
    """Write a job through whichever server takes it; return the index of that write."""
    task = {"Name": "t", "Driver": "raw_exec", "Config": {"command": "true"}}
    group = {"Name": "g", "Count": 0, "Tasks": [task]}
    job = {"ID": marker, "Name": marker, "Type": "service", "TaskGroups": [group]}
    reasons: dict[str, str] = {}
    with trio.move_on_after(_LIMIT_S):
        while True:
            for server in cluster.servers:
                try:
                    url = f"{server.spec.api}/v1/jobs"
                    answer = await cluster.http.put(url, json={"Job": job})
                except httpx.HTTPError as error:
                    reasons[server.name] = repr(error)
                    continue
                if answer.status_code == 200:
                    return int(answer.json()["JobModifyIndex"])
                reasons[server.name] = answer.text[:200]
            await trio.sleep(_POLL_S)
    raise ClusterError(f"no write is taken although all faults are mended: {reasons}")


async def _jobs_at(cluster: Cluster, server: Server, index: int, prefix: str) -> dict[str, Any]:
    """Return a server's own jobs by id, once it has applied the log up to `index`."""
    reason = ""
    with trio.move_on_after(_LIMIT_S):
        while True:
            try:
                answer = await cluster.get(server, "jobs", prefix=prefix, **_OWN_STATE)
                if answer.status_code == 200 and int(answer.headers["X-Nomad-Index"]) >= index:
                    return {one["ID"]: _kept(one) for one in answer.json()}
                reason = f"index {answer.headers.get('X-Nomad-Index')}: {answer.text[:100]}"
            except httpx.HTTPError as error:
                reason = repr(error)
            await trio.sleep(_POLL_S)
    raise ClusterError(f"{server.name} did not reach index {index} in {_LIMIT_S:g} s: {reason}")


def _kept(stub: dict[str, Any]) -> dict[str, Any]:
    """What is compared: a filler is long, and says nothing that the value does not."""
    kept = {key: stub[key] for key in ("CreateIndex", "ModifyIndex", "JobModifyIndex", "Version")}
    return {
        **kept,
        "Status": stub["Status"],
        "Meta": {"value": (stub.get("Meta") or {}).get("value")},
    }
