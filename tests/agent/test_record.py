"""A recording holds every event in order, and never takes the agent down with it."""

import io
from typing import Any

import msgspec
import structlog

from core.agent.record import FORMAT, EffectsHash, RunRecorder
from core.model.host import Effect, Log, Now, Requested, Tick
from core.server.effects import Compute, Computed


class FullDisk(io.BytesIO):
    name = "run.rec"

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def write(self, data: Any) -> int:
        self.room -= len(data)
        if self.room < 0:
            raise OSError(28, "No space left on device")
        return super().write(data)


class Kept(io.BytesIO):
    """Readable after its close."""

    name = "run.rec"
    kept = b""

    def close(self) -> None:
        self.kept = self.getvalue()
        super().close()


def recorder(file: Any) -> tuple[RunRecorder, io.StringIO]:
    lines = io.StringIO()
    log = structlog.wrap_logger(
        structlog.PrintLogger(lines), processors=[structlog.processors.JSONRenderer()]
    )
    run = RunRecorder(file, log)
    run.header({"server": {"seed": 1}}, Now(1, 2))
    return run, lines


def values(data: bytes) -> list[Any]:
    found, reader = [], io.BytesIO(data)
    # One value after the other: each is encoded again to know where the next begins.
    while rest := reader.getvalue()[reader.tell() :]:
        for size in range(1, len(rest) + 1):
            try:
                value = msgspec.msgpack.decode(rest[:size])
            except msgspec.DecodeError:
                continue
            found.append(value)
            reader.seek(reader.tell() + size)
            break
    return found


def test_header_events_and_trailer_in_order() -> None:
    file = Kept()
    run, _ = recorder(file)
    effects: list[Effect] = [Log("info", "a"), Compute(4, object())]
    run.record("server", Tick(), Now(5, 6), effects)
    run.record("server", Computed(4, object()), Now(7, 8), [])
    run.close("state")
    header, tick, computed, trailer = values(file.kept)
    assert header == {"format": FORMAT, "roles": {"server": {"seed": 1}}, "now": [1, 2]}
    assert tick == ["server", 5, 6, {"@": "Tick"}]
    assert computed[3] == {"@": "Computed", "ticket": 4, "solution": None}
    expected = EffectsHash()
    expected.add(effects)
    assert trailer == {
        "effects": {"server": expected.hexdigest()},
        "events": {"server": 2},
        "state": "state",
    }


def test_another_effect_or_order_is_another_hash() -> None:
    def digest(*effects: Effect) -> str:
        running = EffectsHash()
        running.add(list(effects))
        return running.hexdigest()

    a, b = Log("info", "a"), Log("info", "b")
    assert len({digest(a, b), digest(b, a), digest(a), digest()}) == 4
    assert digest(Compute(1, object())) == digest(Compute(1, "another problem object"))


def test_a_full_disk_ends_the_recording_with_one_line() -> None:
    run, lines = recorder(FullDisk(room=60))
    for _ in range(20):
        run.record("server", Tick(), Now(5, 6), [])
    run.close("state")
    assert lines.getvalue().count("recording ends here") == 1


def test_an_integer_beyond_64_bits_ends_the_recording_not_the_agent() -> None:
    run, lines = recorder(Kept())
    run.record("server", Requested(1, "Query", {"Priority": 1 << 70}), Now(1, 1), [])
    run.record("server", Tick(), Now(1, 1), [Log("info", "x", {"n": 1 << 70})])
    run.close("state")
    assert lines.getvalue().count("recording ends here") == 1
