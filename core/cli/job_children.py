"""`serai job dispatch` and `job periodic force`: children made by hand."""

import base64
import sys
from pathlib import Path
from typing import Any

import click

from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.monitor import Monitor
from core.cli.output import short
from core.cli.resolve import resolve_job
from core.cli.session import Session, api_command


@api_command()
@click.argument("job")
@click.argument("source", required=False, metavar="[FILE|-]")
@option("-detach", is_flag=True, help="Return at once, without following")
@option("-id-prefix-template", default="", help="Stands in the name before the time")
@option("-idempotency-token", default="", help="A live child with this token is not made again")
@option("-meta", "pairs", multiple=True, metavar="key=value", help="An argument (repeat)")
@option("-verbose", is_flag=True, help="Whole ids")
def dispatch(
    session: Session,
    *,
    job: str,
    source: str | None,
    detach: bool,
    id_prefix_template: str,
    idempotency_token: str,
    pairs: tuple[str, ...],
    verbose: bool,
) -> int:
    """Start an instance of the parameterized JOB; FILE (or standard input) is its payload."""
    ref = resolve_job(session, job)
    body: dict[str, Any] = {
        "Payload": base64.b64encode(_payload(source)).decode(),
        "Meta": _meta(pairs),
        "IdPrefixTemplate": id_prefix_template,
    }
    token = {"idempotency_token": idempotency_token} if idempotency_token else {}
    answer = session.api.put(f"{ref.route}/dispatch", body, **ref.query, **token)
    eval_id = answer.get("EvalID") or ""
    session.out.line(f"Dispatched Job ID = {answer['DispatchedJobID']}")
    if eval_id:
        session.out.line(f"Evaluation ID     = {short(eval_id, verbose=verbose)}")
    if detach or not eval_id:
        return 0
    session.out.line("")
    return Monitor(session, verbose=verbose).follow(eval_id)


@api_command()
@click.argument("job")
@option("-detach", is_flag=True, help="Return at once, without following")
@option("-verbose", is_flag=True, help="Whole ids")
def force(session: Session, job: str, detach: bool, verbose: bool) -> int:
    """Launch the periodic JOB now, whatever its schedule says."""
    ref = resolve_job(session, job)
    answer = session.api.put(f"{ref.route}/periodic/force", {}, **ref.query)
    if detach:
        session.out.line("Force periodic successful")
        session.out.line(f"Evaluation ID: {answer['EvalID']}")
        return 0
    return Monitor(session, verbose=verbose).follow(answer["EvalID"])


def _payload(source: str | None) -> bytes:
    if source is None:
        return b""
    if source == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(source).read_bytes()
    except OSError as error:
        raise CliError(f"{source}: {error.strerror}") from None


def _meta(pairs: tuple[str, ...]) -> dict[str, str]:
    meta = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise CliError(f"-meta {pair}: say it as key=value, as in -meta day=monday")
        meta[key] = value
    return meta
