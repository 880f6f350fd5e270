"""`serai fmt`: job files, and any other HCL, in the canonical layout."""

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass

import click

from core.cli.errors import CliError
from core.cli.flags import command, option
from core.cli.output import Output
from core.cli.textfile import STDIN, files_below, read_text, replace_text, shown_name

SUFFIXES = (".nomad", ".hcl")


@dataclass(slots=True)
class _Wishes:
    """What to do with a file whose layout differs."""

    is_listed: bool
    is_written: bool
    is_shown: bool  # as a diff


@command()
@click.argument("paths", nargs=-1, type=click.Path())
@option("-check", is_flag=True, help="Write nothing; exit 1 when a layout differs")
@option("-diff", is_flag=True, help="Show what changes")
@option(
    "-list/-no-list", "is_listed", default=True, help="Name the files that differ (-list=false)"
)
@option("-recursive", is_flag=True, help="Also the folders inside of a folder")
@option("-write/-no-write", "is_written", default=True, help="Replace the files (-write=false)")
def fmt(
    *,
    paths: tuple[str, ...],
    check: bool,
    diff: bool,
    is_listed: bool,
    recursive: bool,
    is_written: bool,
) -> int:
    """Lay out HCL files in the canonical way; only white space changes.

    PATHS are files or folders (.nomad and .hcl in them), by default this folder; "-" formats
    stdin to stdout. Exit code 1: a file is no HCL, or -check found one that differs.
    """
    out = Output()
    wishes = _Wishes(is_listed, is_written and not check, diff)
    differing, failed = 0, 0
    for path in _files(paths or (".",), is_recursive=recursive):
        try:
            if path == STDIN and not (check or diff):
                out.stream.write(_formatted(STDIN)[1])
            else:
                differing += _settle(out, path, wishes)
        except CliError as error:
            out.error(error.message)
            failed += 1
    return 1 if failed or (check and differing) else 0


def _files(paths: tuple[str, ...], *, is_recursive: bool) -> Iterator[str]:
    for path in paths:
        if path != STDIN and os.path.isdir(path):
            yield from files_below(path, SUFFIXES, is_recursive=is_recursive)
        else:
            yield path


def _formatted(path: str) -> tuple[str, str]:
    from core.jobspec.diagnostics import SourceError
    from core.jobspec.hcl.format import format_text

    text = read_text(path)
    try:
        return text, format_text(text, shown_name(path))
    except SourceError as error:
        raise CliError(str(error)) from None


def _settle(out: Output, path: str, wishes: _Wishes) -> bool:
    """Format one file as wished; returns whether its layout differs."""
    text, formatted = _formatted(path)
    if text == formatted:
        return False
    name = shown_name(path)
    if wishes.is_listed:
        out.line(name)
    if wishes.is_shown:
        for line in difflib.unified_diff(
            text.splitlines(), formatted.splitlines(), f"old/{name}", f"new/{name}", lineterm=""
        ):
            colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
            out.line(out.style(line, colour) if colour else line)
    if wishes.is_written and path != STDIN:
        replace_text(path, formatted)
    return True
