"""An allocation's folders, laid out as Nomad does.

ALLOC_DIR/ID/alloc/{data,logs,tmp}          shared by its tasks
ALLOC_DIR/ID/TASK/{local,secrets,tmp}       one task's own
"""

import os
import shutil
from pathlib import Path

SHARED = ("data", "logs", "tmp")
OWN = (("local", 0o777), ("tmp", 0o777), ("secrets", 0o700))


def check_name(name: str, what: str) -> None:
    """Refuse a name that would leave its folder.

    Raises:
        ValueError: With the name.
    """
    if not name or name in (".", "..") or "/" in name or "\0" in name or len(name) > 200:
        raise ValueError(f"{what} {name!r} can't be a folder's name")


def prepare(
    root: Path, alloc_id: str, tasks: list[str], files: dict[str, dict[str, bytes]] | None = None
) -> None:
    """Make an allocation's folders; harmless when they exist.

    Args:
        files: By task: what to put below its local folder, unless it is there already.

    Raises:
        ValueError: A name that can't be a folder's.
        OSError: The disk refuses.
    """
    check_name(alloc_id, "allocation")
    base = root / alloc_id
    for name in SHARED:
        _make(base / "alloc" / name, 0o777)
    for task in tasks:
        check_name(task, "task")
        if task == "alloc":
            raise ValueError('a task can\'t be named "alloc": that is the shared folder')
        for name, mode in OWN:
            _make(base / task / name, mode)
        for path, data in (files or {}).get(task, {}).items():
            _put(base / task / "local", path, data)


def destroy(root: Path, alloc_id: str) -> None:
    check_name(alloc_id, "allocation")
    shutil.rmtree(root / alloc_id, ignore_errors=True)


def _put(folder: Path, path: str, data: bytes) -> None:
    # The name comes from the job: it must not lead out of the folder.
    parts = Path(path).parts
    if not parts or Path(path).is_absolute() or ".." in parts:
        raise ValueError(f"{path!r} leads out of the task's local folder")
    target = folder.joinpath(*parts)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        target.write_bytes(data)
        target.chmod(0o644)


def _make(path: Path, mode: int) -> None:
    path.mkdir(parents=True, exist_ok=True)
    os.chmod(path, mode)  # whatever the umask: tasks may run as another user
