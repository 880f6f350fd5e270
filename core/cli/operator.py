"""`serai operator ...`: the raw API, measuring Raft, the scheduler, gossip keys."""

import sys
from pathlib import Path
from typing import Any

import click

from core.cli.errors import CliError
from core.cli.flags import command, option
from core.cli.session import Session, api_command
from core.model.durations import parse_length_ns

_GOSSIP_KEY_BYTES = 32


@api_command()
@click.argument("path")
@option("-d", "-dryrun", "dry_run", is_flag=True, help="Print the request as curl, send nothing")
@option("-filter", "expression", metavar="expression", help="The filter parameter")
@option("-H", "headers", multiple=True, metavar="name: value", help="A header (repeat for more)")
@option("-verbose", is_flag=True, help="Show status and headers on stderr")
@option("-X", "method", metavar="method", help="GET; with a body PUT")
@click.argument("body", required=False)
def api(
    session: Session,
    *,
    path: str,
    dry_run: bool,
    expression: str | None,
    headers: tuple[str, ...],
    verbose: bool,
    method: str | None,
    body: str | None,
) -> int:
    """Send a request to the HTTP API and write the answer as it comes.

    PATH is a route such as /v1/jobs. BODY is text, @FILE, or - for stdin; a body piped in
    is taken without being named.
    """
    data = _read_body(body)
    verb = (method or ("GET" if data is None else "PUT")).upper()
    target = _target(session, path, expression)
    sent = dict(_header(item) for item in headers)
    if dry_run:
        session.out.line(_as_curl(session, verb, target, sent, data))
        return 0
    status, answered, chunks = session.api.raw(verb, target, data, sent)
    if verbose:
        print(f"> {verb} {target}", file=sys.stderr)
        print(f"< {status}", file=sys.stderr)
        for name, value in answered.items():
            print(f"< {name}: {value}", file=sys.stderr)
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    return 0 if status < 400 else 1


@api_command()
@option("-duration", default="5s", metavar="duration", help="How long (5s)")
@option("-json", "as_json", is_flag=True, help="Write the figures as JSON")
@option("-rate", type=int, default=0, metavar="n", help="Entries a second (as many as fit)")
@option("-size", type=int, default=200, metavar="bytes", help="Of an entry (200)")
@option("-window", type=int, default=64, metavar="n", help="Entries under way at once (64)")
def measure(
    session: Session, *, duration: str, as_json: bool, rate: int, size: int, window: int
) -> int:
    """Measure how fast the datacenter's log commits.

    The leader writes entries of random bytes that change nothing, and times each until it
    is on disk at a majority and applied. It shares disks and network with all other work.
    """
    try:
        seconds = parse_length_ns(duration) / 1e9
    except ValueError as error:
        raise CliError(f"-duration: {error}") from error
    load = {"Size": size, "Window": window, "Seconds": seconds, "Rate": rate}
    figures = session.api.put("/v1/operator/raft/measure", load, wait=f"{seconds + 10:g}s")
    if as_json:
        session.out.json(figures)
        return 0
    took = figures["Milliseconds"]
    rows = [
        ("Engine", figures["Engine"]),
        ("Voters", str(figures["Voters"])),
        ("Committed", f"{figures['Committed']} in {figures['Seconds']:g} s"),
        ("Commits/s", f"{figures['CommitsPerSecond']:.0f}"),
        *((f"{name} (ms)", f"{took[name]:.2f}") for name in ("P50", "P90", "P99", "P999", "Max")),
        *(("Refused", f"{count} x {why}") for why, count in figures["Refused"].items()),
    ]
    session.out.pairs(rows)
    return 1 if figures["Refused"] else 0


@api_command()
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
def get_scheduler_config(session: Session, *, as_json: bool, template: str | None) -> int:
    """Show the scheduler's configuration."""
    answer = session.api.get("/v1/operator/scheduler/configuration")
    if session.out.render(answer, as_json=as_json, template=template):
        return 0
    config = answer.get("SchedulerConfig") or {}
    preemption = config.get("PreemptionConfig") or {}
    session.out.pairs(
        [
            ("Scheduler Algorithm", config.get("SchedulerAlgorithm", "")),
            ("Memory Oversubscription", bool(config.get("MemoryOversubscriptionEnabled"))),
            ("Reject Job Registration", bool(config.get("RejectJobRegistration"))),
            ("Pause Eval Broker", bool(config.get("PauseEvalBroker"))),
            ("Preemption System Scheduler", bool(preemption.get("SystemSchedulerEnabled"))),
            ("Preemption Service Scheduler", bool(preemption.get("ServiceSchedulerEnabled"))),
            ("Preemption Batch Scheduler", bool(preemption.get("BatchSchedulerEnabled"))),
            ("Preemption SysBatch Scheduler", bool(preemption.get("SysBatchSchedulerEnabled"))),
            ("Modify Index", config.get("ModifyIndex", 0)),
        ]
    )
    return 0


_BOOLEANS = {
    "memory_oversubscription": ("MemoryOversubscriptionEnabled",),
    "reject_job_registration": ("RejectJobRegistration",),
    "pause_eval_broker": ("PauseEvalBroker",),
    "preempt_batch_scheduler": ("PreemptionConfig", "BatchSchedulerEnabled"),
    "preempt_service_scheduler": ("PreemptionConfig", "ServiceSchedulerEnabled"),
    "preempt_sysbatch_scheduler": ("PreemptionConfig", "SysBatchSchedulerEnabled"),
    "preempt_system_scheduler": ("PreemptionConfig", "SystemSchedulerEnabled"),
}


def _boolean_options(function: Any) -> Any:
    for name in reversed(_BOOLEANS):
        flag = f"-{name.replace('_', '-')}"
        function = option(flag, name, type=bool, metavar="bool", help="true or false")(function)
    return function


@api_command()
@_boolean_options
@option("-check-index", type=int, help="Change only if the modify index is this")
@option("-scheduler-algorithm", metavar="name", help="binpack, spread or nomad")
def set_scheduler_config(
    session: Session,
    *,
    check_index: int | None,
    scheduler_algorithm: str | None,
    **booleans: bool | None,
) -> int:
    """Change the scheduler's configuration; what is not named stays."""
    answer = session.api.get("/v1/operator/scheduler/configuration")
    config = answer.get("SchedulerConfig") or {}
    if scheduler_algorithm is not None:
        config["SchedulerAlgorithm"] = scheduler_algorithm
    for name, value in booleans.items():
        if value is not None:
            *outer, key = _BOOLEANS[name]
            place = config.setdefault(outer[0], {}) if outer else config
            place[key] = value
    result = session.api.put("/v1/operator/scheduler/configuration", config, cas=check_index)
    if check_index is not None and not (result or {}).get("Updated"):
        raise CliError("the configuration changed in between; nothing was done")
    session.out.line("Scheduler configuration updated!")
    return 0


@api_command()
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-verbose", is_flag=True, help="Show the keys of every member")
def list_keys(session: Session, *, as_json: bool, template: str | None, verbose: bool) -> int:
    """List the gossip keys of the federation and how many members hold each."""
    found = session.api.get("/v1/agent/keyring/list") or {}
    if session.out.render(found, as_json=as_json, template=template):
        return 0
    total, primary = found.get("NumResp", 0), found.get("PrimaryKeys") or {}
    rows = [
        [key, f"{count}/{total}", f"{primary.get(key, 0)}/{total}"]
        for key, count in sorted((found.get("Keys") or {}).items())
    ]
    session.out.table(("Key", "Installed", "In Use"), rows)
    members = found.get("Members") or []
    for key, count, _ in rows:
        if count != f"{total}/{total}":
            lacking = [m["Name"] for m in members if not m["Error"] and key not in m["Keys"]]
            session.out.warn(f"{key} is not installed at {', '.join(lacking)}")
    if verbose:
        session.out.line()
        shown = [[m["Name"], m["Error"] or " ".join(m["Keys"])] for m in members]
        session.out.table(("Member", "Keys, the one in use first"), shown)
    return _warn_of_failures(session, found)


def _key_command(operation: str, done: str, help_text: str) -> Any:
    """Return the command that asks every member for one change of its keyring."""

    def change(session: Session, *, key: str) -> int:
        answer = session.api.put(f"/v1/agent/keyring/{operation}", {"Key": key}) or {}
        count = answer.get("NumResp", 0)
        session.out.line(f"{done} at {count} of {answer.get('NumNodes', 0)} members")
        return _warn_of_failures(session, answer)

    change.__doc__ = help_text
    return api_command()(click.argument("key")(change))


def _warn_of_failures(session: Session, answer: dict[str, Any]) -> int:
    failed = answer.get("Messages") or {}
    for name, error in sorted(failed.items()):
        session.out.warn(f"{name}: {error}")
    return 1 if failed else 0


install_key = _key_command(
    "install", "Key installed", "Let every member accept KEY; nobody sends under it yet."
)
use_key = _key_command("use", "Key in use", "Let every member send under KEY.")
remove_key = _key_command(
    "remove", "Key removed", "Let every member forget KEY; refused while one still uses it."
)


@command()
def generate_key() -> int:
    """Draw a new key for gossip encryption."""
    import base64
    import secrets

    click.echo(base64.b64encode(secrets.token_bytes(_GOSSIP_KEY_BYTES)).decode())
    return 0


def _target(session: Session, path: str, expression: str | None) -> str:
    """Return path and query; region and namespace go along unless the path names them."""
    from urllib.parse import parse_qsl, urlencode, urlsplit

    parts = urlsplit(path)
    route = parts.path if parts.path.startswith("/") else f"/v1/{parts.path}"
    query = parse_qsl(parts.query, keep_blank_values=True)
    named = {name for name, _ in query}
    query += [item for item in session.api.defaults.items() if item[0] not in named]
    if expression:
        query.append(("filter", expression))
    return f"{route}?{urlencode(query)}" if query else route


def _read_body(text: str | None) -> bytes | None:
    if text == "-":
        return sys.stdin.buffer.read()
    if text is not None and text.startswith("@"):
        try:
            return Path(text[1:]).read_bytes()
        except OSError as error:
            raise CliError(f"cannot read {text[1:]}: {error.strerror}") from error
    if text is not None:
        return text.encode()
    if sys.stdin.isatty():
        return None
    return _piped_body()


def _piped_body() -> bytes | None:
    """Return what is piped into stdin, None for nothing.

    In a script stdin is often an open pipe that nobody writes to: only a regular file or
    a pipe that has data (or its end) at once is read.
    """
    import select

    try:
        readable, _, _ = select.select([sys.stdin], [], [], 0)
    except (OSError, ValueError):
        return None
    return (sys.stdin.buffer.read() or None) if readable else None


def _header(item: str) -> tuple[str, str]:
    name, colon, value = item.partition(":")
    if not colon:
        raise CliError(f'-H takes "Name: value", not "{item}"')
    return name.strip(), value.strip()


def _as_curl(
    session: Session, verb: str, target: str, headers: dict[str, str], data: bytes | None
) -> str:
    import shlex

    words = ["curl", "-X", verb]
    if session.connection.token:
        words += ["-H", "X-Nomad-Token: ${SERAI_TOKEN}"]
    for name, value in headers.items():
        words += ["-H", f"{name}: {value}"]
    if data is not None:
        words += ["--data-binary", data.decode("utf-8", "replace")]
    return shlex.join([*words, f"{session.connection.address}{target}"])
