"""Certificates of a federation: an authority, and what it signs for agents and people.

A certificate says who its holder is in DNS entries (core.agent.tls reads them):

    ROLE.REGION.DOMAIN               role ("server", "client" or "cli") and region
    ROLE.REGION.serai                the same, whatever the domain
    DATACENTER_ID.datacenter.serai   the one datacenter it may speak for, where given
    NAME.agent.serai                 the one agent it belongs to, where given
    localhost, 127.0.0.1             so that tools on the same machine can verify it

Keys are ECDSA on P-256. Private keys are written with mode 0600, and nothing that is there
is ever overwritten.
"""

import datetime
import ipaddress
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DOMAIN: Final = "serai"
ROLES: Final = ("server", "client", "cli")
_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]*[A-Za-z0-9])?")
_DATACENTER_ID: Final = re.compile(r"[0-9a-f]{12}")
_BACKDATE: Final = datetime.timedelta(minutes=5)  # clocks of agents differ a little


class CertificateError(Exception):
    """A certificate or key can't be made, read or written; the text says why and what to do."""


class Pair(NamedTuple):
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes


def make_authority(
    *,
    domain: str = DOMAIN,
    common_name: str = "",
    days: int,
    is_constrained: bool = False,
    additional_domains: Iterable[str] = (),
) -> Pair:
    """Make a certificate authority that may sign agents' certificates and nothing else.

    Args:
        days: How long it is valid.
        is_constrained: It may only sign for `domain`, "serai", "localhost" and
            `additional_domains`, and what lies below them.

    Raises:
        CertificateError: A name is none.
    """
    domains = [domain, *additional_domains]
    for one in domains:
        _check_name(one, "domain")
    if additional_domains and not is_constrained:
        raise CertificateError("-additional-domain needs -name-constraint=true")
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Serai"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name or f"Serai Agent CA {serial}"[:64]),
        ]
    )
    builder = (
        _builder(name, name, key.public_key(), serial, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(is_authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if is_constrained:
        permitted = [x509.DNSName(one) for one in dict.fromkeys([*domains, DOMAIN, "localhost"])]
        builder = builder.add_extension(x509.NameConstraints(permitted, None), critical=True)
    return Pair(_pem(builder.sign(key, hashes.SHA256())), _private(key))


def issue(
    authority: Pair,
    *,
    role: str,
    region: str,
    days: int,
    domain: str = DOMAIN,
    name: str = "",
    datacenter_id: str = "",
    dns_names: Iterable[str] = (),
    ip_addresses: Iterable[str] = (),
) -> Pair:
    """Sign a certificate for an agent ("server", "client") or for people ("cli").

    Args:
        name: The agent's name; "" = whichever agent of the role holds it.
        datacenter_id: 12 hex digits; "" = any datacenter of the federation.
        dns_names, ip_addresses: Further names it is good for.

    Raises:
        CertificateError: The authority's files don't belong together, or a value is wrong.
    """
    if role not in ROLES:
        raise CertificateError(f"role {role!r} is not one of {', '.join(ROLES)}")
    _check_name(domain, "domain")
    _check_name(region, "region")
    if datacenter_id and not _DATACENTER_ID.fullmatch(datacenter_id):
        raise CertificateError(
            f"datacenter id {datacenter_id!r}: want 12 hex digits, as `serai server members "
            "-detailed` shows them (dc_id)"
        )
    signer, signing_key = _authority_of(authority)
    names = [f"{role}.{region}.{domain}", f"{role}.{region}.{DOMAIN}"]
    if datacenter_id:
        names.append(f"{datacenter_id}.datacenter.{DOMAIN}")
    if name:
        _check_name(name, "agent name")
        names.append(f"{name}.agent.{DOMAIN}")
    names += [*dns_names, "localhost"]
    for one in names:
        _check_name(one.removeprefix("*."), "DNS name")
    alternatives: list[x509.GeneralName] = [x509.DNSName(one) for one in dict.fromkeys(names)]
    alternatives += [
        x509.IPAddress(address)
        for address in dict.fromkeys(_address(one) for one in [*ip_addresses, "127.0.0.1"])
    ]
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if role != "cli":
        purposes.append(ExtendedKeyUsageOID.SERVER_AUTH)
    certificate = (
        _builder(subject, signer.subject, key.public_key(), x509.random_serial_number(), days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(is_authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()),
            critical=False,
        )
        .sign(signing_key, hashes.SHA256())
    )
    try:
        certificate.verify_directly_issued_by(signer)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise CertificateError(f"the signed certificate does not verify: {error}") from None
    return Pair(_pem(certificate), _private(key))


def read_certificate(path: Path) -> x509.Certificate:
    """Return the first certificate of a PEM file.

    Raises:
        CertificateError: It can't be read, or holds none.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise CertificateError(f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise CertificateError(f"{path} holds no certificate in PEM form: {error}") from None


def describe(certificate: x509.Certificate) -> dict[str, str]:
    """Return what a certificate says, by the words that people see."""
    names: list[str] = []
    addresses: list[str] = []
    permitted: list[str] = []
    is_authority = False
    for extension in certificate.extensions:
        value = extension.value
        if isinstance(value, x509.SubjectAlternativeName):
            names = value.get_values_for_type(x509.DNSName)
            addresses = [str(one) for one in value.get_values_for_type(x509.IPAddress)]
        elif isinstance(value, x509.BasicConstraints):
            is_authority = value.ca
        elif isinstance(value, x509.NameConstraints):
            permitted = [str(one.value) for one in value.permitted_subtrees or []]
    return {
        "Serial Number": str(certificate.serial_number),
        "Issuer CN": _common_name(certificate.issuer),
        "Common Name": _common_name(certificate.subject),
        "Expiry Date": certificate.not_valid_after_utc.strftime("%Y-%m-%d %H:%M:%S +0000 UTC"),
        "DNS Names": ",".join(names),
        "IP Addresses": ",".join(addresses),
        "Permitted DNS Domains": ",".join(permitted),
        "Is Authority": "true" if is_authority else "false",
    }


def write_pair(pair: Pair, certificate: Path, key: Path) -> None:
    """Write both files or neither; the key can be read by its owner alone.

    Raises:
        CertificateError: One of them exists already, or can't be written.
    """
    for path in (certificate, key):
        if path.exists() or path.is_symlink():
            raise CertificateError(f"{path} exists already and is not overwritten: move it away")
    written: list[Path] = []
    try:
        for path, data, mode in ((key, pair.key, 0o600), (certificate, pair.certificate, 0o644)):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
            written.append(path)
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise CertificateError(
            f"cannot write {error.filename or certificate}: {error.strerror}"
        ) from None


# --- inside -------------------------------------------------------------------------


def _authority_of(pair: Pair) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        certificate = x509.load_pem_x509_certificate(pair.certificate)
    except ValueError as error:
        raise CertificateError(f"the authority's certificate can't be read: {error}") from None
    try:
        key = serialization.load_pem_private_key(pair.key, None)
    except (ValueError, TypeError) as error:
        raise CertificateError(f"the authority's key can't be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("the authority's key is not an elliptic-curve key")
    if key.public_key() != certificate.public_key():
        raise CertificateError("the authority's key does not belong to its certificate")
    constraints = [e.value for e in certificate.extensions if e.oid == x509.BasicConstraints.oid]
    if not any(isinstance(one, x509.BasicConstraints) and one.ca for one in constraints):
        raise CertificateError("that certificate is no authority's: make one with tls ca create")
    return certificate, key


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    serial: int,
    days: int,
) -> x509.CertificateBuilder:
    if days < 1:
        raise CertificateError(f"-days={days}: want at least 1")
    now = datetime.datetime.now(datetime.UTC)
    try:
        end = now + datetime.timedelta(days=days)
    except OverflowError:
        raise CertificateError(f"-days={days} ends after the year 9999") from None
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(end)
    )


def _usage(*, is_authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_authority,
        crl_sign=is_authority,
        encipher_only=False,
        decipher_only=False,
    )


def _check_name(text: str, what: str) -> None:
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in text.split(".")):
        raise CertificateError(
            f'{what} "{text}": want letters, digits, "-" and "_", in words joined by "."'
        )


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise CertificateError(f'"{text}" is not an IP address') from None


def _common_name(name: x509.Name) -> str:
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if found else ""


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
