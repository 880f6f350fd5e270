"""What the parts of one server share: each part reaches the others through it.

`ServerMachine` builds the parts and hangs them in here; nothing is looked up by name.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from core.model.host import Now, Peer
from core.model.ids import new_id
from core.server.blocking import BlockingQueries
from core.server.measures import Measures
from core.server.outbox import Outbox

if TYPE_CHECKING:
    from core.server.autopilot import Autopilot
    from core.server.config import ServerConfig
    from core.server.consensus import Consensus
    from core.server.deployments import DeploymentWatch
    from core.server.draining import DrainWatch
    from core.server.evaluations import SystemJobs
    from core.server.exports import Exports
    from core.server.federation_port import Federation
    from core.server.hashes import Hashes
    from core.server.keyring import Keyring
    from core.server.liveness import Liveness
    from core.server.measuring import Measuring
    from core.server.membership import Membership
    from core.server.nodes import NodeCalls
    from core.server.origin import Origin
    from core.server.planning import Planning
    from core.server.routing import Router
    from core.state.result import Change
    from core.state.state import State


class Leading(Protocol):
    """A part that works while this server leads."""

    def on_leadership(self, is_leader: bool) -> None: ...

    def on_applied(self, changes: list[Change]) -> None: ...


class Server:
    autopilot: Autopilot
    hashes: Hashes
    exports: Exports
    consensus: Consensus
    keyring: Keyring
    membership: Membership
    origin: Origin
    planning: Planning
    deployments: DeploymentWatch
    nodes: NodeCalls
    liveness: Liveness
    measuring: Measuring
    router: Router
    draining: DrainWatch
    system_jobs: SystemJobs
    federation: Federation
    leading: Sequence[Leading]  # told of leadership and of what was applied, in this order

    def __init__(self, config: ServerConfig, rng: random.Random, now: Now) -> None:
        self.config = config
        self.rng = rng
        self.outbox = Outbox(now)
        self.measures = Measures()
        self.blocking = BlockingQueries(self.outbox, config.limits, rng, self.measures)

    def on_leadership(self, is_leader: bool) -> None:
        """This server leads and holds all that was acknowledged; or it ceased to lead."""
        for part in self.leading:
            part.on_leadership(is_leader)

    def on_applied(self, changes: list[Change]) -> None:
        for part in self.leading:
            part.on_applied(changes)

    def on_replaced(self) -> None:
        """A snapshot took the state's place: whatever was known of it is void."""
        self.blocking.answer_all()

    @property
    def now(self) -> Now:
        return self.outbox.now

    @property
    def state(self) -> State:
        return self.consensus.state

    @property
    def datacenter_id(self) -> str:
        """12 hex digits; "" until this datacenter is bootstrapped."""
        return self.state.datacenter_id

    def me(self) -> Peer:
        """Return this server as the caller of a call that does not leave it."""
        return Peer(
            name=self.config.name,
            role="server",
            datacenter_id=self.datacenter_id,
            address=self.config.rpc_addr,
            is_proven=True,
        )

    def new_id(self) -> str:
        """Return a new id of this datacenter. Only the leader draws ids, before it proposes."""
        return new_id(self.rng, self.datacenter_id)
