"""The simulated agents: a server with its disk, a client with its node's processes.

They build the shipped machines with the constructor calls of core.agent, and carry out
what a server or a client alone asks of its host; the rest is sim.host's.
"""

import hashlib
import random
from typing import Any, Final

import msgspec

from core.client import effects as fx
from core.client.config import ClientBoot, ClientConfig
from core.client.machine import ClientMachine
from core.model.host import Effect, Machine
from core.server import effects as sx
from core.server.config import ServerBoot, ServerConfig
from core.server.machine import ServerMachine
from core.state.state import State
from raft.messages import SnapshotMeta
from sim.disk import DiskModel, SimDisk
from sim.host import EPOCH_US, SimAgent, World
from sim.network import Place
from sim.node_disk import NodeDisk
from sim.tasks import SimTasks

__all__ = ["EPOCH_US", "SimAgent", "SimClient", "SimServer", "World", "finished_meta"]


class SimServer(SimAgent):
    """A server agent with its disk."""

    role = "server"

    def __init__(self, world: World, place: Place, config: ServerConfig, disk: DiskModel) -> None:
        super().__init__(world, place)
        self.config = config
        self.disk = SimDisk(disk, random.Random(f"{world.seed}/{self.name}/disk"))
        self._writing: list[Any] = []
        self._staged = b""  # of a snapshot that arrives in chunks
        world.servers.append(self)

    @property
    def server(self) -> ServerMachine | None:
        machine = self.machine
        return machine if isinstance(machine, ServerMachine) else None

    @property
    def is_leader(self) -> bool:
        return self.server is not None and self.server.server.consensus.is_leader

    @property
    def term(self) -> int:
        return 0 if self.server is None else self.server.server.consensus.term

    @property
    def state(self) -> State | None:
        return None if self.server is None else self.server.server.state

    def build(self) -> Machine:
        raft_boot, image = self.disk.boot()
        boot = ServerBoot(
            raft=raft_boot,
            snapshot=image,
            lan_members=tuple(self.members.get("lan", ())),
            wan_members=tuple(self.members.get("wan", ())),
        )
        return ServerMachine(
            config=self.config,
            boot=boot,
            rng=self.rng("machine"),
            now=self.now(),
            decode=self.world.decoder(self.place),
        )

    def crash(self) -> None:
        for batch in self._writing[:1]:
            self.disk.apply(batch, torn=True)
        self._writing.clear()
        super().crash()

    def _persist(self, effect: sx.PersistLog) -> None:
        batch = effect.batch
        if self.disk.is_full and batch.entries:
            full = sx.LogPersistFailed(effect.ticket, "No space left on device", True)
            self.when_alive(500, self.deliver, full)
            return
        self._writing.append(batch)
        size = sum(len(entry.data) for entry in batch.entries)

        def done(_: Any) -> None:
            self._writing.remove(batch)
            self.disk.apply(batch)
            self.deliver(sx.LogPersisted(effect.ticket))

        delay_us = self.disk.duration_us(size, self.wheel.now_us)
        self.when_alive(delay_us, done, None)

    def _save_snapshot(self, effect: sx.SaveSnapshot) -> None:
        image = b"".join(effect.image.chunks())
        meta = finished_meta(effect.meta, image)
        image = self.world.images(self.place).shared(image, meta.digest)

        def done(_: Any) -> None:
            self.disk.save_snapshot(meta, image)
            self.deliver(sx.SnapshotSaved(effect.ticket, meta))

        self.when_alive(self.disk.duration_us(len(image), self.wheel.now_us), done, None)

    def _read_snapshot(self, effect: sx.ReadSnapshot) -> None:
        data = self.disk.read_snapshot(effect.snapshot_id, effect.offset, effect.size)
        event = sx.SnapshotRead(
            effect.ticket,
            effect.snapshot_id,
            effect.offset,
            data or b"",
            effect.offset + len(data or b"") >= self.disk.snapshot_size,
            "" if data is not None else "this snapshot is gone: a newer one took its place",
        )
        self.when_alive(500, self.deliver, event)

    def _stage_snapshot(self, effect: sx.StageSnapshot) -> None:
        self._staged = self._staged[: effect.offset] + effect.data
        image = None
        if effect.is_last:
            image = self.world.images(self.place).shared(self._staged)
            self._staged = b""
            self.disk.save_snapshot(effect.meta, image)
        event = sx.SnapshotStaged(effect.ticket, effect.offset, image)
        self.when_alive(1_000, self.deliver, event)


SimServer.HANDLERS = {
    **SimAgent.HANDLERS,
    sx.PersistLog: SimServer._persist,
    sx.SaveSnapshot: SimServer._save_snapshot,
    sx.ReadSnapshot: SimServer._read_snapshot,
    sx.StageSnapshot: SimServer._stage_snapshot,
}


def finished_meta(meta: SnapshotMeta, image: bytes) -> SnapshotMeta:
    """Return the meta with size and digest of the written image."""
    return msgspec.structs.replace(meta, size=len(image), digest=hashlib.sha256(image).hexdigest())


class SimClient(SimAgent):
    """A client agent on its node."""

    role = "client"

    def __init__(self, world: World, place: Place, config: ClientConfig) -> None:
        super().__init__(world, place)
        self.config = config
        self.node_id = ""  # where it began from a snapshot
        self.tasks = SimTasks(world.wheel, random.Random(f"{world.seed}/{self.name}/tasks"))
        self.disk = NodeDisk(world.dictionary)
        world.clients.append(self)

    def build(self) -> Machine:
        self.tasks.attach(self.deliver)
        boot = ClientBoot(saved=self.disk.records(), lan_members=tuple(self.members.get("lan", ())))
        return ClientMachine(
            config=self.config,
            boot=boot,
            rng=self.rng("machine"),
            now=self.now(),
            directory=self.world.directory(self.place),
            formation=None if self.world.forming is None else self.world.forming.of(self.place),
        )

    def crash(self) -> None:
        self.tasks.attach(None)
        super().crash()

    def power_off(self) -> None:
        """The machine itself goes: the processes too."""
        self.crash()
        self.tasks.power_off()

    def _save_state(self, effect: fx.SaveState) -> None:
        self.disk.save(effect.key, effect.value)

    def _carry_out_at_node(self, effect: Effect) -> None:
        self.tasks.carry_out(effect)


_OF_CLIENTS: Final = [
    kind for kind in vars(fx).values() if isinstance(kind, type) and issubclass(kind, Effect)
]
SimClient.HANDLERS = {
    **dict.fromkeys(_OF_CLIENTS, SimClient._carry_out_at_node),
    **SimAgent.HANDLERS,
    fx.SaveState: SimClient._save_state,
}
