"""`make demo`: two regions on this machine, a job that travels, failures, and the way out.

Every step is a command of the public CLI, printed so that it can be copied. No claim is
taken from our own API: processes are counted in /proc by their NOMAD_* environment, what
was acknowledged is kept by the writer and compared at the end. The last table says what
was claimed, what was measured, and by which command; the exit code is 1 if a row fails.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

BIG = """\
job "big" {
  federation {
    spillover {
      regions = ["us"]
    }
  }
  update {
    min_healthy_time = "2s"
  }
  group "db" {
    count = 2
    task "db" {
      driver = "raw_exec"
      config {
        command = "sleep"
        args    = ["86400"]
      }
      resources {
        cpu    = 100
        memory = 1024
      }
    }
  }
}
"""
WEB = BIG.replace('"big"', '"web"').replace("1024", "64").split("  federation")[0] + BIG[
    BIG.index("  update") :
].replace("1024", "64")
WRITE_S = 7.0  # the writer writes this long; the leader dies a third of the way in
FAILOVER_LIMIT_S = 5.0
WAIT_S = 30.0


class Row(NamedTuple):
    claim: str
    measured: str
    command: str
    is_met: bool


class Demo:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[Row] = []
        self.address = ""
        self._serai = [sys.executable, "-P", "-m", "core.cli.main"]

    # --- running commands -------------------------------------------------------------------

    def serai(self, line: str, *, quiet: bool = False, text: str | None = None) -> str:
        """Print and run a command; return what it printed."""
        if not quiet:
            print(f"\n$ serai {line}", flush=True)
        done = subprocess.run(
            [*self._serai, *shlex.split(line)],
            capture_output=True,
            text=True,
            input=text,
            check=False,
            cwd=self.folder,
            env={**os.environ, "SERAI_ADDR": self.address, "SERAI_DEV_DIR": str(self.dev)},
        )
        output = (done.stdout + done.stderr).rstrip()
        if not quiet and output:
            print("  " + output.replace("\n", "\n  "), flush=True)
        return output

    @property
    def dev(self) -> Path:
        return self.folder / "federation"

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.serai("dev status -json", quiet=True))
        return found

    def say(self, text: str) -> None:
        print(f"\n--- {text}", flush=True)

    def check(self, claim: str, measured: str, command: str, *, is_met: bool) -> None:
        self.rows.append(Row(claim, measured, command, is_met))

    # --- the story --------------------------------------------------------------------------

    def run(self) -> None:
        self.start()
        self.forward()
        self.kill_leader()
        self.cut()
        self.simulate()

    def start(self) -> None:
        self.say("two regions, three servers and two clients each: ten processes")
        began = time.monotonic()
        self.serai(
            "dev -detach -regions eu,us -servers 3 -clients 2 -memory eu=512,us=4096 "
            f"-dir {shlex.quote(str(self.dev))}"
        )
        took_s = time.monotonic() - began
        agents = self.status()["agents"]
        self.address = next(agent["api"] for agent in agents if agent["region"] == "eu")
        print(f"\n$ export SERAI_ADDR={self.address} SERAI_DEV_DIR={self.dev}")
        self.serai("server members")
        alive = sum(Path(f"/proc/{agent['pid']}").exists() for agent in agents)
        self.check(
            "a federation starts with one command",
            f"{alive} processes in /proc after {took_s:.1f} s",
            "serai dev",
            is_met=alive == 10,
        )

    def forward(self) -> None:
        self.say("a job that no node of eu can hold: planned with every datacenter's verdict")
        (self.folder / "big.nomad.hcl").write_text(BIG)
        (self.folder / "web.nomad.hcl").write_text(WEB)
        plan = self.serai("job plan big.nomad.hcl")
        self.check(
            "job plan names each datacenter's verdict and the digest's age",
            f"{plan.count('dc1')} datacenters judged",
            "serai job plan big.nomad.hcl",
            is_met="too big" in plan and "fits" in plan,
        )
        self.say("the same job run at the eu agent: it runs in us")
        self.serai("job run big.nomad.hcl")
        regions = wait_for(lambda: task_regions("big"), lambda found: found == ["us", "us"])
        self.check(
            "a job too big for eu runs in us",
            f"processes of big in /proc: {', '.join(regions) or 'none'}",
            "serai job run big.nomad.hcl",
            is_met=regions == ["us", "us"],
        )
        self.serai("job run -detach web.nomad.hcl")
        self.serai("job status")

    def kill_leader(self) -> None:
        self.say("kill -9 of the eu leader while a writer registers jobs")
        leader = next(
            agent
            for agent in self.status()["agents"]
            if agent["region"] == "eu" and agent["role"] == "leader"
        )
        others = [
            agent["api"]
            for agent in self.status()["agents"]
            if agent["region"] == "eu" and agent["role"] == "server"
        ]
        writer = Writer(self, others)
        thread = threading.Thread(target=writer.run)
        thread.start()
        time.sleep(WRITE_S / 3)
        print(f"\n$ kill -9 {leader['pid']}    # {leader['name']}, the leader", flush=True)
        subprocess.run(["kill", "-9", str(leader["pid"])], check=True)
        killed = time.monotonic()
        thread.join()
        gap_s = next(
            (ended - killed for began, ended, _ in writer.acknowledged if began > killed), WAIT_S
        )
        self.address = others[0]
        listed = json.loads(self.serai("operator api /v1/jobs?prefix=write-", quiet=True))
        known = {job["ID"] for job in listed}
        lost = [name for _, _, name in writer.acknowledged if name not in known]
        print(
            f"  next write accepted {gap_s:.2f} s after the kill;"
            f" {len(writer.acknowledged)} acknowledged, {len(lost)} lost"
        )
        self.check(
            "a dead leader is replaced",
            f"next write after {gap_s:.2f} s",
            f"kill -9 {leader['pid']}",
            is_met=gap_s < FAILOVER_LIMIT_S,
        )
        self.check(
            "nothing acknowledged is lost",
            f"{len(writer.acknowledged)} acknowledged, {len(lost)} lost",
            "serai operator api /v1/jobs?prefix=write-",
            is_met=bool(writer.acknowledged) and not lost,
        )
        self.serai(f"dev start {leader['name']}")
        running = len(task_regions("web"))
        self.check(
            "running work does not notice",
            f"{running} processes of web in /proc",
            "serai job run web.nomad.hcl",
            is_met=running == 2,
        )

    def cut(self) -> None:
        self.say("the WAN between eu and us is cut, and healed")
        self.serai("dev cut eu us")
        asked = self.serai("job status -region us")
        running = len(task_regions("big"))
        self.check(
            "a cut is told plainly, and work goes on",
            f"{running} processes of big; the CLI says: {asked.splitlines()[-1][:60]}",
            "serai dev cut eu us",
            is_met=running == 2 and "Error" in asked,
        )
        self.serai("dev heal")
        answered = wait_for(
            lambda: self.serai("job status -region us", quiet=True),
            lambda text: "big" in text and "Error" not in text,
        )
        self.serai("job status big")
        self.check(
            "after healing eu reaches us again",
            answered.splitlines()[-1][:60] if answered else "nothing",
            "serai dev heal",
            is_met="big" in answered,
        )

    def simulate(self) -> None:
        self.say("the same machines on virtual time: 3 datacenters, 30 nodes, a cut and a crash")
        scenario = Path(__file__).resolve().parents[2] / "examples" / "small.hcl"
        first = self.serai(f"sim run {shlex.quote(str(scenario))} -until 2m")
        again = self.serai(f"sim run {shlex.quote(str(scenario))} -until 2m", quiet=True)
        hashes = [_line(text, "trace hash") for text in (first, again)]
        self.check(
            "the simulator repeats bit for bit",
            f"trace hash {hashes[0][:16]}... twice" if hashes[0] else "no trace hash",
            "serai sim run examples/small.hcl",
            is_met=bool(hashes[0]) and hashes[0] == hashes[1] and "VIOLATION" not in first,
        )

    def stop(self) -> None:
        self.say("the way out")
        pids = [agent["pid"] for agent in self.status()["agents"]]
        for job in ("big", "web"):
            self.serai(f"job stop -purge -detach {job}")
        wait_for(lambda: task_regions("big") + task_regions("web"), lambda found: not found)
        self.serai("dev down")
        print(f"\n$ rm -r {self.dev}    # -dir keeps logs and state; without -dir nothing is kept")
        shutil.rmtree(self.dev, ignore_errors=True)
        left = wait_for(
            lambda: [pid for pid in pids if is_alive(pid)] + task_pids(str(self.dev)),
            lambda found: not found,
        )
        files = list(self.dev.rglob("*"))
        self.check(
            "nothing is left behind",
            f"{len(left)} processes, {len(files)} files left",
            "serai dev down",
            is_met=not left and not files,
        )

    def report(self) -> int:
        print()
        width = max(len(row.claim) for row in self.rows)
        measured = max(len(row.measured) for row in self.rows)
        for row in self.rows:
            mark = "ok  " if row.is_met else "FAIL"
            print(f"{mark} {row.claim:{width}}  {row.measured:{measured}}  {row.command}")
        return 0 if all(row.is_met for row in self.rows) else 1


class Writer:
    """Registers one job after another and remembers what was acknowledged."""

    def __init__(self, demo: Demo, addresses: list[str]) -> None:
        self.acknowledged: list[tuple[float, float, str]] = []  # began, ended, name
        self._demo = demo
        self._addresses = addresses

    def run(self) -> None:
        began = time.monotonic()
        number = 0
        while time.monotonic() - began < WRITE_S:
            number += 1
            name = f"write-{number}"
            task = {"Name": "none", "Driver": "raw_exec", "Config": {"command": "true"}}
            group = {"Name": "none", "Count": 0, "Tasks": [task]}
            job = {"ID": name, "Name": name, "Type": "batch", "TaskGroups": [group]}
            body = {"Job": job}
            asked = time.monotonic()
            address = self._addresses[number % len(self._addresses)]
            answer = self._demo.serai(
                f"operator api -address {address} -X PUT /v1/jobs -",
                quiet=True,
                text=json.dumps(body),
            )
            if "EvalID" in answer:
                self.acknowledged.append((asked, time.monotonic(), name))


# --- looking from outside ---------------------------------------------------------------------


def environments() -> list[tuple[int, dict[str, str]]]:
    """Return pid and environment of every process that carries NOMAD_ALLOC_ID."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            raw = (entry / "environ").read_bytes()
        except OSError:
            continue
        if b"NOMAD_ALLOC_ID=" in raw:
            pairs = [item.partition("=") for item in raw.decode(errors="replace").split("\0")]
            found.append((int(entry.name), {key: value for key, _, value in pairs if key}))
    return found


def task_regions(job: str) -> list[str]:
    """Return the region of each process of a job, as its environment says."""
    return sorted(
        env.get("NOMAD_REGION", "") for _, env in environments() if env.get("NOMAD_JOB_ID") == job
    )


def task_pids(folder: str) -> list[int]:
    """Return the pids of tasks whose folders lie under `folder`."""
    return [pid for pid, env in environments() if env.get("NOMAD_TASK_DIR", "").startswith(folder)]


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def wait_for(look: Callable[[], Any], is_enough: Callable[[Any], bool]) -> Any:
    """Look again and again until it is enough, at most `WAIT_S`; return the last sight."""
    give_up = time.monotonic() + WAIT_S
    while True:
        seen = look()
        if is_enough(seen) or time.monotonic() > give_up:
            return seen
        time.sleep(0.2)


def _line(text: str, name: str) -> str:
    for line in text.splitlines():
        if line.strip().startswith(name):
            return line.strip().removeprefix(name).strip()
    return ""


def main(arguments: list[str]) -> int:
    folder = Path(tempfile.mkdtemp(prefix="serai-demo-"))
    demo = Demo(folder)
    keep = "--keep" in arguments
    began = time.monotonic()
    try:
        demo.run()
        if keep:
            demo.say("the federation goes on running; what to type next")
            print(f"  export SERAI_ADDR={demo.address} SERAI_DEV_DIR={demo.dev}")
            print("  serai job status\n  serai dev status\n  serai dev down")
        else:
            demo.stop()
    finally:
        if not keep:
            demo.serai("dev down", quiet=True)
            shutil.rmtree(folder, ignore_errors=True)
    code = demo.report()
    print(f"\n{time.monotonic() - began:.0f} s in all")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
