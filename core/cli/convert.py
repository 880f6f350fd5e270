"""`serai hcl2json` and `serai json2hcl`: any HCL file as JSON, any JSON object as HCL."""

from collections.abc import Callable

import click

from core.cli.errors import CliError
from core.cli.flags import command, option
from core.cli.textfile import read_text, replace_text, shown_name


@command()
@click.argument("path", default="-", type=click.Path())
@option(
    "-o", "output", metavar="file", type=click.Path(), help="Write to this file instead of stdout"
)
def hcl2json(path: str, output: str | None) -> int:
    """Make JSON of the HCL file PATH ("-" is stdin), whatever it is for.

    A block is an object below its type and labels, several of the same name are a list.
    Constant expressions are computed; others stay as "${...}".
    """
    from core.jobspec.hcl.convert import hcl_to_json

    return _convert(path, output, hcl_to_json)


@command()
@click.argument("path", default="-", type=click.Path())
@option(
    "-o", "output", metavar="file", type=click.Path(), help="Write to this file instead of stdout"
)
def json2hcl(path: str, output: str | None) -> int:
    """Make HCL of the JSON object in the file PATH ("-" is stdin).

    Objects become blocks, their outer keys labels. hcl2json makes the same JSON of it again.
    """
    from core.jobspec.hcl.convert import json_to_hcl

    return _convert(path, output, json_to_hcl)


def _convert(path: str, output: str | None, convert: Callable[[str, str], str]) -> int:
    from core.jobspec.diagnostics import SourceError

    try:
        made = convert(read_text(path), shown_name(path))
    except SourceError as error:
        raise CliError(str(error)) from None
    if output is None:
        click.echo(made, nl=False)
    else:
        replace_text(output, made)
    return 0
