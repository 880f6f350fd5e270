"""`serai agent -record FILE`: every event a machine was given, and a hash of its effects.

The file is a sequence of msgpack values:

    header   {format, version, roles: {role: {config, boot, seed}}, now: [mono_us, wall_us]}
    event    [role, mono_us, wall_us, event]          in the order of handling
    trailer  {effects: {role: hex}, state: hex, events: {role: n}}   at a clean stop

`serai sim replay FILE` builds the machines from the header, hands them the events at
their times, and must come to the same effects and the same state hash: the code in the
simulator is the code of the agent.

Hashed of an effect is its whole content, except of two that carry live objects: of
`Compute` and `SaveSnapshot` only ticket and metadata count (what they lead to comes back
as an event or shows in the state hash).
"""

import hashlib
from typing import Any, BinaryIO, Final

import msgspec

from core.model.host import Effect, Event, Now
from core.server import effects as server_effects

FORMAT: Final = 1

_encoder = msgspec.msgpack.Encoder(enc_hook=lambda value: repr(type(value)))


# JSON has integers beyond 64 bits, and a user may send one.
_UNENCODABLE: Final = (OverflowError, ValueError, TypeError, RecursionError)


class EffectsHash:
    """A running hash over all effects of one machine, in order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.count = 0

    def add(self, effects: list[Effect]) -> None:
        for effect in effects:
            self.count += 1
            self._hash.update(encode_effect(effect))

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def encode_effect(effect: Effect) -> bytes:
    """Return the bytes of an effect that count for its hash."""
    if isinstance(effect, server_effects.Compute):
        return _encoder.encode(("Compute", effect.ticket))
    if isinstance(effect, server_effects.SaveSnapshot):
        return _encoder.encode(("SaveSnapshot", effect.ticket, effect.meta))
    return _encoder.encode(effect)


class RunRecorder:
    """Writes one agent's run to a file.

    A full disk, or a value that can't be written down, ends the recording, not the agent.
    """

    def __init__(self, file: BinaryIO, log: Any) -> None:
        self._file = file
        self._log = log
        self._hashes: dict[str, EffectsHash] = {}
        self._events: dict[str, int] = {}
        self._is_broken = False

    def header(self, roles: dict[str, Any], now: Now) -> None:
        """Write how each role's machine was built."""
        self._hashes = {role: EffectsHash() for role in roles}
        self._events = dict.fromkeys(roles, 0)
        self._write({"format": FORMAT, "roles": roles, "now": list(now)})

    def record(self, role: str, event: Event, now: Now, effects: list[Effect]) -> None:
        if self._is_broken:
            return
        try:
            self._hashes[role].add(effects)
        except _UNENCODABLE as error:
            self._end(error)
            return
        self._events[role] += 1
        # A solution is computed again in the replay, from the problem that asked for it.
        if isinstance(event, server_effects.Computed):
            event = server_effects.Computed(event.ticket, None)
        self._write([role, now.mono_us, now.wall_us, event])

    def close(self, state_hash: str) -> None:
        """Write the trailer."""
        self._write(
            {
                "effects": {role: item.hexdigest() for role, item in self._hashes.items()},
                "events": self._events,
                "state": state_hash,
            }
        )
        try:
            self._file.close()
        except OSError as error:  # what was buffered found no room
            self._end(error)

    def _write(self, value: Any) -> None:
        if self._is_broken:
            return
        try:
            self._file.write(_encoder.encode(value))
        except (OSError, *_UNENCODABLE) as error:
            self._end(error)

    def _end(self, error: Exception) -> None:
        if not self._is_broken:
            self._is_broken = True
            self._log.error("recording ends here", reason=str(error), file=self._file.name)
