"""How other terminals speak to a running federation: a line of JSON there, one back.

The supervisor listens on a unix socket; its path stands in `cluster.json` in the
federation's folder, next to the agents' folders. Only the user who started it may
connect (the folder is 0700).

    ask(folder, "cut", ["eu", "us"]) -> {"lines": [...], ...}
"""

import contextlib
import errno
import json
import os
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import trio

from core.devcluster.orphans import start_time

STATE_FILE = "cluster.json"
FOLDER_PREFIX = "serai-federation-"
_SOCKET = "control.sock"
_MAX_SOCKET_PATH = 100  # bytes; the kernel's limit is 108
_MAX_LINE = 1 << 20
_ANSWER_TIMEOUT_S = 120.0  # `down` and `start` wait for processes

Answer = dict[str, Any]
Handler = Callable[[str, list[str]], Awaitable[Answer]]


class ControlError(Exception):
    """The federation is not there, or refused; the message is for people."""


def write_state(folder: Path, socket_path: Path) -> None:
    """Say in the folder that this process serves it."""
    state = {
        "pid": os.getpid(),
        "started": start_time(os.getpid()),
        "socket": str(socket_path),
    }
    (folder / STATE_FILE).write_text(json.dumps(state) + "\n")


def is_served(folder: Path) -> bool:
    """Whether a federation runs in this folder."""
    return _live_state(folder) is not None


def find_folder(named: str = "") -> Path:
    """Return the folder of the running federation: the named one, or the only one.

    Raises:
        ControlError: There is none there, or there are several.
    """
    if named:
        folder = Path(named).absolute()
        if not is_served(folder):
            raise ControlError(f"no federation runs in {folder}; start one with: serai dev")
        return folder
    pattern = f"{FOLDER_PREFIX}*"
    found = [path for path in sorted(Path(tempfile.gettempdir()).glob(pattern)) if is_served(path)]
    if not found:
        raise ControlError(
            "no federation runs here; start one with: serai dev "
            "(one started with -dir needs it here too, or SERAI_DEV_DIR)"
        )
    if len(found) > 1:
        listed = "\n".join(f"  -dir {path}" for path in found)
        raise ControlError(f"several federations run here, say which:\n{listed}")
    return found[0]


def ask(folder: Path, command: str, args: list[str]) -> Answer:
    """Send one command and return the answer.

    Raises:
        ControlError: The federation is gone, or refused with a message.
    """
    state = _live_state(folder)
    if state is None:
        raise ControlError(f"the federation in {folder} is gone")
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plug:
            plug.settimeout(_ANSWER_TIMEOUT_S)
            plug.connect(state["socket"])
            plug.sendall(json.dumps({"command": command, "args": args}).encode() + b"\n")
            with plug.makefile("rb") as lines:
                line = lines.readline()
    except OSError as error:
        raise ControlError(f"the federation in {folder} does not answer: {error}") from error
    if not line:
        raise ControlError(f"the federation in {folder} ended before it answered")
    answer: Answer = json.loads(line)
    if "error" in answer:
        raise ControlError(answer["error"])
    return answer


@contextlib.contextmanager
def socket_path(folder: Path) -> Iterator[Path]:
    """Yield where to listen: in the folder, or elsewhere when its path is too long."""
    path = folder / _SOCKET
    if len(os.fsencode(path)) <= _MAX_SOCKET_PATH:
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)
        return
    with tempfile.TemporaryDirectory(prefix="serai-control-") as short:
        yield Path(short) / _SOCKET


async def serve(
    path: Path,
    handler: Handler,
    task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer commands until cancelled; started once it listens.

    `handler` raises ValueError to refuse.
    """
    path.unlink(missing_ok=True)
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plug:
        await plug.bind(str(path))
        path.chmod(0o600)
        plug.listen(16)
        task_status.started()
        listener = trio.SocketListener(plug)

        async def answer(stream: trio.SocketStream) -> None:
            async with stream:
                with contextlib.suppress(trio.BrokenResourceError):
                    await stream.send_all(await _answer(await _read_line(stream), handler))

        await trio.serve_listeners(answer, [listener])


async def _answer(line: bytes, handler: Handler) -> bytes:
    try:
        request = json.loads(line)
        command, args = str(request["command"]), [str(arg) for arg in request["args"]]
    except (ValueError, KeyError, TypeError):
        return b'{"error": "not understood"}\n'
    try:
        result = await handler(command, args)
    except (ValueError, OSError) as error:
        result = {"error": str(error)}
    return json.dumps(result).encode() + b"\n"


async def _read_line(stream: trio.SocketStream) -> bytes:
    line = b""
    while b"\n" not in line and len(line) < _MAX_LINE:
        chunk = await stream.receive_some()
        if not chunk:
            break
        line += chunk
    return line


def _live_state(folder: Path) -> dict[str, Any] | None:
    """Return what the folder says of its server, None when that is not alive."""
    try:
        state: dict[str, Any] = json.loads((folder / STATE_FILE).read_text())
        if state["started"] is None or start_time(state["pid"]) != state["started"]:
            return None
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.EACCES, errno.ENOTDIR}:
            return None
        raise
    except (ValueError, KeyError, TypeError):
        return None
    return state
