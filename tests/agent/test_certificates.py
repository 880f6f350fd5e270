"""Certificates: what they prove, who may use them, and files that are never overwritten."""

import ssl
import stat
from pathlib import Path

import pytest
import trio
import trio.testing

from core.agent.certificates import (
    CertificateError,
    Pair,
    describe,
    issue,
    make_authority,
    read_certificate,
    write_pair,
)
from core.agent.tls import (
    TLSError,
    check_server_certificate,
    client_context,
    peer_of_certificate,
    proven_names,
    server_context,
)

SAID = {"name": "s1", "role": "server", "datacenter_id": "", "address": "127.0.0.1:4647"}


def files(folder: Path, name: str, pair: Pair) -> tuple[str, str]:
    paths = folder / f"{name}.pem", folder / f"{name}-key.pem"
    write_pair(pair, *paths)
    return str(paths[0]), str(paths[1])


def handshake(
    ca: str, dialler: tuple[str, str], listener: tuple[str, str]
) -> tuple[object, object]:
    """Return what each side's certificate looks like to the other."""

    async def run() -> tuple[object, object]:
        near, far = trio.testing.memory_stream_pair()
        out = trio.SSLStream(near, client_context(ca, *dialler), server_hostname="127.0.0.1")
        context = server_context(ca, *listener, requires_client_certificate=True)
        into = trio.SSLStream(far, context, server_side=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(out.do_handshake)
            nursery.start_soon(into.do_handshake)
        return out.getpeercert(), into.getpeercert()

    return trio.run(run)


def test_a_handshake_proves_role_name_and_datacenter(tmp_path: Path) -> None:
    authority = make_authority(days=1)
    ca = files(tmp_path, "ca", authority)[0]
    server = files(
        tmp_path, "s1",
        issue(authority, role="server", region="eu", days=1, name="s1",
              datacenter_id="0123456789ab"),
    )  # fmt: skip
    client = files(tmp_path, "c", issue(authority, role="client", region="eu", days=1))
    seen_by_client, seen_by_server = handshake(ca, client, server)
    assert proven_names(seen_by_client) == ("server", "0123456789ab", "s1")
    assert proven_names(seen_by_server) == ("client", "", "")
    peer = peer_of_certificate(seen_by_client, SAID)
    assert (peer.role, peer.datacenter_id, peer.is_proven) == ("server", "0123456789ab", True)
    assert peer_of_certificate(seen_by_server, SAID).role == "client"  # whatever it says


def test_a_server_does_not_start_with_a_clients_certificate(tmp_path: Path) -> None:
    authority = make_authority(days=1)
    for role in ("server", "client", "cli"):
        path, _ = files(tmp_path, role, issue(authority, role=role, region="eu", days=1))
        if role == "server":
            check_server_certificate(path)
        else:
            with pytest.raises(TLSError, match=f"is a {role}'s certificate.*cert create -server"):
                check_server_certificate(path)


def test_a_certificate_of_another_agent_or_datacenter_is_refused(tmp_path: Path) -> None:
    authority = make_authority(days=1)
    ca = files(tmp_path, "ca", authority)[0]
    pair = issue(
        authority, role="server", region="eu", days=1, name="s2", datacenter_id="0123456789ab"
    )
    own = files(tmp_path, "s2", pair)
    seen, _ = handshake(ca, own, own)
    with pytest.raises(TLSError, match="for agent 's2', the caller says to be 's1'"):
        peer_of_certificate(seen, SAID)
    with pytest.raises(TLSError, match="for datacenter 0123456789ab"):
        peer_of_certificate(seen, {**SAID, "name": "s2", "datacenter_id": "ffffffffffff"})


def test_another_authority_signs_for_nobody_here(tmp_path: Path) -> None:
    ours, theirs = make_authority(days=1), make_authority(days=1)
    ca = files(tmp_path, "ca", ours)[0]
    server = files(tmp_path, "s", issue(ours, role="server", region="eu", days=1))
    stranger = files(tmp_path, "x", issue(theirs, role="server", region="eu", days=1))
    with pytest.raises(BaseExceptionGroup) as caught:
        handshake(ca, stranger, server)
    assert caught.group_contains((trio.BrokenResourceError, ssl.SSLError))


def test_an_authority_with_a_name_constraint_signs_for_its_domain_alone(tmp_path: Path) -> None:
    authority = make_authority(days=1, domain="example.org", is_constrained=True)
    ca = files(tmp_path, "ca", authority)[0]
    said = describe(read_certificate(Path(ca)))
    assert said["Permitted DNS Domains"] == "example.org,serai,localhost"
    good = issue(authority, role="server", region="eu", days=1, domain="example.org")
    bad = issue(authority, role="server", region="eu", days=1, dns_names=["elsewhere.net"])
    inside, outside = files(tmp_path, "good", good), files(tmp_path, "bad", bad)
    assert proven_names(handshake(ca, inside, inside)[0]).role == "server"
    with pytest.raises(BaseExceptionGroup):
        handshake(ca, outside, inside)


def test_nothing_is_overwritten_and_keys_are_private(tmp_path: Path) -> None:
    pair = make_authority(days=1)
    _, key = files(tmp_path, "ca", pair)
    assert stat.S_IMODE(Path(key).stat().st_mode) == 0o600
    with pytest.raises(CertificateError, match="exists already and is not overwritten"):
        files(tmp_path, "ca", make_authority(days=1))
    assert Path(key).read_bytes() == pair.key
    (tmp_path / "other.pem").write_text("kept")
    with pytest.raises(CertificateError, match=r"other\.pem exists already"):
        files(tmp_path, "other", pair)
    assert not (tmp_path / "other-key.pem").exists()


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"region": "a b"}, 'region "a b"'),
        ({"days": 0}, "at least 1"),
        ({"days": 10**7}, "after the year 9999"),
        ({"role": "root"}, "'root' is not one of"),
        ({"datacenter_id": "dc1"}, "want 12 hex digits"),
        ({"ip_addresses": ["1.2.3"]}, '"1.2.3" is not an IP address'),
        ({"dns_names": ["no spaces here"]}, "DNS name"),
    ],
)
def test_wrong_values_are_refused_with_what_is_wanted(
    changed: dict[str, object], text: str
) -> None:
    given: dict[str, object] = {"role": "server", "region": "eu", "days": 1}
    with pytest.raises(CertificateError, match=text):
        issue(make_authority(days=1), **{**given, **changed})  # type: ignore[arg-type]


def test_an_authority_must_be_one() -> None:
    first, second = make_authority(days=1), make_authority(days=1)
    with pytest.raises(CertificateError, match="does not belong"):
        issue(Pair(first.certificate, second.key), role="server", region="eu", days=1)
    leaf = issue(first, role="server", region="eu", days=1)
    with pytest.raises(CertificateError, match="no authority's"):
        issue(leaf, role="server", region="eu", days=1)
    with pytest.raises(CertificateError, match="key can't be read"):
        issue(Pair(first.certificate, b"rubbish"), role="server", region="eu", days=1)
