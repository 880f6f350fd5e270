"""Strangers, mistakes and malice on all three ports; afterwards the agent answers as before."""

import contextlib
import os
import random
import socket
from collections.abc import Iterator

import httpx
import pytest
from scenario_federation import Federation, a_job
from scenario_processes import is_alive, resident_mib, until

from core.agent.frames import PREFACE

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("federation")]

VICTIM = "eu-dc1-server-2"
BODY_MIB = 50


@pytest.fixture(autouse=True)
def unharmed(federation: Federation) -> Iterator[None]:
    """Whatever a test sends, the victim is the same process, answers, and has not grown."""
    pid = federation.agent(VICTIM)["pid"]
    before_mib = resident_mib(pid)
    yield
    assert is_alive(pid) and federation.agent(VICTIM)["pid"] == pid
    assert federation.get("status/leader", at=VICTIM)
    assert federation.get("jobs", at=VICTIM) is not None
    assert resident_mib(pid) - before_mib < BODY_MIB / 2
    assert "Traceback" not in log_of(federation)


def log_of(federation: Federation) -> str:
    logs = sorted((federation.folder / VICTIM).glob("*.log"))
    assert logs, "the agent has a log"
    return "".join(path.read_text(errors="replace") for path in logs)


def host_of(federation: Federation) -> str:
    return str(httpx.URL(federation.address(VICTIM)).host)


def test_bodies_that_are_no_jobs(federation: Federation) -> None:
    api = federation.address(VICTIM)
    http = federation.http
    for body in (b"{", b"job {}", b"\xff\xfe", b"[" * 100_000, b'{"Job": '):
        answer = http.put(f"{api}/v1/jobs", content=body)
        assert answer.status_code == 400 and "JSON" in answer.text, (body[:20], answer.text)
    for value in ([], "text", 7, {}, {"Job": None}, {"Job": []}, {"Job": {"ID": 7}},
                  {"Job": {"ID": "a", "TaskGroups": {}}}):  # fmt: skip
        answer = http.put(f"{api}/v1/jobs", json=value)
        assert answer.status_code in (400, 500), (value, answer.status_code)
        assert answer.text and "Traceback" not in answer.text and len(answer.text) < 500, value
    answer = http.put(f"{api}/v1/jobs/parse", json={"JobHCL": "job {"})
    assert answer.status_code == 400 and "job.hcl:1" in answer.text


def test_a_body_of_50_mb_is_refused_unread(federation: Federation) -> None:
    url = f"{federation.address(VICTIM)}/v1/jobs"
    pid = federation.agent(VICTIM)["pid"]
    before_mib = resident_mib(pid)
    chunk = b" " * (1 << 20)

    def unannounced() -> Iterator[bytes]:
        for _ in range(BODY_MIB):
            yield chunk

    for content in (chunk * BODY_MIB, unannounced()):
        # A server that answers early may close while the rest is still on its way.
        with contextlib.suppress(httpx.WriteError):
            answer = federation.http.put(url, content=content)
            assert answer.status_code == 413 and "too large" in answer.text
    assert resident_mib(pid) - before_mib < BODY_MIB


def test_unknown_places(federation: Federation) -> None:
    api = federation.address(VICTIM)
    http = federation.http
    for method, path, status in (
        ("GET", "/v1/nothing", 404), ("GET", "/nothing", 404), ("GET", "/v1/job/none", 404),
        ("GET", "/v1/allocation/none", 404), ("PATCH", "/v1/jobs", 405),
        ("DELETE", "/v1/nodes", 405), ("GET", "/v1/../../etc/passwd", 404),
        ("GET", "/v1/jobs?index=many", 400), ("GET", "/v1/jobs?wait=long", 400),
    ):  # fmt: skip
        answer = http.request(method, f"{api}{path}")
        assert answer.status_code == status, (method, path, answer.status_code, answer.text)
    answer = http.get(f"{api}/v1/jobs", params={"region": "mars"})
    assert (answer.status_code, answer.text) == (500, "No path to region")
    done = federation.run(a_job("lost", extra='region = "mars"'), at=VICTIM)
    assert done.code == 1 and "No path to region" in done.error


def test_garbage_on_the_gossip_port(federation: Federation) -> None:
    rng = random.Random(7)
    address = host_of(federation), 4648
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        for size in (0, 1, 2, 8, 64, 512, 1400, 9000, 60_000):
            for _ in range(20):
                datagrams.sendto(rng.randbytes(size), address)
    until(
        lambda: dropped(federation) > 0,
        "the drops are counted",
    )
    with contextlib.suppress(ConnectionError), socket.create_connection(address, 5) as stream:
        stream.sendall(rng.randbytes(5000))


def dropped(federation: Federation) -> float:
    url = f"{federation.address(VICTIM)}/v1/metrics"
    lines = federation.http.get(url, params={"format": "prometheus"}).text.splitlines()
    return sum(
        float(line.split()[-1]) for line in lines
        if line.startswith("serai_gossip_packets_dropped_total")
    )  # fmt: skip


def test_garbage_on_the_rpc_port(federation: Federation) -> None:
    """Each is hung up on: a stranger, a frame of 2 GB, a frame that is none, a call unknown."""
    rng = random.Random(7)
    frames = (
        b"GET / HTTP/1.1\r\n\r\n" * 4,
        rng.randbytes(4096),
        PREFACE + (2 << 30).to_bytes(4, "big") + rng.randbytes(4096),
        PREFACE + (16).to_bytes(4, "big") + b"\xc1" * 16,
        PREFACE + (5).to_bytes(4, "big") + b"\x94\x09\x00\xa0\xc0",
        PREFACE + (5).to_bytes(4, "big") + b"\x94\x01\x00\xa0\xc0",
    )
    for frame in frames:
        with (
            contextlib.suppress(ConnectionError),
            socket.create_connection((host_of(federation), 4647), timeout=10) as stream,
        ):
            stream.sendall(frame)
            while stream.recv(4096):
                pass
    fds = f"/proc/{federation.agent(VICTIM)['pid']}/fd"
    count = len(os.listdir(fds))
    strangers = []
    try:
        for _ in range(50):  # who says nothing at all holds no more than a descriptor
            strangers.append(socket.create_connection((host_of(federation), 4647), timeout=5))
    finally:
        for one in strangers:
            one.close()
    until(lambda: len(os.listdir(fds)) < count + 10, "the connections are closed")
