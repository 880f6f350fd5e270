"""`serai job init`."""

from pathlib import Path

import click

from core.cli.errors import CliError
from core.cli.flags import command, option


@command()
@click.argument("path", default="example.nomad.hcl")
@option("-short", "is_short", is_flag=True, help="Without the explanations")
def init(path: str, is_short: bool) -> int:
    """Write an example job file to PATH (default example.nomad.hcl)."""
    from core.jobspec import example_job

    text = example_job(short=is_short)
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise CliError(f"{path} is there already; it was left as it is") from error
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror}") from error
    click.echo(f"Example job file written to {path}")
    return 0
