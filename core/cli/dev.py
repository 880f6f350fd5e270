"""`serai dev`: a whole federation on this machine, and its links from another terminal."""

import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from core.cli.errors import CliError
from core.cli.flags import CONTEXT_SETTINGS, Command, Group, option
from core.cli.output import Output
from core.cli.session import environment
from core.model.durations import parse_length_ns

if TYPE_CHECKING:
    from core.devcluster.layout import Plan

_ATTEMPTS = 5  # at free addresses, when another federation starts at the same moment
_DETACH_TIMEOUT_S = 120.0
_TEMPORARY = "temporary"  # file that marks a folder as ours to delete
_HEADER = ("Name", "PID", "State", "Role", "API")


class DevGroup(Group):
    """Runs the federation when no subcommand is given."""

    def __init__(self, **attrs: Any) -> None:
        super().__init__(invoke_without_command=True, **attrs)


@click.command(cls=DevGroup, context_settings=CONTEXT_SETTINGS)
@option("-base-port", type=int, default=4646, help="API port; RPC and gossip follow (4646)")
@option("-client-cpu", default="2000", metavar="MHz", help="Of each client; eu=500,us=4000 works")
@option("-client-memory", "-memory", default="2048", metavar="MiB", help="Of each client, likewise")
@option("-clients", default="2", help="Clients of each datacenter (2), likewise")
@option("-datacenters", default="1", help="Datacenters of each region (1), likewise")
@option("-detach", is_flag=True, help="Return once it is ready; stop it with: serai dev down")
@option("-dir", "folder", metavar="folder", help="Keep state there [SERAI_DEV_DIR]")
@option("-json", "as_json", is_flag=True, help="Write what happens as JSON, a line each")
@option("-keep", is_flag=True, help="Keep the temporary folder at the end")
@option("-log-level", default="INFO", metavar="level", help="Of the agents (INFO)")
@option("-no-color", is_flag=True, help="Never colour")
@option("-raft-engine", default="core", help="Of the servers: core, or pysyncobj to compare")
@option("-regions", default="eu,us", metavar="names", help="Regions, by comma (eu,us)")
@option("-servers", default="3", help="Servers of each datacenter (3): 1, 3, 5 or 7")
@click.pass_context
def dev(ctx: click.Context, /, **given: Any) -> int | None:
    """Run a whole federation on this machine.

    Every agent is its own process; links between them can be cut and slowed from another
    terminal with the commands below. Names there are regions (eu), datacenters (eu/dc1)
    and agents (eu-dc1-server-1). Ctrl-C stops everything and removes what it wrote.
    """
    if ctx.invoked_subcommand is not None:
        return None
    build = _planner(given)
    folder = given["folder"] or environment("DEV_DIR")
    if given["detach"]:
        return _run_detached(folder, given)
    return _run(build, folder, given)


def _planner(given: dict[str, Any]) -> "Callable[[int], Plan]":
    """Return a function that lays the federation out on a loopback network."""
    from core.devcluster.layout import PerRegion, Plan
    from raft import engine

    regions = [name.strip() for name in given["regions"].split(",") if name.strip()]
    wrong = [name for name in regions if not name.replace("-", "").replace("_", "").isalnum()]
    if wrong or not regions or len(set(regions)) != len(regions):
        raise CliError("-regions takes different names, by comma: eu,us")

    def number(flag: str, default: int) -> PerRegion:
        try:
            return PerRegion.parse(given[flag], default)
        except ValueError as error:
            raise CliError(f"-{flag.replace('_', '-')}: {error}") from error

    numbers = {
        "datacenters": number("datacenters", 1),
        "servers": number("servers", 3),
        "clients": number("clients", 2),
        "cpu_mhz": number("client_cpu", 2000),
        "memory_mib": number("client_memory", 2048),
    }

    def build(net: int) -> Plan:
        return Plan.build(
            regions,
            net=net,
            base_port=given["base_port"],
            raft_engine=given["raft_engine"],
            **numbers,
        )

    try:
        engine.check(given["raft_engine"])
        build(20)
    except (ValueError, engine.EngineError) as error:
        raise CliError(str(error)) from error
    return build


def _run(build: "Callable[[int], Plan]", named: str, given: dict[str, Any]) -> int:
    import trio

    from core.devcluster import control
    from core.devcluster.supervisor import (
        AddressTaken,
        StartFailed,
        Supervisor,
        free_plan,
        remove_folder,
    )

    folder = Path(named).absolute() if named else None
    if folder is not None and control.is_served(folder):
        raise CliError(f"a federation runs in {folder} already; stop it with: serai dev down")
    # A detached federation in a temporary folder is told so by a mark in there.
    is_temporary = folder is None or (folder / _TEMPORARY).exists()
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix=control.FOLDER_PREFIX))
    else:
        _make_folder(folder)
    view = _View(Output(no_color=given["no_color"]), as_json=given["as_json"])
    command = "serai dev" if not named or is_temporary else f"serai dev -dir {shlex.quote(named)}"
    try:
        for attempt in range(_ATTEMPTS):
            plan = free_plan(build)
            supervisor = Supervisor(
                plan, folder, view.happened, log_level=given["log_level"], command=command
            )
            view.bind(supervisor, command)
            try:
                trio.run(
                    partial(supervisor.run, on_started=view.started, on_ready=view.ready),
                )
                break
            except AddressTaken as error:
                if attempt == _ATTEMPTS - 1:
                    raise CliError(f"{error.strerror}; try another -base-port") from error
    except StartFailed as error:
        raise CliError(str(error)) from error
    finally:
        if is_temporary and not given["keep"]:
            remove_folder(folder)
        else:
            print(f"State is kept in {folder}", file=sys.stderr)
    view.happened("stopped: 0 processes left")
    return 0


def _run_detached(named: str, given: dict[str, Any]) -> int:
    """Start the same command in the background and return when it is ready."""
    from core.devcluster import control
    from core.devcluster.processes import own_environment

    folder = Path(named).absolute() if named else None
    if folder is not None and control.is_served(folder):
        raise CliError(f"a federation runs in {folder} already; stop it with: serai dev down")
    if folder is None:
        folder = Path(tempfile.mkdtemp(prefix=control.FOLDER_PREFIX))
        if not given["keep"]:
            (folder / _TEMPORARY).touch()
    else:
        _make_folder(folder)
    words = [sys.executable, "-P", "-m", "core.cli.main", "dev", "-dir", str(folder)]
    for flag in (
        "base_port", "client_cpu", "client_memory", "clients", "datacenters", "log_level",
        "raft_engine", "regions", "servers",
    ):  # fmt: skip
        words += [f"-{flag.replace('_', '-')}", str(given[flag])]
    log_path = folder / "supervisor.log"
    with log_path.open("wb") as log:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=own_environment(),
            start_new_session=True,
        )
    answer = _await_ready(folder, process, log_path)
    out = Output(no_color=given["no_color"])
    if given["as_json"]:
        out.json(answer)
        return 0
    _agent_table(out, answer)
    suffix = f"-dir {shlex.quote(named)} " if named else ""
    out.line(f"\nReady. Stop it with: serai dev {suffix}down")
    return 0


def _await_ready(folder: Path, process: "subprocess.Popen[bytes]", log_path: Path) -> Any:
    from core.devcluster import control

    deadline = time.monotonic() + _DETACH_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            text = log_path.read_text(errors="replace") if log_path.exists() else ""
            raise CliError(f"the federation did not start:\n{text.strip()}")
        if control.is_served(folder):
            answer = control.ask(folder, "status", [])
            if answer["ready"]:
                return answer
        time.sleep(0.1)
    process.terminate()
    text = log_path.read_text(errors="replace").strip()  # a temporary folder goes with it
    process.wait()
    raise CliError(f"the federation was not ready after {_DETACH_TIMEOUT_S:g} s:\n{text}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CliError(f"cannot use {folder}: {error.strerror}") from error


class _View:
    """What the terminal that runs the federation sees."""

    def __init__(self, out: Output, *, as_json: bool) -> None:
        self.out = out
        self.as_json = as_json
        self._begun = time.monotonic()
        self._supervisor: Any = None
        self._command = "serai dev"

    def bind(self, supervisor: Any, command: str) -> None:
        self._supervisor, self._command = supervisor, command

    def happened(self, text: str) -> None:
        if self.as_json:
            self.out.line(json.dumps({"event": text}))
        else:
            self.out.line(f"{time.strftime('%H:%M:%S')} {text}")

    def started(self) -> None:
        agents = [
            {
                "name": process.spec.name,
                "pid": process.pid,
                "state": process.state,
                "role": process.spec.role,
                "api": process.spec.api,
            }
            for process in self._supervisor.processes.values()
        ]
        folder = str(self._supervisor.folder)
        if self.as_json:
            self.out.line(json.dumps({"event": "started", "folder": folder, "agents": agents}))
            return
        _agent_table(self.out, {"agents": agents})
        self.out.line(f"\nState is in {folder}; waiting for leaders and clients ...")

    def ready(self) -> None:
        took_s = time.monotonic() - self._begun
        plan = self._supervisor.plan
        if self.as_json:
            self.out.line(json.dumps({"event": "ready", "after_s": round(took_s, 2)}))
            return
        out, command = self.out, self._command
        out.line(out.style(f"Ready after {took_s:.1f} s. In another terminal:", "green"))
        first = plan.agents[0]
        lines = [
            f"export SERAI_ADDR={first.api}",
            "serai server members",
            f"{command} status",
            f"{command} kill {first.name}",
        ]
        if len(plan.regions) > 1:
            near, far = plan.regions[:2]
            lines += [f"{command} cut {near} {far}", f"{command} heal"]
        for line in lines:
            out.line(f"  {line}")
        out.line("Ctrl-C stops everything.")


def _agent_table(out: Output, answer: dict[str, Any]) -> None:
    rows = [
        [one["name"], one["pid"] or "-", one["state"], one["role"], one["api"]]
        for one in answer["agents"]
    ]
    out.table(_HEADER, rows)


# --- from another terminal --------------------------------------------------------------

_FOLDER_FLAG = option("-dir", "folder", metavar="folder", help="Of the federation [SERAI_DEV_DIR]")


def _ask(ctx: click.Context, folder: str | None, command: str, args: list[str]) -> Any:
    from core.devcluster import control

    outer = ctx.parent.params.get("folder") if ctx.parent is not None else None
    try:
        found = control.find_folder(folder or outer or environment("DEV_DIR"))
        return control.ask(found, command, args)
    except control.ControlError as error:
        raise CliError(str(error)) from error


def _subcommand(name: str) -> Callable[[Callable[..., Any]], click.Command]:
    def wrap(function: Callable[..., Any]) -> click.Command:
        return dev.command(name, cls=Command, context_settings=CONTEXT_SETTINGS)(
            _FOLDER_FLAG(click.pass_context(function))
        )

    return wrap


def _tell(answer: dict[str, Any]) -> int:
    for line in answer["lines"]:
        click.echo(line)
    return 0


@_subcommand("cut")
@click.argument("source")
@click.argument("target", required=False)
@option("-one-way", is_flag=True, help="Only from the first to the second")
def cut(
    ctx: click.Context, source: str, target: str | None, one_way: bool, folder: str | None
) -> int:
    """Let nothing pass between SOURCE and TARGET, or between SOURCE and all others."""
    words = [source, *([target] if target else []), *(["one-way"] * one_way)]
    return _tell(_ask(ctx, folder, "cut", words))


@_subcommand("slow")
@click.argument("source")
@click.argument("target")
@click.argument("delay")
@option("-one-way", is_flag=True, help="Only from the first to the second")
def slow(
    ctx: click.Context, *, source: str, target: str, delay: str, one_way: bool, folder: str | None
) -> int:
    """Delay everything between SOURCE and TARGET by DELAY (200ms) in each direction."""
    try:
        delay_s = parse_length_ns(delay) / 1e9
    except ValueError as error:
        raise CliError(str(error)) from error
    words = [source, target, repr(delay_s), *(["one-way"] * one_way)]
    return _tell(_ask(ctx, folder, "slow", words))


@_subcommand("heal")
@click.argument("names", nargs=-1)
def heal(ctx: click.Context, names: tuple[str, ...], folder: str | None) -> int:
    """Undo cuts and delays: all, those that name one NAME, or those between two."""
    return _tell(_ask(ctx, folder, "heal", list(names)))


def _process_command(name: str, text: str) -> None:
    def act(ctx: click.Context, names: tuple[str, ...], folder: str | None) -> int:
        return _tell(_ask(ctx, folder, name, list(names)))

    act.__doc__ = text
    _subcommand(name)(click.argument("names", nargs=-1, required=True)(act))


_process_command("kill", "Kill the agents NAMES at once (SIGKILL).")
_process_command("stop", "Pause the agents NAMES (SIGSTOP); cont lets them go on.")
_process_command("cont", "Let paused agents NAMES go on (SIGCONT).")
_process_command("start", "Start ended agents NAMES again, each with its own data folder.")


@_subcommand("status")
@option("-json", "as_json", is_flag=True, help="Write it as JSON")
def status(ctx: click.Context, as_json: bool, folder: str | None) -> int:
    """Show the agents, the datacenters and what is cut or slow."""
    answer = _ask(ctx, folder, "status", [])
    out = Output()
    if as_json:
        out.json({key: value for key, value in answer.items() if key != "lines"})
        return 0
    _agent_table(out, answer)
    out.line()
    rows = [
        [one["name"], one["leader"] or "none", f"{one['ready_clients']}/{one['clients']}"]
        for one in answer["datacenters"]
    ]
    out.table(("Datacenter", "Leader", "Clients Ready"), rows)
    out.line()
    for rule in answer["rules"] or ["All links are whole."]:
        out.line(rule)
    return 0


@_subcommand("down")
def down(ctx: click.Context, folder: str | None) -> int:
    """Stop the federation that runs in the background or in another terminal."""
    from core.devcluster import control

    outer = ctx.parent.params.get("folder") if ctx.parent is not None else None
    try:
        found = control.find_folder(folder or outer or environment("DEV_DIR"))
        control.ask(found, "down", [])
    except control.ControlError as error:
        raise CliError(str(error)) from error
    while control.is_served(found):
        time.sleep(0.05)
    click.echo("stopped")
    return 0
