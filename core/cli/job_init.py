"""`serai job init`."""

from pathlib import Path

import click

from core.cli.errors import CliError
from core.cli.flags import command, option
from core.cli.output import layout


@command()
@click.argument("path", default="example.nomad.hcl", type=click.Path())
@option("-connect", is_flag=True, help="The template connect")
@option("-list-templates", is_flag=True, help="Show the templates, and write nothing")
@option("-short", "is_short", is_flag=True, help="Without the explanations")
@option("-template", metavar="name", help="Begin with this template")
def init(
    *, path: str, connect: bool, list_templates: bool, is_short: bool, template: str | None
) -> int:
    """Write an example job file to PATH (default example.nomad.hcl)."""
    from core.jobspec.templates import TEMPLATES

    if list_templates:
        for line in layout([(name, one.summary) for name, one in sorted(TEMPLATES.items())]):
            click.echo(line)
        return 0
    if connect + is_short + (template is not None) > 1:
        raise CliError("-connect, -short and -template exclude each other")
    text = _text("connect" if connect else template, is_short=is_short)
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise CliError(f"{path} is there already; it was left as it is") from error
    except OSError as error:
        raise CliError(f"cannot write {path}: {error.strerror}") from error
    click.echo(f"Example job file written to {path}")
    return 0


def _text(template: str | None, *, is_short: bool) -> str:
    from core.jobspec import example_job
    from core.jobspec.templates import TEMPLATES

    if template is None:
        return example_job(short=is_short)
    found = TEMPLATES.get(template)
    if found is None:
        raise CliError(f'there is no template "{template}"; there are {", ".join(TEMPLATES)}')
    return found.text
