"""`server/raft/peers.json`: how a datacenter goes on that lost its quorum for good.

An operator who knows that a majority of the servers will never come back writes down who
is left, into the data folder of each of them, and starts them:

    [{"id": "a3c1...", "address": "10.0.0.1:4647", "non_voter": false}]

At the start the whole log counts as it stands, and an entry with this configuration is put
at its end, in a new term, and one that seals the datacenter until the others have said where they
stand. Then the file is renamed, so that it is applied once. What only
the lost servers had is lost: this gives up the promise of Raft, and so only a person may
do it. docs/recovery.md leads through it.
"""

import os
from pathlib import Path
from typing import Any, Final

import msgspec

from core.federation.seal import SealDatacenter
from core.state.commands import Entry as LogEntry
from core.state.entry import encode_entry
from raft.messages import Configuration, Entry, Kind
from raft.output import Boot, HardState, Persist
from raft.wal import Wal

NAME: Final = "peers.json"
MAX_BYTES: Final = 1 << 20
_FORM: Final = '[{"id": "SERVER ID", "address": "HOST:PORT", "non_voter": false}]'


class PeersFileError(Exception):
    """The file can't be applied; the text says why and what to do."""


class _Peer(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    address: str
    non_voter: bool = False


def read_peers(path: Path, server_id: str) -> Configuration:
    """Return the configuration that the file describes.

    Raises:
        PeersFileError: It has another form, or this server is not among its voters.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise PeersFileError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > MAX_BYTES:
        raise PeersFileError(f"{path} has {len(data)} bytes; it lists a few servers: {_FORM}")
    try:
        peers = msgspec.json.decode(data, type=list[_Peer])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise PeersFileError(f"{path}: {error}. Write it as {_FORM}") from None
    seen: dict[str, None] = {}
    for peer in peers:
        host, _, port = peer.address.rpartition(":")
        if not peer.id or peer.id in seen:
            raise PeersFileError(f"{path}: the id {peer.id!r} stands there twice, or is empty")
        if not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
            raise PeersFileError(
                f"{path}: {peer.address!r} is no RPC address: write host:port, as 10.0.0.1:4647"
            )
        seen[peer.id] = None
    voters = {peer.id: peer.address for peer in peers if not peer.non_voter}
    if server_id not in voters:
        raise PeersFileError(
            f"{path} does not name this server, {server_id}, as a voter: add it, or take the "
            "file away and start this server with an empty data_dir"
        )
    return Configuration.of(voters, {p.id: p.address for p in peers if p.non_voter})


def apply_peers(folder: Path, server_id: str, wal: Wal, boot: Boot, log: Any) -> Boot:
    """Apply the folder's peers file, if there is one, and return what the log then holds.

    Raises:
        PeersFileError: It can't be applied; nothing was changed.
    """
    path = folder / NAME
    if not path.exists():
        return boot
    configuration = read_peers(path, server_id)
    last = boot.entries[-1].index if boot.entries else boot.snapshot.index
    if not last:
        raise PeersFileError(
            f"{path}: there is no log here to go on with. Put the file into the data folder of a "
            "server that has one, and take it away from here"
        )
    term = boot.term + 1
    entry = Entry(last + 1, term, Kind.CONFIGURATION, configuration.encode())
    # Time 0, for every server writes the same: what others know of this datacenter may be newer
    # than its log by now (core.federation.seal).
    command = SealDatacenter(reason="its quorum was set by hand")
    sealed = encode_entry(LogEntry(wall_us=0, commands=[command]))
    seal = Entry(last + 2, term, Kind.COMMAND, sealed)
    wal.append([Persist(ticket=0, hard_state=HardState(term, ""), entries=[entry, seal])])
    applied = path.with_name(f"{NAME}.applied-{last + 1}")
    os.replace(path, applied)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    log.warning(
        "the quorum was set by hand: what only the other servers had is lost",
        file=str(applied), servers=sorted(configuration.addresses), index=last + 1,
    )  # fmt: skip
    return Boot(term, "", [*boot.entries, entry, seal], boot.snapshot)
