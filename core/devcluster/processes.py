"""The agents' processes: start, signal, wait, and say in words how one ended."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import trio

import core
from core.devcluster.layout import AgentSpec

_LOG_TAIL = 12  # lines shown of an agent that did not start
_STOPPED = {signal.SIGSTOP, signal.SIGTSTP}


# -P: whatever package lies in the current folder, it is not ours.
PROGRAM = (sys.executable, "-P", "-m", "core.devcluster.launch")


def own_environment() -> dict[str, str]:
    """Return our environment, with this very code first on the path of child processes."""
    environment = dict(os.environ)
    root = str(Path(core.__file__).parent.parent)
    inherited = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [root, inherited]))
    return environment


@dataclass
class AgentProcess:
    """One agent's process, or the lack of it.

    `state`: "new", "running", "paused" (SIGSTOP), "ended".
    Invariant: `process` is set exactly while `state` is running or paused.
    """

    spec: AgentSpec
    folder: Path
    command: str = "serai dev"  # what people type to reach the federation
    program: tuple[str, ...] = PROGRAM
    state: str = "new"
    ending: str = ""  # how the last process ended
    is_wanted: bool = True  # False once we ourselves asked it to end
    process: "subprocess.Popen[bytes] | None" = None
    ended: trio.Event = field(default_factory=trio.Event)  # of the last process

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None else None

    @property
    def has_given_up(self) -> bool:
        """Whether it ended by itself, with an exit code, unasked."""
        return self.state == "ended" and self.is_wanted and self.ending.startswith("ended")

    @property
    def config_path(self) -> Path:
        return self.folder / "agent.hcl"

    @property
    def log_path(self) -> Path:
        return self.folder / "agent.log"

    def start(self) -> None:
        """Start the process; its output is appended to `log_path`.

        Called in the main thread: the kernel ends an agent with the *thread* that started
        it (launch.py), and trio's worker threads come and go.
        """
        assert self.process is None, f"{self.spec.name} runs already"
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*self.program, "agent", "-config", str(self.config_path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=own_environment(),
                # Not in our group: Ctrl-C reaches us alone, and we stop them in order.
                start_new_session=True,
            )
        self.ended = trio.Event()
        self.state, self.ending, self.is_wanted = "running", "", True

    async def watch(self, report: Callable[[str], None]) -> None:
        """Return when the process has ended; an end nobody asked for is reported."""
        process = self.process
        assert process is not None
        pidfd = os.pidfd_open(process.pid)
        try:
            await trio.lowlevel.wait_readable(pidfd)
        finally:
            os.close(pidfd)
        code = process.wait()  # it has ended: this only collects it
        self.process, self.state, self.ending = None, "ended", _ending(code)
        self.ended.set()
        if self.is_wanted:
            report(
                f"{self.spec.name} {self.ending}; start it again with: "
                f"{self.command} start {self.spec.name}"
            )

    def send(self, number: int) -> None:
        """Send a signal.

        Raises:
            ValueError: There is no process.
        """
        if self.process is None:
            raise ValueError(f"{self.spec.name} does not run")
        self.process.send_signal(number)
        if number in _STOPPED:
            self.state = "paused"
        elif number == signal.SIGCONT:
            self.state = "running"

    def log_tail(self) -> list[str]:
        """Return the last lines of the log."""
        try:
            return self.log_path.read_text(errors="replace").splitlines()[-_LOG_TAIL:]
        except OSError:
            return []


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    verb = "was killed" if -code == signal.SIGKILL else "was ended"
    return f"{verb} (signal {-code})"
