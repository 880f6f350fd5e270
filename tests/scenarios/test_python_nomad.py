"""python-nomad, as it is published, drives a job from its file to its end."""

import base64
import json
from collections.abc import Iterator
from typing import Any

import nomad
import pytest
from scenario_federation import Federation, a_job
from scenario_processes import until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("federation")]

JOB = a_job("pynomad", command=("/bin/sh", "-c", "echo hello from serai; exec sleep 600"))


@pytest.fixture
def client(federation: Federation, monkeypatch: pytest.MonkeyPatch) -> Iterator[nomad.Nomad]:
    for name in ("NOMAD_ADDR", "NOMAD_REGION", "NOMAD_TOKEN", "NOMAD_NAMESPACE"):
        monkeypatch.delenv(name, raising=False)
    yield nomad.Nomad(address=federation.address(), timeout=15)


def running(client: nomad.Nomad, job_id: str) -> list[dict[str, Any]]:
    return [a for a in client.job.get_allocations(job_id) if a["ClientStatus"] == "running"]


def test_a_job_from_file_to_end(federation: Federation, client: nomad.Nomad) -> None:
    job = client.jobs.parse(JOB)
    plan = client.job.plan_job("pynomad", {"Job": job}, diff=True)
    assert plan["Annotations"]["DesiredTGUpdates"]["main"]["Place"] == 1
    assert plan["Diff"]["Type"] == "Added"

    registered = client.job.register_job("pynomad", {"Job": job})
    evaluation = until(
        lambda: (e := client.evaluation.get_evaluation(registered["EvalID"]))["Status"]
        == "complete" and e,
        "the evaluation is complete",
    )  # fmt: skip
    assert evaluation["JobID"] == "pynomad" and evaluation["TriggeredBy"] == "job-register"
    # What other tests ran may still hold the room: then the evaluation that waits places it.
    placing = evaluation["BlockedEval"] or evaluation["ID"]
    until(
        lambda: [one["JobID"] for one in client.evaluation.get_allocations(placing)] == ["pynomad"],
        "the evaluation's allocation",
    )

    (alloc,) = until(lambda: running(client, "pynomad"), "a running allocation")
    assert client.allocation.get_allocation(alloc["ID"])["ClientStatus"] == "running"
    assert alloc["ID"] in [one["ID"] for one in client.allocations.get_allocations()]
    assert client.job.get_job("pynomad")["Status"] == "running"
    assert client.job.get_summary("pynomad")["Summary"]["main"]["Running"] == 1
    assert "pynomad" in client.job and "pynomad" in client.jobs
    assert [one["ID"] for one in client.jobs.get_jobs(prefix="pyn")] == ["pynomad"]

    frames = client.client.stream_logs.stream(alloc["ID"], "task", "stdout")
    assert base64.b64decode(json.loads(frames)["Data"]) == b"hello from serai\n"
    plain = client.client.stream_logs.stream(alloc["ID"], "task", "stdout", plain=True)
    assert plain == "hello from serai\n"
    path = "alloc/logs/task.stdout.0"
    assert client.client.cat.read_file(alloc["ID"], path) == "hello from serai\n"
    assert client.client.read_at.read_file_offset(alloc["ID"], 6, 4, path) == "from"
    assert client.client.stat.stat_file(alloc["ID"], path)["Size"] == 17
    names = {one["Name"] for one in client.client.ls.list_files(alloc["ID"], "/")}
    assert {"alloc", "task"} <= names

    stopped = client.job.deregister_job("pynomad", purge=True)
    assert stopped["EvalID"]
    federation.until_gone("pynomad")
    with pytest.raises(nomad.api.exceptions.URLNotFoundNomadException):
        client.job.get_job("pynomad")


def test_what_a_cluster_tells_of_itself(federation: Federation, client: nomad.Nomad) -> None:
    own = client.agent.get_agent()
    assert own["member"]["Name"].startswith("eu-dc1-server-1")
    assert own["config"]["Region"] == "eu"
    members = client.agent.get_members()["Members"]
    assert sorted(one["Name"] for one in members) == [
        f"{region}-dc1-server-{number}.{region}" for region in ("eu", "us") for number in (1, 2, 3)
    ]
    assert {one["Status"] for one in members} == {"alive"}
    assert client.regions.get_regions() == ["eu", "us"]
    leader = client.status.leader.get_leader()
    peers = client.status.peers.get_peers()
    assert leader in peers and len(peers) == 3
    (node,) = client.nodes.get_nodes()
    assert node["Status"] == "ready"
    assert client.node.get_node(node["ID"])["Name"] == "eu-dc1-client-1"
    found = client.search.search(node["ID"][:8], "nodes")
    assert found["Matches"]["nodes"] == [node["ID"]]
    far = nomad.Nomad(address=federation.address(), timeout=15, region="us")
    assert [one["Name"] for one in far.nodes.get_nodes()] == ["us-dc1-client-1"]
    with pytest.raises(nomad.api.exceptions.BaseNomadException):
        client.jobs.parse("job {")
