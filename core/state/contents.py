"""What a snapshot holds, told without building a state of it: for people who look at one."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import msgspec

from core.state.entry import SCHEMA
from core.state.snapshot import FORMAT, META, Meta, SnapshotError, read_frames


@dataclass(frozen=True, slots=True)
class TableContents:
    """One table: records (rows of a set of columns) and bytes."""

    name: str
    count: int
    size: int


@dataclass(frozen=True, slots=True)
class Contents:
    datacenter_id: str
    region: str
    datacenter: str
    index: int
    format: int
    schema: int
    size: int  # bytes
    digest: str  # SHA-256 of all bytes, hex
    tables: list[TableContents]


def read_contents(chunks: Iterable[bytes], schema_max: int = SCHEMA) -> Contents:
    """Read a snapshot from end to end, and check it.

    Raises:
        SnapshotError: It is none, cut short, altered, or of a newer version.
    """
    size = 0
    digest = hashlib.sha256()

    def counted() -> Iterable[bytes]:
        nonlocal size
        for chunk in chunks:
            size += len(chunk)
            digest.update(chunk)
            yield chunk

    meta: Meta | None = None
    counts: dict[str, int] = {}
    sizes: dict[str, int] = {}
    try:
        for section, piece in read_frames(counted(), schema_max):
            if section == META:
                meta = msgspec.msgpack.decode(piece, type=Meta)
                continue
            records, length = _measure(piece, counts.get(section, 0))
            counts[section] = records
            sizes[section] = sizes.get(section, 0) + length
    except (msgspec.MsgspecError, TypeError, ValueError) as error:
        if isinstance(error, SnapshotError):
            raise
        raise SnapshotError(f"snapshot is damaged: {error}") from error
    if meta is None:
        raise SnapshotError("snapshot does not say whose it is")
    return Contents(
        datacenter_id=meta.datacenter_id,
        region=meta.region,
        datacenter=meta.datacenter,
        index=meta.index,
        format=FORMAT,
        schema=meta.schema,
        size=size,
        digest=digest.hexdigest(),
        tables=[TableContents(name, counts[name], sizes[name]) for name in counts],
    )


def _measure(piece: Any, before: int) -> tuple[int, int]:
    """Return the records of a section so far, and the bytes of this piece."""
    if isinstance(piece, list):  # of columns: each of them comes for the same rows
        first, rows, _, data = piece
        return max(before, first + rows), len(data)
    found = msgspec.msgpack.decode(piece)
    return before + (len(found) if isinstance(found, list) else 1), len(piece)
