"""Reading an allocation's folder: logs over their rotated files, listings, files.

Nothing outside the folder can be read. A path is resolved with all its symbolic links and
must still be inside; then it is opened without following a link in its last part, and the
descriptor's real path is compared once more, so a task that swaps a folder for a link
between the two gains nothing. Secrets are not shown.

All reads of data answer {data, offset, frame, eof}: `offset` and `frame` are where to go on.
Of logs, `frame` is the rotated file that `offset` counts in; "" at the beginning means the
whole log, from its oldest byte that is left, or back from its end.
"""

import mimetypes
import os
import stat
from pathlib import Path
from typing import Any

import trio

from core.client.effects import ReadFile
from core.model.timestamp import rfc3339

POLL_S = 0.05  # of a follower at the end of a log


class FileError(Exception):
    """`status` is the HTTP status it means."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


async def read(root: Path, effect: ReadFile) -> Any:
    """Carry out a `ReadFile`; waits up to its `wait_us` for data.

    Raises:
        FileError: Not there, not allowed, or not what was asked for.
    """
    base = root / effect.alloc_id
    if not base.is_dir():
        raise FileError(404, f"the folder of allocation {effect.alloc_id} is not here any more")
    if effect.operation == "ls":
        return await trio.to_thread.run_sync(list_folder, base, effect.path)
    if effect.operation == "stat":
        return await trio.to_thread.run_sync(describe, base, effect.path)
    reader = _read_logs if effect.operation == "logs" else _read_file
    answer = await trio.to_thread.run_sync(reader, base, effect)
    if effect.wait_us > 0 and not answer["data"]:
        with trio.move_on_after(effect.wait_us / 1e6):
            while not answer["data"]:
                await trio.sleep(POLL_S)
                effect = _moved_on(effect, answer)
                answer = await trio.to_thread.run_sync(reader, base, effect)
    return answer


def list_folder(base: Path, path: str) -> list[dict[str, Any]]:
    folder = locate(base, path)
    if not folder.is_dir():
        raise FileError(400, f"{path!r} is not a folder")
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise FileError(400, f"{path!r}: {error.strerror}") from None
    shown = []
    for name in names:
        try:
            shown.append(_description(folder / name))
        except OSError:
            continue  # it went away meanwhile
    return shown


def describe(base: Path, path: str) -> dict[str, Any]:
    if not path:
        raise FileError(400, "must provide a file name")
    try:
        return _description(locate(base, path))
    except OSError as error:
        raise FileError(400, f"{path!r}: {error.strerror}") from None


def locate(base: Path, path: str) -> Path:
    """Return the real path of what `path` names inside `base`.

    Raises:
        FileError: It is not there, leads out of the folder, or is a secret.
    """
    if "\0" in path:
        raise FileError(400, "a NUL character in the path")
    real_base = base.resolve()
    try:
        real = (real_base / path.lstrip("/")).resolve(strict=True)
    except (OSError, RuntimeError):
        raise FileError(400, f"{path!r} does not exist") from None
    if not real.is_relative_to(real_base):
        raise FileError(400, f"{path!r} leads out of the allocation's folder")
    parts = real.relative_to(real_base).parts
    if len(parts) >= 2 and parts[1] == "secrets" and parts[0] != "alloc":
        raise FileError(403, "reading a task's secrets is not allowed")
    return real


def _description(path: Path) -> dict[str, Any]:
    info = path.lstat()
    is_folder = stat.S_ISDIR(info.st_mode)
    kind = "" if is_folder else mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return {
        "Name": path.name,
        "IsDir": is_folder,
        "Size": info.st_size,
        "FileMode": _mode_text(info.st_mode),
        "ModTime": rfc3339(info.st_mtime_ns // 1000),
        "ContentType": kind,
    }


def _mode_text(mode: int) -> str:
    """Return a mode as Go prints it: `-` for a plain file, `d`, `L`, ... then permissions."""
    text = stat.filemode(mode)
    return {"l": "L", "c": "Dc", "b": "D"}.get(text[0], text[0]) + text[1:]


def _read_file(base: Path, effect: ReadFile) -> dict[str, Any]:
    if not effect.path:
        raise FileError(400, "must provide a file name")
    real = locate(base, effect.path)
    if not real.is_file():
        raise FileError(400, f"{effect.path!r} is not a file")
    size, data, offset = _read_at(base, real, effect.offset, effect.limit, effect.origin)
    return {"data": data, "offset": offset, "frame": "", "eof": offset >= size}


def _read_at(
    base: Path, path: Path, offset: int, limit: int, origin: str
) -> tuple[int, bytes, int]:
    """Return size, data and the offset after it."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise FileError(400, f"{path.name}: {error.strerror}") from None
    try:
        real = os.readlink(f"/proc/self/fd/{fd}")
        if not Path(real).is_relative_to(base.resolve()):
            raise FileError(400, f"{path.name} leads out of the allocation's folder")
        size = os.fstat(fd).st_size
        start = max(size - offset, 0) if origin == "end" else offset
        data = os.pread(fd, limit, start)
    except OSError as error:
        raise FileError(400, f"{path.name}: {error.strerror}") from None
    finally:
        os.close(fd)
    return size, data, start + len(data)


def _read_logs(base: Path, effect: ReadFile) -> dict[str, Any]:
    prefix = f"{effect.task}.{effect.stream}."
    folder = locate(base, "alloc/logs")
    numbers = sorted(
        int(name[len(prefix) :])
        for name in os.listdir(folder)
        if name.startswith(prefix) and name[len(prefix) :].isdigit()
    )
    if not numbers:
        return {"data": b"", "offset": 0, "frame": effect.frame, "eof": True}
    number, offset = _log_position(folder, prefix, numbers, effect)
    while True:
        path = folder / f"{prefix}{number}"
        try:
            _, data, after = _read_at(base, path, offset, effect.limit, "start")
        except FileError:
            if number == numbers[-1]:
                raise
            data, after = b"", 0  # rotated away between listing and opening
        later = [other for other in numbers if other > number]
        if data or not later:
            is_end = not later and len(data) < effect.limit
            return {"data": data, "offset": after, "frame": path.name, "eof": is_end}
        number, offset = later[0], 0


def _log_position(
    folder: Path, prefix: str, numbers: list[int], effect: ReadFile
) -> tuple[int, int]:
    """Return the rotated file and the offset in it where reading begins."""
    said = effect.frame.removeprefix(prefix)
    if said.isdigit():
        number = int(said)
        if number in numbers:
            return number, effect.offset
        later = [other for other in numbers if other > number]
        return (later[0], 0) if later else (numbers[-1], 0)  # it was rotated away meanwhile
    sizes = []
    for number in numbers:
        try:
            sizes.append((folder / f"{prefix}{number}").stat().st_size)
        except OSError:
            sizes.append(0)
    wanted = effect.offset
    if effect.origin == "end":
        wanted = max(sum(sizes) - effect.offset, 0)
    for number, size in zip(numbers, sizes, strict=True):
        if wanted < size:
            return number, wanted
        wanted -= size
    return numbers[-1], sizes[-1]


def _moved_on(effect: ReadFile, answer: dict[str, Any]) -> ReadFile:
    return ReadFile(
        request_id=effect.request_id, alloc_id=effect.alloc_id, operation=effect.operation,
        task=effect.task, stream=effect.stream, path=effect.path, origin="start",
        offset=answer["offset"], limit=effect.limit, frame=answer["frame"],
    )  # fmt: skip
