"""Asking before something is done that can't be taken back."""

import click

from core.cli.errors import CliError


def confirm(question: str, *, unasked: str) -> None:
    """Ask on a terminal; in a pipe nobody can be asked, and a guess is refused.

    Args:
        unasked: What to say then: what would have been asked, and how to answer beforehand.

    Raises:
        CliError: The answer is no, or nobody can be asked.
    """
    import sys

    if not sys.stdin.isatty():
        raise CliError(unasked)
    if not click.confirm(question):
        raise CliError("nothing was done")
