"""Following a log: from its own level on, whatever the agent's own log shows."""

import io
import json

import pytest

from core.agent.journal import open_journal
from core.agent.monitor import LINES, MonitorError, Monitors


async def test_a_follower_gets_lines_of_its_own_level() -> None:
    own = io.StringIO()
    log = open_journal("WARN", as_json=False, stream=own)
    monitors = Monitors()
    assert await monitors.read("a", "debug", as_json=False) == b""
    assert await monitors.read("b", "ERROR", as_json=True) == b""
    log.debug("small", key="value")
    log.error("large", number=3)
    lines = (await monitors.read("a", "debug", as_json=False)).decode().splitlines()
    assert "small" in lines[0] and "key=value" in lines[0] and "large" in lines[1]
    (line,) = (await monitors.read("b", "ERROR", as_json=True)).splitlines()
    said = json.loads(line)
    assert (said["event"], said["level"], said["number"]) == ("large", "error", 3)
    assert "small" not in own.getvalue() and "large" in own.getvalue()
    monitors.close("a")
    monitors.close("b")
    log.debug("nobody hears it")
    assert "nobody" not in own.getvalue()


async def test_a_slow_follower_is_told_what_it_missed() -> None:
    log = open_journal("ERROR", as_json=False, stream=io.StringIO())
    monitors = Monitors()
    await monitors.read("a", "info", as_json=False)
    for number in range(LINES + 7):
        log.info("line", number=number)
    lines = (await monitors.read("a", "info", as_json=False)).decode().splitlines()
    assert lines[0] == "(7 lines were lost: they came too fast)"
    assert len(lines) == LINES + 1 and lines[-1].endswith(f"number={LINES + 6}")
    monitors.close("a")


async def test_an_unknown_level_is_refused() -> None:
    with pytest.raises(MonitorError, match='"loud" is not one of'):
        await Monitors().read("a", "loud", as_json=False)
