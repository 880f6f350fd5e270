"""Runs a federation of fake agents in FOLDER: python run_federation.py FOLDER REGIONS."""

import socket
import sys
from functools import partial
from pathlib import Path

import trio

from core.devcluster.layout import PerRegion, Plan
from core.devcluster.supervisor import StartFailed, Supervisor, free_plan


def build(port: int, net: int) -> Plan:
    one = PerRegion(1, {})
    return Plan.build(
        sys.argv[2].split(","),
        net=net,
        datacenters=one,
        servers=one,
        clients=one,
        cpu_mhz=one,
        memory_mib=one,
        base_port=port,
    )


def main() -> None:
    with socket.socket() as plug:
        plug.bind(("127.0.0.1", 0))
        port = min(plug.getsockname()[1], 65000)
    program = (sys.executable, str(Path(__file__).with_name("fake_agent.py")))
    say = partial(print, flush=True)
    supervisor = Supervisor(
        free_plan(partial(build, port)), Path(sys.argv[1]), say, program=program
    )
    run = partial(supervisor.run, on_started=lambda: say("started"), on_ready=lambda: say("ready"))
    try:
        trio.run(run)
    except StartFailed as error:
        say(error)
        sys.exit(1)


if __name__ == "__main__":
    main()
