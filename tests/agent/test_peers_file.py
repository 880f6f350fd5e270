"""The peers file: applied once, at the log's end; refused whole when anything is wrong."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import structlog

from core.agent.disk import DataFolderError, Disk
from core.agent.peers_file import NAME
from core.federation.seal import SealDatacenter
from core.server.effects import PersistLog
from core.state.entry import decode_entry
from raft.messages import Configuration, Entry, Kind
from raft.output import HardState, Persist


def log_into(stream: io.StringIO) -> Any:
    """Return a log of its own kind, whatever an agent that ran in this process has set."""
    return structlog.wrap_logger(
        structlog.PrintLogger(stream),
        processors=[structlog.processors.KeyValueRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )


LOG = log_into(io.StringIO())


def folder_with_log(folder: Path) -> str:
    """Leave a server's folder behind whose log has three voters; return the server's id."""
    disk = Disk(str(folder), deliver=lambda event: None, log=LOG)
    voters = {disk.server_id: "10.0.0.1:4647", "b": "10.0.0.2:4647", "c": "10.0.0.3:4647"}
    entries = [
        Entry(1, 1, Kind.CONFIGURATION, Configuration.of(voters).encode()),
        Entry(2, 2, Kind.COMMAND, b"something"),
    ]
    effect = PersistLog(1, Persist(ticket=1, hard_state=HardState(4, "b"), entries=entries))
    disk._wal.append([effect.batch])
    disk.close()
    return disk.server_id


def peers(folder: Path, text: Any) -> Path:
    path = folder / "raft" / NAME
    path.write_text(text if isinstance(text, str) else json.dumps(text))
    return path


def test_the_log_goes_on_with_who_is_left(tmp_path: Path) -> None:
    own = folder_with_log(tmp_path)
    newcomer = {"id": "n", "address": "10.0.0.9:4647", "non_voter": True}
    path = peers(tmp_path, [{"id": own, "address": "10.0.0.1:4647"}, newcomer])
    told = io.StringIO()
    log = log_into(told)
    disk = Disk(str(tmp_path), deliver=lambda event: None, log=log)
    assert "by hand" in told.getvalue()
    boot = disk.boot().raft
    disk.close()
    assert not path.exists() and (path.parent / f"{NAME}.applied-3").exists()
    assert (boot.term, boot.voted_for) == (5, "")  # a term in which nobody has voted
    assert [entry.index for entry in boot.entries] == [1, 2, 3, 4]
    left = Configuration.decode(boot.entries[2].data)
    assert left.voters == {own: "10.0.0.1:4647"} and left.learners == {"n": "10.0.0.9:4647"}
    (seal,) = decode_entry(boot.entries[3].data).commands
    assert isinstance(seal, SealDatacenter), "it acts on nothing before others told it all"
    again = Disk(str(tmp_path), deliver=lambda event: None, log=LOG)  # durable, and only once
    assert again.boot().raft == boot
    again.close()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{not json", "Write it as"),
        ("[]", "does not name this server"),
        ("7", "Write it as"),
        ('[{"id": "a"}]', "missing required field"),
        ('[{"id": "a", "address": "h:1", "voter": true}]', "unknown field"),
        ([{"id": "a", "address": "nowhere"}], "is no RPC address"),
        ([{"id": "a", "address": "h:99999"}], "is no RPC address"),
        ([{"id": "a", "address": "h:1"}] * 2, "twice"),
        ([{"id": "OWN", "address": "h:1", "non_voter": True}], "does not name this server"),
        ("[" * 100_000, "Write it as"),
        ("x" * (1 << 20) + "y", "lists a few servers"),
    ],
)
def test_a_wrong_file_is_refused_and_changes_nothing(
    tmp_path: Path, text: Any, reason: str
) -> None:
    own = folder_with_log(tmp_path)
    if not isinstance(text, str):
        text = json.dumps(text).replace("OWN", own)
    path = peers(tmp_path, text)
    with pytest.raises(DataFolderError, match=reason) as refused:
        Disk(str(tmp_path), deliver=lambda event: None, log=LOG)
    assert str(path) in str(refused.value)
    path.unlink()
    disk = Disk(str(tmp_path), deliver=lambda event: None, log=LOG)  # the lock was given back
    assert disk.boot().raft.entries[-1].index == 2
    disk.close()


def test_a_folder_without_a_log_has_nothing_to_go_on_with(tmp_path: Path) -> None:
    disk = Disk(str(tmp_path), deliver=lambda event: None, log=LOG)
    disk.close()
    peers(tmp_path, [{"id": disk.server_id, "address": "10.0.0.1:4647"}])
    with pytest.raises(DataFolderError, match="no log here"):
        Disk(str(tmp_path), deliver=lambda event: None, log=LOG)


def test_a_snapshot_of_another_datacenter_is_refused_at_the_start(tmp_path: Path) -> None:
    folder_with_log(tmp_path)
    disk = Disk(str(tmp_path), deliver=lambda event: None, log=LOG)
    meta = disk._newest.__class__(2, 2, Configuration(), 1, cluster_id="aaaaaaaaaaaa")
    disk._snapshots.save(meta, [b"body"])
    disk.close()
    Disk(str(tmp_path), deliver=lambda event: None, log=LOG).close()  # it is ours from now on
    (tmp_path / "datacenter-id").write_text("bbbbbbbbbbbb")
    with pytest.raises(DataFolderError, match=r"of datacenter aaaaaaaaaaaa.*belongs to bbbb"):
        Disk(str(tmp_path), deliver=lambda event: None, log=LOG)
