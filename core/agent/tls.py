"""TLS contexts, and who a certificate says its holder is.

A certificate names its holder in DNS entries of the form `ROLE.REGION.serai` (or
`.nomad`, so that certificates made for Nomad work) and, for a server of a known
datacenter, `DATACENTER_ID.datacenter.serai`.
"""

import ssl
from typing import Any, Final

from core.model.host import Peer

_DOMAINS: Final = ("serai", "nomad")


class TLSError(Exception):
    """A certificate, key or authority file can't be used; the text names file and remedy."""


def client_context(ca_file: str, cert_file: str, key_file: str) -> ssl.SSLContext:
    """Return the context of outgoing RPC: verifies the authority, presents our certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # Agents are dialled by address; the role name in the certificate is what counts.
    context.check_hostname = False
    _load(context, ca_file, cert_file, key_file)
    return context


def server_context(
    ca_file: str, cert_file: str, key_file: str, *, requires_client_certificate: bool
) -> ssl.SSLContext:
    """Return the context of a listening port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(context, ca_file, cert_file, key_file)
    context.verify_mode = ssl.CERT_REQUIRED if requires_client_certificate else ssl.CERT_NONE
    return context


def _load(context: ssl.SSLContext, ca_file: str, cert_file: str, key_file: str) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if ca_file:
            context.load_verify_locations(ca_file)
    except (OSError, ssl.SSLError) as error:
        raise TLSError(f"tls.ca_file {ca_file!r} can't be used: {error}") from None
    try:
        context.load_cert_chain(cert_file, key_file)
    except (OSError, ssl.SSLError) as error:
        raise TLSError(
            f"tls.cert_file {cert_file!r} with tls.key_file {key_file!r} can't be used: {error}"
        ) from None


def peer_of_certificate(certificate: Any, said: dict[str, str]) -> Peer:
    """Return who called: role and datacenter id as proven, name and address as said.

    A certificate that names no role proves just that: its holder is no server.
    """
    role = ""
    datacenter_id = ""
    for kind, name in (certificate or {}).get("subjectAltName", ()):
        if kind != "DNS":
            continue
        words = name.split(".")
        if len(words) == 3 and words[2] in _DOMAINS:
            if words[1] == "datacenter":
                datacenter_id = words[0]
            elif words[0] in ("server", "client", "cli"):
                role = words[0]
    return Peer(
        name=said["name"],
        role=role,
        datacenter_id=datacenter_id or said["datacenter_id"],
        address=said["address"],
        is_proven=True,
    )
