"""The linearizability checker against histories whose verdict is known."""

import json
from pathlib import Path

import pytest

from sim.raft import history
from sim.raft.history import Kind, Operation, Result
from sim.raft.linearizable import explain


def done(
    client: int, call_us: int, return_us: int, kind: Kind, value: str, **more: str
) -> Operation:
    return Operation(
        client, call_us, kind, "k", value, call_us=call_us, return_us=return_us,
        result=Result.OK, **more,
    )  # fmt: skip


def read(client: int, call_us: int, return_us: int, value: str) -> Operation:
    return done(client, call_us, return_us, Kind.READ, value)


def write(client: int, call_us: int, return_us: int, value: str) -> Operation:
    return done(client, call_us, return_us, Kind.WRITE, value)


def swap(
    client: int, call_us: int, return_us: int, expected: str, value: str, found: str
) -> Operation:
    more = {"expected": expected, "found": found}
    return done(client, call_us, return_us, Kind.SWAP, value, **more)


def timed_out(client: int, call_us: int, value: str) -> Operation:
    return Operation(client, call_us, Kind.WRITE, "k", value, call_us=call_us)


ACCEPTED = {
    "empty": [],
    "in turn": [write(0, 0, 1, "a"), read(1, 2, 3, "a"), write(0, 4, 5, "b"), read(1, 6, 7, "b")],
    "overlapping, either order": [write(0, 0, 9, "a"), write(1, 0, 9, "b"), read(2, 10, 11, "a")],
    "a read beside a write sees old or new": [
        write(0, 0, 9, "a"),
        read(1, 1, 2, ""),
        read(1, 3, 4, "a"),
        read(2, 5, 6, "a"),
    ],
    "a write that timed out takes effect late": [
        timed_out(0, 0, "a"),
        read(1, 10, 11, ""),
        write(1, 12, 13, "b"),
        read(1, 14, 15, "a"),
    ],
    "or never": [timed_out(0, 0, "a"), write(1, 2, 3, "b"), read(1, 4, 5, "b")],
    "swaps in a chain": [
        swap(0, 0, 1, "", "a", ""),
        swap(1, 2, 3, "", "b", "a"),
        swap(1, 4, 5, "a", "c", "a"),
        read(0, 6, 7, "c"),
    ],
    "a swap between two overlapping writes": [
        write(0, 0, 9, "a"),
        write(1, 0, 9, "b"),
        swap(2, 0, 9, "a", "c", "a"),
        read(3, 10, 11, "b"),
    ],
}

REJECTED = {
    "a stale read": [write(0, 0, 1, "a"), write(0, 2, 3, "b"), read(1, 4, 5, "a")],
    "a lost write": [write(0, 0, 1, "a"), read(1, 2, 3, "")],
    "back in time": [
        write(0, 0, 9, "a"),
        read(1, 1, 2, "a"),
        read(2, 3, 4, ""),
    ],
    "two readers disagree on the order": [
        write(0, 0, 1, "a"),
        write(1, 0, 1, "b"),
        read(2, 2, 3, "a"),
        read(3, 4, 5, "b"),
    ],
    "a value that nobody wrote": [read(0, 0, 1, "z")],
    "a write is applied again": [
        write(0, 0, 1, "a"),
        write(1, 2, 3, "b"),
        read(1, 4, 5, "b"),
        read(1, 6, 7, "a"),
    ],
    "seen before it was called": [read(0, 0, 1, "a"), timed_out(1, 2, "a")],
    "two swaps of one value succeed": [
        swap(0, 0, 5, "", "a", ""),
        swap(1, 0, 5, "", "b", ""),
    ],
    "a timed-out write is seen, then not, then again": [
        timed_out(0, 0, "a"),
        read(1, 1, 2, "a"),
        read(1, 3, 4, ""),
        read(1, 5, 6, "a"),
    ],
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepts(name: str) -> None:
    assert explain(ACCEPTED[name]) == ""


@pytest.mark.parametrize("name", REJECTED)
def test_rejects_and_names_the_register(name: str) -> None:
    assert explain(REJECTED[name]).startswith("register k: ")


def test_registers_are_judged_one_by_one() -> None:
    other = [write(0, 0, 1, "x"), read(1, 2, 3, "x")]
    for operation in other:
        operation.key = "other"
    assert explain(other + ACCEPTED["in turn"]) == ""
    assert explain(other + REJECTED["a stale read"]).startswith("register k: ")


def test_what_surely_failed_must_not_be_seen() -> None:
    failed = timed_out(0, 0, "a")
    failed.result = Result.FAILED
    assert explain([failed, read(1, 2, 3, "")]) == ""
    assert "nobody wrote" in explain([failed, read(1, 2, 3, "a")])


@pytest.mark.parametrize("operations", [*ACCEPTED.values(), *REJECTED.values()])
def test_a_dumped_history_reads_back(operations: list[Operation], tmp_path: Path) -> None:
    history.dump(tmp_path / "h.jsonl", operations, {"seed": 1})
    found = history.load(tmp_path / "h.jsonl")
    assert sorted(map(repr, found)) == sorted(map(repr, operations))


@pytest.mark.parametrize(
    "text", ["no json\n", '{"format": "other", "version": 1}\n', "[]\n", '{"format": 1}\n']
)
def test_a_file_that_is_no_history_is_named_with_its_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "h").write_text(text)
    with pytest.raises(history.HistoryError, match=r"h:1: .*docs/raft-proof\.md"):
        history.load(tmp_path / "h")
    assert history.main([str(tmp_path / "h")]) == 2


def test_a_line_that_lacks_something_is_named(tmp_path: Path) -> None:
    header = {"format": history.FORMAT, "version": history.VERSION}
    (tmp_path / "h").write_text(f"{json.dumps(header)}\n{{}}\n")
    with pytest.raises(history.HistoryError, match="h:2"):
        history.load(tmp_path / "h")
