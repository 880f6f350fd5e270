"""A datacenter is lost for good, and others take over, on the shipped servers in virtual time."""

from typing import Any

from clients import job
from harness import World
from test_parts import ROOM, federation, register, running_at, until_running

from core.federation.adoption import adoptions_of
from core.federation.backup import backups_of
from core.federation.claims import find_claim
from core.federation.home_log import find_home
from core.federation.rollout_log import find_rollout
from core.federation.roster import is_enrolled, is_off, is_own_off, roster_of


def three_datacenters() -> World:
    world = federation(("eu", "eu-1"), ("eu", "eu-2"), ("eu", "eu-3"))
    world.until(lambda: all(is_enrolled(one.state) for one in world.servers()), 60)
    return world


def lose(world: World, name: str) -> Any:
    """Kill a datacenter, its node too, and let the others find out."""
    number = name.removeprefix("s")
    lost = next(one for one in world.servers() if one.name == name)
    for agent in [lost, next(a for a in world.agents.values() if a.name == f"c{number}")]:
        world.kill(agent)
    alive = world.servers()[0].server.membership
    world.until(lambda: not alive.servers_of_datacenter(lost.datacenter_id), 120)
    return lost


def off(world: World, name: str) -> None:
    answer = world.ask(world.servers()[0], "Datacenter.Off", body={"Datacenter": name})
    assert not answer.is_error, answer


def adopt(world: World, server: Any, lost: Any) -> None:
    world.until(lambda: is_off(server.state, lost.datacenter_id), 20)
    name = lost.server.config.datacenter
    answer = world.ask(server, "Datacenter.Adopt", body={"Datacenter": name})
    assert not answer.is_error, answer
    world.until(lambda: adoptions_of(server.state).get(lost.datacenter_id).stage == "done", 60)


def test_a_lost_datacenters_jobs_are_adopted_and_it_stops_when_it_comes_back() -> None:
    world = three_datacenters()
    one, two, three = world.servers()
    register(world, ROOM + 10, 1)
    register(world, 2, 1, ID="small", Name="small")
    parts = until_running(world, ROOM + 10)
    assert len(parts[1]) + len(parts[0]) + len(parts[2]) == ROOM + 10 and parts[1]
    uid = two.state.jobs.get("default", "web").uid
    world.until(
        lambda: any(len([*backups_of(s.state, two.datacenter_id)]) == 2 for s in (one, three))
    )
    refused = world.ask(one, "Datacenter.Off", body={"Datacenter": "eu-2"})
    assert refused.status == 409 and "alive" in refused.error
    early = world.ask(three, "Datacenter.Adopt", body={"Datacenter": "eu-2"})
    assert early.status == 503 and "off goes first" in early.error
    lost = lose(world, "s2")
    off(world, "eu-2")
    told = world.ask(one, "Job.Get", params={"job_id": "web"})
    assert told.status == 503 and "datacenter adopt" in told.error
    adopt(world, three, lost)
    world.until(lambda: find_home(three.state, "default", "web") is not None, 60)
    assert three.state.jobs.get("default", "web").uid == uid
    world.until(lambda: sorted(running_at(one) + running_at(three)) == [*range(ROOM + 10)], 120)
    claim = find_claim(one.state, "default", "web")
    assert claim is not None and claim.home == three.datacenter_id
    small = three.state.jobs.get("default", "small")
    world.until(lambda: three.state.jobs.live(small) == 2, 60)
    register(world, 5, 0)
    world.until(lambda: sorted(running_at(one) + running_at(three)) == [*range(5)], 120)
    # It comes back with all that it had on its disk.
    back = world.start("s2")
    world.until(lambda: is_own_off(back.state), 120)
    world.until(lambda: not any(not r.is_purged for r in back.state.jobs), 60)
    answer = world.ask(back, "Job.Register", body={"Job": job("other")})
    assert answer.status == 409 and "declared off" in answer.error
    world.run(30)
    assert sorted(running_at(one) + running_at(three)) == [*range(5)]
    assert back.datacenter_id not in roster_of(one.state).members


def test_a_drained_datacenter_leaves_and_takes_nothing_from_then_on() -> None:
    world = three_datacenters()
    one, two, three = world.servers()
    register(world, 4, 1)
    world.until(lambda: len(running_at(two)) == 4, 60)
    early = world.ask(two, "Datacenter.Leave")
    assert early.status == 409 and "drain -enable" in early.error
    assert world.ask(one, "Datacenter.Leave").status == 409, "the authority stays"
    assert not world.ask(two, "Datacenter.SetDrain", body={"IsDraining": True}).is_error
    early = world.ask(two, "Datacenter.Leave")
    assert early.status == 409 and "4 instances" in early.error
    for _ in range(60):
        world.run(10)
        if not (left := world.ask(two, "Datacenter.Leave")).is_error:
            break
    assert not left.is_error, left
    late = world.ask(two, "Datacenter.SetDrain", body={"IsDraining": False})
    assert late.status == 409 and "final" in late.error
    world.kill(two)  # and whoever leads next goes on
    two = world.start("s2")
    world.until(lambda: two.datacenter_id and is_own_off(two.state), 60)
    for other in (one, three):
        world.until(lambda: roster_of(other.state).gone, 20)  # noqa: B023
        assert roster_of(other.state).gone[two.datacenter_id].has_left
    assert sorted(running_at(one) + running_at(three)) == [0, 1, 2, 3]
    answer = world.ask(two, "Job.Register", body={"Job": job("other")})
    assert answer.status == 409 and "has left" in answer.error
    register(world, 60, 0)
    world.until(lambda: sorted(running_at(one) + running_at(three)) == [*range(60)], 120)


def test_a_rollout_over_several_regions_goes_on_at_who_adopts_its_coordinator() -> None:
    world = federation(("eu", "eu-1"), ("eu", "eu-2"), ("us", "us-1"))
    world.until(lambda: all(is_enrolled(one.state) for one in world.servers()), 60)
    one, two, us = world.servers()
    slow = next(agent for agent in world.agents.values() if agent.name == "c3")
    slow.health = None  # says nothing yet of what it runs
    regions = [{"Name": "eu", "Datacenters": ["eu-1"]}, {"Name": "us"}]
    block = {"Strategy": {"MaxParallel": 1}, "Regions": regions}
    update = {"MaxParallel": 2, "MinHealthyTime": 0, "HealthCheck": "task_states"}
    body = {"Job": job("web", Multiregion=block, Update=update)}
    assert not world.ask(two, "Job.Register", body=body).is_error

    def statuses() -> list[str]:
        found = [one.state.deployments.latest_of_job("default", "web") for one in (one, us)]
        return [deployment.status.value for deployment in found if deployment is not None]

    world.until(lambda: statuses() == ["blocked", "running"], 60)
    world.run(5)  # its backup
    assert find_rollout(two.state, "default", "web") is not None
    lost = lose(world, "s2")
    off(world, "eu-2")
    adopt(world, one, lost)
    rollout = find_rollout(one.state, "default", "web")
    assert rollout is not None and rollout.coordinator == one.datacenter_id
    world.run(10)
    slow.health = True
    slow._report()
    world.until(lambda: statuses() == ["successful", "successful"], 60)
    told = world.ask(us, "Job.Rollout", params={"job_id": "web"})
    assert not told.is_error, "us knows who coordinates it now"
