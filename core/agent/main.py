"""`serai agent`: checks what can be checked, prepares folder and log, runs the agent."""

import contextlib
import os
import shutil
import sys
import tempfile

import trio

from core.agent.agent import Agent, StartError
from core.agent.config import AgentConfig, check_safety
from core.agent.journal import open_journal
from core.agent.options import Options
from core.agent.tls import TLSError
from raft.wal import WalError


def run(config: AgentConfig, options: Options) -> int:
    """Run an agent until it is stopped and return the process's exit code.

    Refusals are printed on stderr, a line each: what is wrong, and the remedy.
    """
    refusals = check_safety(config, is_dev=options.is_dev, insecure=options.is_insecure)
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
        log = open_journal(config.log_level, as_json=config.log_json, stream=stream)
        for warning in config.warnings:
            log.warning(warning)
        agent = Agent(config, options, folder, log)
        try:
            halted = trio.run(agent.serve, strict_exception_groups=False)
        except (StartError, TLSError, WalError) as error:
            print(f"Error: {error}", file=sys.stderr)
            return 1
        return 1 if halted else 0


def _folder(config: AgentConfig, options: Options, stack: contextlib.ExitStack) -> str:
    if options.is_dev and not config.data_dir:
        folder = tempfile.mkdtemp(prefix="serai-dev-")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder
    if not config.data_dir:
        raise OSError(0, "is not set: an agent outside -dev keeps its state there", "data_dir")
    os.makedirs(config.data_dir, mode=0o700, exist_ok=True)
    probe = os.path.join(config.data_dir, ".writable")
    with open(probe, "wb"):
        pass
    os.unlink(probe)
    return os.path.abspath(config.data_dir)
