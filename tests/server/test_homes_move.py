"""Homes leave a draining datacenter, on the shipped servers in virtual time."""

from typing import Any

import pytest
from clients import job
from harness import World
from test_parts import register, running_at, two_datacenters

from core.federation.claims import claims_of, find_claim
from core.federation.handing import arrivals_of, departures_of
from core.federation.home_log import find_home, homes_of
from core.state.state import State


def drain(world: World, server: Any, *, on: bool = True) -> None:
    answer = world.ask(server, "Datacenter.SetDrain", body={"IsDraining": on})
    assert not answer.is_error, answer


def at_home(state: State) -> bool:
    record = state.jobs.get("default", "web")
    return record is not None and not record.home


def is_at_home(server: Any) -> bool:
    return at_home(server.state)


def until_moved(world: World, old: Any, new: Any, seconds: float = 300) -> None:
    """Wait until `new` is the home of `web`, `old` has let go, and nothing is under way."""
    world.until(lambda: is_at_home(new) and not is_at_home(old), seconds)
    world.until(lambda: not len(departures_of(old.state)) + len(arrivals_of(new.state)), 60)


@pytest.mark.parametrize("number", [0, 1])
def test_a_home_follows_its_instances(number: int) -> None:
    """Out of the authority's own datacenter, whose jobs have no claim yet, and out of another."""
    world = two_datacenters()
    old, new = world.servers()[number], world.servers()[1 - number]
    register(world, 20, number)
    world.until(lambda: len(running_at(old)) == 20, 60)
    index = old.state.index
    drain(world, old)
    until_moved(world, old, new)
    assert (len(running_at(old)), len(running_at(new))) == (0, 20)
    claim = find_claim(world.servers()[0].state, "default", "web")
    home = find_home(new.state, "default", "web")
    assert claim is not None and (claim.home, claim.epoch) == (new.datacenter_id, home.epoch)
    assert not len(homes_of(old.state))
    answer = world.ask(old, "Job.Get", params={"job_id": "web"})
    assert not answer.is_error and answer.index > index, "its index never goes back"
    register(world, 25, number)  # the old home still passes on what belongs to the new one
    world.until(lambda: len(running_at(new)) == 25, 60)
    why = world.ask(old, "Job.Why", params={"job_id": "web"})
    kinds = [event["Kind"] for job in why.body["Jobs"] for event in job["Events"]]
    assert "registered" in kinds and "handed over" in kinds, kinds


def test_the_authority_goes_to_another_datacenter_and_names_stay_unique() -> None:
    world = two_datacenters()
    one, two = world.servers()
    register(world, 2, 0)
    world.until(lambda: len(running_at(one)) == 2, 60)
    wrong = world.ask(two, "Authority.Transfer", body={"To": "eu-9"})
    assert wrong.status == 400 and "eu-2" in wrong.error
    answer = world.ask(two, "Authority.Transfer", body={"To": "eu-2"})
    assert not answer.is_error, answer
    world.until(lambda: two.state.is_authority and not len(claims_of(one.state)), 60)
    assert not one.state.is_authority
    claim = find_claim(two.state, "default", "web")
    assert claim is not None and claim.home == one.datacenter_id
    world.run(10)  # digests
    told = world.ask(one, "Authority.Status").body
    assert (told["Datacenter"], told["Generation"]) == ("eu-2", 1)
    body = {"Job": job("other", count=1)}
    assert not world.ask(one, "Job.Register", body=body).is_error
    assert find_claim(two.state, "default", "other") is not None
    drain(world, one)
    until_moved(world, one, two)
    assert find_claim(two.state, "default", "web").home == two.datacenter_id


def test_whoever_leads_next_goes_on_where_the_last_one_stopped() -> None:
    """Both servers are lost and started again after each step of a hand-over."""
    world = two_datacenters()
    register(world, 4)
    world.until(lambda: len(running_at(world.servers()[0])) == 4, 60)
    drain(world, world.servers()[0])

    def old() -> State:
        return world.servers()[0].state

    def new() -> State:
        return world.servers()[1].state

    steps = [
        lambda: len(departures_of(old())),
        lambda: len(arrivals_of(new())),
        lambda: any(one.claimed for one in arrivals_of(new()).values()) or at_home(new()),
        lambda: any(one.released for one in departures_of(old()).values()) or at_home(new()),
    ]
    for step in steps:
        world.until(step, 120)
        for server in list(world.servers()):
            world.kill(server)
        for name in ("s1", "s2"):
            world.start(name)
        world.until(lambda: all(one.server.consensus.is_serving for one in world.servers()), 60)
    until_moved(world, *world.servers())
    world.until(lambda: len(running_at(world.servers()[1])) == 4, 60)
    epochs = [home.epoch for home in homes_of(new()).values()]
    assert epochs == [find_claim(old(), "default", "web").epoch] and not len(homes_of(old()))
