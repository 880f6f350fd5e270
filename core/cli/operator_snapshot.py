"""`serai operator snapshot ...`: the state of a datacenter as a file, and back."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from core.cli.client import ApiError
from core.cli.errors import CliError
from core.cli.flags import command, option
from core.cli.output import Output
from core.cli.session import Session, api_command

if TYPE_CHECKING:
    from core.state.contents import Contents

_ROUTE = "/v1/operator/snapshot"
_CHUNK_BYTES = 1 << 20
_INDEX_WAIT_S = 10.0
_RETRY_S = 0.2


@api_command()
@click.argument("file", required=False)
@option("-index", "index", type=int, metavar="index", help="The state at this index, not now")
@option("-stale", is_flag=True, help="Of any server, not the leader alone")
def save(session: Session, *, file: str | None, index: int | None, stale: bool) -> int:
    """Save the state of the agent's datacenter to FILE (serai-state-<time>.snap).

    It is checked before it gets its name; a file that is there is not overwritten. With
    -index every server gives the same bytes (with -stale: the one that is asked).
    """
    path = Path(file or time.strftime("serai-state-%Y%m%d-%H%M%S.snap", time.gmtime()))
    if path.exists():
        raise CliError(f"{path} exists already and is not overwritten: move it away")
    spare = path.with_name(f"{path.name}.unverified")
    try:
        digest = _download(session, spare, index, stale=stale)
        contents = _read(spare)
        os.link(spare, path)  # fails where a file came meanwhile
        _sync_folder(path)
    except OSError as error:
        raise CliError(f"cannot write {error.filename or path}: {error.strerror}") from error
    finally:
        spare.unlink(missing_ok=True)
    session.out.line(f"State saved to {path}: index {contents.index}, {path.stat().st_size} bytes")
    session.out.line(f"SHA-256 {digest}")
    return 0


def _download(session: Session, path: Path, index: int | None, *, stale: bool) -> str:
    digest = hashlib.sha256()
    with open(path, "wb") as out:
        for chunk in _stream(session, index, stale=stale):
            digest.update(chunk)
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    return digest.hexdigest()


def _stream(session: Session, index: int | None, *, stale: bool) -> Iterator[bytes]:
    """Yield the bytes; wait a while for a server that is just behind the index."""
    give_up = time.monotonic() + _INDEX_WAIT_S
    while True:
        try:
            yield from session.api.stream(_ROUTE, stale=stale, at_index=index)
            return
        except ApiError as error:
            is_behind = error.status == 404 and "is not applied" in error.body
            if not is_behind or time.monotonic() >= give_up:
                raise
            time.sleep(_RETRY_S)


@api_command()
@click.argument("file")
@option("-force", is_flag=True, help="Even if it is of another datacenter")
def restore(session: Session, *, file: str, force: bool) -> int:
    """Replace the state of the agent's datacenter by the snapshot in FILE, on all servers.

    What was written since is lost. A file that is damaged is refused, and so is another
    datacenter's, unless -force says so.
    """
    path = Path(file)
    contents = _read(path)
    try:
        with open(path, "rb") as source:
            answer = session.api.upload(_ROUTE, _chunks(source), force=force)
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from error
    session.out.line(
        f"State of index {contents.index} restored; the datacenter goes on from index "
        f"{answer['Index']}"
    )
    return 0


@command()
@click.argument("file")
@option("-json", "as_json", is_flag=True, help="Write JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
def inspect(*, file: str, as_json: bool, template: str | None) -> int:
    """Show what the snapshot in FILE holds: whose it is, and records and bytes by table."""
    return _show(file, as_json=as_json, template=template)


@command()
@click.argument("file")
@option("-json", "as_json", is_flag=True, help="Write JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
def state(*, file: str, as_json: bool, template: str | None) -> int:
    """Show what the snapshot in FILE holds, as inspect does."""
    return _show(file, as_json=as_json, template=template)


def _show(file: str, *, as_json: bool, template: str | None) -> int:
    path = Path(file)
    found = _read(path)
    out = Output()
    shown: dict[str, Any] = {
        "DatacenterID": found.datacenter_id,
        "Region": found.region,
        "Datacenter": found.datacenter,
        "Index": found.index,
        "Format": found.format,
        "Schema": found.schema,
        "Size": found.size,
        "Digest": found.digest,
        "Tables": [
            {"Name": table.name, "Count": table.count, "Size": table.size} for table in found.tables
        ],
    }
    if out.render(shown, as_json=as_json, template=template):
        return 0
    out.pairs([(key, value) for key, value in shown.items() if key != "Tables"])
    out.line()
    rows = [[table.name, table.count, table.size] for table in found.tables]
    rows.append(["Total", sum(table.count for table in found.tables), found.size])
    out.table(("Type", "Count", "Size"), rows)
    return 0


def _read(path: Path) -> "Contents":
    """Return what a snapshot file holds, read from end to end.

    Raises:
        CliError: It can't be read, is no snapshot, or was altered or cut.
    """
    from core.state.contents import read_contents
    from core.state.state import SnapshotError

    try:
        with open(path, "rb") as source:
            return read_contents(_chunks(source))
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror}") from error
    except SnapshotError as error:
        raise CliError(f"{path}: {error}") from error


def _chunks(source: BinaryIO) -> Iterator[bytes]:
    while chunk := source.read(_CHUNK_BYTES):
        yield chunk


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
