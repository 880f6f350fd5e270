"""A region's authority is lost with its datacenter, on the shipped servers in virtual time."""

from typing import Any

from clients import job
from harness import World
from test_datacenter_lives import adopt, lose, three_datacenters
from test_parts import ROOM, register, running_at, until_running

from core.federation.backup import backups_of
from core.federation.claims import find_claim, generation_of, open_claims
from core.federation.home_log import find_home
from core.federation.roster import is_off, is_own_off, roster_of
from core.federation.succession import succession_of


def succeed(world: World, server: Any, lost: Any, seconds: float = 60) -> None:
    members, name = server.server.membership, lost.server.config.datacenter
    world.until(lambda: not members.servers_of_datacenter(lost.datacenter_id), 60)
    answer = world.ask(server, "Authority.Adopt", body={"Datacenter": name})
    assert not answer.is_error, answer
    world.until(lambda: server.state.is_authority, seconds)


def test_names_stay_whose_they_were_and_the_lost_ones_jobs_are_adopted() -> None:
    world = three_datacenters()
    one, two, three = world.servers()
    register(world, 2, 0, ID="own", Name="own")  # needs no claim: its home is the authority
    register(world, 2, 2, ID="other", Name="other")
    register(world, ROOM + 10, 1)
    until_running(world, ROOM + 10)
    world.until(lambda: any([*backups_of(s.state, one.datacenter_id)] for s in (two, three)), 30)
    early = world.ask(two, "Authority.Adopt", body={"Datacenter": "eu-1"})
    assert early.status == 409 and "alive" in early.error
    wrong = world.ask(two, "Authority.Adopt", body={"Datacenter": "eu-3"})
    assert wrong.status == 400 and "eu-1" in wrong.error
    lost = lose(world, "s1")
    refused = world.ask(two, "Job.Register", body={"Job": job("new")})
    assert refused.status == 503, refused
    epochs = {dc.state.datacenter_id: find_home(dc.state, "default", "web") for dc in (two, three)}
    succeed(world, three, lost)
    homes = {claim.job_id: claim.home for claim in open_claims(three.state)}
    assert homes["own"] == lost.datacenter_id and homes["web"] == two.datacenter_id
    claim = find_claim(three.state, "default", "web")
    assert claim is not None and claim.epoch == epochs[two.datacenter_id].epoch
    assert roster_of(three.state).generation == 1
    assert lost.datacenter_id in roster_of(three.state).gone
    world.run(8)  # digests
    taken = world.ask(two, "Job.Register", body={"Job": job("own")})
    assert taken.status == 503 and "datacenter adopt" in taken.error, "until it is adopted"
    assert not world.ask(
        two, "Job.Register", body={"Job": job("new", Datacenters=["eu-2"])}
    ).is_error
    new = find_claim(three.state, "default", "new")
    assert new is not None and generation_of(new.epoch) == 1
    adopt(world, two, lost)
    world.until(lambda: find_home(two.state, "default", "own") is not None, 60)
    world.until(lambda: sorted(running_at(two) + running_at(three)) == [*range(ROOM + 10)], 120)
    back = world.start("s1")
    world.until(lambda: is_own_off(back.state), 120)
    assert not back.state.is_authority
    world.run(10)
    told = world.ask(two, "Authority.Status").body
    assert (told["Datacenter"], told["IsAuthority"]) == ("eu-3", True)


def test_it_waits_for_whoever_may_hold_a_name_and_goes_on_under_the_next_leader() -> None:
    world = three_datacenters()
    one, two, three = world.servers()
    register(world, 2, 1, ID="small", Name="small")
    lose(world, "s1")
    lose(world, "s2")
    answer = world.ask(three, "Authority.Adopt", body={"Datacenter": "eu-1"})
    assert not answer.is_error, answer
    world.run(20)
    told = world.ask(three, "Authority.Own").body["Succession"]
    assert told["Stage"] == "pledges" and list(told["Waiting"]) == ["eu/eu-2"]
    world.kill(three)
    three = world.start("s3")
    world.until(lambda: three.server.consensus.is_serving, 60)
    world.run(20)
    assert not three.state.is_authority
    back = world.start("s2")
    world.until(lambda: three.state.is_authority, 120)
    assert is_off(back.state, one.datacenter_id)
    claim = find_claim(three.state, "default", "small")
    assert claim is not None and claim.home == two.datacenter_id


def test_two_are_lost_and_of_two_successors_the_first_one_wins() -> None:
    world = three_datacenters()
    one, two, three = world.servers()
    register(world, 2, 1, ID="small", Name="small")
    world.until(lambda: any([*backups_of(s.state, two.datacenter_id)] for s in (one, three)), 30)
    held_by_three = [*backups_of(three.state, two.datacenter_id)]
    lose(world, "s1")
    lose(world, "s2")
    assert not world.ask(three, "Authority.Adopt", body={"Datacenter": "eu-1"}).is_error
    answer = world.ask(three, "Datacenter.Off", body={"Datacenter": "eu-2"})
    assert not answer.is_error, answer
    world.until(lambda: three.state.is_authority, 60)
    assert set(roster_of(three.state).gone) == {one.datacenter_id, two.datacenter_id}
    claim = find_claim(three.state, "default", "small")
    assert (claim is not None and claim.home == two.datacenter_id) == bool(held_by_three)
    assert succession_of(three.state).stage == "done"
