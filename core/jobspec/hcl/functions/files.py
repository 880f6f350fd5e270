"""Functions on files, served by a reader that the host hands in, and those on paths."""

import base64
import posixpath
from typing import Any, Final, Protocol

from core.jobspec.hcl.functions.function import Function
from core.jobspec.hcl.values import ValueProblem, to_string


class FileReader(Protocol):
    """What the file functions may ask of the host. Errors are OSError."""

    def read(self, path: str) -> bytes: ...

    def exists(self, path: str) -> bool: ...

    def glob(self, folder: str, pattern: str) -> list[str]:
        """Return the paths below `folder` that match, relative to it, sorted."""
        ...

    def absolute(self, path: str) -> str: ...

    def expand_home(self, path: str) -> str: ...


NAMES: Final = (
    "abspath", "basename", "dirname", "file", "filebase64", "fileexists", "fileset", "pathexpand",
)  # fmt: skip


def file_functions(reader: FileReader) -> dict[str, Function]:
    """Return the functions that read through `reader`."""

    def read(path: Any) -> bytes:
        try:
            return reader.read(to_string(path))
        except FileNotFoundError:
            hint = "the path counts from the folder the command runs in"
            raise ValueProblem(f'there is no file "{to_string(path)}"', hint) from None
        except OSError as error:
            raise ValueProblem(f"{to_string(path)}: {error.strerror or error}") from None
        except ValueError as error:
            raise ValueProblem(f"{to_string(path)}: {error}") from None

    def file(path: Any) -> str:
        try:
            return read(path).decode("utf-8")
        except UnicodeDecodeError:
            raise ValueProblem(
                f"{to_string(path)} is not UTF-8", "filebase64() reads any file"
            ) from None

    return {
        "abspath": Function(lambda path: reader.absolute(to_string(path)), 1, 1),
        "basename": Function(lambda path: posixpath.basename(to_string(path)), 1, 1),
        "dirname": Function(lambda path: posixpath.dirname(to_string(path)) or ".", 1, 1),
        "file": Function(file, 1, 1),
        "filebase64": Function(lambda path: base64.b64encode(read(path)).decode(), 1, 1),
        "fileexists": Function(lambda path: reader.exists(to_string(path)), 1, 1),
        "fileset": Function(
            lambda folder, pattern: reader.glob(to_string(folder), to_string(pattern)), 2, 2
        ),
        "pathexpand": Function(lambda path: reader.expand_home(to_string(path)), 1, 1),
    }
