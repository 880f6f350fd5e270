"""Reading a scenario for the `sim` commands."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.cli.errors import CliError
from core.cli.jobfile import split_variable

if TYPE_CHECKING:
    from sim.plans import Scenario


def load_scenario(path: str, variables: Sequence[str] = ()) -> "Scenario":
    """Return the scenario of a file.

    Args:
        path: Job files and traces lie beside it.
        variables: What `-var name=value` gave.

    Raises:
        CliError: It can't be read, or is wrong; with file and line.
    """
    from core.jobspec.diagnostics import SourceError
    from sim.scenario import read_scenario

    options = dict(split_variable(item) for item in variables)
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        return read_scenario(text, path, os.path.dirname(os.path.abspath(path)), options)
    except OSError as error:
        raise CliError(f"{error.filename}: {error.strerror}") from error
    except UnicodeDecodeError:
        raise CliError(f"{path}: this is no text in UTF-8") from None
    except SourceError as error:
        raise CliError(str(error)) from error
