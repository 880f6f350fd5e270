"""Reading logs and files of an allocation, and nothing else."""

import os
from pathlib import Path
from typing import Any

import pytest
import trio

from core.agent.execution.files import FileError, describe, list_folder, read
from core.agent.execution.folders import prepare
from core.client.effects import ReadFile

ALLOC = "a1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    prepare(tmp_path, ALLOC, ["web"])
    (tmp_path / "outside").write_text("secret of the host")
    return tmp_path


def ask(operation: str, **fields: Any) -> ReadFile:
    return ReadFile(request_id=1, alloc_id=ALLOC, operation=operation, **fields)


def write_log(root: Path, number: int, text: str, stream: str = "stdout") -> None:
    (root / ALLOC / "alloc" / "logs" / f"web.{stream}.{number}").write_text(text)


async def read_all(root: Path, **fields: Any) -> str:
    """Follow a log to its end, as the API does."""
    data = b""
    position: dict[str, Any] = fields
    while True:
        answer = await read(root, ask("logs", task="web", **position))
        data += answer["data"]
        if answer["eof"]:
            return data.decode()
        position = {**fields, "offset": answer["offset"], "frame": answer["frame"]}
        position["origin"] = "start"


@pytest.mark.parametrize("limit", [1, 3, 100])
async def test_a_log_is_read_over_its_rotated_files_in_order(root: Path, limit: int) -> None:
    for number, text in ((2, "ab"), (9, "cd"), (10, "ef")):  # not in the order of their names
        write_log(root, number, text)
    write_log(root, 0, "other", stream="stderr")
    assert await read_all(root, limit=limit) == "abcdef"
    assert await read_all(root, limit=limit, stream="stderr") == "other"


@pytest.mark.parametrize(
    ("origin", "offset", "expected"),
    [("start", 3, "def"), ("end", 3, "def"), ("end", 99, "abcdef"), ("start", 99, "")],
)
async def test_reading_begins_where_asked(
    root: Path, origin: str, offset: int, expected: str
) -> None:
    write_log(root, 0, "abc")
    write_log(root, 1, "def")
    assert await read_all(root, origin=origin, offset=offset) == expected


async def test_a_follower_gets_what_comes_and_goes_over_to_the_next_file(root: Path) -> None:
    write_log(root, 0, "one")
    first = await read(root, ask("logs", task="web"))
    assert first["eof"]
    position = {"offset": first["offset"], "frame": first["frame"]}

    async def write_later() -> None:
        await trio.testing.wait_all_tasks_blocked()
        write_log(root, 1, "two")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(write_later)
        with trio.fail_after(10):
            answer = await read(root, ask("logs", task="web", wait_us=10_000_000, **position))
    assert (answer["data"], answer["frame"]) == (b"two", "web.stdout.1")


async def test_a_follower_whose_file_was_rotated_away_goes_on_with_the_oldest(root: Path) -> None:
    write_log(root, 5, "five")
    write_log(root, 6, "six")
    answer = await read(root, ask("logs", task="web", frame="web.stdout.1", offset=77))
    assert (answer["data"], answer["frame"]) == (b"five", "web.stdout.5")


async def test_a_wait_ends(root: Path, autojump_clock: trio.testing.MockClock) -> None:
    answer = await read(root, ask("logs", task="web", wait_us=5_000_000))
    assert answer == {"data": b"", "offset": 0, "frame": "", "eof": True}


async def test_files_are_read_in_parts(root: Path) -> None:
    (root / ALLOC / "web" / "local" / "f").write_text("0123456789")
    first = await read(root, ask("readat", path="web/local/f", offset=2, limit=3))
    assert first == {"data": b"234", "offset": 5, "frame": "", "eof": False}
    rest = await read(root, ask("cat", path="/web/local/f", offset=5))
    assert rest == {"data": b"56789", "offset": 10, "frame": "", "eof": True}
    tail = await read(root, ask("readat", path="web/local/f", origin="end", offset=2))
    assert tail["data"] == b"89"


def test_a_folder_is_listed_in_nomads_form(root: Path) -> None:
    base = root / ALLOC
    (base / "web" / "local" / "page.html").write_text("<p>")
    entries = list_folder(base, "web/local")
    assert [{**entry, "ModTime": ""} for entry in entries] == [{
        "Name": "page.html", "IsDir": False, "Size": 3, "FileMode": "-rw-r--r--",
        "ModTime": "", "ContentType": "text/html",
    }]  # fmt: skip
    assert [entry["Name"] for entry in list_folder(base, "/")] == ["alloc", "web"]
    assert describe(base, "web")["IsDir"]


@pytest.mark.parametrize(
    "path",
    ["../outside", "web/../../outside", "/../../outside", "web/link", "web/links/passwd", "web/up"],
)
@pytest.mark.parametrize("operation", ["cat", "readat", "ls", "stat"])
async def test_nothing_outside_can_be_read(root: Path, operation: str, path: str) -> None:
    base = root / ALLOC
    (base / "web" / "link").symlink_to(root / "outside")
    (base / "web" / "links").symlink_to("/etc")
    (base / "web" / "up").symlink_to("../..")
    with pytest.raises(FileError) as refused:
        await read(root, ask(operation, path=path))
    assert refused.value.status == 400


async def test_a_link_inside_may_be_followed(root: Path) -> None:
    (root / ALLOC / "web" / "local" / "real").write_text("x")
    (root / ALLOC / "web" / "link").symlink_to("local/real")
    assert (await read(root, ask("cat", path="web/link")))["data"] == b"x"


async def test_a_log_file_that_is_a_link_is_not_followed(root: Path) -> None:
    logs = root / ALLOC / "alloc" / "logs"
    (logs / "web.stdout.0").symlink_to(root / "outside")
    with pytest.raises(FileError):
        await read(root, ask("logs", task="web"))


@pytest.mark.parametrize(
    ("operation", "path", "status"),
    [
        ("cat", "", 400),
        ("stat", "", 400),
        ("cat", "web", 400),
        ("cat", "web/local/none", 400),
        ("ls", "web/local/none", 400),
        ("cat", "web/secrets/token", 403),
        ("cat", "a\0b", 400),
    ],
)
async def test_a_bad_path_is_refused(root: Path, operation: str, path: str, status: int) -> None:
    (root / ALLOC / "web" / "secrets" / "token").write_text("t")
    with pytest.raises(FileError) as refused:
        await read(root, ask(operation, path=path))
    assert refused.value.status == status


async def test_a_pipe_does_not_hang_the_reader(root: Path) -> None:
    os.mkfifo(root / ALLOC / "web" / "pipe")
    with trio.fail_after(5), pytest.raises(FileError):
        await read(root, ask("cat", path="web/pipe"))


async def test_a_destroyed_allocation_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileError) as refused:
        await read(tmp_path, ask("cat", path="x"))
    assert refused.value.status == 404
