"""The parts of a server that plan, and that watch what was planned.

They need its log and its members, and no disk or network of their own: whoever brings those
two (core.server.machine, or a simulated datacenter) has the same parts put in here.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from core.server.deployments import DeploymentWatch
from core.server.draining import DrainWatch
from core.server.evaluations import SystemJobs
from core.server.liveness import Liveness
from core.server.nodes import NodeCalls
from core.server.planning import Planning

if TYPE_CHECKING:
    from core.server.context import Server


def add_parts(server: Server, rng: random.Random) -> None:
    """Put them into `server`, whose consensus and membership are there."""
    server.planning = Planning(server, rng)
    server.deployments = DeploymentWatch(server)
    server.liveness = Liveness(server)
    server.nodes = NodeCalls(server)
    server.draining = DrainWatch(server)
    server.system_jobs = SystemJobs(server)
