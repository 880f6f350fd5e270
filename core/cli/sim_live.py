"""`serai sim from-nomad` and `from-snapshot`: a live cluster becomes a scenario."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from core.cli.client import Api, ApiError
from core.cli.errors import CliError
from core.cli.flags import command, option
from core.cli.output import Output
from core.cli.session import Session, api_command

if TYPE_CHECKING:
    from sim.live import Inventory

FOLDER = "scenario"
SHOWN_NOTES = 20
_FORBIDDEN = (401, 403)


@api_command()
@click.argument("addresses", metavar="[ADDR]...", nargs=-1)
@option("-out", default=FOLDER, metavar="folder", help=f"Write the files there ({FOLDER})")
def from_nomad(session: Session, *, addresses: Sequence[str], out: str) -> int:
    """Write a scenario of the datacenters of any Nomad-compatible cluster. Nothing is changed.

    ADDR is an agent of each cluster, by default the one of -address. All its regions are
    read: nodes by their shapes, jobs without configuration, environment, templates or
    tokens, and how much of them runs. -region and -namespace narrow it down.
    """
    from sim.live import read_clusters

    connections = [
        dataclasses.replace(session.connection, address=address.rstrip("/"))
        for address in addresses
    ] or [session.connection]
    _refuse_scenario(out)
    apis = [Api(connection) for connection in connections]
    try:
        with failures_told():
            inventory = read_clusters(
                [(api.connection.address, getter(api)) for api in apis],
                [session.region] if session.region not in ("", "*") else [],
                "" if session.namespace == "*" else session.namespace,
            )
    finally:
        for api in apis:
            api.close()
    return _write(inventory, out)


@command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@option("-out", default=FOLDER, metavar="folder", help=f"Write the files there ({FOLDER})")
@option("-anew", "is_anew", is_flag=True, help="Begin empty, and submit the jobs anew")
def from_snapshot(*, files: Sequence[str], out: str, is_anew: bool) -> int:
    """Write a scenario that begins from operator snapshots, one FILE of each datacenter.

    Its datacenters begin with these nodes, jobs and allocations, as they ran. The copies of the
    snapshots that it uses have no configuration, environment, templates or tokens in them.
    What ran must go on to run in the simulation.
    """
    from sim.live import read_snapshots

    _refuse_scenario(out)
    with failures_told():
        inventory = read_snapshots(files, is_anew=is_anew)
    return _write(inventory, out)


def getter(api: Api) -> Callable[..., Any]:
    """Return how to GET from an agent, whose address is in what goes wrong."""
    address = api.connection.address

    def get(path: str, /, **params: Any) -> Any:
        try:
            return api.get(path, **params)
        except ApiError as error:
            text = f"{address}: {path}: {error}"
            if error.status in _FORBIDDEN:
                text += "; -token takes one that may read nodes, and jobs of all namespaces"
            raise CliError(text) from None

    return get


def _refuse_scenario(folder: str) -> None:
    path = os.path.join(folder, "scenario.hcl")
    if os.path.exists(path):
        raise CliError(f"{path} exists already and is not overwritten: give another -out")


@contextmanager
def failures_told() -> Iterator[None]:
    from sim.live import LiveError

    try:
        yield
    except LiveError as error:
        raise CliError(str(error)) from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise CliError(f"{where}{error.strerror or error}") from error


def _write(inventory: "Inventory", folder: str) -> int:
    from sim.live import write_files

    with failures_told():
        written = write_files(inventory, folder)
    out = Output()
    out.table(
        ("Region", "Datacenter", "Nodes", "Shapes"),
        [
            (region, name, f"{len(nodes):,}", f"{written.shapes[region, name]:,}")
            for (region, name), nodes in sorted(inventory.datacenters.items())
        ],
    )
    running = sum(live.running for live in inventory.jobs)
    out.line(
        f"\nJobs: {len(inventory.jobs):,} (different files: {written.job_files:,}), "
        f"running instances: {running:,}"
    )
    for note in inventory.notes[:SHOWN_NOTES]:
        out.note(note)
    if len(inventory.notes) > SHOWN_NOTES:
        out.note(f"and {len(inventory.notes) - SHOWN_NOTES:,} more notes, in {written.scenario}")
    out.line(f"Wrote {written.scenario}; run it with: serai sim run {written.scenario}")
    return 0
