"""Command-line flags in Nomad's manner, on top of click.

Nomad's flags are Go's: one dash or two, value after a space or after `=`, booleans that
may carry `=true` or `=false`. Unlike Go's they may also stand behind the arguments.
click knows long flags with one dash, but reads an unknown `-frob` as `-f -r -o -b`; so
`Command.parse_args` first walks the words itself, refuses what is unknown by its whole
name, and gives booleans their values.

    @command()
    @option("-check-index", type=int, help="...")
    def run(session: Session, ...) -> None: ...
"""

import difflib
import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from core.cli.errors import CliError

F = TypeVar("F", bound=Callable[..., Any])

HELP_NAMES = ["-h", "-help", "--help"]
CONTEXT_SETTINGS: dict[str, Any] = {"help_option_names": HELP_NAMES, "max_content_width": 100}
_TRUE = {"1", "t", "true"}
_FALSE = {"0", "f", "false"}


class Flag(click.Option):
    """An option shown as `-name=<value>`; the spelling with two dashes works unseen."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        if self.hidden:
            return None
        names = [name for name in self.opts if not name.startswith("--")]
        shown = ", ".join(names or self.opts)
        if not self.is_flag:
            shown += f"=<{self.metavar or self._value_name()}>"
        return shown, self.help or ""

    def _value_name(self) -> str:
        return {"integer": "number", "float": "number", "text": "value"}.get(
            self.type.name, self.type.name
        )


def make_flag(*names: str, **attrs: Any) -> Flag:
    """Return a flag by its one-dash names; of each long name two dashes work as well."""
    doubled = [f"-{name}" for name in names if name.startswith("-") and len(name) > 2]
    return Flag([*names, *doubled], **attrs)


def option(*names: str, **attrs: Any) -> Callable[[F], F]:
    """Declare a flag of the command below."""
    doubled = [f"-{name}" for name in names if name.startswith("-") and len(name) > 2]
    return click.option(*names, *doubled, cls=Flag, **attrs)


def _normalise(ctx: click.Context, params: Sequence[click.Parameter], args: list[str]) -> list[str]:
    """Return `args` with boolean values resolved; words after `--` are left alone.

    Raises:
        click.NoSuchOption: A flag that the command does not have, by its whole name.
        click.BadParameter: A boolean with a value that is none.
    """
    known = {name: param for param in params for name in (*param.opts, *param.secondary_opts)}
    result: list[str] = []
    stops_at_argument = not ctx.allow_interspersed_args
    words = iter(args)
    for word in words:
        if word == "--" or (stops_at_argument and not word.startswith("-")):
            return [*result, word, *words]
        if not word.startswith("-") or word == "-":
            result.append(word)
            continue
        name, _, value = word.partition("=")
        param = known.get(name)
        if param is None:
            if ctx.ignore_unknown_options:
                return [*result, word, *words]
            raise click.NoSuchOption(
                name, possibilities=difflib.get_close_matches(name, known), ctx=ctx
            )
        if not getattr(param, "is_flag", False):
            result.append(word)
            if "=" not in word:
                result.extend(itertools.islice(words, 1))
        elif "=" not in word or value.lower() in _TRUE:
            result.append(name)
        elif value.lower() in _FALSE:
            result.extend(param.secondary_opts[:1])  # of a flag that is on unless refused
        else:
            raise click.BadParameter(f"{name} takes true or false, not {value!r}", ctx=ctx)
    return result


class Command(click.Command):
    """A command whose flags follow this module; `error_code` is its exit code on errors."""

    error_code = 1

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _normalise(ctx, self.get_params(ctx), args))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except CliError as error:
            error.exit_code = max(error.exit_code, self.error_code)
            raise


class Group(click.Group):
    """A group whose own flags follow this module."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _normalise(ctx, self.get_params(ctx), args))


def command(*, error_code: int = 1, **attrs: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """Turn a function into a `Command`; its name comes from the catalog."""

    def wrap(function: Callable[..., Any]) -> click.Command:
        attrs.setdefault("context_settings", CONTEXT_SETTINGS)
        built = click.command(cls=Command, **attrs)(function)
        built.error_code = error_code
        return built

    return wrap
