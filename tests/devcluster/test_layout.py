"""Names, addresses and configuration files of a federation."""

import itertools
from pathlib import Path

import pytest

from core.devcluster.layout import PerRegion, Plan


def plan(regions: str = "eu,us", **numbers: str) -> Plan:
    def number(name: str, default: int) -> PerRegion:
        return PerRegion.parse(numbers.get(name, ""), default)

    return Plan.build(
        regions.split(","),
        net=77,
        datacenters=number("datacenters", 1),
        servers=number("servers", 3),
        clients=number("clients", 2),
        cpu_mhz=number("cpu_mhz", 1000),
        memory_mib=number("memory_mib", 512),
    )


def test_each_agent_has_its_own_name_address_and_face() -> None:
    agents = plan("eu,us", datacenters="eu=2").agents
    assert len(agents) == 15
    for attribute in ("name", "host", "face"):
        assert len({getattr(agent, attribute) for agent in agents}) == 15
    assert not {agent.host for agent in agents} & {agent.face for agent in agents}
    assert agents[0].name == "eu-dc1-server-1"


def test_numbers_may_differ_by_region() -> None:
    assert PerRegion.parse("3,us=1", 9).of("us") == 1
    assert PerRegion.parse("us=1", 9).of("eu") == 9
    built = plan(memory_mib="512,us=4096")
    memory = {a.region: a.resources.memory_mib for a in built.agents if a.resources is not None}
    assert memory == {"eu": 512, "us": 4096}


@pytest.mark.parametrize("text", ["three", "eu=", "=3", "eu=x", "-1"])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="neither a number nor"):
        PerRegion.parse(text, 1)


def test_wrong_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="1, 3, 5 or 7 servers, not 2"):
        plan(servers="2")
    with pytest.raises(ValueError, match='no region "asia"'):
        plan(clients="asia=1")


def test_clients_share_no_dynamic_port() -> None:
    ranges = sorted(a.dynamic_ports for a in plan(clients="5").agents if not a.is_server)
    assert all(earlier[1] < later[0] for earlier, later in itertools.pairwise(ranges))


def test_servers_join_faces_of_their_own_and_of_other_datacenters() -> None:
    built = plan()
    first = built.agents[0]
    joins = built.joins_of(first)
    assert f"{first.face}:{first.serf_port}" not in joins
    assert {one.split(".")[2] for one in joins} == {"101", "102"}


def test_a_configuration_binds_the_host_and_advertises_the_face() -> None:
    built = plan()
    server, client = built.servers_of("us/dc1")[0], built.clients_of("us/dc1")[0]
    text = built.config_of(server, Path('/tmp/a "b"/${x}'), log_level="DEBUG")
    assert f'bind_addr  = "{server.host}"' in text
    assert f'rpc  = "{server.face}:4647"' in text
    assert 'data_dir   = "/tmp/a \\"b\\"/$${x}"' in text
    assert "bootstrap_expect = 3" in text
    text = built.config_of(client, Path("/tmp/x"), log_level="INFO")
    assert "memory_total_mb   = 512" in text
    assert f'servers           = ["{server.face}:4647"' in text
