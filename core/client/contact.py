"""The way to the servers: who they are, which one is asked, and what keeps the node known.

    Hello -> Register -> Allocations, again and again

`Node.Hello` needs no identity and tells the datacenter's. A node's id is drawn once, after
the first Hello, because it ends in that datacenter's id. `Node.Allocations` blocks for up
to a minute and renews the node each time.

A failed call moves on to the next server after a pause that doubles up to a limit and is
jittered, so that ten thousand clients do not come back in step. Only one call of the chain
is out at a time; `_epoch` tells late answers of an abandoned one.
"""

import random
from collections.abc import Callable
from typing import Any, Protocol

from core.client.config import ClientConfig
from core.client.effects import SaveState
from core.client.outbox import Outbox, Timer
from core.client.saved import NODE_KEY, SavedNode, encode
from core.client.wire import AllocationsAnswer, HelloAnswer, RegisterAnswer, is_unknown_node, read
from core.model.host import Address, CallDone
from core.model.ids import new_id
from core.model.node import Node, NodeStatus

MAX_SERVERS = 64
PASS_ON_TRIES = 3
BLOCKING_MARGIN_US = 10_000_000  # on top of the wait we ask for


class ContactOwner(Protocol):
    def on_identity(self, node: SavedNode, hello: HelloAnswer) -> None:
        """A server answered: who we are, and whom it knows."""

    def on_registered(self) -> None: ...

    def on_contact_again(self) -> None:
        """A server answered after calls had failed: it may know nothing of before."""

    def on_allocations(self, index: int, allocs: dict[str, int]) -> None: ...

    def may_change_identity(self) -> bool:
        """Whether nothing runs here that belongs to the present identity."""


class ServerContact:
    def __init__(
        self, box: Outbox, config: ClientConfig, owner: ContactOwner, node: SavedNode | None
    ) -> None:
        self._box = box
        self._config = config
        self._owner = owner
        self.node = node
        self.is_registered = False
        self.index = 0
        self._servers: list[Address] = list(config.servers)
        self._learn(node.servers if node else ())
        box.rng.shuffle(self._servers)
        self._cursor = 0
        self._failures = 0
        self._epoch = 0
        self._asked_us = 0
        self._pause: Timer | None = None
        self.last_contact_us = box.now.mono_us  # of any answer; before the first, of our start

    def begin(self) -> None:
        if self._servers:
            self._hello()
        else:
            self._box.log("error", "no server is known: set client { servers = [...] }")

    def learn(self, servers: list[Address]) -> None:
        """Take in more servers, known by gossip for example."""
        was_alone = not self._servers
        self._learn(servers)
        if was_alone and self._servers:
            self._hello()

    def register_again(self) -> None:
        """The servers don't know us (any more)."""
        if self.is_registered:
            self.is_registered = False
            self._box.log("warning", "the servers do not know this node: registering again")
            self._register()

    def ask(self, method: str, body: dict[str, Any], then: Callable[[CallDone], None]) -> None:
        """Ask the present server, in the name of this node. Errors move on to the next."""
        assert self.node is not None
        body = {"node_id": self.node.node_id, "secret_id": self.node.secret_id, **body}

        def answered(event: CallDone) -> None:
            if event.error:
                self._rotate()
                if is_unknown_node(event.error):
                    self.register_again()
            else:
                self.last_contact_us = self._box.now.mono_us
            then(event)

        timeout_us = self._config.timings.call_timeout_us
        self._box.ask(self._server, method, body, timeout_us, answered)

    def pass_on(
        self, method: str, body: Any, timeout_us: int, then: Callable[[CallDone], None]
    ) -> None:
        """Ask a server in somebody else's name; the next one, when one can't be reached.

        Only a call that never arrived is repeated: a lost answer may have had its effect.
        """
        left = [PASS_ON_TRIES]

        def attempt() -> None:
            self._box.ask(self._server, method, body, timeout_us, answered)

        def answered(event: CallDone) -> None:
            left[0] -= 1
            if left[0] and event.error.startswith("unreachable"):
                self._rotate()
                attempt()
            else:
                then(event)

        if self._servers:
            attempt()
        else:
            then(CallDone(0, "no server is known: set client { servers = [...] }"))

    def pause_us(self, failures: int) -> int:
        """Return a jittered, doubling pause after so many failures in a row."""
        timings = self._config.timings
        longest_us = min(timings.retry_min_us << min(failures, 20), timings.retry_max_us)
        return _jittered(longest_us, self._box.rng)

    # --- the chain -------------------------------------------------------------------------

    def _hello(self) -> None:
        body = {"name": self._config.name}
        self._step("Node.Hello", body, self._config.timings.call_timeout_us, self._on_hello)

    def _on_hello(self, event: CallDone) -> None:
        answer, problem = read(event.body, HelloAnswer)
        if answer is None or not answer.datacenter_id:
            self._fail(problem or "its datacenter has not been bootstrapped yet", self._hello)
            return
        node = self.node
        if node is not None and node.datacenter_id != answer.datacenter_id:
            if not self._owner.may_change_identity():
                self._fail(
                    f"it belongs to datacenter {answer.datacenter_id}, and work of "
                    f"{node.datacenter_id} runs here: name that one's servers",
                    self._hello,
                )
                return
            node = None
        if node is None:
            rng = self._box.rng
            node = SavedNode(
                node_id=new_id(rng, answer.datacenter_id),
                secret_id=new_id(rng, answer.datacenter_id),
                datacenter_id=answer.datacenter_id,
            )
        self._learn(answer.servers)
        node.servers = list(self._servers)
        self.node = node
        self._box.emit(SaveState(NODE_KEY, encode(node)))
        self._owner.on_identity(node, answer)
        self._register()

    def _register(self) -> None:
        assert self.node is not None
        body = {"node": self._record(self.node)}
        self._step("Node.Register", body, self._config.timings.call_timeout_us, self._on_registered)

    def _on_registered(self, event: CallDone) -> None:
        answer, problem = read(event.body, RegisterAnswer)
        if answer is None:
            self._fail(problem, self._register)
            return
        self._learn(answer.servers)
        self.is_registered = True
        self.index = 0
        self._owner.on_registered()
        self._poll()

    def _poll(self) -> None:
        assert self.node is not None
        wait_us = self._config.timings.allocations_wait_us
        body = {
            "node_id": self.node.node_id,
            "secret_id": self.node.secret_id,
            "min_index": self.index,
            "wait_us": wait_us,
        }
        self._asked_us = self._box.now.mono_us
        self._step("Node.Allocations", body, wait_us + BLOCKING_MARGIN_US, self._on_polled)

    def _on_polled(self, event: CallDone) -> None:
        answer, problem = read(event.body, AllocationsAnswer)
        if answer is None:
            self._fail(problem, self._poll)
            return
        is_news = answer.index != self.index
        if answer.index < self.index:
            # An older replica, or a restored state: its list may lack what we were given.
            self._box.log("debug", "older index", index=answer.index, seen=self.index)
            self.index = 0
        else:
            self.index = answer.index
            if answer.allocs is not None:
                self._owner.on_allocations(answer.index, answer.allocs)
        node = self.node
        if node is not None and answer.restored != node.restored:
            # An operator restored an older state: it lacks what we reported since.
            is_first, node.restored = node.restored is None, answer.restored
            self._box.emit(SaveState(NODE_KEY, encode(node)))
            if not is_first:
                self._owner.on_registered()
        spent_us = self._box.now.mono_us - self._asked_us
        if is_news or spent_us >= self._config.timings.retry_min_us:
            self._poll()
        else:  # it does not block: don't spin
            self._later(self.pause_us(0), self._poll)

    def _step(
        self, method: str, body: Any, timeout_us: int, then: Callable[[CallDone], None]
    ) -> None:
        """Make the chain's next call. An error comes back to the same step, elsewhere."""
        self._epoch += 1
        epoch = self._epoch
        if self._pause is not None:
            self._pause.cancel()

        def answered(event: CallDone) -> None:
            if epoch != self._epoch:
                return
            if event.error:
                self._on_error(method, event.error)
                return
            if self._failures:
                self._failures = 0
                self._owner.on_contact_again()
            self.last_contact_us = self._box.now.mono_us
            then(event)

        self._box.ask(self._server, method, body, timeout_us, answered)

    def _on_error(self, method: str, error: str) -> None:
        if method == "Node.Allocations" and is_unknown_node(error):
            self.register_again()
            return
        step = {
            "Node.Hello": self._hello,
            "Node.Register": self._register,
            "Node.Allocations": self._poll,
        }[method]
        self._fail(error, step, method)

    def _fail(self, error: str, again: Callable[[], None], method: str = "Node.Hello") -> None:
        pause_us = self.pause_us(self._failures)
        level = "warning" if self._failures in (3, 30) or self._failures % 300 == 299 else "debug"
        self._box.log(
            level, "server does not answer as it should",
            server=self._server, method=method, error=error, retry_ms=pause_us // 1000,
        )  # fmt: skip
        self._failures += 1
        self._rotate()
        self._later(pause_us, again)

    def _later(self, pause_us: int, step: Callable[[], None]) -> None:
        self._pause = self._box.after(pause_us, step)

    # --- servers -----------------------------------------------------------------------------

    @property
    def servers(self) -> list[Address]:
        return list(self._servers)

    @property
    def _server(self) -> Address:
        return self._servers[self._cursor % len(self._servers)]

    def _rotate(self) -> None:
        self._cursor = (self._cursor + 1) % max(len(self._servers), 1)

    def _learn(self, servers: list[Address] | tuple[Address, ...]) -> None:
        for server in servers:
            if server and server not in self._servers and len(self._servers) < MAX_SERVERS:
                self._servers.append(server)

    def _record(self, saved: SavedNode) -> Node:
        config = self._config
        return Node(
            id=saved.node_id,
            secret_id=saved.secret_id,
            datacenter=config.datacenter,
            name=config.name,
            http_addr=config.http_addr,
            rpc_addr=config.rpc_addr,
            tls_enabled=config.tls_enabled,
            attributes=dict(config.fingerprint.attributes),
            node_resources=config.fingerprint.resources,
            reserved_resources=config.reserved,
            links={},
            meta=dict(config.meta),
            node_class=config.node_class,
            node_pool=config.node_pool,
            status=NodeStatus.READY,
            drivers=dict(config.fingerprint.drivers),
            host_volumes=dict(config.host_volumes),
        )


def _jittered(longest_us: int, rng: random.Random) -> int:
    return longest_us // 2 + rng.randrange(longest_us // 2 + 1)
