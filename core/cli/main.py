"""The `serai` command: finds a command in the catalog, runs it, and turns failures into
one line and an exit code.

A `LazyGroup` knows its commands' names and summaries from `core.cli.catalog`; their
modules are imported only to run them.
"""

import importlib
import os
import sys
from typing import Any

import click
from click.shell_completion import CompletionItem

from core.cli import catalog
from core.cli.errors import CliError
from core.cli.flags import CONTEXT_SETTINGS, Group

INTERRUPTED = 130  # what a shell reports for SIGINT


class LazyGroup(Group):
    """The commands of the catalog below one path ("" is `serai` itself)."""

    def __init__(self, path: str, **attrs: Any) -> None:
        super().__init__(**attrs)
        self.path = path

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._summaries())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        path = f"{self.path} {cmd_name}".strip()
        path = catalog.ALIASES.get(path, path)
        if path in catalog.GROUPS:
            return build_group(path)
        entry = catalog.COMMANDS.get(path)
        return None if entry is None else _load(entry.target)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, rest = args[0], args[1:]
        found = self.get_command(ctx, name)
        if found is None and not ctx.resilient_parsing:
            raise _unknown_command(self.path, name, self.list_commands(ctx))
        return name, found, rest

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(self._summaries().items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return [
            CompletionItem(name, help=summary)
            for name, summary in sorted(self._summaries().items())
            if name.startswith(incomplete)
        ]

    def _summaries(self) -> dict[str, str]:
        """Return the names one step below this path, with what they do."""
        prefix = f"{self.path} " if self.path else ""
        entries = {path: entry.summary for path, entry in catalog.COMMANDS.items()}
        entries.update(catalog.GROUPS)
        return {
            path.removeprefix(prefix): summary
            for path, summary in entries.items()
            if path.startswith(prefix) and " " not in path.removeprefix(prefix)
        }


def build_group(path: str) -> LazyGroup:
    """Return the group at `path`, a key of `catalog.GROUPS`."""
    return LazyGroup(
        path,
        name=path.rpartition(" ")[2],
        help=f"{catalog.GROUPS[path]}.",
        context_settings=CONTEXT_SETTINGS,
    )


def _load(target: str) -> click.Command:
    module, _, attribute = target.partition(":")
    command = getattr(importlib.import_module(module), attribute)
    assert isinstance(command, click.Command), f"{target} is no command"
    return command


def _unknown_command(path: str, name: str, known: list[str]) -> CliError:
    import difflib

    near = difflib.get_close_matches(name, known)
    hint = f' Did you mean "{near[0]}"?' if near else ""
    prefix = f"serai {path}".strip()
    return CliError(f'there is no command "{prefix} {name}".{hint} See: {prefix} -help')


def _print_version(ctx: click.Context, _param: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from core.cli.server import version_text

        click.echo(version_text())
        ctx.exit()


def build_root() -> LazyGroup:
    """Return the whole command tree."""
    return LazyGroup(
        "",
        name="serai",
        help="One job over many datacenters: a gossip-federated, Nomad-compatible scheduler.",
        context_settings=CONTEXT_SETTINGS,
        params=[
            click.Option(
                ["-v", "-version", "--version"],
                is_flag=True,
                is_eager=True,
                expose_value=False,
                callback=_print_version,
                help="Show the version.",
            )
        ],
    )


def run(args: list[str]) -> int:
    """Run one command line and return its exit code; failures are reported on stderr."""
    try:
        result = build_root().main(args, prog_name="serai", standalone_mode=False)
        sys.stdout.flush()
    except CliError as error:
        _report(error.message)
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        return _report_usage(error)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`serai status | head`): that is no failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0


def _report_usage(error: click.ClickException) -> int:
    ctx = getattr(error, "ctx", None)
    _report(error.format_message())
    if ctx is None:
        return 1
    click.echo(f"See: {ctx.command_path} -help", err=True)
    return int(getattr(ctx.command, "error_code", 1))


def _report(message: str) -> None:
    from core.cli.output import style_error

    click.echo(style_error(f"Error: {message.rstrip()}"), err=True)


def main() -> None:
    """The entry point of the `serai` command."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
