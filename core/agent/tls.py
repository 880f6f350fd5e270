"""TLS contexts, and who a certificate says its holder is.

A certificate names its holder in DNS entries of the form `ROLE.REGION.serai` (or
`.nomad`, so that certificates made for Nomad work) and, where it is meant for one
datacenter or one agent alone, `DATACENTER_ID.datacenter.serai` and `NAME.agent.serai`.
core.agent.certificates makes them.
"""

import ssl
from pathlib import Path
from typing import Any, Final, NamedTuple

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


def check_server_certificate(cert_file: str) -> None:
    """Refuse to start a server with what others would not take for a server's.

    Raises:
        TLSError: The certificate is a client's or a user's.
    """
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(Path(cert_file).read_bytes())
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (OSError, ValueError, x509.ExtensionNotFound):
        return  # whoever loads it says what is wrong with it
    entries = [("DNS", name) for name in names.get_values_for_type(x509.DNSName)]
    role = proven_names({"subjectAltName": entries}).role
    if role not in ("", "server"):
        raise TLSError(
            f"tls.cert_file {cert_file!r} is a {role}'s certificate, and this agent is a server: "
            "no other server would speak with it. Make one with serai tls cert create -server"
        )


class ProvenNames(NamedTuple):
    """What a certificate proves of its holder; "" where it says nothing."""

    role: str
    datacenter_id: str
    name: str


def proven_names(certificate: Any) -> ProvenNames:
    """Read a certificate as `ssl.SSLSocket.getpeercert` returns it."""
    role = datacenter_id = name = ""
    for kind, entry in (certificate or {}).get("subjectAltName", ()):
        if kind != "DNS":
            continue
        words = entry.split(".")
        if words[-1] not in _DOMAINS or len(words) < 3:
            continue
        if words[-2] == "agent":
            name = ".".join(words[:-2])
        elif len(words) == 3 and words[1] == "datacenter":
            datacenter_id = words[0]
        elif words[0] in ("server", "client", "cli"):
            role = words[0]
    return ProvenNames(role, datacenter_id, name)


def peer_of_certificate(certificate: Any, said: dict[str, str]) -> Peer:
    """Return who called: what the certificate proves, and the rest as said.

    A certificate that names no role proves just that: its holder is no server.

    Raises:
        TLSError: The caller says to be another than its certificate is for.
    """
    proven = proven_names(certificate)
    if proven.name and said["name"] != proven.name:
        raise TLSError(
            f"the certificate is for agent {proven.name!r}, the caller says to be "
            f"{said['name']!r}: give each agent a certificate of its own"
        )
    if proven.datacenter_id and said["datacenter_id"] not in ("", proven.datacenter_id):
        raise TLSError(
            f"the certificate is for datacenter {proven.datacenter_id}, the caller says to be "
            f"of {said['datacenter_id']}"
        )
    return Peer(
        name=said["name"],
        role=proven.role,
        datacenter_id=proven.datacenter_id or said["datacenter_id"],
        address=said["address"],
        is_proven=True,
    )
