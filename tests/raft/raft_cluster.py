"""The world of `python -m sim.raft`, with verbs for tests that tell one story at a time."""

from core.state.result import Applied
from raft.settings import Settings
from sim.raft import registers
from sim.raft.history import Kind, Operation
from sim.raft.world import SECOND_US, World

__all__ = ["SECOND_US", "Cluster"]


class Probe:
    """A request without a client behind it; says what became of it."""

    floor_index = 0

    def __init__(self, operation: Operation) -> None:
        self.call_id = operation.call_id
        self.key = operation.key
        self.is_read = operation.kind is Kind.READ
        self.answer = ""  # "read", "written", "refused" or "lost"
        self._operation = operation

    def entry(self, wall_us: int) -> bytes:
        return write(self._operation.call_id, self._operation.value, wall_us)

    def read(self, value: str) -> None:
        self.answer = "read"

    def written(self, applied: Applied) -> None:
        self.answer = "written"

    def refused(self, leader: str) -> None:
        self.answer = "refused"

    def lost(self, leader: str) -> None:
        self.answer = "lost"


def write(call_id: str, value: str, wall_us: int) -> bytes:
    command = registers.SetRegister(key="k", value=value)
    return registers.encode(command, call_id, issued_us=wall_us, wall_us=wall_us)


class Cluster(World):
    """Replicas `a`, `b`, ... whose first command is "first"."""

    def __init__(
        self, seed: int, size: int = 3, *, settings: Settings | None = None, engine: str = "core"
    ) -> None:
        self.probes: list[Probe] = []
        super().__init__(
            seed, size, settings=settings, engine=engine, first=[write("first.0", "first", 0)]
        )

    @property
    def acknowledged(self) -> dict[str, int]:
        return self.watch.acknowledged

    def ended(self, answer: str) -> int:
        """Count the requests that ended like that."""
        return sum(probe.answer == answer for probe in self.probes)

    def propose(self, name: str, count: int = 1, size: int = 20) -> None:
        """Propose unique commands at a replica, in one go."""
        self._request(name, Kind.WRITE, count, size)

    def read(self, name: str) -> None:
        """Ask for a barrier."""
        self._request(name, Kind.READ, 1, 0)

    def _request(self, name: str, kind: Kind, count: int, size: int) -> None:
        host = self.hosts[name]
        if host.engine is None or host.is_stopped:
            return
        for _ in range(count):
            number = len(self.probes)
            probe = Probe(Operation(0, number, kind, "k", f"{number:08d}".ljust(size, ".")))
            if kind is Kind.WRITE:
                self.watch.calls[probe.entry(self.wall_us)] = probe.call_id
            self.probes.append(probe)
            host.request(probe)
        host.pump()

    def check_end(self) -> None:
        """After mending everything: all replicas agree, and nothing acknowledged is missing."""
        self.mend()
        self.come_to_rest(60 * SECOND_US)
