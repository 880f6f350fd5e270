"""Logs of datacenters, one entry after the other, without servers around them."""

from typing import Any

from core.model.job import Job, Task, TaskGroup
from core.state.commands import Bootstrap, Entry
from core.state.entry import decode_entry, encode_entry
from core.state.result import CommandResult
from core.state.state import State

A, B, C = "0000000000aa", "0000000000bb", "0000000000cc"


def a_state(datacenter_id: str, *, is_authority: bool = False) -> State:
    state = State()
    name = datacenter_id[-2:]
    born = Bootstrap(
        datacenter_id=datacenter_id, region="eu", datacenter=name, is_authority=is_authority
    )
    commit(state, born)
    return state


def commit(state: State, *commands: Any) -> CommandResult:
    """Apply one entry, after a way through its bytes; return the first result."""
    entry = decode_entry(encode_entry(Entry(wall_us=1_000_000, commands=list(commands))))
    return state.apply_entry(state.index + 1, entry).results[0]


def a_job(**changes: Any) -> Job:
    group = TaskGroup(name="g", count=4, tasks=[Task(name="t", driver="raw_exec")])
    fields: dict[str, Any] = {
        "id": "web", "namespace": "default", "uid": "u1", "type": "service", "region": "eu",
        "task_groups": [group], "priority": 50,
    }  # fmt: skip
    return Job(**{**fields, **changes})
