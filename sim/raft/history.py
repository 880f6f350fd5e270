"""What the clients saw, and how it is written down for other checkers.

A history is a list of operations on registers. As JSON lines (docs/raft-proof.md):

    {"format": "serai-register-history", "version": 1, "seed": 7, "clients": 8, ...}
    {"client": 0, "op": 0, "kind": "write", "key": "k1", "value": "0.0",
     "call_us": 301224, "return_us": 305990, "outcome": "ok"}

`python -m sim.raft.history FILE...` reads such files, without anything of the simulation,
and judges them with `sim.raft.linearizable`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Final

FORMAT: Final = "serai-register-history"
VERSION: Final = 1


class Kind(Enum):
    READ = "read"
    WRITE = "write"
    SWAP = "cas"


class Result(Enum):
    OK = "ok"
    FAILED = "fail"  # surely never took effect
    UNKNOWN = "unknown"  # timed out: it may take effect at any time, or never


@dataclass(slots=True)
class Operation:
    """One operation of one client. Written values are unique in a history."""

    client: int
    number: int  # of this client, from 0
    kind: Kind
    key: str
    value: str = ""  # WRITE, SWAP: to write. READ: what was read
    expected: str = ""  # SWAP: only if the register holds this
    found: str = ""  # SWAP: what it held; it was swapped when that is `expected`
    call_us: int = 0
    return_us: int | None = None  # None = never answered
    result: Result = Result.UNKNOWN

    @property
    def call_id(self) -> str:
        return f"{self.client}.{self.number}"

    def as_line(self) -> dict[str, Any]:
        line: dict[str, Any] = {
            "client": self.client,
            "op": self.number,
            "kind": self.kind.value,
            "key": self.key,
            "call_us": self.call_us,
            "return_us": self.return_us,
            "outcome": self.result.value,
        }
        if self.kind is not Kind.READ or self.result is Result.OK:
            line["value"] = self.value
        if self.kind is Kind.SWAP:
            line["expected"] = self.expected
            if self.result is Result.OK:
                line["found"] = self.found
        return line

    @classmethod
    def of_line(cls, line: dict[str, Any]) -> "Operation":
        return cls(
            client=line["client"],
            number=line["op"],
            kind=Kind(line["kind"]),
            key=line["key"],
            value=line.get("value", ""),
            expected=line.get("expected", ""),
            found=line.get("found", ""),
            call_us=line["call_us"],
            return_us=line["return_us"],
            result=Result(line["outcome"]),
        )


class HistoryError(ValueError):
    """A file that is no history; the text names file and line."""


def dump(path: Path, operations: Sequence[Operation], about: dict[str, Any]) -> None:
    """Write a history, ordered by the time of the call."""
    header = {"format": FORMAT, "version": VERSION, "operations": len(operations), **about}
    lines = [header, *(one.as_line() for one in sorted(operations, key=lambda o: o.call_us))]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def load(path: Path) -> list[Operation]:
    """Read a history.

    Raises:
        HistoryError: It is none.
        OSError: It can't be read.
    """
    operations = []
    for number, text in enumerate(path.read_text().splitlines(), 1):
        try:
            line = json.loads(text)
            if number == 1:
                if line["format"] != FORMAT or line["version"] != VERSION:
                    raise ValueError(f"format {line['format']!r} version {line['version']}")
            else:
                operations.append(Operation.of_line(line))
        except (ValueError, KeyError, TypeError) as error:
            raise HistoryError(
                f"{path}:{number}: {error!r}; want the JSON lines of docs/raft-proof.md"
            ) from error
    return operations


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge files; exit 0 when all are linearizable, 1 when one is not, 2 when unreadable."""
    from sim.raft.linearizable import explain

    parser = argparse.ArgumentParser(
        prog="python -m sim.raft.history", description="Is each of these histories linearizable?"
    )
    parser.add_argument("files", nargs="+", type=Path)
    wrong = 0
    for path in parser.parse_args(arguments).files:
        try:
            operations = load(path)
        except (HistoryError, OSError) as error:
            print(error, file=sys.stderr)
            return 2
        text = explain(operations)
        wrong += bool(text)
        print(f"{path}: {len(operations)} operations: {text or 'linearizable'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
