"""Serai's gossip beside memberlist and serf, each with a loopback of its own.

Each contender forms a pool of the same size on real sockets, with its defaults for a LAN,
in a network namespace of its own: so the kernel's counters of the loopback interface are
its bytes alone, headers included. It says three times where it is (a line of JSON each):

    joined      all members know all
    quiet       nothing happened for a while
    detected    one member was killed without a word, and all others know that it is dead

Ours and memberlist's members share a process each; serf's are agents of their own.
memberlist needs Go (it is built from bench/peers/memberlist), serf the command `serf`
(Debian: apt install serf). Who is not there is skipped, and it says so.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

MEMBERS: Final = 32
QUIET_S: Final = 20
LIMIT_S: Final = 180
CONTENDERS: Final = ("ours", "memberlist", "serf")
GO_SOURCE: Final = Path(__file__).parent / "memberlist"


class SkippedError(Exception):
    """A contender can't run here; the text says why and what would help."""


def measure(contender: str, members: int = MEMBERS, quiet_s: int = QUIET_S) -> dict[str, Any]:
    """Let one contender run; return its figures.

    Raises:
        SkippedError: it is not there, or namespaces are not allowed.
    """
    with tempfile.TemporaryDirectory(prefix="serai-peers-") as folder:
        command = _command(contender, members, quiet_s, Path(folder))
        with _in_namespace(command) as process:
            assert process.stdout is not None
            figures: dict[str, Any] = {}
            sent = 0
            for line in process.stdout:
                said = json.loads(line)
                if said["phase"] == "joined":
                    figures["join_s"] = round(said["s"], 2)
                    sent = _sent_bytes(process.pid)
                elif said["phase"] == "quiet":
                    rate = (_sent_bytes(process.pid) - sent) / quiet_s / members
                    figures["bytes_per_member_s"] = round(rate, 1)
                elif said["phase"] == "detected":
                    figures["detect_s"] = round(said["s"], 2)
    if "detect_s" not in figures:
        raise SkippedError(f"{contender} ended early; its last words are above")
    return figures


def _command(contender: str, members: int, quiet_s: int, folder: Path) -> list[str]:
    if contender == "memberlist":
        if shutil.which("go") is None:
            raise SkippedError("memberlist: Go is missing; install Go 1.21 or newer")
        program = folder / "memberlist"
        built = subprocess.run(
            ["go", "build", "-o", str(program), "."],
            cwd=GO_SOURCE,
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode != 0:
            raise SkippedError(f"memberlist: go build failed: {built.stderr.strip()[-300:]}")
        return [str(program), f"-members={members}", f"-quiet={quiet_s}s"]
    if contender == "serf" and shutil.which("serf") is None:
        raise SkippedError("serf: the command is missing; Debian has it: apt install serf")
    module = f"bench.peers.{contender}"
    return [sys.executable, "-m", module, str(members), str(quiet_s)]


@contextmanager
def _in_namespace(command: list[str]) -> Iterator[subprocess.Popen[str]]:
    """Run a command with a loopback of its own, at most for `LIMIT_S`."""
    alone = ["unshare", "--net", "--map-root-user"]
    up = ["ip", "link", "set", "lo", "up"]
    if any(shutil.which(tool) is None for tool in ("unshare", "ip", "timeout")):
        raise SkippedError("namespaces: unshare, ip and timeout are needed (util-linux, iproute2)")
    allowed = subprocess.run([*alone, *up], capture_output=True, text=True, check=False)
    if allowed.returncode != 0:
        raise SkippedError(f"namespaces: not allowed here: {allowed.stderr.strip()[-200:]}")
    script = f'{" ".join(up)} && exec timeout {LIMIT_S} "$@"'
    process = subprocess.Popen(
        [*alone, "sh", "-c", script, "sh", *command], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _sent_bytes(pid: int) -> int:
    """Return the bytes that a process's loopback interface has sent."""
    for line in Path(f"/proc/{pid}/net/dev").read_text().splitlines():
        name, _, numbers = line.partition(":")
        if name.strip() == "lo":
            return int(numbers.split()[8])
    raise SkippedError("namespaces: no loopback interface in it")


def compare(members: int = MEMBERS, quiet_s: int = QUIET_S) -> dict[str, dict[str, Any] | None]:
    """Let all contenders run in turn; print a table; None for who was skipped."""
    figures: dict[str, dict[str, Any] | None] = {}
    print(f"{members} members on loopback")
    print(f"{'':12}{'join_s':>10}{'detect_s':>10}{'bytes_per_member_s':>20}")
    for contender in CONTENDERS:
        try:
            row = figures[contender] = measure(contender, members, quiet_s)
        except SkippedError as reason:
            figures[contender] = None
            print(f"{contender:12}  skipped: {reason}", flush=True)
            continue
        print(
            f"{contender:12}{row['join_s']:>10}{row['detect_s']:>10}"
            f"{row['bytes_per_member_s']:>20}",
            flush=True,
        )
    return figures
