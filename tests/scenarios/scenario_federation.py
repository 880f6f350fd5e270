"""Two regions of real agents, driven as a user drives them: by the CLI and over HTTP."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import httpx
from scenario_processes import kill_all, processes_below, task_processes, until

EU_MIB, US_MIB = 512, 4096  # memory of the one client in each region


class Done(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    error: str


def serai(*words: str, text: str | None = None, limit_s: float = 40.0, **settings: str) -> Done:
    """Run the CLI as its own process; `settings` are added to its environment."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("NOMAD_", "SERAI_"))}
    done = subprocess.run(
        [sys.executable, "-m", "core.cli.main", *words],
        capture_output=True, text=True, input=text, timeout=limit_s, check=False,
        env={**kept, **settings},
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


class Federation:
    """`serai dev` in the background: regions eu and us, three servers and a client each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.http = httpx.Client(timeout=15.0)
        self._addresses: dict[str, str] = {}  # name -> API; they never change

    # --- life ---------------------------------------------------------------------------

    def start(self) -> None:
        self.dev(
            "-detach", "-regions", "eu,us", "-servers", "3", "-clients", "1",
            "-memory", f"eu={EU_MIB},us={US_MIB}",
        )  # fmt: skip
        self._addresses = {one["name"]: one["api"] for one in self.agents()}

    def stop(self) -> None:
        self.http.close()
        try:
            if (self.folder / "control.sock").exists():
                self.dev("down")
        finally:
            left = processes_below(self.folder)
            kill_all(left)
        assert not left, f"processes of the federation were left: {left}"

    def dev(self, *words: str) -> str:
        """Run `serai dev` on this federation and return what it printed."""
        done = serai("dev", "-dir", str(self.folder), *words, limit_s=90)
        assert done.code == 0, f"serai dev {' '.join(words)}: {done.error or done.out}"
        return done.out

    def agents(self) -> list[dict[str, Any]]:
        return list(json.loads(self.dev("status", "-json"))["agents"])

    def agent(self, name: str) -> dict[str, Any]:
        return next(one for one in self.agents() if one["name"] == name)

    def leader(self, region: str) -> dict[str, Any]:
        """Return the agent that leads a region, once there is one."""

        def look() -> list[dict[str, Any]]:
            return [a for a in self.agents() if a["region"] == region and a["role"] == "leader"]

        return until(look, f"a leader in {region}")[0]

    def address(self, name: str = "eu-dc1-server-1") -> str:
        return self._addresses[name]

    # --- jobs ---------------------------------------------------------------------------

    def serai(self, *words: str, at: str = "eu-dc1-server-1", text: str | None = None) -> Done:
        """Run a command of the CLI against an agent."""
        return serai(*words, text=text, SERAI_ADDR=self.address(at))

    def run(self, job: str, *flags: str, at: str = "eu-dc1-server-1") -> Done:
        return self.serai("job", "run", *flags, "-", at=at, text=job)

    def stop_job(self, job_id: str, at: str = "eu-dc1-server-1") -> None:
        """Stop and forget a job; return when none of its processes is left."""
        done = self.serai("job", "stop", "-purge", "-detach", job_id, at=at)
        assert done.code == 0, done.error
        self.until_gone(job_id)

    def processes(self, job_id: str) -> dict[int, dict[str, str]]:
        return task_processes(job_id, self.folder)

    def until_processes(self, job_id: str, count: int = 1) -> dict[int, dict[str, str]]:
        def look() -> dict[int, dict[str, str]]:
            found = self.processes(job_id)
            return found if len(found) == count else {}

        return until(look, f"{count} processes of {job_id}")

    def until_gone(self, job_id: str) -> None:
        until(lambda: not self.processes(job_id), f"no process of {job_id} is left")

    def get(self, path: str, *, at: str = "eu-dc1-server-1", **params: str) -> Any:
        answer = self.http.get(f"{self.address(at)}/v1/{path}", params=params)
        assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text}"
        return answer.json()


def a_job(
    job_id: str,
    *,
    count: int = 1,
    memory_mib: int = 32,
    extra: str = "",
    group: str = "",
    command: tuple[str, ...] = ("sleep", "600"),
) -> str:
    """Return the file of a service of one task; `extra` and `group` go into these blocks."""
    return f"""
job "{job_id}" {{
  {extra}
  group "main" {{
    count = {count}
    update {{
      min_healthy_time = "0s"
    }}
    {group}
    task "task" {{
      driver       = "raw_exec"
      kill_timeout = "2s"
      config {{
        command = {json.dumps(command[0])}
        args    = {json.dumps(list(command[1:]))}
      }}
      resources {{
        cpu    = 50
        memory = {memory_mib}
      }}
    }}
  }}
}}
"""
