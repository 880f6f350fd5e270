"""`serai alloc logs` and `serai alloc fs`: what an allocation wrote."""

import queue
import random
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import click

from core.cli.client import segment
from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.resolve import ALLOCATION, fetch, resolve_id, resolve_job
from core.cli.session import Session, api_command

_DEFAULT_LINES = 10  # of -tail
_PAUSE_S = 0.3  # after which a followed log counts as read up to now
_BYTES_A_LINE = 160  # guess: how far back to read for a line; too little is read again


@api_command()
@click.argument("target")
@click.argument("task", required=False)
@option("-c", "byte_count", type=int, help="Only so many bytes from the end")
@option("-f", "follow", is_flag=True, help="Go on with what comes")
@option("-job", "by_job", is_flag=True, help="TARGET is a job: show one of its allocations")
@option("-n", "line_count", type=int, help="Only so many lines from the end")
@option("-stderr", "only_stderr", is_flag=True, help="Standard error instead of output")
@option("-stdout", "only_stdout", is_flag=True, help="Standard output (the default)")
@option("-tail", is_flag=True, help=f"The last {_DEFAULT_LINES} lines")
@option("-task", "named", metavar="task", help="The task; needed when there are several")
@option("-verbose", is_flag=True, hidden=True)
def logs(
    session: Session,
    *,
    target: str,
    task: str | None,
    byte_count: int | None,
    follow: bool,
    by_job: bool,
    line_count: int | None,
    only_stderr: bool,
    only_stdout: bool,
    tail: bool,
    named: str | None,
    verbose: bool,
) -> int:
    """Show a task's output. TARGET is an allocation's id or its beginning."""
    if only_stderr and only_stdout:
        raise CliError("-stdout and -stderr exclude each other")
    alloc = _alloc_of_job(session, target) if by_job else _alloc(session, target)
    params: dict[str, Any] = {
        "task": _task_of(alloc, named or task or ""),
        "type": "stderr" if only_stderr else "stdout",
        "plain": True,
    }
    route = f"/v1/client/fs/logs/{segment(alloc['ID'])}"
    if tail and line_count is None and byte_count is None:
        line_count = _DEFAULT_LINES
    show_log(session, route, params, follow=follow, line_count=line_count, byte_count=byte_count)
    return 0


def show_log(
    session: Session,
    route: str,
    params: dict[str, Any],
    *,
    follow: bool,
    line_count: int | None,
    byte_count: int | None,
) -> None:
    """Copy a log to stdout: all of it, or its last lines or bytes, and then what comes.

    The API knows bytes, not lines: the end of the log is read, longer if it holds too few
    lines. When following, one stream gives both the end and what comes, so nothing is lost
    between two requests.
    """
    wanted = byte_count if byte_count is not None else (line_count or 0) * _BYTES_A_LINE
    if line_count is None and byte_count is None:
        _copy(session.api.stream(route, follow=follow, origin="start", **params))
    elif follow:
        stream = session.api.stream(route, follow=True, origin="end", offset=wanted, **params)
        end, rest = _split_at_pause(stream, wanted)
        _copy([end if byte_count is not None else last_lines(end, line_count or 0)])
        _copy(rest)
    else:
        _copy([_read_end(session, route, params, line_count=line_count, wanted=wanted)])


def _read_end(
    session: Session, route: str, params: dict[str, Any], *, line_count: int | None, wanted: int
) -> bytes:
    while True:
        end = b"".join(session.api.stream(route, origin="end", offset=wanted, **params))
        if line_count is None:
            return end
        if len(end) < wanted or end.count(b"\n") > line_count:
            return last_lines(end, line_count)
        wanted = max(wanted, _BYTES_A_LINE) * 4


def _split_at_pause(stream: Iterator[bytes], wanted: int) -> tuple[bytes, Iterator[bytes]]:
    """Return what a followed log held when it was opened, and the iterator of the rest.

    The stream does not say where the old content ends: that is where `wanted` bytes are
    there, or nothing came for a moment.
    """
    chunks: queue.Queue[bytes | BaseException | None] = queue.Queue()

    def pull() -> None:
        try:
            for chunk in stream:
                chunks.put(chunk)
            chunks.put(None)
        except BaseException as error:
            chunks.put(error)

    threading.Thread(target=pull, daemon=True).start()
    end, has_ended = b"", False
    while len(end) < wanted and not has_ended:
        try:
            item = chunks.get(timeout=_PAUSE_S)
        except queue.Empty:
            break
        if isinstance(item, BaseException):
            raise item
        has_ended = item is None
        end += item or b""

    def rest() -> Iterator[bytes]:
        while not has_ended:
            item = chunks.get()
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    return end, rest()


def _copy(chunks: Iterable[bytes]) -> None:
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


def last_lines(data: bytes, count: int) -> bytes:
    """Return the last `count` lines; a line that has no end yet counts as one."""
    lines = data.splitlines(keepends=True)
    return b"".join(lines[-count:]) if count > 0 else b""


@api_command()
@click.argument("target")
@click.argument("path", default="/")
@option("-c", "byte_count", type=int, help="Only so many bytes from the end")
@option("-f", "follow", is_flag=True, help="Go on with what comes")
@option("-H", "human", is_flag=True, help="Sizes in KiB and MiB")
@option("-job", "by_job", is_flag=True, help="TARGET is a job: look into one allocation")
@option("-n", "line_count", type=int, help="Only so many lines from the end")
@option("-stat", is_flag=True, help="About the file itself, not its content")
@option("-tail", is_flag=True, help=f"The last {_DEFAULT_LINES} lines")
@option("-verbose", is_flag=True, hidden=True)
def fs(
    session: Session,
    *,
    target: str,
    path: str,
    byte_count: int | None,
    follow: bool,
    human: bool,
    by_job: bool,
    line_count: int | None,
    stat: bool,
    tail: bool,
    verbose: bool,
) -> int:
    """List a folder of an allocation, or show a file. PATH begins at its top folder."""
    alloc = _alloc_of_job(session, target) if by_job else _alloc(session, target)
    route = f"/v1/client/fs/{{}}/{segment(alloc['ID'])}"
    entry = session.api.get(route.format("stat"), path=path)
    if stat or entry["IsDir"]:
        rows = [entry] if stat else session.api.get(route.format("ls"), path=path) or []
        session.out.table(
            ("Mode", "Size", "Modified Time", "Name"),
            [
                [
                    one.get("FileMode", ""),
                    _size(one.get("Size", 0)) if human else one.get("Size", 0),
                    one.get("ModTime", ""),
                    one["Name"] + "/" * bool(one["IsDir"]),
                ]
                for one in rows
            ],
        )
        return 0
    if follow:
        raise CliError("-f follows logs; use: serai alloc logs -f")
    size = entry.get("Size", 0)
    if tail and line_count is None and byte_count is None:
        line_count = _DEFAULT_LINES
    data = b"".join(session.api.stream(route.format("cat"), path=path)) if size else b""
    if byte_count is not None:
        data = data[-byte_count:] if byte_count else b""
    elif line_count is not None:
        data = last_lines(data, line_count)
    _copy([data])
    return 0


def _alloc(session: Session, typed: str) -> dict[str, Any]:
    return fetch(session, ALLOCATION, resolve_id(session, ALLOCATION, typed))


def _alloc_of_job(session: Session, typed: str) -> dict[str, Any]:
    """Return one of a job's allocations: a running one if there is any."""
    ref = resolve_job(session, typed)
    stubs = session.api.get(f"{ref.route}/allocations", **ref.query) or []
    running = [stub for stub in stubs if stub["ClientStatus"] == "running"]
    if not stubs:
        raise CliError(f'the job "{ref.id}" has no allocations')
    return fetch(session, ALLOCATION, random.choice(running or stubs)["ID"])


def _task_of(alloc: dict[str, Any], named: str) -> str:
    """Return the task to read: the named one, or the only one."""
    names = sorted(alloc.get("TaskStates") or {})
    if not names:
        groups = (alloc.get("Job") or {}).get("TaskGroups") or []
        tasks = [g.get("Tasks") or [] for g in groups if g["Name"] == alloc["TaskGroup"]]
        names = sorted(task["Name"] for group in tasks for task in group)
    if named:
        if names and named not in names:
            raise CliError(f'the allocation has no task "{named}"; it has: {", ".join(names)}')
        return named
    if len(names) != 1:
        raise CliError(f"the allocation has several tasks, name one of: {', '.join(names)}")
    return str(names[0])


def _size(size: int) -> str:
    amount = float(size)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
