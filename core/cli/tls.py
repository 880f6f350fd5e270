"""`serai tls ...`: an authority of one's own, and certificates for agents and people.

The files are written into the current folder, by the names that Nomad's tools use:
DOMAIN-agent-ca.pem, REGION-server-DOMAIN.pem, REGION-client-DOMAIN.pem,
REGION-cli-DOMAIN.pem, and each one's key with -key before the .pem.
"""

from pathlib import Path

import click

from core.cli.errors import CliError
from core.cli.flags import command, option
from core.cli.output import Output

_CA_DAYS = 1825
_CERT_DAYS = 365


@command()
@option("-additional-domain", "additional", multiple=True, metavar="domain", help="Also permitted")
@option("-common-name", metavar="name", help="Common name of the authority")
@option("-days", type=int, default=_CA_DAYS, help=f"How long it is valid ({_CA_DAYS})")
@option("-domain", default="serai", metavar="domain", help="Domain of the federation (serai)")
@option(
    "-name-constraint", "is_constrained", is_flag=True,
    help="Let it sign only for the domain, serai and localhost",
)  # fmt: skip
def ca_create(
    *,
    additional: tuple[str, ...],
    common_name: str | None,
    days: int,
    domain: str,
    is_constrained: bool,
) -> int:
    """Create a certificate authority: DOMAIN-agent-ca.pem and DOMAIN-agent-ca-key.pem.

    Keep the key in a safe place: whoever has it can become a server.
    """
    from core.agent.certificates import CertificateError, make_authority, write_pair

    certificate, key = Path(f"{domain}-agent-ca.pem"), Path(f"{domain}-agent-ca-key.pem")
    try:
        pair = make_authority(
            domain=domain,
            common_name=common_name or "",
            days=days,
            is_constrained=is_constrained,
            additional_domains=additional,
        )
        write_pair(pair, certificate, key)
    except CertificateError as error:
        raise CliError(str(error)) from error
    out = Output()
    out.line(f"==> CA certificate saved to: {certificate}")
    out.line(f"==> CA certificate key saved to: {key}")
    return 0


@command()
@option("-additional-dnsname", "names", multiple=True, metavar="name", help="Repeat for more")
@option("-additional-ipaddress", "addresses", multiple=True, metavar="address", help="Likewise")
@option("-ca", metavar="file", help="The authority's certificate (DOMAIN-agent-ca.pem)")
@option("-cli", "is_cli", is_flag=True, help="For people and their tools")
@option("-client", "is_client", is_flag=True, help="For an agent that runs work")
@option("-cluster-region", "-region", "region", default="global", help="Region (global)")
@option("-datacenter-id", "datacenter_id", default="", metavar="id", help="Only for this one")
@option("-days", type=int, default=_CERT_DAYS, help=f"How long it is valid ({_CERT_DAYS})")
@option("-domain", default="serai", metavar="domain", help="The authority's domain (serai)")
@option("-key", metavar="file", help="The authority's key (DOMAIN-agent-ca-key.pem)")
@option("-node", "name", default="", metavar="name", help="Only for the agent of this name")
@option("-server", "is_server", is_flag=True, help="For a server")
def cert_create(
    *,
    names: tuple[str, ...],
    addresses: tuple[str, ...],
    ca: str | None,
    is_cli: bool,
    is_client: bool,
    region: str,
    datacenter_id: str,
    days: int,
    domain: str,
    key: str | None,
    name: str,
    is_server: bool,
) -> int:
    """Create a certificate, signed by an authority: one of -server, -client and -cli.

    With -node the certificate is good for that agent alone, and its name is part of the
    file's; with -datacenter-id, for agents of that datacenter alone.
    """
    from core.agent.certificates import CertificateError, Pair, issue, write_pair

    chosen = [
        role
        for role, is_chosen in (("server", is_server), ("client", is_client), ("cli", is_cli))
        if is_chosen
    ]
    if len(chosen) != 1:
        raise CliError("say one of -server, -client and -cli")
    middle = f"{chosen[0]}-{name}" if name else chosen[0]
    stem = f"{region}-{middle}-{domain}"
    authority = Pair(
        _read(ca or f"{domain}-agent-ca.pem", "-ca"),
        _read(key or f"{domain}-agent-ca-key.pem", "-key"),
    )
    try:
        pair = issue(
            authority,
            role=chosen[0],
            region=region,
            days=days,
            domain=domain,
            name=name,
            datacenter_id=datacenter_id,
            dns_names=names,
            ip_addresses=addresses,
        )
        write_pair(pair, Path(f"{stem}.pem"), Path(f"{stem}-key.pem"))
    except CertificateError as error:
        raise CliError(str(error)) from error
    out = Output()
    if is_server:
        out.warn("whoever has a server's certificate and key can read and change all state")
    title = {"server": "Server", "client": "Client", "cli": "Cli"}[chosen[0]]
    out.line(f"==> {title} Certificate saved to {stem}.pem")
    out.line(f"==> {title} Certificate key saved to {stem}-key.pem")
    return 0


@command()
@click.argument("file")
@option("-json", "as_json", is_flag=True, help="Write JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
def ca_info(*, file: str, as_json: bool, template: str | None) -> int:
    """Show what an authority's certificate says."""
    return _show(file, is_authority=True, as_json=as_json, template=template)


@command()
@click.argument("file")
@option("-json", "as_json", is_flag=True, help="Write JSON")
@option("-t", "template", metavar="template", help="Write through a Go template")
def cert_info(*, file: str, as_json: bool, template: str | None) -> int:
    """Show what a certificate says."""
    return _show(file, is_authority=False, as_json=as_json, template=template)


def _show(file: str, *, is_authority: bool, as_json: bool, template: str | None) -> int:
    from core.agent.certificates import CertificateError, describe, read_certificate

    try:
        said = describe(read_certificate(Path(file)))
    except CertificateError as error:
        raise CliError(str(error)) from error
    if is_authority and said["Is Authority"] != "true":
        raise CliError(f"{file} is no authority's certificate; see: serai tls cert info")
    out = Output()
    if out.render(
        {key.replace(" ", ""): value for key, value in said.items()},
        as_json=as_json, template=template,
    ):  # fmt: skip
        return 0
    hidden = ("Is Authority", *(() if is_authority else ("Permitted DNS Domains",)))
    out.pairs([(key, value) for key, value in said.items() if key not in hidden])
    return 0


def _read(file: str, flag: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise CliError(
            f"cannot read {file}: {error.strerror}; name another with {flag}, or make an "
            "authority with: serai tls ca create"
        ) from error
