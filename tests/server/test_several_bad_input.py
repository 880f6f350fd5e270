"""What somebody else's datacenter, name, clock or network does wrong has a defined answer."""

from typing import Any

import msgspec
from clients import job
from test_parts import ROOM, cut, federation, register, running, running_at, two_datacenters

from core.federation.home_log import find_home
from core.federation.roster import is_enrolled

SPILLS = {"Region": "eu", "Federation": {"Spillover": {"Regions": ["us", "asia"], "After": 0}}}


def test_where_another_job_has_the_name_nothing_of_it_goes_and_the_next_region_is_tried() -> None:
    world = federation(("eu", "eu-1"), ("us", "us-1"), ("asia", "asia-1"))
    eu, us, asia = world.servers()
    theirs = {"Job": job("web", count=3)}
    assert not world.ask(us, "Job.Register", body=theirs).is_error
    uid = us.state.jobs.get("default", "web").uid
    register(world, ROOM + 10, **SPILLS)
    world.until(lambda: len(running_at(eu)) + len(running_at(asia)) == ROOM + 10, 200)
    assert running_at(us) == [0, 1, 2] and us.state.jobs.get("default", "web").uid == uid
    home = find_home(eu.state, "default", "web")
    assert home is not None and us.datacenter_id not in home.parts and home.regions == ("asia",)


def test_in_a_region_of_two_that_is_cut_in_the_middle_the_side_with_the_names_goes_on() -> None:
    world = two_datacenters()
    one, two = world.servers()
    register(world, 2, 0, ID="mine", Name="mine")
    register(world, 2, 1, ID="theirs", Name="theirs")
    world.until(lambda: all(is_enrolled(server.state) for server in (one, two)), 60)
    cut(world, one, two)
    world.run(30)
    for server, name in ((one, "mine"), (two, "theirs")):
        body = {"Target": {"Group": "app"}, "Count": 3}
        answer = world.ask(server, "Job.Scale", params={"job_id": name}, body=body)
        assert not answer.is_error, "what is known on a side works there"
    assert not world.ask(one, "Job.Register", body={"Job": job("new")}).is_error
    refused = world.ask(two, "Job.Register", body={"Job": job("new")})
    assert refused.status == 503 and "authority" in refused.error, refused
    # Neither side may take the other for lost by itself; an operator's word is asked for.
    assert one.state.is_authority and not two.state.is_authority
    world.cut.clear()
    world.run(60)
    again = world.ask(two, "Job.Register", body={"Job": job("new", count=4)})
    assert not again.is_error, again
    record = one.state.jobs.get("default", "new")
    world.until(lambda: one.state.jobs.live(record) == 4, 60)
    assert two.state.jobs.get("default", "new") is None


def test_a_datacenter_that_lies_in_its_digest_gets_nothing_that_it_can_t_hold() -> None:
    """It tells of endless room: it is asked, refuses by its own state, and is asked ever less."""
    world = federation(("eu", "eu-1"), ("eu", "eu-2"), ("eu", "eu-3"))
    one, liar, three = world.servers()
    register(world, ROOM, 1, ID="full", Name="full", Datacenters=["eu-2"])
    world.until(lambda: _live(liar, "full") == ROOM, 60)
    world.run(10)
    empty = _told_empty(liar, one)
    digesting = liar.server.federation._own.digesting
    digesting.own = lambda: empty
    world.run(10)
    register(world, 60, 0)
    world.until(lambda: len(running_at(one)) + len(running_at(three)) == 60, 120)
    world.run(60)
    assert len(running(world)[1]) == 0 and _live(liar, "full") == ROOM
    home = find_home(one.state, "default", "web")
    assert home is not None and all(part.is_settled for part in home.parts.values())


def _live(server: Any, name: str) -> int:
    return server.state.jobs.live(server.state.jobs.get("default", name))


def _told_empty(liar: Any, other: Any) -> Any:
    """Return the digest that the liar sends from now on: all is free, as on the first day."""
    true = liar.server.federation._own.digesting.own()
    spare = other.server.federation._own.digesting.own()
    return msgspec.structs.replace(true, classes=spare.classes)
