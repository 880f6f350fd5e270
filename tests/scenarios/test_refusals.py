"""An agent that can't work says why in a line and ends with 1; nobody reads a traceback."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from scenario_agents import Agent

from raft.messages import Configuration, Entry, Kind, SnapshotMeta
from raft.output import HardState, Persist
from raft.storage import Storage

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("agents")]

Start = Callable[..., Agent]


def refusal(*words: str) -> str:
    """Run an agent that must not start; return what it said."""
    done = subprocess.run(
        [sys.executable, "-m", "core.cli.main", "agent", *words],
        capture_output=True, text=True, timeout=20, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 1, said
    assert "Traceback" not in said
    return said


def test_a_data_folder_that_can_t_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    said = refusal("-server", "-bootstrap-expect", "1", "-data-dir", f"{tmp_path}/file/data")
    assert said.strip() == f"Error: {tmp_path}/file/data: Not a directory"


def test_an_unknown_key_is_named_with_its_place_and_what_was_meant(tmp_path: Path) -> None:
    file = tmp_path / "agent.hcl"
    file.write_text('data_dir = "/nowhere"\nserver {\n  enabld = true\n}\n')
    said = refusal("-config", str(file))
    assert f"{file}:3:3" in said and '"enabled"' in said


def test_an_open_bind_needs_tls_and_access_control(tmp_path: Path) -> None:
    words = ("-server", "-bootstrap-expect", "1", "-data-dir", str(tmp_path / "data"))
    said = refusal("-bind", "0.0.0.0", *words)
    assert "0.0.0.0" in said and "tls" in said and "acl" in said and "-insecure" in said
    assert not (tmp_path / "data").exists()


def test_a_port_and_a_folder_in_use(start_agent: Start, tmp_path: Path) -> None:
    data = str(tmp_path / "data")
    first = start_agent("-server", "-client", "-bootstrap-expect", "1", "-data-dir", data)
    first.until_leader()

    second = start_agent("-dev", host=first.host)
    assert second.until_end() == 1
    errors = [line for line in first.log().splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1 and f"{first.host}:4646" in errors[0], first.log()

    third = start_agent("-server", "-client", "-bootstrap-expect", "1", "-data-dir", data)
    assert third.until_end() == 1
    (error,) = [line for line in third.log().splitlines() if line.startswith("Error: ")]
    assert data in error, error
    assert "Traceback" not in first.log() + third.log()
    first.until_leader()  # untouched by both


def test_a_wrong_value(tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    file.write_text(json.dumps({"data_dir": str(tmp_path), "ports": {"http": "many"}}))
    said = refusal("-config", str(file), "-client")
    assert str(file) in said and "http" in said


# --- a data folder that is not as this server left it -------------------------------------------

MINE, OTHERS = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"


def a_data_folder(folder: Path, server_id: str) -> Path:
    """Make what a server leaves behind: its id, a log of five entries, a snapshot of them."""
    folder /= "server"
    folder.mkdir(parents=True)
    (folder / "server-id").write_text(server_id)
    storage = Storage.open(folder / "raft", owner=server_id, segment_bytes=4096)
    storage.wal.append([Persist(ticket=1, hard_state=HardState(1, server_id))])
    for index in range(1, 6):
        entry = Entry(index, 1, Kind.NOOP, b"")
        storage.wal.append([Persist(ticket=index, entries=[entry])])
    storage.snapshots.save(SnapshotMeta(5, 1, Configuration(), 1), [server_id.encode()])
    storage.close()
    return folder / "raft"


def flip_a_bit(raft: Path) -> None:
    (segment,) = raft.glob("log-*.wal")
    data = bytearray(segment.read_bytes())
    data[data.index(b"SRwl", 8) + 20] ^= 4
    segment.write_bytes(data)


def bring_a_snapshot_of_another_cluster(raft: Path) -> None:
    foreign = a_data_folder(raft.parent.parent.parent / "others", OTHERS)
    (snapshot,) = foreign.glob("*.snap")
    shutil.copy(snapshot, raft)


@pytest.mark.parametrize(
    ("damage", "reason", "remedy"),
    [
        (flip_a_bit, "a record is broken", "let it join again"),
        (bring_a_snapshot_of_another_cluster, f"written by server {OTHERS}", "Remove the file"),
    ],
)
def test_a_damaged_data_folder(
    tmp_path: Path, damage: Callable[[Path], None], reason: str, remedy: str
) -> None:
    raft = a_data_folder(tmp_path / "data", MINE)
    damage(raft)
    before = {path.name: path.read_bytes() for path in raft.iterdir() if path.suffix}
    said = refusal("-server", "-bootstrap-expect", "1", "-data-dir", f"{tmp_path}/data")
    assert said.startswith("Error: ") and str(raft) in said
    assert reason in said and remedy in said
    assert {path.name: path.read_bytes() for path in raft.iterdir() if path.suffix} == before
