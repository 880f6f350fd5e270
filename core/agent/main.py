"""`serai agent`: checks what can be checked, prepares folder and log, runs the agent."""

import contextlib
import gc
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path
from typing import Final

import msgspec
import trio

from core.agent.agent import Agent, MakeApi, StartError
from core.agent.build import ConfigError
from core.agent.config import AgentConfig, check_config, check_safety, missing_volumes
from core.agent.disk import DataFolderError
from core.agent.execution.runs import RunsBusy
from core.agent.execution.store import StoreDamaged
from core.agent.journal import open_journal
from core.agent.options import Options
from core.agent.tls import TLSError
from raft.disk import RealDisk


def run(config: AgentConfig, options: Options, make_api: MakeApi) -> int:
    """Run an agent until it is stopped and return the process's exit code.

    `make_api` builds the ASGI application of its HTTP port (core.api.app.Api).

    Refusals are printed on stderr, a line each: what is wrong, and the remedy.
    """
    refusals = check_config(config, is_dev=options.is_dev)
    refusals += check_safety(config, is_dev=options.is_dev, insecure=options.is_insecure)
    refusals += missing_volumes(config)
    if refusals:
        for refusal in refusals:
            print(f"Error: {refusal}", file=sys.stderr)
        return 1
    with contextlib.ExitStack() as stack:
        try:
            folder = _folder(config, options, stack)
            stream = (
                stack.enter_context(open(config.log_file, "a", buffering=1))
                if config.log_file
                else None
            )
        except OSError as error:
            print(f"Error: {error.filename}: {error.strerror}", file=sys.stderr)
            return 1
        if not config.name:
            config = msgspec.structs.replace(config, name=socket.gethostname())
        log = open_journal(config.log_level, as_json=config.log_json, stream=stream)
        for warning in config.warnings:
            log.warning(warning)
        _favour_the_loop()
        agent = Agent(config, options, folder, log, make_api)
        try:
            halted = trio.run(agent.serve)
        except BaseExceptionGroup as group:
            refused = _refusal(group)
            if refused is None:
                raise
            print(f"Error: {refused}", file=sys.stderr)
            return 1
        except _REFUSALS as error:
            print(f"Error: {error}", file=sys.stderr)
            return 1
        return 1 if halted else 0


def _favour_the_loop() -> None:
    """Keep the agent's workers and the search for cycles from holding up its event loop.

    A worker that encodes a snapshot hands the interpreter over after 1 ms instead of 5.
    What was imported is never searched for cycles again, what has lived for a while hardly
    ever: records have none, and a full search takes the longer the more state there is. The
    young are searched in portions that take about 2 ms.
    """
    sys.setswitchinterval(0.001)
    gc.collect()
    gc.freeze()
    gc.set_threshold(5_000, 5, 4_000)


_REFUSALS: Final = (
    StartError, ConfigError, TLSError, DataFolderError, RunsBusy, StoreDamaged,
)  # fmt: skip


def _refusal(group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """Return the refusal inside a nursery's group, None when something else is in it."""
    found: BaseException | None = None
    for error in group.exceptions:
        inner = _refusal(error) if isinstance(error, BaseExceptionGroup) else error
        if not isinstance(inner, _REFUSALS):
            return None
        found = inner
    return found


def _folder(config: AgentConfig, options: Options, stack: contextlib.ExitStack) -> str:
    if options.is_dev and not config.data_dir:
        folder = tempfile.mkdtemp(prefix="serai-dev-")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder
    if not config.data_dir:
        raise OSError(0, "is not set: an agent outside -dev keeps its state there", "data_dir")
    RealDisk().make_folder(Path(config.data_dir).absolute())
    probe = os.path.join(config.data_dir, ".writable")
    with open(probe, "wb"):
        pass
    os.unlink(probe)
    return os.path.abspath(config.data_dir)
