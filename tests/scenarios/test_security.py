"""Access control and TLS, on agents as they are started in earnest."""

import datetime
import ipaddress
import json
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from scenario_agents import HTTP_PORT, RPC_PORT, Agent, free_hosts
from scenario_federation import a_job, serai
from scenario_processes import task_processes, until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("agents")]

Start = Callable[..., Agent]


# --- access control -----------------------------------------------------------------------


def test_nobody_may_anything_until_bootstrap(start_agent: Start, tmp_path: Path) -> None:
    file = tmp_path / "agent.hcl"
    file.write_text("acl {\n  enabled = true\n}\n")
    agent = start_agent("-dev", "-config", str(file))
    agent.until_leader()
    for path in ("jobs", "nodes", "allocations", "agent/self", "agent/members"):
        answer = httpx.get(f"{agent.api}/v1/{path}")
        assert (answer.status_code, answer.text) == (403, "Permission denied"), path
    run = ("job", "run", "-address", agent.api, "-detach", "-")
    denied = serai(*run, text=a_job("mine"))
    assert denied.code == 1 and "Permission denied" in denied.error

    first = serai("acl", "bootstrap", "-json", "-address", agent.api)
    assert first.code == 0, first.error
    token = json.loads(first.out)["SecretID"]
    second = serai("acl", "bootstrap", "-address", agent.api)
    assert second.code == 1 and "already done" in second.error

    accepted = serai(*run, "-token", token, text=a_job("mine"))
    assert accepted.code == 0, accepted.error
    until(lambda: task_processes("mine", tmp_path), "the task")
    listed = httpx.get(f"{agent.api}/v1/jobs", headers={"X-Nomad-Token": token})
    assert [job["ID"] for job in listed.json()] == ["mine"]
    bearer = httpx.get(f"{agent.api}/v1/jobs", headers={"Authorization": f"Bearer {token}"})
    assert bearer.status_code == 200
    wrong = {"X-Nomad-Token": "00000000-0000-0000-0000-000000000000"}
    assert httpx.get(f"{agent.api}/v1/jobs", headers=wrong).status_code == 403


# --- TLS ------------------------------------------------------------------------------------


class Authority:
    """A certificate authority that lasts a day."""

    def __init__(self, folder: Path, name: str) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.folder = folder
        own = self._builder(self.name, self.key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(
            own.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        )

    def issue(self, role: str, hosts: list[str]) -> tuple[Path, Path]:
        """Return the paths of a certificate and its key for `role` at loopback addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, role)])
        names: list[x509.GeneralName] = [x509.DNSName(role), x509.DNSName("localhost")]
        names += [x509.IPAddress(ipaddress.ip_address(host)) for host in hosts]
        built = self._builder(subject, key.public_key()).add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
        certificate = built.sign(self.key, hashes.SHA256())
        paths = self.folder / f"{role}.pem", self.folder / f"{role}-key.pem"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return paths

    def _builder(
        self, subject: x509.Name, key: ec.EllipticCurvePublicKey
    ) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
        )


def test_three_servers_talk_tls_only(start_agent: Start, tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    generator = free_hosts()
    hosts = [next(generator) for _ in range(3)]
    certificate, key = authority.issue("server.global.serai", hosts)
    agents = []
    for host in hosts:
        file = tmp_path / f"{host}.hcl"
        joins = json.dumps([f"{other}:4648" for other in hosts if other != host])
        file.write_text(f"""
name     = "{host}"
data_dir = "{tmp_path}/{host}"
server {{
  enabled          = true
  bootstrap_expect = 3
  server_join {{
    retry_join     = {joins}
    retry_interval = "1s"
  }}
}}
tls {{
  http      = true
  rpc       = true
  ca_file   = "{authority.path}"
  cert_file = "{certificate}"
  key_file  = "{key}"
}}
""")
        agent = start_agent("-config", str(file), host=host)
        agent.scheme = "https"
        agents.append(agent)
    trust = ssl.create_default_context(cafile=str(authority.path))
    with httpx.Client(verify=trust, timeout=5) as http:
        for agent in agents:
            agent.until_leader(http, 30)
        # A write at every server: two of them must ask the leader over TLS.
        for number, agent in enumerate(agents):
            done = serai(
                "job", "run", "-detach", "-address", agent.api, "-ca-cert", str(authority.path),
                "-", text=a_job(f"job-{number}"),
            )  # fmt: skip
            assert done.code == 0, done.error
        listed = http.get(f"{agents[0].api}/v1/jobs").json()
        assert [job["ID"] for job in listed] == ["job-0", "job-1", "job-2"]
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://{hosts[0]}:{HTTP_PORT}/v1/jobs", timeout=5)
    with pytest.raises(httpx.ConnectError):  # an authority that we don't trust
        httpx.get(f"https://{hosts[0]}:{HTTP_PORT}/v1/jobs", timeout=5)
    refuse_strangers(hosts[0], tmp_path, trust)
    agents[0].until_leader(httpx.Client(verify=trust))
    assert "Traceback" not in "".join(agent.log() for agent in agents)


def refuse_strangers(host: str, folder: Path, trust: ssl.SSLContext) -> None:
    """RPC demands a certificate of our authority: none, or another's, gets nowhere."""
    other = Authority(folder, "stranger")
    certificate, key = other.issue("server.global.serai.stranger", [host])
    stranger = ssl.create_default_context(cafile=trust and str(folder / "authority.pem"))
    stranger.load_cert_chain(certificate, key)
    for context in (trust, stranger):
        # TLS 1.3 tells a client of its refusal at the first read, not in the handshake.
        with pytest.raises((ssl.SSLError, ConnectionError, EOFError)):
            first_bytes(host, context)


def first_bytes(host: str, context: ssl.SSLContext) -> bytes:
    import socket

    with (
        socket.create_connection((host, RPC_PORT), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=host) as stream,
    ):
        stream.sendall(b"\x00" * 64)
        got = stream.recv(64)
        if not got:
            raise EOFError
        return got
