"""`serai sim machines`: the proof that the simulator builds what agents are made of."""

import os
import sys

import click

from core.cli.errors import CliError
from core.cli.flags import command, option


@command()
@click.argument("scenario")
@option("-json", "as_json", is_flag=True, help="Print the rows as JSON")
def machines(*, scenario: str, as_json: bool) -> int:
    """Print the machines of each role, as the trio host and as the simulator build them.

    All agents of the scenario are built and counted; nothing is run. Exits 1 when the two
    hosts build anything different.
    """
    from core.cli.output import Output
    from core.jobspec.diagnostics import SourceError
    from sim.machines import as_json as to_json
    from sim.machines import machines as all_machines
    from sim.scenario import read_scenario

    try:
        with open(scenario, encoding="utf-8") as file:
            text = file.read()
        folder = os.path.dirname(os.path.abspath(scenario))
        rows = all_machines(read_scenario(text, scenario, folder))
    except OSError as error:
        raise CliError(f"{error.filename}: {error.strerror}") from error
    except SourceError as error:
        raise CliError(str(error)) from error
    if as_json:
        sys.stdout.write(to_json(rows).decode() + "\n")
    else:
        Output().table(
            ("Role", "Part", "Trio host", "Simulator", "Instances"),
            [
                (
                    row.role,
                    row.part or "machine",
                    row.trio,
                    "the same" if row.is_identical else row.simulator,
                    f"{row.instances:,}",
                )
                for row in rows
            ],
        )
    return 0 if all(row.is_identical for row in rows) else 1
