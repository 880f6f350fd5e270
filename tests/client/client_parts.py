"""Parts of the client's stories that several of them need."""

from collections.abc import Callable
from typing import Any

from core.model.job import RestartPolicy, Task

NS = 1_000_000_000
FAST = RestartPolicy(attempts=2, interval_ns=1800 * NS, delay_ns=15 * NS, mode="fail")
Make = Callable[..., Any]


def a_task(name: str = "web", **fields: Any) -> Task:
    return Task(name=name, driver="raw_exec", config={"command": name}, **fields)


def methods(world: Any) -> list[str]:
    return [call.method for call in world.calls]
