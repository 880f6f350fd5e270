"""`serai sim replay FILE`: the recorded events of a real agent, handed to its machines again.

The machines are built from the recorded configuration, boot state and seed, and must
answer each event with the effects they answered it with in the real agent: the running
hash over all effects, and the state hash at the end, are compared with the recording's.
"""

from collections.abc import Iterator
from typing import Any, BinaryIO, Final

import msgspec

from core.agent.record import FORMAT, EffectsHash
from core.client import effects as client_effects
from core.client.config import ClientBoot, ClientConfig
from core.client.machine import ClientMachine
from core.model import host as host_events
from core.model.host import Effect, Event, Machine, Now
from core.server import effects as server_effects
from core.server.config import ServerBoot, ServerConfig
from core.server.machine import ServerMachine
from gossip.messages import Packet
from gossip.settings import Settings as GossipSettings
from raft.messages import SnapshotMeta
from raft.output import Boot
from raft.settings import Settings as RaftSettings

READ_BYTES: Final = 1 << 20


class ReplayError(Exception):
    """The file is no recording, is cut short in its head, or of another format."""


class Outcome(msgspec.Struct, kw_only=True):
    """What a replay found. `matches` is None where the recording has no trailer."""

    events: dict[str, int]
    effects: dict[str, str]
    state: str
    recorded_effects: dict[str, str] | None
    recorded_state: str | None
    matches: bool | None


def replay(file: BinaryIO) -> Outcome:
    """Replay a recording.

    Raises:
        ReplayError: The file can't be replayed; the text says why.
    """
    import random

    values = _values(file)
    header = next(values, None)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ReplayError(f"{file.name}: not a recording of format {FORMAT}")
    start = Now(*header["now"])
    machines: dict[str, Machine] = {}
    for role, recipe in header["roles"].items():
        config, boot = _revive(role, recipe)
        rng = random.Random(recipe["seed"])
        if role == "server":
            machines[role] = ServerMachine(config=config, boot=boot, rng=rng, now=start)
        else:
            machines[role] = ClientMachine(config=config, boot=boot, rng=rng, now=start)
    hashes = {role: EffectsHash() for role in machines}
    counts = dict.fromkeys(machines, 0)
    problems: dict[int, Any] = {}
    trailer: dict[str, Any] | None = None
    for value in values:
        if isinstance(value, dict):
            trailer = value
            break
        role, mono_us, wall_us, raw = value
        event = _event(role, raw)
        if isinstance(event, server_effects.Computed):
            solution = problems.pop(event.ticket).solve()
            event = server_effects.Computed(event.ticket, solution)
        effects = machines[role].handle(event, Now(mono_us, wall_us))
        _keep_problems(effects, problems)
        hashes[role].add(effects)
        counts[role] += 1
    server = machines.get("server")
    state = server.state.hash() if isinstance(server, ServerMachine) else ""
    found = {role: item.hexdigest() for role, item in hashes.items()}
    return Outcome(
        events=counts,
        effects=found,
        state=state,
        recorded_effects=trailer["effects"] if trailer else None,
        recorded_state=trailer["state"] if trailer else None,
        matches=(trailer["effects"] == found and trailer["state"] == state) if trailer else None,
    )


def _keep_problems(effects: list[Effect], problems: dict[int, Any]) -> None:
    for effect in effects:
        if isinstance(effect, server_effects.Compute):
            problems[effect.ticket] = effect.problem


def _values(file: BinaryIO) -> Iterator[Any]:
    """Yield the msgpack values of a file; one that a crash cut short ends it."""
    import msgpack

    unpacker = msgpack.Unpacker(file, read_size=READ_BYTES, max_buffer_size=1 << 30,
                                strict_map_key=False)  # fmt: skip
    try:
        yield from unpacker
    except (ValueError, msgpack.UnpackException):
        return


def _revive(role: str, recipe: dict[str, Any]) -> tuple[Any, Any]:
    if role == "client":
        config = msgspec.convert(recipe["config"], ClientConfig)
        if config.gossip is not None:
            config = msgspec.structs.replace(
                config, gossip=msgspec.convert(config.gossip, GossipSettings)
            )
        return config, msgspec.convert(recipe["boot"], ClientBoot)
    server = msgspec.convert(recipe["config"], ServerConfig)
    kinds = {"raft": RaftSettings, "lan_gossip": GossipSettings, "wan_gossip": GossipSettings}
    for field, kind in kinds.items():
        value = getattr(server, field)
        if value is not None:
            server = msgspec.structs.replace(server, **{field: msgspec.convert(value, kind)})
    boot = msgspec.convert(recipe["boot"], ServerBoot)
    if boot.raft is not None:
        boot = msgspec.structs.replace(boot, raft=msgspec.convert(boot.raft, Boot))
    return server, boot


def _events_of(module: Any) -> dict[str, type[Event]]:
    return {
        name: kind
        for name, kind in vars(module).items()
        if isinstance(kind, type) and issubclass(kind, Event) and kind is not Event
    }


_SHARED: Final = _events_of(host_events)
_KINDS: Final = {
    "server": {**_SHARED, **_events_of(server_effects)},
    "client": {**_SHARED, **_events_of(client_effects)},
}


def _event(role: str, raw: dict[str, Any]) -> Event:
    kind = _KINDS[role].get(raw["@"])
    if kind is None:
        raise ReplayError(f"the recording has an event {raw['@']!r} that this version lacks")
    event = msgspec.convert(raw, kind)
    if isinstance(event, host_events.GossipReceived | host_events.GossipExchangeRequested):
        return msgspec.structs.replace(event, packet=msgspec.convert(event.packet, Packet))
    if isinstance(event, host_events.GossipExchanged) and event.packet is not None:
        return msgspec.structs.replace(event, packet=msgspec.convert(event.packet, Packet))
    if isinstance(event, server_effects.SnapshotSaved):
        return msgspec.structs.replace(event, meta=msgspec.convert(event.meta, SnapshotMeta))
    return event
