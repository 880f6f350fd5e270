"""When a node is down or disconnected: the leader's judgement (DESIGN.md, "Gossip").

Gossip alone does not decide. A node is **down** when LAN gossip says dead *and* a call to
its agent fails; it is **disconnected** when it has not renewed by any call for
`renew_us`, whatever gossip says. A new leader judges nobody for `grace_us`, for it has
not heard the nodes yet. Should more than a tenth of the nodes look down within 10 s, the
fault may be on our side: then a majority of the servers must have the same view.
A node with work that its job waits for (`lost_after`) is disconnected where another would
be down, for as long as it is waited for.

A node that renews again is ready again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from core.model.evaluation import EvalTrigger
from core.model.host import CallDone
from core.model.node import Node, NodeStatus
from core.server import evaluations, lookups
from core.state.commands import SetNodeStatus
from core.state.result import Change

if TYPE_CHECKING:
    from core.server.context import Server

LAN_VIEW: Final = "Server.LanView"
_MASS_WINDOW_US: Final = 10_000_000
_MASS_SHARE: Final = 0.1
_SCAN_US: Final = 30_000_000
_REPEAT_US: Final = 10_000_000  # a node that gossip holds for dead, but answers, is asked again


class Liveness:
    def __init__(self, server: Server) -> None:
        self._server = server
        self._config = server.config.liveness
        self._renewed_us: dict[str, int] = {}  # node id -> last call, monotonic
        self._judges_from_us = 0
        self._is_judging = False
        self._suspects: dict[str, int] = {}  # node id -> not asked again before
        self._downs: deque[int] = deque()  # moments of recent verdicts
        self._in_flight: dict[str, None] = {}  # nodes with a status change proposed
        self._by_name: dict[str, dict[str, None]] = {}  # agent name -> node ids
        self._next_scan_us = 0  # of the whole LAN view; in between events tell

    # --- leadership -------------------------------------------------------------------

    def on_leadership(self, is_leader: bool) -> None:
        self._renewed_us.clear()
        self._suspects.clear()
        self._in_flight.clear()
        self._downs.clear()
        self._by_name.clear()
        self._next_scan_us = 0
        self._is_judging = is_leader
        if not is_leader:
            return
        now_us = self._server.now.mono_us
        self._judges_from_us = now_us + self._config.grace_us
        for node in self._server.state.nodes:
            self._renewed_us[node.id] = now_us
            self._by_name.setdefault(node.name, {})[node.id] = None
        self._server.outbox.at(self._judges_from_us, self._check)

    def on_applied(self, changes: list[Change]) -> None:
        if not self._is_judging:
            return
        for change in changes:
            if change.table == "nodes":
                node = self._server.state.nodes.get(change.key)
                if node is None:
                    self._renewed_us.pop(change.key, None)
                    self._suspects.pop(change.key, None)
                else:
                    self._by_name.setdefault(node.name, {})[node.id] = None

    # --- what is heard ----------------------------------------------------------------

    def on_renewed(self, node: Node) -> None:
        """The node called: it lives. Makes a node that was given up ready again."""
        self._renewed_us[node.id] = self._server.now.mono_us
        self._suspects.pop(node.id, None)
        if node.status in (NodeStatus.DOWN, NodeStatus.DISCONNECTED):
            self._set_status(node, NodeStatus.READY, "Node reconnected")

    def on_registered(self, node_id: str) -> None:
        """The node is about to be registered: count its silence from now on."""
        self._renewed_us[node_id] = self._server.now.mono_us
        self._suspects.pop(node_id, None)

    def on_failed(self, name: str) -> None:
        """LAN gossip says that the agent of this name is dead."""
        if self._is_judging:
            for node_id in self._by_name.get(name, ()):
                self._suspects.setdefault(node_id, 0)
            self._server.outbox.after(0, self._ask_suspects)

    def on_alive(self, name: str) -> None:
        """LAN gossip says that the agent of this name lives."""
        if self._suspects:
            for node_id in [*self._suspects]:
                node = self._server.state.nodes.get(node_id)
                if node is None or node.name == name:
                    del self._suspects[node_id]

    def on_lan_view(self, body: Any) -> tuple[Any, str]:
        """Answer another server: which of these agents LAN gossip holds for dead here."""
        names = body.get("names") if isinstance(body, dict) else None
        if not isinstance(names, list):
            return None, "Server.LanView needs a list of names"
        membership = self._server.membership
        return {"dead": [name for name in names if membership.is_lan_alive(str(name)) is False]}, ""

    # --- judging ----------------------------------------------------------------------

    def _check(self) -> None:
        if not self._is_judging or not self._server.consensus.is_serving:
            return
        now_us = self._server.now.mono_us
        silent_since_us = now_us - self._config.renew_us
        silent = [key for key, at_us in self._renewed_us.items() if at_us <= silent_since_us]
        for node_id in silent:
            node = self._server.state.nodes.get(node_id)
            if node is not None and node.status is NodeStatus.READY:
                self._set_status(
                    node, NodeStatus.DISCONNECTED, "Node did not call for too long", is_loss=True
                )
        if now_us >= self._next_scan_us:
            self._next_scan_us = now_us + _SCAN_US
            self._scan_lan()
        self._ask_suspects()
        self._server.outbox.after(self._config.check_interval_us, self._check)

    def _scan_lan(self) -> None:
        """Suspect whoever the LAN pool holds for dead: its events may be older than we lead."""
        for name in self._server.membership.lan_dead():
            for node_id in self._by_name.get(name, ()):
                self._suspects.setdefault(node_id, 0)

    def _ask_suspects(self) -> None:
        """Call each suspect's agent; who does not answer is down."""
        now_us = self._server.now.mono_us
        if not self._is_judging or now_us < self._judges_from_us:
            return
        for node_id, not_before_us in [*self._suspects.items()]:
            node = self._server.state.nodes.get(node_id)
            if node is None or node.status is NodeStatus.DOWN:
                del self._suspects[node_id]
            elif now_us >= not_before_us:
                self._suspects[node_id] = now_us + _REPEAT_US + self._config.ping_timeout_us
                self._server.outbox.ask(
                    node.rpc_addr, "Agent.Ping", {}, self._config.ping_timeout_us,
                    self._on_pinged(node_id),
                )  # fmt: skip

    def _on_pinged(self, node_id: str) -> Callable[[CallDone], None]:
        def on_done(event: CallDone) -> None:
            node = self._server.state.nodes.get(node_id)
            if node is None or node_id not in self._suspects or not self._is_judging:
                return
            answered = event.body.get("node_id") if isinstance(event.body, dict) else None
            if not event.error and answered in (None, "", node_id):
                return  # asked again later, as long as gossip holds it for dead
            self._judge(node)

        return on_done

    def _judge(self, node: Node) -> None:
        now_us = self._server.now.mono_us
        while self._downs and self._downs[0] <= now_us - _MASS_WINDOW_US:
            self._downs.popleft()
        self._downs.append(now_us)
        others = [
            site
            for site in self._server.membership.own_servers()
            if site.is_alive and site.id != self._server.config.server_id
        ]
        voters = len(self._server.consensus.voters())
        is_mass = len(self._downs) > max(1, self._server.state.nodes.count * _MASS_SHARE)
        if not is_mass or voters < 3:
            self._declare_down(node.id)
            return
        agreeing = 1

        def on_view(event: CallDone) -> None:
            nonlocal agreeing
            dead = event.body.get("dead") if isinstance(event.body, dict) else None
            if event.error or not isinstance(dead, list) or node.name not in dead:
                return
            agreeing += 1
            if agreeing == voters // 2 + 1:
                self._declare_down(node.id)

        for site in others:
            self._server.outbox.ask(
                site.rpc, LAN_VIEW, {"names": [node.name]}, self._config.ping_timeout_us, on_view
            )

    def _declare_down(self, node_id: str) -> None:
        node = self._server.state.nodes.get(node_id)
        if node is None or node_id not in self._suspects or node.status is NodeStatus.DOWN:
            return
        now_us = self._server.now.wall_us
        status = NodeStatus.DOWN
        if lookups.is_waited_for(self._server.state, node_id, now_us):
            status = NodeStatus.DISCONNECTED  # asked again until nothing waits for it
        else:
            del self._suspects[node_id]
        if node.status is not status:
            self._set_status(
                node, status, "Gossip says dead, and the agent does not answer", is_loss=True
            )

    def _set_status(
        self, node: Node, status: NodeStatus, description: str, *, is_loss: bool = False
    ) -> None:
        server = self._server
        if node.id in self._in_flight or not server.consensus.is_serving:
            return
        self._in_flight[node.id] = None
        if is_loss:
            server.measures.nodes_lost += 1
        server.outbox.log(
            "warning" if is_loss else "info", f"node is {status.value}",
            node=node.name, id=node.id, reason=description,
        )  # fmt: skip
        server.consensus.propose(
            [
                SetNodeStatus(
                    node_id=node.id,
                    status=status.value,
                    description=description,
                    evaluations=evaluations.for_node(server, node.id, EvalTrigger.NODE_UPDATE),
                )
            ],
            lambda outcome: self._in_flight.pop(node.id, None),
        )
