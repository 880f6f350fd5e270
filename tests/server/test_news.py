"""Digests that ride in calls: every job that is offered brings both sides up to date."""

import msgspec
from test_choosing import capacity, federation, register, silence, sized

from core.federation import digest as digests
from core.model.host import Peer


def test_who_takes_a_job_and_who_offers_it_know_each_other_anew() -> None:
    world = federation(("eu", "us"))
    eu, us = world.leader("eu").server, world.leader("us").server
    silence(world)
    cpu = capacity(world) // 2
    assert not register(world, "eu", sized("small", 100, Datacenters=["eu"])).is_error
    answer = register(world, "eu", sized("half", cpu, Datacenters=["us"]))
    assert not answer.is_error, answer
    world.run(5)
    for knows, of in ((eu, us), (us, eu)):
        (found,) = [
            one
            for site in knows.federation.sites()
            if (one := knows.federation.known.newest(site, world.now_us)).digest.datacenter_id
            == of.datacenter_id
        ]
        assert found.age_us is not None and found.age_us <= 6_000_000


def test_nobody_tells_the_state_of_another() -> None:
    world = federation(("eu", "us", "ap"))
    eu, us, ap = (world.leader(region).server for region in ("eu", "us", "ap"))
    lie = msgspec.structs.replace(
        next(s.digest for s in ap.federation.sites() if s.digest.datacenter_id == ap.datacenter_id),
        classes=[],
    )
    source = Peer(role="server", datacenter_id=us.datacenter_id, is_proven=True)
    body = {"Job": sized("probe", 100), "UID": "u", "Digest": digests.encode(lie)}
    told: list[object] = []
    eu.federation.on_call("Home.Reserve", body, source, lambda *answer: told.append(answer))
    assert told
    (found,) = [s for s in eu.federation.sites() if s.digest.datacenter_id == ap.datacenter_id]
    assert eu.federation.known.newest(found, world.now_us).digest.classes
