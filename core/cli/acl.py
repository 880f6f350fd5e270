"""`serai acl bootstrap` and `serai acl token ...`."""

from typing import Any

import click

from core.cli.client import segment
from core.cli.errors import CliError
from core.cli.flags import option
from core.cli.output import Output
from core.cli.session import Session, api_command
from core.cli.textfile import read_text
from core.model.durations import parse_length_ns

Record = dict[str, Any]
_TYPES = ("client", "management")


@api_command()
@click.argument("path", required=False)
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
def bootstrap(session: Session, *, path: str | None, as_json: bool, template: str | None) -> int:
    """Create the first management token; works once.

    PATH ("-" is stdin) holds the secret id to give it, a UUID; without, one is drawn.
    """
    secret = read_text(path).strip() if path else ""
    body = {"BootstrapSecret": secret} if secret else {}
    token = session.api.put("/v1/acl/bootstrap", body)
    if not session.out.render(token, as_json=as_json, template=template):
        _show(session.out, token)
    return 0


@api_command()
@option("-global", "is_global", is_flag=True, help="Valid in every region")
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-name", help="What it is for")
@option("-policy", "policies", multiple=True, help="A policy (repeat for more)")
@option("-role-id", "role_ids", multiple=True, help="A role by id (repeat for more)")
@option("-role-name", "role_names", multiple=True, help="A role by name (repeat for more)")
@option("-t", "template", metavar="template", help="Write through a Go template")
@option("-ttl", metavar="duration", help="Expires after this long")
@option("-type", "kind", default="client", metavar="type", help="client or management")
def create(
    session: Session,
    *,
    is_global: bool,
    as_json: bool,
    name: str | None,
    policies: tuple[str, ...],
    role_ids: tuple[str, ...],
    role_names: tuple[str, ...],
    template: str | None,
    ttl: str | None,
    kind: str,
) -> int:
    """Create a token."""
    if kind not in _TYPES:
        raise CliError(f"-type is one of: {', '.join(_TYPES)}")
    body: Record = {
        "Name": name or "",
        "Type": kind,
        "Policies": list(policies),
        "Roles": [{"ID": one} for one in role_ids] + [{"Name": one} for one in role_names],
        "Global": is_global,
    }
    if ttl:
        try:
            body["ExpirationTTL"] = parse_length_ns(ttl)
        except ValueError as error:
            raise CliError(f"-ttl: {error}") from error
    token = session.api.put("/v1/acl/token", body)
    if not session.out.render(token, as_json=as_json, template=template):
        _show(session.out, token)
    return 0


@api_command()
@click.argument("accessor")
def delete(session: Session, *, accessor: str) -> int:
    """Delete the token whose accessor id is ACCESSOR."""
    session.api.delete(f"/v1/acl/token/{segment(accessor)}")
    session.out.line(f"Token {accessor} successfully deleted")
    return 0


@api_command()
@click.argument("accessor")
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
def info(session: Session, *, accessor: str, as_json: bool, template: str | None) -> int:
    """Show the token whose accessor id is ACCESSOR."""
    token = session.api.get(f"/v1/acl/token/{segment(accessor)}")
    if not session.out.render(token, as_json=as_json, template=template):
        _show(session.out, token)
    return 0


@api_command()
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
def self_(session: Session, *, as_json: bool, template: str | None) -> int:
    """Show the token in use."""
    token = session.api.get("/v1/acl/token/self")
    if not session.out.render(token, as_json=as_json, template=template):
        _show(session.out, token)
    return 0


@api_command()
@option("-filter", "expression", metavar="expression", help="List only matching ones")
@option("-json", "as_json", is_flag=True, help="Write the API's JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
def list_(session: Session, *, expression: str | None, as_json: bool, template: str | None) -> int:
    """List the tokens, without their secrets."""
    found = session.api.get("/v1/acl/tokens", filter=expression) or []
    if session.out.render(found, as_json=as_json, template=template):
        return 0
    if not found:
        session.out.line("No ACL tokens found")
        return 0
    rows = [
        [one.get("Name", ""), one["Type"], bool(one.get("Global")), one["AccessorID"], _expiry(one)]
        for one in found
    ]
    session.out.table(("Name", "Type", "Global", "Accessor ID", "Expiry"), rows)
    return 0


def _show(out: Output, token: Record) -> None:
    policies = token.get("Policies") or []
    is_management = token["Type"] == "management"
    out.pairs(
        [
            ("Accessor ID", token["AccessorID"]),
            ("Secret ID", token.get("SecretID", "")),
            ("Name", token.get("Name", "")),
            ("Type", token["Type"]),
            ("Global", bool(token.get("Global"))),
            ("Create Time", token.get("CreateTime", "")),
            ("Expiry Time", _expiry(token)),
            ("Policies", "n/a" if is_management else f"[{','.join(policies)}]"),
        ]
    )


def _expiry(token: Record) -> str:
    expires = token.get("ExpirationTime") or ""
    return expires if expires and not expires.startswith("0001-") else "<none>"
