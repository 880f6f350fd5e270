"""What an operator does to a running datacenter, command by command, on real processes.

One `serai dev` with a server and three clients. Each story says what it wants by a command of the
CLI, looks at what the CLI answers, and asks the kernel whether it became true.
"""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scenario_federation import Federation
from scenario_processes import until

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.xdist_group("operating")]

CLIENTS = 3


class Cluster(Federation):
    """One datacenter; its only server answers all commands."""

    def start(self) -> None:
        words = ("-regions", "eu", "-servers", "1", "-clients", str(CLIENTS), "-memory", "eu=1024")
        self.dev("-detach", *words)
        self._addresses = {one["name"]: one["api"] for one in self.agents()}

    def ok(self, *words: str, text: str | None = None) -> str:
        """Run a command that has to succeed; return what it printed."""
        done = self.serai(*words, text=text)
        assert done.code == 0, f"serai {' '.join(words)}: {done.error or done.out}"
        return done.out

    def refused(self, *words: str, text: str | None = None) -> str:
        """Run a command that has to be refused; return why."""
        done = self.serai(*words, text=text)
        assert done.code == 1 and "Traceback" not in done.error, done
        return done.error

    def listed(self, *words: str) -> list[dict[str, Any]]:
        return list(json.loads(self.ok(*words, "-json")))

    def versions(self, job: str) -> list[str]:
        """Return the version that each process of a job was started with, in order."""
        return sorted(environment["V"] for environment in self.processes(job).values())

    def deployment(self, job: str) -> dict[str, Any]:
        return dict(self.get(f"job/{job}/deployment"))

    def until_deployment(self, job: str, status: str, version: int) -> dict[str, Any]:
        def look() -> dict[str, Any]:
            found = self.deployment(job)
            is_it = found["Status"] == status and found["JobVersion"] == version
            return found if is_it else {}

        return until(look, f"the deployment of {job} version {version} is {status}", 30)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    found = Cluster(tmp_path_factory.mktemp("operating"))
    try:
        found.start()
        yield found
    finally:
        found.stop()


@pytest.fixture
def web(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Callable[..., str]]:
    """Return what makes the file of this story's service; it is purged at the end."""
    name = request.node.name.removeprefix("test_").split("[")[0][:40]

    def file(version: int = 1, **more: Any) -> str:
        return service(name, version, **more)

    yield file
    cluster.serai("job", "stop", "-purge", "-detach", name)
    cluster.until_gone(name)


def service(
    name: str,
    version: int,
    *,
    count: int = 2,
    update: str = "",
    group: str = "",
    top: str = "",
    memory: int = 32,
    command: str = "exec sleep 600",
) -> str:
    return f"""
job "{name}" {{
  {top}
  group "main" {{
    count = {count}
    {group}
    update {{
      min_healthy_time  = "1s"
      healthy_deadline  = "8s"
      progress_deadline = "20s"
      {update}
    }}
    task "task" {{
      driver       = "raw_exec"
      kill_timeout = "1s"
      config {{
        command = "/bin/sh"
        args    = ["-c", "{command}"]
      }}
      env {{
        V = "{version}"
      }}
      resources {{
        cpu    = 50
        memory = {memory}
      }}
    }}
  }}
}}
"""


def name_in(file: str) -> str:
    return file.split('"')[1]


# --- deployments: one story for each way in which they end -------------------------------------


def test_successful_by_promotion(cluster: Cluster, web: Callable[..., str]) -> None:
    """Canaries stand beside the old version, through a pause, until somebody promotes them."""
    first, second = web(1), web(2, update="canary = 1")
    job = name_in(first)
    assert "successful" in cluster.ok("job", "run", "-", text=first)
    cluster.ok("job", "run", "-detach", "-", text=second)
    until(lambda: cluster.versions(job) == ["1", "1", "2"], "a canary beside both")
    waiting = until(
        lambda: [d for d in cluster.listed("deployment", "list") if d["Status"] == "running"],
        "it is listed",
    )
    (found,) = [one for one in waiting if one["JobID"] == job]
    until(lambda: cluster.deployment(job)["TaskGroups"]["main"]["HealthyAllocs"] == 1, "healthy")
    assert "requires manual promotion" in cluster.ok("deployment", "status", found["ID"])

    assert "paused" in cluster.ok("deployment", "pause", found["ID"][:8])
    said = cluster.ok("deployment", "promote", found["ID"][:8])
    assert f"serai deployment resume {found['ID'][:8]}" in said, "promoted, and still paused"
    paused = cluster.deployment(job)
    assert (paused["Status"], paused["StatusDescription"]) == ("paused", "Deployment is paused")
    assert cluster.versions(job) != ["2", "2"]
    said = cluster.ok("deployment", "resume", found["ID"][:8])
    cluster.until_deployment(job, "successful", 1)
    until(lambda: cluster.versions(job) == ["2", "2"], "the rollout went on")
    assert "successful" in cluster.ok("deployment", "status", found["ID"])
    assert "terminal" in cluster.refused("deployment", "pause", found["ID"])


def test_promoted_by_the_name_of_its_job(cluster: Cluster, web: Callable[..., str]) -> None:
    first, second = web(1, count=1), web(2, count=1, update="canary = 1")
    job = name_in(first)
    cluster.ok("job", "run", "-", text=first)
    cluster.ok("job", "run", "-detach", "-", text=second)
    until(
        lambda: cluster.deployment(job)["TaskGroups"]["main"]["HealthyAllocs"] == 1,
        "the canary is healthy",
        30,
    )
    assert cluster.versions(job) == ["1", "2"], "the canary runs beside the old version"
    cluster.ok("job", "promote", job)
    cluster.until_deployment(job, "successful", 1)
    until(lambda: cluster.versions(job) == ["2"], "the old version ended")
    assert "terminal" in cluster.refused("job", "promote", job)


def test_successful_by_itself(cluster: Cluster, web: Callable[..., str]) -> None:
    first, second = web(1), web(2, update="canary = 1\n auto_promote = true")
    cluster.ok("job", "run", "-detach", "-", text=first)
    cluster.until_deployment(name_in(first), "successful", 0)
    assert "successful" in cluster.ok("job", "run", "-", text=second)
    until(lambda: cluster.versions(name_in(first)) == ["2", "2"], "all follow")


def test_failed_and_rolled_back(cluster: Cluster, web: Callable[..., str]) -> None:
    """A version that does not get well is given up, and the last good one comes back."""
    first = web(1)
    job = name_in(first)
    cluster.ok("job", "run", "-", text=first)
    kept = set(cluster.processes(job))
    restart = 'restart {\n attempts = 0\n mode = "fail"\n}'
    bad = web(2, update="auto_revert = true", group=restart, command="exit 1")
    done = cluster.serai("job", "run", "-", text=bad)
    assert done.code == 1 and "rolling back to job version 0" in done.out, done.out
    until(lambda: cluster.versions(job) == ["1", "1"], "both run in the old version")
    assert kept & set(cluster.processes(job)), "one was never touched"
    rows = cluster.ok("job", "history", job)
    assert rows.count("Version") == 3, "the old version is a new one now"
    cluster.until_deployment(job, "successful", 2)
    states = [one["Status"] for one in cluster.listed("job", "deployments", job)]
    assert sorted(states) == ["failed", "successful", "successful"]


DEAF = """
network {
  port "p" {}
}
service {
  provider = "nomad"
  port     = "p"
  check {
    type     = "tcp"
    interval = "1s"
    timeout  = "1s"
  }
}
"""


def test_failed_by_the_progress_deadline(cluster: Cluster, web: Callable[..., str]) -> None:
    """A version that runs and whose checks never pass is given up; nobody asked to go back."""
    first = web(1, count=1)
    job = name_in(first)
    cluster.ok("job", "run", "-", text=first)
    deaf = web(2, count=1, group=DEAF).replace('"20s"', '"3s"').replace('"8s"', '"2s"')
    done = cluster.serai("job", "run", "-", text=deaf)
    assert done.code == 1 and "progress deadline" in done.out, done.out
    assert cluster.deployment(job)["TaskGroups"]["main"]["HealthyAllocs"] == 0
    assert cluster.versions(job) == ["2"]


def test_failed_by_hand(cluster: Cluster, web: Callable[..., str]) -> None:
    first, second = web(1), web(2, update="canary = 1")
    job = name_in(first)
    cluster.ok("job", "run", "-", text=first)
    cluster.ok("job", "run", "-detach", "-", text=second)
    until(lambda: cluster.versions(job) == ["1", "1", "2"], "a canary")
    assert "failed" in cluster.ok("deployment", "fail", cluster.deployment(job)["ID"])
    until(lambda: cluster.versions(job) == ["1", "1"], "the canary went")
    assert "marked as failed" in cluster.deployment(job)["StatusDescription"]


def test_cancelled_by_a_newer_version(cluster: Cluster, web: Callable[..., str]) -> None:
    first, second = web(1), web(2, update="canary = 1")
    job = name_in(first)
    cluster.ok("job", "run", "-", text=first)
    cluster.ok("job", "run", "-detach", "-", text=second)
    until(lambda: cluster.versions(job) == ["1", "1", "2"], "a canary")
    cluster.ok("job", "run", "-", text=web(3))
    until(lambda: cluster.versions(job) == ["3", "3"], "the third version")
    states = [one["Status"] for one in cluster.listed("job", "deployments", job)]
    assert sorted(states) == ["cancelled", "successful", "successful"]


def test_unblocking_is_for_jobs_over_several_regions(
    cluster: Cluster, web: Callable[..., str]
) -> None:
    cluster.ok("job", "run", "-detach", "-", text=web(1))
    found = until(lambda: cluster.deployment(name_in(web(1))), "its deployment")
    assert "unblock" in cluster.refused("deployment", "unblock", found["ID"])
    assert "no deployment" in cluster.refused("deployment", "status", "ffffffff").lower()


# --- jobs --------------------------------------------------------------------------------------


def test_scaled_reverted_restarted(cluster: Cluster, web: Callable[..., str]) -> None:
    first = web(1)
    job = name_in(first)
    cluster.ok("job", "run", "-", text=first)
    low = set(cluster.processes(job))
    cluster.ok("job", "scale", job, "main", "4")
    high = set(cluster.until_processes(job, 4))
    assert low < high, "two came, none moved"
    cluster.ok("job", "scale", "-detach", job, "2")
    assert set(cluster.until_processes(job, 2)) == low, "the highest indices went"
    assert "-3" in cluster.refused("job", "scale", job, "main", "-3")
    events = cluster.ok("job", "scaling-events", job)
    assert events.count("main") == 2, events

    cluster.ok("job", "tag", "apply", "-version", "0", "-name", "good", job)
    cluster.ok("job", "run", "-", text=web(2))
    cluster.ok("job", "revert", job, "good")
    until(lambda: cluster.versions(job) == ["1", "1"], "the tagged version")
    assert "version 77 not found" in cluster.refused("job", "revert", job, "77").lower()

    before = set(cluster.processes(job))
    cluster.ok("job", "restart", "-yes", job)
    after = set(cluster.until_processes(job, 2))
    assert not before & after, "each has a new process"
    rows = cluster.listed("job", "allocs", job)
    assert sum(row["ClientStatus"] == "running" for row in rows) == 2
    eval_id = cluster.ok("job", "eval", "-detach", job).strip()
    assert eval_id in [one["ID"] for one in cluster.listed("eval", "list", "-job", job)]

    (victim, *_) = [row["ID"] for row in rows if row["ClientStatus"] == "running"]
    cluster.ok("alloc", "stop", victim)
    until(
        lambda: victim not in {e["NOMAD_ALLOC_ID"] for e in cluster.processes(job).values()},
        "it was placed anew",
    )
    cluster.until_processes(job, 2)
    cluster.ok("job", "stop", job)
    cluster.until_gone(job)
    cluster.ok("job", "start", "-detach", job)
    cluster.until_processes(job, 2)


MAIL = """
job "mail" {
  type = "batch"
  parameterized {
    payload       = "required"
    meta_required = ["to"]
  }
  group "main" {
    task "task" {
      driver = "raw_exec"
      dispatch_payload {
        file = "letter"
      }
      config {
        command = "/bin/sh"
        args    = ["-c", "cat local/letter; echo to $NOMAD_META_to"]
      }
      resources {
        cpu    = 20
        memory = 16
      }
    }
  }
}
"""


def test_dispatched(cluster: Cluster) -> None:
    cluster.ok("job", "run", "-", text=MAIL)
    assert "payload" in cluster.refused("job", "dispatch", "-meta", "to=ann", "mail")
    assert "to" in cluster.refused("job", "dispatch", "mail", "-", text="dear")
    more = ("-meta", "to=ann", "-idempotency-token", "t1", "-detach", "mail", "-")
    first = cluster.ok("job", "dispatch", *more, text="dear\n")
    child = first.split("Dispatched Job ID = ")[1].split()[0]

    def ended() -> list[dict[str, Any]]:
        rows = cluster.get(f"job/{child}/allocations")
        return [row for row in rows if row["ClientStatus"] == "complete"]

    (alloc,) = until(ended, "the letter was sent")
    assert cluster.ok("alloc", "logs", alloc["ID"]) == "dear\nto ann\n"
    again = cluster.ok("job", "dispatch", *more, text="dear\n")
    assert again.split("Dispatched Job ID = ")[1].split()[0] == child, "one token, one child"
    assert cluster.ok("job", "status", "mail").count("mail/dispatch-") == 1
    cluster.ok("job", "stop", "-purge", "-detach", "mail")


CRON = """
job "cron" {
  type = "batch"
  periodic {
    crons            = ["0 0 1 1 *"]
    time_zone        = "Europe/Berlin"
    prohibit_overlap = true
  }
  group "main" {
    task "task" {
      driver = "raw_exec"
      config {
        command = "sleep"
        args    = ["600"]
      }
      resources {
        cpu    = 20
        memory = 16
      }
    }
  }
}
"""


def test_launched_by_force(cluster: Cluster) -> None:
    cluster.ok("job", "run", "-", text=CRON)
    status = cluster.ok("job", "status", "cron")
    assert "12-31T23:00:00" in status, "midnight of New Year in Berlin"
    assert "Evaluation" in cluster.ok("job", "periodic", "force", "-detach", "cron")
    child = until(
        lambda: [j["ID"] for j in cluster.get("jobs", prefix="cron/periodic-")], "its child"
    )[0]
    cluster.until_processes(child)
    assert child in cluster.ok("job", "status", "cron")
    assert "not periodic" in cluster.refused("job", "periodic", "force", child)
    cluster.stop_job("cron")
    cluster.stop_job(child)


# --- evaluations -------------------------------------------------------------------------------


def test_explained_waiting_and_deleted(cluster: Cluster, web: Callable[..., str]) -> None:
    """What finds no room says why, before and after; the queue is emptied by hand."""
    assert "1024 MiB" in cluster.serai("job", "run", "-", text=web(1, memory=5000)).error
    rest = service("rest", 1, count=CLIENTS, memory=700)
    cluster.ok("job", "run", "-", text=rest)
    big = web(1, count=1, memory=600)
    job = name_in(big)
    plan = cluster.serai("job", "plan", "-", text=big)
    assert plan.code == 1 and "memory" in plan.out, plan.out
    done = cluster.ok("job", "run", "-detach", "-", text=big)
    eval_id = done.split("Evaluation ID:")[1].split()[0]
    status = until(lambda: cluster.ok("eval", "status", eval_id), "its evaluation")
    until(lambda: "memory" in cluster.ok("eval", "status", eval_id), "the reason")
    status = cluster.ok("eval", "status", eval_id)
    assert f"{CLIENTS} nodes" in status and "exhausted" in status, status
    (blocked,) = cluster.listed("eval", "list", "-job", job, "-status", "blocked")
    cluster.stop_job("rest")
    cluster.until_processes(job)  # the room that appeared woke it
    (alloc,) = cluster.listed("job", "allocs", job)
    told = cluster.ok("alloc", "status", "-verbose", alloc["ID"])
    assert "Placement Metrics" in told and "binpack" in told, told
    until(
        lambda: not cluster.listed("eval", "list", "-job", job, "-status", "blocked"),
        "nothing waits any more",
    )
    assert "-yes" in cluster.refused("eval", "delete", blocked["ID"])
    cluster.ok("job", "stop", "-detach", job)
    cluster.until_gone(job)
    refused = cluster.refused("eval", "delete", "-yes", blocked["ID"])
    assert "PauseEvalBroker" in refused, refused
    cluster.ok("operator", "scheduler", "set-config", "-pause-eval-broker=true")
    try:
        assert "1 evaluation" in cluster.ok("eval", "delete", "-yes", blocked["ID"])
        assert "no evaluation" in cluster.refused("eval", "status", blocked["ID"]).lower()
    finally:
        cluster.ok("operator", "scheduler", "set-config", "-pause-eval-broker=false")


# --- nodes -------------------------------------------------------------------------------------


def test_drained_closed_purged(cluster: Cluster, web: Callable[..., str]) -> None:
    file = web(
        1, count=CLIENTS, top='constraint {\n operator = "distinct_hosts"\n value = "true"\n}'
    )
    job = name_in(file)
    cluster.ok("job", "run", "-", text=file)
    nodes = {node["ID"]: node["Name"] for node in cluster.listed("node", "status")}
    assert len(nodes) == CLIENTS
    gone, *_ = nodes

    assert "ineligible" in cluster.ok("node", "eligibility", "-disable", gone)
    cluster.until_processes(job, CLIENTS)  # what runs is not touched
    assert "eligible" in cluster.ok("node", "eligibility", "-enable", gone[:8])

    said = cluster.ok("node", "drain", "-enable", "-yes", "-deadline", "4s", "-m", "disk", gone)
    assert "drain complete" in said, said
    cluster.until_processes(job, CLIENTS - 1)
    (blocked,) = cluster.listed("eval", "list", "-job", job, "-status", "blocked")
    assert "distinct_hosts" in cluster.ok("eval", "status", blocked["ID"])
    told = cluster.ok("node", "status", gone)
    assert "Eligibility   = ineligible" in told and "Node drain complete" in told
    assert "unset" in cluster.ok("node", "drain", "-disable", "-yes", gone)
    cluster.until_processes(job, CLIENTS)  # the room that came back woke what waited

    assert "either" in cluster.refused("node", "eligibility", gone)
    assert "5x" in cluster.refused("node", "drain", "-enable", "-yes", "-deadline", "5x", gone)
    assert "purged" in cluster.ok("node", "purge", gone)
    until(lambda: len(cluster.listed("node", "status")) == CLIENTS, "its agent came again", 90)
    cluster.until_processes(job, CLIENTS)
    assert "no node" in cluster.refused("node", "purge", "ffffffff").lower()


def test_pooled(cluster: Cluster, web: Callable[..., str]) -> None:
    pool = 'node_pool "cards" {\n description = "with cards"\n meta {\n team = "ml"\n }\n}\n'
    assert "cards" in cluster.ok("node", "pool", "apply", "-", text=pool)
    assert "with cards" in cluster.ok("node", "pool", "list")
    assert "team" in cluster.ok("node", "pool", "info", "cards")
    assert cluster.ok("node", "pool", "nodes", "cards").strip() == "No nodes"
    assert len(cluster.listed("node", "pool", "nodes", "default")) == CLIENTS
    file = web(1, count=1, top='node_pool = "cards"')
    cluster.ok("job", "run", "-detach", "-", text=file)
    assert name_in(file) in cluster.ok("node", "pool", "jobs", "cards")
    assert not cluster.processes(name_in(file)), "no node of that pool"
    refused = cluster.refused("node", "pool", "delete", "cards")
    assert "job" in refused, refused
    cluster.ok("job", "stop", "-purge", "-detach", name_in(file))
    assert "deleted" in cluster.ok("node", "pool", "delete", "cards")
    assert "not allowed" in cluster.refused("node", "pool", "delete", "default")
    missing = cluster.refused("job", "run", "-detach", "-", text=file)
    assert "cards" in missing, missing


# --- the scheduler and the state ---------------------------------------------------------------


def test_the_important_displaces_where_it_may(cluster: Cluster) -> None:
    """By default services displace nobody; set-config lets them, and job plan names the victim."""
    low = [service(f"low{n}", 1, count=1, memory=700, top="priority = 20") for n in range(CLIENTS)]
    for file in low:
        cluster.ok("job", "run", "-detach", "-", text=file)
    for file in low:
        cluster.until_processes(name_in(file))
    high = service("high", 1, count=1, memory=600, top="priority = 80")
    assert "memory" in cluster.serai("job", "plan", "-", text=high).out
    before = cluster.ok("operator", "scheduler", "get-config")
    assert "Preemption Service Scheduler  = false" in before
    cluster.ok("operator", "scheduler", "set-config", "-preempt-service-scheduler=true")
    try:
        plan = cluster.serai("job", "plan", "-", text=high)
        assert "1 allocation of lower priority would be preempted" in plan.out, plan.out
        assert "low" in plan.out.split("preempted:")[1]
        cluster.ok("job", "run", "-", text=high)
        cluster.until_processes("high")
        left = [file for file in low if cluster.processes(name_in(file))]
        assert len(left) == CLIENTS - 1, "one gave way"
    finally:
        cluster.ok("operator", "scheduler", "set-config", "-preempt-service-scheduler=false")
        for file in [*low, high]:
            cluster.serai("job", "stop", "-purge", "-detach", name_in(file))
            cluster.until_gone(name_in(file))
    bad = cluster.refused("operator", "scheduler", "set-config", "-scheduler-algorithm", "nosuch")
    assert "binpack" in bad, "the answer names what there is"


def test_forgotten_and_recounted(cluster: Cluster, web: Callable[..., str]) -> None:
    file = web(1)
    job = name_in(file)
    cluster.ok("job", "run", "-", text=file)
    cluster.ok("job", "stop", job)
    cluster.until_gone(job)
    until(
        lambda: all(
            row["ClientStatus"] == "complete" for row in cluster.get(f"job/{job}/allocations")
        ),
        "its clients said so",
    )
    cluster.ok("system", "gc")
    until(lambda: "no job" in cluster.serai("job", "status", job).error.lower(), "it is forgotten")
    kept = web(1)
    cluster.ok("job", "run", "-", text=kept)
    before = cluster.get(f"job/{job}/summary")["Summary"]
    cluster.ok("system", "reconcile", "summaries")
    assert cluster.get(f"job/{job}/summary")["Summary"] == before
    assert before["main"]["Running"] == 2


# --- words that would break a server -----------------------------------------------------------


def test_absurd_jobs_are_answered_at_once(cluster: Cluster) -> None:
    """Each gets its answer, and the leader answers others meanwhile."""
    sound = service("absurd", 1, count=1)
    bomb = (
        'constraint {\n attribute = "${node.unique.name}"\n operator = "regexp"\n value = "%s"\n}'
    )
    many = "\n".join(
        f'constraint {{\n attribute = "${{meta.k{n}}}"\n value = "v"\n}}' for n in range(10_000)
    )
    jobs = {
        "sum overflows": sound.replace("memory = 32", f"memory = {2**62}"),
        "count": sound.replace("count = 1", "count = 1000000"),
        "constraints": service("absurd", 1, top=many),
        "regexp": service("absurd", 1, top=bomb % "(a+)+$"),
        "nested": service("absurd", 1, top=bomb % ("(" * 5000 + "a" + ")" * 5000)),
    }
    for what, file in jobs.items():
        began = time.monotonic()
        done = cluster.serai("job", "run", "-detach", "-", text=file)
        spent = time.monotonic() - began
        assert done.code in (0, 1) and "Traceback" not in done.error, (what, done)
        assert spent < 15, (what, spent)
        if done.code:
            assert done.error.strip(), what
        assert cluster.get("status/leader")
    cluster.serai("job", "stop", "-purge", "-detach", "absurd")
    cluster.until_gone("absurd")
