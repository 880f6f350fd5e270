"""`serai completion SHELL`: click's completion, asked of this very command tree."""

import click

from core.cli.errors import CliError
from core.cli.flags import command


@command()
@click.argument("shell", metavar="bash|zsh|fish")
def completion(shell: str) -> int:
    """Print the completion script of a shell.

    bash: eval "$(serai completion bash)"    zsh: eval "$(serai completion zsh)"
    fish: serai completion fish | source
    """
    from click.shell_completion import get_completion_class

    from core.cli.main import build_root

    found = get_completion_class(shell)
    if found is None:
        raise CliError(f'there is no completion for "{shell}"; there is for bash, zsh, fish')
    click.echo(found(build_root(), {}, "serai", "_SERAI_COMPLETE").source())
    return 0
