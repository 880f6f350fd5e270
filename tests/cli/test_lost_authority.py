"""`serai authority adopt`, and how a sealed datacenter is shown: what an operator reads."""

from collections.abc import Callable
from typing import Any

Serai = Callable[..., Any]
Start = Callable[[dict[str, Any]], Any]


def told(stage: str, **changes: Any) -> dict[str, Any]:
    succession = {
        "Generation": 3, "Since": "2026-11-23T15:04:05Z", "Stage": stage, "Lost": {"a1": "dc1"},
        "Members": 3, "Pledged": 2, "SupersededBy": "", "Waiting": {},
    } | changes  # fmt: skip
    return {
        "Region": "eu", "Datacenter": "dc2", "ID": "b2", "IsAuthority": stage == "done",
        "Generation": 3, "To": "", "Claims": 7, "Succession": succession,
    }  # fmt: skip


def test_adopt_asks_first_follows_and_says_what_comes_next(serai: Serai, api: Start) -> None:
    asked = api({
        "PUT /v1/authority/adopt": {"ID": "a1", "Generation": 3},
        "GET /v1/authority/own": told("done"),
    })  # fmt: skip
    refused = serai("authority", "adopt", "dc1")
    assert refused.code == 1 and "-yes" in refused.err, "nobody is there to be asked"
    done = serai("authority", "adopt", "-yes", "-by", "dc2", "dc1")
    assert done.code == 0 and "serai datacenter adopt a1" in done.out, done
    sent = asked.find("PUT", "/v1/authority/adopt")
    assert sent.query["datacenter"] == "dc2"
    assert "eu/dc2" in done.out


def test_adopt_that_was_superseded_says_by_whom(serai: Serai, api: Start) -> None:
    api({
        "PUT /v1/authority/adopt": {"ID": "a1", "Generation": 3},
        "GET /v1/authority/own": told("superseded", SupersededBy="c3"),
    })  # fmt: skip
    result = serai("authority", "adopt", "-yes", "dc1")
    assert result.code == 1 and "c3" in result.err


def test_status_shows_for_whom_a_succession_waits(serai: Serai, api: Start) -> None:
    waiting = {"us/dc1": "unreachable"}
    api({"GET /v1/authority": told("pledges", Waiting=waiting)})
    result = serai("authority", "status")
    assert result.code == 0 and "none known" in result.out
    assert "2 of 3 have pledged" in result.out and "us/dc1: unreachable" in result.err


def test_federation_status_marks_a_sealed_datacenter_and_its_reason(
    serai: Serai, api: Start
) -> None:
    seal = {
        "Reason": "a snapshot was restored", "Since": "2026-11-23T15:04:05Z",
        "Waiting": {"us/dc1": "unreachable"},
    }  # fmt: skip
    row = {
        "Region": "eu", "Datacenter": "dc2", "ID": "b2", "IsOwn": True, "ServersAlive": 3,
        "Servers": 3, "HasQuorum": True, "IsSealed": True, "Seal": seal, "Error": "",
        "RoundTripMilliseconds": 0.0, "DigestAgeSeconds": 0.0,
    }  # fmt: skip
    api({"GET /v1/federation/status": [row]})
    result = serai("federation", "status")
    assert result.code == 0 and "dc2 (sealed)" in result.out
    assert "a snapshot was restored" in result.err and "waiting for us/dc1" in result.err
