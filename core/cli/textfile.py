"""Text files that commands read, replace and look for: bounded, whole or not at all."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from core.cli.errors import CliError

STDIN: Final = "-"
STDIN_NAME: Final = "<stdin>"
_URLS: Final = ("http://", "https://")
_FETCH_TIMEOUT_S: Final = 30


def shown_name(path: str) -> str:
    return STDIN_NAME if path == STDIN else path


def read_text(path: str) -> str:
    """Return the text of a file, of stdin for "-" or of a URL, line ends as they are.

    Raises:
        CliError: it can't be read, is no UTF-8, or larger than any file we parse.
    """
    from core.jobspec.hcl import limits

    limit = 4 * limits.SOURCE_CHARS  # a character has up to four bytes
    try:
        if path == STDIN:
            data = sys.stdin.buffer.read(limit + 1)
        elif path.startswith(_URLS):
            data = _fetch(path, limit + 1)
        else:
            with Path(path).open("rb") as file:
                data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CliError(f"cannot read {path}: {reason}") from error
    if len(data) > limit:
        raise CliError(
            f"{shown_name(path)} is too large: a file has at most "
            f"{limits.megabytes(limits.SOURCE_CHARS)} of text"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CliError(f"{shown_name(path)} is not text (UTF-8): byte {error.start}") from error


def _fetch(url: str, limit: int) -> bytes:
    from urllib.request import urlopen

    with urlopen(url, timeout=_FETCH_TIMEOUT_S) as answer:
        data = answer.read(limit)
        assert isinstance(data, bytes)
        return data


def replace_text(path: str, text: str) -> None:
    """Replace a file's text; on a failure the old file is as it was.

    Raises:
        CliError: it can't be written.
    """
    target = Path(path).resolve()  # through a link, not over it
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(text.encode("utf-8"))
            if target.exists():
                shutil.copymode(target, name)
            else:
                os.chmod(name, 0o644)
            os.replace(name, target)
        except BaseException:
            os.unlink(name)
            raise
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror or error}") from error


def files_below(folder: str, suffixes: Sequence[str], *, is_recursive: bool) -> Iterator[str]:
    """Yield the files of a folder with one of `suffixes`, in the order of their names.

    What begins with a dot is left out, and links to folders are not followed.

    Raises:
        CliError: the folder can't be read.
    """
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise CliError(f"cannot read {folder}: {error.strerror or error}") from error
    for entry in entries:
        if entry.name.startswith("."):
            continue
        # "." is what people leave out; "./web.hcl" would be noise.
        path = entry.name if folder == "." else os.path.join(folder, entry.name)
        if entry.is_dir(follow_symlinks=False):
            if is_recursive:
                yield from files_below(path, suffixes, is_recursive=True)
        elif entry.name.endswith(tuple(suffixes)) and entry.is_file():
            yield path
