"""The agent's end of the supervisor program: ask for a start, hear how it went.

The launcher process is started with the first task and again should it die. It ends by
itself when the agent does: the stream of requests ends then.
"""

import marshal
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import trio

from core.agent.execution import supervisor

REPLY_BYTES = 4_096
START_TIMEOUT_S = 30.0


class LauncherDied(Exception):
    """The launcher ended before it answered. The start may or may not have happened."""


class Launcher:
    def __init__(self, nursery: trio.Nursery, lock_fd: int, log_path: Path) -> None:
        self._nursery = nursery
        self._lock_fd = lock_fd
        self._log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None
        self._requests: trio.SocketStream | None = None
        self._sending = trio.Lock()
        self._waiting: dict[int, _Waiter] = {}
        self._count = 0

    async def launch(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start a task: supervisor.supervise's request without its id; returns its reply.

        Raises:
            LauncherDied: No answer came.
        """
        self._count += 1
        number = self._count
        waiter = _Waiter()
        body = marshal.dumps({**request, "id": number})
        try:
            async with self._sending:
                if self._requests is None:
                    await self._open()
                assert self._requests is not None
                self._waiting[number] = waiter
                frame = len(body).to_bytes(supervisor.LENGTH_BYTES, "big") + body
                with trio.CancelScope(shield=True):  # half a frame would spoil the stream
                    await self._requests.send_all(frame)
            with trio.move_on_after(START_TIMEOUT_S):
                await waiter.done.wait()
        except (trio.BrokenResourceError, OSError) as error:
            raise LauncherDied(f"the task launcher does not take requests: {error}") from None
        finally:
            self._waiting.pop(number, None)
        if waiter.answer is None:
            raise LauncherDied("the task launcher ended before the task was started")
        return waiter.answer

    def close(self) -> None:
        """Let the launcher end. Supervisors and tasks stay."""
        if self._requests is not None:
            self._requests.socket.close()
            self._requests = None
        if self._process is not None:
            try:
                self._process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    async def _open(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        replies, reply_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fds = (theirs.fileno(), reply_end.fileno(), self._lock_fd)
        with theirs, reply_end, open(self._log_path, "ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", supervisor.__file__, *map(str, fds)],
                pass_fds=fds,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env={"PATH": os.defpath},
                start_new_session=True,  # a ^C at the agent's terminal is not for tasks
            )
        ours.setblocking(False)
        replies.setblocking(False)
        self._requests = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        self._nursery.start_soon(
            self._hear, trio.socket.from_stdlib_socket(replies), self._requests, self._process
        )

    async def _hear(
        self,
        replies: trio.socket.SocketType,
        requests: trio.SocketStream,
        process: subprocess.Popen[bytes],
    ) -> None:
        with replies:
            while True:
                try:
                    datagram = await replies.recv(REPLY_BYTES)
                except OSError:
                    datagram = b""
                if not datagram:
                    break
                answer = marshal.loads(datagram)
                waiter = self._waiting.get(answer["id"])
                if waiter is not None:
                    waiter.settle(answer)
        if self._requests is requests:
            self._requests = None
            requests.socket.close()
        process.wait()
        for waiter in list(self._waiting.values()):
            waiter.settle(None)


class _Waiter:
    def __init__(self) -> None:
        self.done = trio.Event()
        self.answer: dict[str, Any] | None = None

    def settle(self, answer: dict[str, Any] | None) -> None:
        if not self.done.is_set():
            self.answer = answer
            self.done.set()
