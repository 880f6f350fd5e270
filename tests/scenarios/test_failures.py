"""Agents die by SIGKILL: acknowledged writes stay, work goes on, what comes back rejoins."""

import os
import signal

import httpx
import pytest
from scenario_federation import Federation, a_job
from scenario_processes import is_alive, start_time, until

pytestmark = [pytest.mark.process, pytest.mark.xdist_group("federation")]


def test_a_killed_leader_is_replaced_and_nothing_is_lost(federation: Federation) -> None:
    assert federation.run(a_job("kept", count=2)).code == 0
    before = set(federation.until_processes("kept", 2))
    old = federation.leader("eu")
    os.kill(old["pid"], signal.SIGKILL)
    others = [
        one["name"] for one in federation.agents()
        if one["region"] == "eu" and one["role"] != "client" and one["name"] != old["name"]
    ]  # fmt: skip

    new = until(
        lambda: [one for one in federation.agents()
                 if one["name"] in others and one["role"] == "leader"],
        "another leader in eu",
    )[0]  # fmt: skip
    assert federation.get("job/kept", at=others[0])["ID"] == "kept"
    written = federation.run(a_job("written"), at=others[1])
    assert written.code == 0, written.error
    federation.until_processes("written")
    assert set(federation.processes("kept")) == before

    federation.dev("start", old["name"])
    assert federation.leader("eu")["name"] == new["name"]

    def has_caught_up() -> bool:
        try:
            own = federation.get("job/written", at=old["name"], stale="")
        except (httpx.TransportError, AssertionError):
            return False
        return bool(own["ID"] == "written")

    until(has_caught_up, "the returned server has what was written without it")
    federation.stop_job("kept")
    federation.stop_job("written", at=old["name"])


def test_a_task_outlives_its_agent_and_stays_one(federation: Federation) -> None:
    name = "eu-dc1-client-1"
    assert federation.run(a_job("outlives")).code == 0
    ((pid, environment),) = federation.until_processes("outlives").items()
    began = start_time(pid)
    os.kill(federation.agent(name)["pid"], signal.SIGKILL)
    until(lambda: federation.agent(name)["state"] != "running", "the agent's death")
    assert is_alive(pid)

    federation.dev("start", name)
    alloc = environment["NOMAD_ALLOC_ID"]

    def is_served_again() -> bool:
        return federation.serai("alloc", "logs", alloc).code == 0

    until(is_served_again, "the agent knows its allocation again")
    assert list(federation.processes("outlives")) == [pid]
    assert start_time(pid) == began
    found = federation.get(f"allocation/{alloc}")
    assert found["ClientStatus"] == "running"
    assert found["TaskStates"]["task"]["Restarts"] == 0
    (node,) = federation.get("nodes", region="eu")
    assert node["Status"] == "ready"

    # It is a child of nobody we know any more, and still obeys.
    restarted = federation.serai("alloc", "restart", alloc)
    assert restarted.code == 0, restarted.error
    until(lambda: set(federation.processes("outlives")) - {pid}, "a new process")
    (new,) = federation.until_processes("outlives")
    assert new != pid
    federation.stop_job("outlives")
    until(lambda: not is_alive(new), "the end of the new process")
