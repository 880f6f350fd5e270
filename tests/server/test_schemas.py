"""Two versions in one quorum: the newer one's commands wait until all understand them.

The newer version is this very code with one more command, `Annotate`, that its schema 2
has; the older understands schema 1 alone (`schema_max`).
"""

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from harness import World
from stories import JOIN, datacenter, leader, register

from core.model.host import Halt
from core.server.machine import ServerMachine
from core.state.commands import Command, Entry, RaiseSchema
from core.state.entry import _SCHEMAS, HANDLERS, _command_decoders, encode_entry, register_handler
from core.state.result import CommandResult
from core.state.state import SnapshotError, State, UnknownCommand


class Annotate(Command):
    """A command that came with schema 2."""

    text: str


def annotate(state: State, command: Annotate, context: Any) -> CommandResult:
    state.operator.put("note", {"Text": command.text})
    return CommandResult()


@pytest.fixture(autouse=True)
def newer_code() -> Iterator[None]:
    register_handler(Annotate, annotate, schema=2)
    yield
    del HANDLERS[Annotate], _SCHEMAS[Annotate]
    _command_decoders.clear()


def upgrade(world: World, name: str) -> ServerMachine:
    """Stop a server and start it again with the newer version."""
    world.kill(next(one for one in world.servers() if one.name == name))  # type: ignore[attr-defined]
    world.configs[name] = msgspec.structs.replace(world.configs[name], schema_max=2)
    return world.start(name)


def note(server: ServerMachine, text: str) -> list[Any]:
    """Propose the new command; its outcome comes into the list."""
    outcomes: list[Any] = []
    server.server.consensus.propose([Annotate(text=text)], outcomes.append)
    return outcomes


def test_the_schema_rises_only_when_the_last_server_is_upgraded() -> None:
    world = datacenter(3, 1, schema_max=1)
    names = sorted(one.name for one in world.servers())  # type: ignore[attr-defined]
    for name in names[:-1]:
        upgrade(world, name)
        world.until(world.leader)
        world.run(20)
        register(world, ID=f"during-{name}", Name=f"during-{name}")
        assert {one.state.schema for one in world.servers()} == {1}
        newest = next(one for one in world.servers() if one.server.config.schema_max == 2)
        if leader(world) is newest:
            (outcome,) = note(newest, "too early")
            assert outcome.applied is None and "schema 2" in outcome.reason
    upgrade(world, names[-1])
    world.until(lambda: {one.state.schema for one in world.servers()} == {2})
    outcomes = note(leader(world), "all know it")
    world.until(lambda: outcomes)
    world.run(2)
    assert all(one.state.operator.get("note") for one in world.servers())
    assert len({one.state.hash() for one in world.servers()}) == 1
    assert len(world.ask(leader(world), "Job.List").body) == 2


def test_an_older_server_is_not_taken_in_after_the_rise() -> None:
    world = datacenter(3, 0, schema_max=2)
    world.until(lambda: {one.state.schema for one in world.servers()} == {2})
    world.add_server("s4", 4, bootstrap_expect=3, retry_join=JOIN, schema_max=1)
    world.run(30)
    raft = leader(world).server.consensus.raft
    assert len(raft.configuration.addresses) == 3
    said = [log.fields["reason"] for _, log in world.logs if "not taken into" in log.message]
    assert said and "understands schema 1" in said[0] and "upgrade it" in said[0]


def test_an_unknown_command_stops_the_replica_and_no_other() -> None:
    """Should one come although it must not: an older replica stops rather than diverge."""
    world = datacenter(3, 0, schema_max=2)
    world.until(lambda: {one.state.schema for one in world.servers()} == {2})
    old = next(one for one in world.servers() if one is not leader(world))
    name = old.name  # type: ignore[attr-defined]
    halted: list[tuple[str, str]] = []
    carry_out = world._carry_out

    def keep_halts(agent: Any, effect: Any) -> None:
        if isinstance(effect, Halt):
            halted.append((agent.name, effect.reason))
            world.kill(agent)
        else:
            carry_out(agent, effect)

    world._carry_out = keep_halts  # type: ignore[method-assign]
    world.kill(old)
    world.configs[name] = msgspec.structs.replace(world.configs[name], schema_max=1)
    world.start(name)
    world.until(lambda: halted)
    assert halted[0][0] == name and "upgrade it" in halted[0][1]
    register(world)
    assert {who for who, _ in halted} == {name}


def test_an_older_state_refuses_what_it_does_not_know_and_stays_as_it_is() -> None:
    old = State(schema_max=1)
    entry = Entry(wall_us=1, commands=[Annotate(text="x")])
    before = old.hash()
    for data, text in (
        (encode_entry(entry, 2), "schema 2, this version knows up to 1"),
        (encode_entry(entry, 1), "unknown command 'Annotate'"),
        (encode_entry(Entry(wall_us=1, commands=[RaiseSchema(schema=2)]), 1), "rises to schema 2"),
    ):
        with pytest.raises(UnknownCommand, match=text):
            State(schema_max=1).apply(1, data)
    with pytest.raises(UnknownCommand):
        old.apply(1, encode_entry(entry, 2))
    assert old.hash() == before


def test_an_old_snapshot_is_read_by_the_new_and_a_new_one_refused_by_the_old() -> None:
    old = State(schema_max=1)
    old.apply(1, encode_entry(Entry(wall_us=5, commands=[]), 1))
    image = b"".join(old.image().chunks())
    read = State.restore([image], schema_max=2)
    assert read.hash() == old.hash() and read.schema == 1
    read.apply(2, encode_entry(Entry(wall_us=6, commands=[RaiseSchema(schema=2)]), 1))
    read.apply(3, encode_entry(Entry(wall_us=7, commands=[Annotate(text="x")]), 2))
    newer = b"".join(read.image().chunks())
    assert State.restore([newer], schema_max=2).operator.get("note") == {"Text": "x"}
    with pytest.raises(SnapshotError, match="schema 2, this version knows up to 1: upgrade it"):
        State.restore([newer], schema_max=1)
