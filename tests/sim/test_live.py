"""A live cluster as a scenario: what is read of an API or of snapshots, what is written."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest

from core.api.parameters import read_query
from core.api.routes import match
from core.jobspec.parse import parse_job
from core.model.query import Answer
from sim.agents import SimServer
from sim.live import Inventory, LiveError, LiveNode, read_clusters, read_snapshots, write_files
from sim.live.shapes import SHAPES_MAX, shapes_of
from sim.plans import Scenario
from sim.run import Run
from sim.scenario import read_scenario

SECRET = "hunter2"


def node(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "ID": f"n{number}", "Name": f"n{number}", "Datacenter": "dc1", "NodeClass": "",
        "NodePool": "default", "Status": "ready", "SchedulingEligibility": "eligible",
        "Drivers": {"docker": {"Detected": True, "Healthy": True}, "java": {"Healthy": False}},
        "NodeResources": {
            "Cpu": {"CpuShares": 4100}, "Memory": {"MemoryMB": 8192}, "Disk": {"DiskMB": 50_000},
        },
        "ReservedResources": {"Cpu": {"CpuShares": 100}},
    } | changes  # fmt: skip


def job(name: str, count: int = 2, **changes: Any) -> dict[str, Any]:
    task = {
        "Name": "main", "Driver": "docker", "Config": {"image": SECRET}, "Env": {"PW": SECRET},
        "Resources": {"CPU": 500, "MemoryMB": 256},
        "Templates": [{"EmbeddedTmpl": SECRET, "DestPath": "x"}], "Meta": {"k": SECRET},
        "Vault": {"Policies": [SECRET]}, "Services": [{"Name": SECRET}],
    }  # fmt: skip
    return {
        "ID": name, "Name": name, "Namespace": "default", "Type": "service", "Priority": 50,
        "Datacenters": ["dc1"], "Status": "running", "Meta": {"key": SECRET},
        "TaskGroups": [{"Name": "g", "Count": count, "Tasks": [task]}],
    } | changes  # fmt: skip


def alloc(job_id: str, status: str = "running", took_s: int = 0, **changes: Any) -> dict[str, Any]:
    return {
        "ID": "a", "JobID": job_id, "Namespace": "default", "ClientStatus": status,
        "DesiredStatus": "run", "CreateTime": 0, "ModifyTime": took_s * 10**9,
    } | changes  # fmt: skip


class Cluster:
    """Answers as an API does, for one region."""

    def __init__(self, nodes: list[Any], jobs: list[Any], allocs: list[Any], region: str = "eu"):
        self.nodes, self.jobs, self.allocs, self.region = nodes, jobs, allocs, region
        self.asked: list[str] = []

    def get(self, path: str, **params: Any) -> Any:
        self.asked.append(path)
        assert params.get("region") in (None, self.region)
        if path.startswith("/v1/job/"):
            found = {one["ID"]: one for one in self.jobs}
            return found[path.removeprefix("/v1/job/").replace("%2F", "/")]
        if path.startswith("/v1/node/"):
            found = {one["ID"]: one for one in self.nodes}
            return found[path.removeprefix("/v1/node/")]
        shown = [{key: value for key, value in one.items() if key not in ("Attributes", "Meta")}
                 for one in self.nodes]  # fmt: skip
        return {
            "/v1/regions": [self.region], "/v1/nodes": shown, "/v1/jobs": self.jobs,
            "/v1/allocations": self.allocs,
        }[path]  # fmt: skip


def read(*clusters: Cluster, **narrow: Any) -> Inventory:
    sources: list[tuple[str, Callable[..., Any]]] = [
        (f"http://c{number}:4646", cluster.get) for number, cluster in enumerate(clusters)
    ]
    return read_clusters(sources, **narrow)


def written(inventory: Inventory, folder: Path, **variables: str) -> Scenario:
    path = write_files(inventory, str(folder)).scenario
    return read_scenario(Path(path).read_text(), path, str(folder), variables)


def test_a_cluster_becomes_shapes_jobs_and_goals(tmp_path: Path) -> None:
    cluster = Cluster(
        [node(1), node(2), node(3, Datacenter="dc2", NodeClass="big"), node(4, Status="down")],
        [job("web"), job("api"), job("tired", Status="dead")],
        [alloc("web"), alloc("web"), alloc("api"), alloc("api", "failed")],
    )
    scenario = written(read(cluster), tmp_path / "copy")
    places = {(plan.region, plan.name): plan for plan in scenario.datacenters}
    assert list(places) == [("eu", "dc1"), ("eu", "dc2")]
    (shape,) = places["eu", "dc1"].nodes
    assert (shape.count, shape.cpu, shape.memory, shape.drivers) == (2, 4000, 8192, ("docker",))
    assert places["eu", "dc2"].nodes[0].label == "big"
    assert [one.name for one in scenario.jobs] == ["api", "web"]
    # They differ by name alone: one file for both.
    assert {one.file for one in scenario.jobs} == {"jobs/api.nomad.hcl"}
    goals = {goal.job: goal.at_least for goal in scenario.goals}
    assert goals == {"web": -1.0, "api": 1.0}
    assert "not eligible are left out: 1" in (tmp_path / "copy" / "scenario.hcl").read_text()


def test_no_secret_reaches_the_files(tmp_path: Path) -> None:
    cluster = Cluster([node(1)], [job("web"), job("tool", Type="batch")], [])
    write_files(read(cluster), str(tmp_path / "copy"))
    files = [path for path in (tmp_path / "copy").rglob("*") if path.is_file()]
    assert len(files) == 3
    assert not [path for path in files if SECRET in path.read_text()]


def test_what_jobs_ask_of_nodes_is_read_from_each_node(tmp_path: Path) -> None:
    asks = [
        {"LTarget": "${attr.cpu.arch}", "RTarget": "arm64", "Operand": "="},
        {"LTarget": "${meta.rack}", "RTarget": "r1", "Operand": "="},
        {"LTarget": "${node.unique.name}", "RTarget": "n1", "Operand": "="},
    ]
    nodes = [
        node(1, Attributes={"cpu.arch": "arm64", "x": "y"}, Meta={"rack": "r1", "z": SECRET}),
        node(2, Attributes={"cpu.arch": "amd64"}, Meta={}),
    ]
    inventory = read(Cluster(nodes, [job("web", Constraints=asks)], []))
    (plan,) = written(inventory, tmp_path / "copy").datacenters
    assert [(one.attributes, one.meta) for one in plan.nodes] == [
        ({"cpu.arch": "amd64"}, {}), ({"cpu.arch": "arm64"}, {"rack": "r1"}),
    ]  # fmt: skip
    kept = parse_job((tmp_path / "copy/jobs/web.nomad.hcl").read_text(), filename="x").job
    assert [one.l_target for one in kept.constraints or []] == ["${attr.cpu.arch}", "${meta.rack}"]
    assert any("names single nodes" in note for note in inventory.notes)


def test_batch_jobs_take_as_long_as_their_runs_took(tmp_path: Path) -> None:
    jobs = [
        job("known", Type="batch"), job("new", Type="batch"),
        job("every", Type="batch", Periodic={"Spec": "@hourly", "SpecType": "cron"}),
        job("every/periodic-1", Type="batch", ParentID="every"),
        job("call", Type="batch", ParameterizedJob={"Payload": ""}),
        job("call/dispatch-1", Type="batch", ParentID="call", Dispatched=True,
            ParameterizedJob={"Payload": ""}),
    ]  # fmt: skip
    done = [alloc("known", "complete", took_s) for took_s in (10, 90, 20)]
    stubs = [{**one, "ParameterizedJob": "ParameterizedJob" in one} for one in jobs]
    cluster = Cluster([node(1)], jobs, done)
    listed, cluster_get = stubs, cluster.get
    get = lambda path, **p: listed if path == "/v1/jobs" else cluster_get(path, **p)  # noqa: E731
    scenario = written(read_clusters([("http://a", get)]), tmp_path / "c", batch_run_time="7s")
    times = {one.name: one.run_time.text for one in scenario.jobs if one.run_time}
    assert times == {"known": "20.000s", "new": "7s", "every": "7s", "call/dispatch-1": "7s"}


def test_clusters_are_told_apart_though_their_regions_are_called_alike(tmp_path: Path) -> None:
    one = Cluster([node(1)], [job("web")], [alloc("web")], "global")
    same = Cluster([node(1)], [job("web")], [alloc("web")], "global")
    other = Cluster([node(9, Datacenter="dc 9/x")], [job("web")], [], "global")
    inventory = read(one, same, other)
    assert list(inventory.datacenters) == [("global", "dc1"), ("global-2", "dc-9-x")]
    assert [(live.name, live.region) for live in inventory.jobs] == [
        ("web", "global"), ("web-2", "global-2"),
    ]  # fmt: skip
    table = json.dumps({"global": {"global-2": "75ms"}})
    scenario = written(inventory, tmp_path / "copy", latency=table, load="3", servers="1")
    assert scenario.links["global", "global-2"].latency_us == 75_000
    assert [plan.servers for plan in scenario.datacenters] == [1, 1]
    assert [plan.copies for plan in scenario.jobs] == [3, 3]


def test_what_is_no_api_is_told_with_its_address() -> None:
    with pytest.raises(LiveError, match=r"http://a: /v1/regions .* Nomad's API"):
        read_clusters([("http://a", lambda path, **_: {"hello": 1})])
    with pytest.raises(LiveError, match="knows no region 'mars', only eu"):
        read(Cluster([node(1)], [], []), regions=["mars"])
    with pytest.raises(LiveError, match="not a single node"):
        read(Cluster([], [], []))


def test_many_shapes_are_rounded_down_until_they_are_few() -> None:
    nodes = [LiveNode(cpu=4000, memory=8000 + n, disk=100_000 + 7 * n) for n in range(100)]
    shapes = shapes_of(nodes)
    assert sum(shape.count for shape in shapes) == 100 and len(shapes) <= SHAPES_MAX
    assert all(7_500 <= shape.memory <= 8_100 for shape in shapes)
    exact = shapes_of(nodes[:3])
    assert [shape.memory for shape in exact] == [8000, 8001, 8002]
    assert [shape.label for shape in exact] == ["node", "node-2", "node-3"]


def test_the_copy_of_a_cluster_runs(tmp_path: Path) -> None:
    cluster = Cluster([node(1), node(2)], [job("web")], [alloc("web"), alloc("web")])
    scenario = written(read(cluster), tmp_path / "copy", servers="1", duration="45s")
    summary = Run(scenario).play()
    assert summary.is_ok, (summary.violations, summary.halts, summary.goals)
    assert summary.instances_running == 2


# --- our own API, and snapshots -------------------------------------------------------


# More than one datacenter of eu has room for.
WIDE = """
job "wide" {
  file  = "sim-web.nomad.hcl"
  at    = "12s"
  count = 100
}
"""


@pytest.fixture(scope="module")
def played() -> Run:
    """Two regions, three datacenters, and a job that two of them share."""
    folder = Path(__file__).parents[2] / "examples"
    text = (folder / "small.hcl").read_text().replace('"5m"', '"55s"')
    text = text.replace("servers = 3", "servers = 1").replace("count  = 10", "count  = 4")
    text = text[: text.index('fault "')] + WIDE
    scenario = read_scenario(text, "small.hcl", str(folder))
    run = Run(scenario)
    assert run.play().is_ok
    return run


def api_of(run: Run, region: str) -> Callable[..., Any]:
    """Return how to GET from a simulated agent, as HTTP would."""
    server = next(one for one in run.world.servers if one.place.region == region)

    def get(path: str, **params: Any) -> Any:
        route, found = match("GET", unquote(path.removeprefix("/v1/")))
        query = {name: ["true" if value is True else value] for name, value in params.items()}
        answers: list[Answer] = []
        server.query(read_query(route.query, found, query, {}, None), answers.append)
        run.world.wheel.run_until(run.world.wheel.now_us + 5_000_000)
        assert answers and not answers[0].is_error, (path, answers)
        return json.loads(msgspec.json.encode(answers[0].body))

    return get


def test_our_own_api_and_snapshots_tell_the_same(played: Run, tmp_path: Path) -> None:
    by_api = read_clusters([("http://eu", api_of(played, "eu"))])
    by_file = read_snapshots(
        [str(save(server, tmp_path)) for server in played.world.servers], is_anew=True
    )
    assert by_api.notes == by_file.notes == []
    assert by_api.datacenters == by_file.datacenters
    sizes = {place: len(nodes) for place, nodes in by_api.datacenters.items()}
    assert sizes == {("eu", "paris"): 4, ("eu", "berlin"): 4, ("us", "ohio"): 4}
    told = [sorted((one.name, one.running, one.region) for one in found.jobs)
            for found in (by_api, by_file)]  # fmt: skip
    assert told[0] == told[1]
    assert ("web", 8, "eu") in told[0] and ("big", 2, "eu") in told[0]
    texts = []
    for name, found in (("api", by_api), ("file", by_file)):
        path = write_files(found, str(tmp_path / name / "copy")).scenario
        texts.append(Path(path).read_text().splitlines()[1:])
    assert texts[0] == texts[1]


def save(server: SimServer, folder: Path) -> Path:
    assert server.state is not None
    path = folder / f"{server.name}.snap"
    path.write_bytes(b"".join(server.state.image().chunks()))
    return path


def test_a_share_without_its_home_is_as_large_as_it_is(played: Run, tmp_path: Path) -> None:
    server, record = next(
        (server, record) for server in played.world.servers if server.state is not None
        for record in server.state.jobs if record.home
    )  # fmt: skip
    share = sum(high - low for parts in record.share().values() for low, high in parts)
    found = read_snapshots([str(save(server, tmp_path))])
    (shared,) = [one for one in found.jobs if one.name == record.id]
    assert 0 < shared.running == share < 100
    assert [group.count for group in shared.job.task_groups or []] == [share]
    assert any("its home is missing" in note for note in found.notes)


def test_wrong_snapshots_are_told_by_their_files(played: Run, tmp_path: Path) -> None:
    path = save(played.world.servers[-1], tmp_path)
    with pytest.raises(LiveError, match="both of us/ohio"):
        read_snapshots([str(path), str(path)])
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(LiveError, match=r"server-1\.snap: snapshot is cut short"):
        read_snapshots([str(path)])
