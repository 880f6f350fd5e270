"""Files that describe one record of a datacenter, as a node pool or a quota: HCL or JSON."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import click

from core.cli.errors import CliError
from core.cli.textfile import read_text


def read_record(
    source: str, *, as_json: bool, from_hcl: Callable[[str], dict[str, Any]], inside: str = ""
) -> dict[str, Any]:
    """Return the record of a file, as the API takes it.

    Args:
        source: A path, "-" for stdin, or a URL.
        as_json: Whether it is JSON whatever its name says.
        from_hcl: Reads it when it is HCL.
        inside: The key under which a JSON file may have the record.

    Raises:
        CliError: It can't be read, or is no such record.
    """
    if not (as_json or source.endswith(".json")):
        return from_hcl(source)
    try:
        data = json.loads(read_text(source))
    except ValueError as error:
        raise CliError(f"{source}: no JSON: {error}") from None
    record = data.get(inside, data) if inside and isinstance(data, dict) else data
    if not isinstance(record, dict) or not isinstance(record.get("Name"), str):
        raise CliError(f"{source}: an object with a Name is wanted")
    return record


def read_hcl(source: str) -> Any:
    """Return what a file says in HCL, in the form of its JSON."""
    from core.jobspec.diagnostics import SourceError
    from core.jobspec.hcl.convert import hcl_to_json

    try:
        return json.loads(hcl_to_json(read_text(source), source))
    except SourceError as error:
        raise CliError(str(error)) from None


def check_keys(source: str, block: Mapping[str, Any], what: str, known: Iterable[str]) -> None:
    """Refuse a block that has a key which nobody knows."""
    known = list(known)
    if unknown := sorted(set(block) - set(known)):
        raise CliError(f"{source}: {what} has no {unknown[0]!r}; it has {', '.join(known)}")


def write_example(file: str, text: str, what: str) -> None:
    """Write an example into a file that does not exist yet, and say so."""
    try:
        with Path(file).open("x") as stream:
            stream.write(text)
    except FileExistsError:
        raise CliError(f"{file} exists already; name another file") from None
    except OSError as error:
        raise CliError(f"{file}: {error.strerror}") from None
    click.echo(f"Example {what} specification written to {file}")
