"""From a task's spec to what the supervisor executes: the raw_exec driver's rules.

The command is looked up as Nomad does: in the task's folder, then along the PATH that the
task will have. The environment is the agent's, reduced to an allow list, under what the job
gives. Everything that can be refused is refused here, in words, before a process exists.
"""

import errno
import fnmatch
import os
import pwd
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from core.client.effects import TaskSpec

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# Errors that may be gone the next time: no processes or memory left, a busy binary.
RECOVERABLE_ERRNOS = frozenset(
    {errno.EAGAIN, errno.ENOMEM, errno.ETXTBSY, errno.EMFILE, errno.ENFILE, errno.ENOSPC}
)


class CommandError(Exception):
    """The task can't be started; the text says why and where to look."""

    def __init__(self, reason: str, *, is_recoverable: bool = False) -> None:
        super().__init__(reason)
        self.is_recoverable = is_recoverable


class Command(NamedTuple):
    program: str
    arguments: list[str]
    environment: dict[str, str]
    folder: str
    user: tuple[int, int, list[int]] | None  # uid, gid, groups; None = the agent's own
    oom_score_adj: int
    cores: tuple[int, ...] = ()  # () = any


def resolve(
    spec: TaskSpec, task_folder: Path, inherited: Mapping[str, str], allowed: tuple[str, ...]
) -> Command:
    """Return what to execute.

    Args:
        spec: The task, interpolated.
        task_folder: ALLOC_DIR/ID/TASK, the default working folder.
        inherited: The agent's own environment.
        allowed: Names taken over from it.

    Raises:
        CommandError: The config is wrong, or the command isn't there or isn't executable.
    """
    config = spec.config
    command = config.get("command")
    if not isinstance(command, str) or not command:
        raise CommandError('config: "command" is missing: name the program to run')
    arguments = config.get("args") or []
    if not isinstance(arguments, list):
        raise CommandError('config: "args" must be a list of strings')
    environment = {name: inherited[name] for name in allowed if name in inherited}
    environment.setdefault("PATH", DEFAULT_PATH)
    environment |= spec.env
    for pattern in config.get("denied_envvars") or ():
        for name in fnmatch.filter(list(environment), str(pattern)):
            del environment[name]
    for text in (command, *map(str, arguments), *environment.values()):
        if "\0" in text:
            raise CommandError("a NUL character in the command, its arguments or environment")
    folder = _folder(config, task_folder)
    program = _find(command, task_folder, folder, environment.get("PATH", DEFAULT_PATH))
    return Command(
        program=program,
        arguments=[command, *(_text(argument) for argument in arguments)],
        environment=environment,
        folder=str(folder),
        user=_user(spec.user),
        oom_score_adj=_oom_score(config),
        cores=spec.cores,
    )


def start_failure(stage: str, number: int, command: Command) -> CommandError:
    """Return the error for a start that the kernel refused."""
    reason = os.strerror(number) if number else "unknown error"
    place = {
        "exec": f"could not execute {command.program}",
        "folder": f"could not enter the working folder {command.folder}",
        "user": "could not change to the task's user",
        "cores": f"could not run on cores {', '.join(map(str, command.cores))} alone",
        "supervisor": "could not open the task's log files or records",
    }.get(stage, "could not start the task")
    hint = ""
    if stage == "exec" and number == errno.ENOEXEC:
        hint = ": it is no program for this machine, or a script without a #! line"
    elif stage == "exec" and number == errno.ENOENT:
        hint = ": the interpreter that its #! line or ELF header names is missing"
    elif stage == "exec" and number == errno.E2BIG:
        hint = ": arguments and environment are too long together"
    return CommandError(f"{place}: {reason}{hint}", is_recoverable=number in RECOVERABLE_ERRNOS)


def _find(command: str, task_folder: Path, work_folder: Path, path: str) -> str:
    if command.startswith("/"):
        candidates = [Path(command)]
        where = ""
    else:
        candidates = [task_folder / "local" / command, task_folder / command]
        if "/" in command:
            candidates.insert(0, work_folder / command)
            where = f" in {task_folder}"
        else:
            candidates += [Path(entry or ".") / command for entry in path.split(":")]
            where = f" in the task's folder or PATH {path!r}"
    is_denied = ""
    for candidate in candidates:
        if not candidate.is_file():
            continue
        if os.access(candidate, os.X_OK):
            return str(candidate)
        is_denied = is_denied or str(candidate)
    if is_denied:
        raise CommandError(f"permission denied: {is_denied} is not executable")
    if command.startswith("/") and candidates[0].is_dir():
        raise CommandError(f"{command} is a folder, not a program")
    raise CommandError(f"command {command!r} not found{where}")


def _folder(config: Mapping[str, Any], task_folder: Path) -> Path:
    said = config.get("work_dir")
    if not said:
        return task_folder
    folder = task_folder / str(said)  # an absolute one replaces it
    if not folder.is_dir():
        raise CommandError(f"work_dir {folder} is not a folder")
    return folder


def _user(name: str) -> tuple[int, int, list[int]] | None:
    if not name:
        return None
    try:
        entry = pwd.getpwuid(int(name)) if name.isdigit() else pwd.getpwnam(name)
    except KeyError:
        raise CommandError(f"user {name!r} is unknown on this node") from None
    if entry.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise CommandError(
            f"user {name!r}: only an agent that runs as root can start tasks as another user"
        )
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return entry.pw_uid, entry.pw_gid, groups


def _oom_score(config: Mapping[str, Any]) -> int:
    score = config.get("oom_score_adj") or 0
    if not isinstance(score, int) or not 0 <= score <= 1000:
        raise CommandError("config: oom_score_adj must be a number from 0 to 1000")
    return score


def _text(argument: object) -> str:
    """Return an argument as a job file's reader means it: `true`, not `True`."""
    if isinstance(argument, bool):
        return "true" if argument else "false"
    return str(argument)
