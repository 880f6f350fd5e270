"""Runs a federation: writes configurations, starts agents and relay, obeys the control
socket, and leaves no process and no file behind.

The supervisor is the parent of every agent and the adoptive parent of task processes
whose agent was killed (orphans.py). It ends when it is told to (`down`, SIGINT, SIGTERM,
SIGHUP); agents then get SIGTERM and some time, a second signal or the end of that time
SIGKILL, and what is left of their tasks is ended as well.
"""

import errno
import shutil
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import trio

from core.devcluster import control, orphans
from core.devcluster.layout import NETS, AgentSpec, Plan
from core.devcluster.links import Links
from core.devcluster.processes import PROGRAM, AgentProcess
from core.devcluster.readiness import PlaceState, look_at
from core.devcluster.relay import AddressTaken, Relay

Report = Callable[[str], None]
STOP_GRACE_S = 10.0  # an agent may take that long to stop
_TASK_GRACE_S = 1.0
_POLL_S = 0.25
_REAP_S = 0.5
_WORD_S = 15.0  # between words on what a start still waits for


class StartFailed(Exception):
    """The federation could not be started; the message says why."""


class Supervisor:
    """One federation.

    Args:
        folder: Gets a folder per agent, and says where the control socket is.
        report: Gets a line for whatever happens.
        command: What to type to reach this federation from another terminal.
        program: What stands before `agent -config FILE` in an agent's command line.
    """

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        report: Report,
        *,
        log_level: str = "INFO",
        command: str = "serai dev",
        program: tuple[str, ...] = PROGRAM,
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.report = report
        self.links = Links(agent.endpoint() for agent in plan.agents)
        self.processes = {
            agent.name: AgentProcess(agent, folder / agent.name, command, program)
            for agent in plan.agents
        }
        self.is_ready = False
        self._log_level = log_level
        self._stop = trio.Event()
        self._nursery: trio.Nursery | None = None
        self._hurry = trio.Event()
        self._failure = ""

    async def run(self, *, on_started: Callable[[], None], on_ready: Callable[[], None]) -> None:
        """Run until stopped. The relay's addresses are bound before any agent starts.

        Raises:
            AddressTaken: Another federation holds these addresses; nothing was started.
            StartFailed: An agent ended before the federation was ready.
        """
        orphans.adopt_orphans()
        async with Relay(self.links).open() as relay:
            with control.socket_path(self.folder) as socket_path:
                self._write_configs()
                try:
                    await self._supervise(relay, socket_path, on_started, on_ready)
                finally:
                    (self.folder / control.STATE_FILE).unlink(missing_ok=True)
        if self._failure:
            raise StartFailed(self._failure)

    async def _supervise(
        self,
        relay: Relay,
        socket_path: Path,
        on_started: Callable[[], None],
        on_ready: Callable[[], None],
    ) -> None:
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            await nursery.start(self._watch_signals)  # from here on nothing is left behind
            nursery.start_soon(relay.run)
            await nursery.start(control.serve, socket_path, self.handle)
            nursery.start_soon(self._reap)
            control.write_state(self.folder, socket_path)
            try:
                for process in self.processes.values():
                    self._start(process)
                    await trio.lowlevel.checkpoint()
                on_started()
                if await self._become_ready():
                    self.is_ready = True
                    on_ready()
                    await self._stop.wait()
            finally:
                with trio.CancelScope(shield=True):
                    await self._stop_agents()
                    own = self._own_pids()
                    await trio.to_thread.run_sync(orphans.end_adopted, own, _TASK_GRACE_S)
                nursery.cancel_scope.cancel()

    def stop(self) -> None:
        self._stop.set()

    # --- commands of the control socket -------------------------------------------------

    async def handle(self, command: str, args: list[str]) -> control.Answer:
        """Carry out a command of another terminal.

        Raises:
            ValueError: It can't be; the message says why.
        """
        match command, args:
            case "cut", [source, *rest] if len(rest) <= 2:
                rule = self.links.cut(source, _target(rest), is_one_way="one-way" in rest)
                return self._say(str(rule))
            case "slow", [source, target, delay_s, *rest]:
                rule = self.links.slow(source, target, float(delay_s), is_one_way="one-way" in rest)
                return self._say(str(rule))
            case "heal", names if len(names) <= 2:
                gone = self.links.heal(*names)
                return self._say(*[f"healed: {rule}" for rule in gone] or ["nothing to heal"])
            case (("kill" | "stop" | "cont" | "start"), [_, *_]):
                return await self._signal_agents(command, args)
            case "status", []:
                return await self.status()
            case "down", []:
                self.stop()
                return {"lines": ["stopping"]}
        raise ValueError(f"{command} does not take {len(args)} arguments")

    async def status(self) -> control.Answer:
        """Return agents, datacenters and rules as plain data."""
        states = await self._look_around()
        leaders = {state.leader for state in states}
        return {
            "folder": str(self.folder),
            "ready": self.is_ready,
            "agents": [_describe(process, leaders) for process in self.processes.values()],
            "datacenters": [
                {
                    "name": state.place,
                    "leader": state.leader,
                    "ready_clients": state.ready_clients,
                    "clients": len(self.plan.clients_of(state.place)),
                }
                for state in states
            ],
            "rules": [str(rule) for rule in self.links.rules],
            "lines": [],
        }

    async def _signal_agents(self, command: str, names: list[str]) -> control.Answer:
        lines = []
        for name in names:
            for endpoint in self.links.matching(name):
                lines.append(await self._act(command, self.processes[endpoint.name]))
        return self._say(*lines)

    async def _act(self, command: str, process: AgentProcess) -> str:
        name = process.spec.name
        if command == "start":
            if process.process is not None:
                return f"{name} runs already (pid {process.pid})"
            self._start(process)
            return f"{name} started (pid {process.pid})"
        if process.process is None:
            return f"{name} does not run"
        pid = process.pid
        if command == "kill":
            process.is_wanted = False
            process.send(signal.SIGKILL)
            await process.ended.wait()
            return f"{name} killed (pid {pid}); start it again with: {process.command} start {name}"
        if command == "stop":
            process.send(signal.SIGSTOP)
            return f"{name} paused (pid {pid}); let it go on with: {process.command} cont {name}"
        process.send(signal.SIGCONT)
        return f"{name} goes on (pid {pid})"

    def _say(self, *lines: str) -> control.Answer:
        for line in lines:
            self.report(line)
        return {"lines": list(lines)}

    # --- processes ----------------------------------------------------------------------

    def _write_configs(self) -> None:
        for process in self.processes.values():
            process.folder.mkdir(parents=True, exist_ok=True)
            text = self.plan.config_of(
                process.spec, process.folder / "data", log_level=self._log_level
            )
            process.config_path.write_text(text)

    def _start(self, process: AgentProcess) -> None:
        assert self._nursery is not None
        process.start()
        self._nursery.start_soon(process.watch, self.report)

    async def _become_ready(self) -> bool:
        """Wait until all is ready; False when we were stopped or an agent gave up before."""
        next_word = trio.current_time() + _WORD_S
        while not self._stop.is_set():
            for process in self.processes.values():
                if process.has_given_up:
                    self._failure = _failure(process)
                    return False
            states = await self._look_around()
            lacking = [text for state in states if (text := state.lacks(self.plan))]
            if not lacking:
                return True
            if trio.current_time() >= next_word:
                self.report(f"still waiting: {'; '.join(lacking)}")
                next_word += _WORD_S
            with trio.move_on_after(_POLL_S):
                await self._stop.wait()
        return False

    async def _look_around(self) -> list[PlaceState]:
        states: dict[str, PlaceState] = {}
        async with httpx.AsyncClient(trust_env=False) as client, trio.open_nursery() as nursery:

            async def look(place: str) -> None:
                states[place] = await look_at(client, self.plan, place)

            for place in self.plan.places:
                nursery.start_soon(look, place)
        return [states[place] for place in self.plan.places]

    async def _stop_agents(self) -> None:
        """SIGTERM to all, SIGKILL after the grace or at a second signal."""
        running = [one for one in self.processes.values() if one.process is not None]
        for process in running:
            process.is_wanted = False
            process.send(signal.SIGTERM)
            process.send(signal.SIGCONT)  # a paused one must go on to stop
        with trio.move_on_after(STOP_GRACE_S):
            async with trio.open_nursery() as nursery:

                async def stop_waiting() -> None:
                    await self._hurry.wait()
                    nursery.cancel_scope.cancel()

                nursery.start_soon(stop_waiting)
                for process in running:
                    await process.ended.wait()
                nursery.cancel_scope.cancel()
        for process in running:
            if process.process is not None:
                process.send(signal.SIGKILL)
        for process in running:
            await process.ended.wait()

    def _own_pids(self) -> set[int]:
        return {one.pid for one in self.processes.values() if one.pid is not None}

    async def _reap(self) -> None:
        """Collect adopted processes soon after they end."""
        with trio.open_signal_receiver(signal.SIGCHLD) as signals:
            while True:
                with trio.move_on_after(_REAP_S):
                    await signals.__anext__()
                orphans.reap_adopted(self._own_pids())

    async def _watch_signals(
        self, task_status: "trio.TaskStatus[None]" = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
            task_status.started()
            async for _ in signals:
                if self._stop.is_set():
                    self._hurry.set()
                else:
                    self.report("stopping; once more to stop at once")
                    self.stop()


def free_plan(build: Callable[[int], Plan]) -> Plan:
    """Return a plan whose addresses are free now; `build` makes one from a second octet.

    Raises:
        StartFailed: All are taken, or this machine has no such addresses.
    """
    for net in NETS:
        plan = build(net)
        try:
            for agent in plan.agents:
                for host in (agent.host, agent.face):
                    for port in (agent.http_port, agent.rpc_port, agent.serf_port):
                        with socket.socket() as plug:
                            plug.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                            plug.bind((host, port))
        except PermissionError as error:
            raise StartFailed(f"the ports cannot be used: {error.strerror}") from error
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise StartFailed(
                    "this machine has no loopback addresses beyond 127.0.0.1; serai dev needs Linux"
                ) from error
            continue
        return plan
    raise StartFailed("all loopback networks are in use; try another -base-port")


def _target(rest: list[str]) -> str:
    names = [word for word in rest if word != "one-way"]
    return names[0] if names else ""


def _describe(process: AgentProcess, leaders: set[str]) -> dict[str, Any]:
    spec: AgentSpec = process.spec
    is_leader = spec.is_server and f"{spec.face}:{spec.rpc_port}" in leaders
    return {
        "name": spec.name,
        "region": spec.region,
        "datacenter": spec.datacenter,
        "role": "leader" if is_leader else spec.role,
        "pid": process.pid,
        "state": process.state if process.process is not None else process.ending or "new",
        "api": spec.api,
        "rpc": f"{spec.face}:{spec.rpc_port}",
        "gossip": f"{spec.face}:{spec.serf_port}",
        "folder": str(process.folder),
    }


def _failure(process: AgentProcess) -> str:
    tail = "\n".join(f"  {line}" for line in process.log_tail())
    return f"{process.spec.name} {process.ending} before it was ready:\n{tail}"


def remove_folder(folder: Path) -> None:
    """Delete a temporary federation folder with all its state."""
    shutil.rmtree(folder, ignore_errors=True)


__all__ = ["AddressTaken", "StartFailed", "Supervisor", "free_plan", "remove_folder"]
