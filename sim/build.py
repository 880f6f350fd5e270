"""From a scenario to a world of agents, configured as an operator would configure them."""

import random
import uuid
from collections.abc import Sequence

from core.client.config import ClientConfig, Fingerprint
from core.model.node import (
    DriverInfo,
    NodeCpuResources,
    NodeDiskResources,
    NodeMemoryResources,
    NodeResources,
)
from core.server.config import ServerConfig
from core.state.entry import SCHEMA
from sim.agents import SimAgent, SimClient, SimServer, World
from sim.forming import Forming
from sim.network import Place
from sim.scenario import DatacenterPlan, NodeShape, Scenario
from sim.starting import Beginning, labels_of

JOIN_RETRY_US = 5_000_000


def build_agents(
    world: World, scenario: Scenario, beginnings: Sequence[Beginning] = ()
) -> list[SimAgent]:
    """Add all agents of a scenario to the world; none is started yet.

    `beginnings` are those of its datacenters that begin from a snapshot.
    """
    began = {(one.plan.region, one.plan.name): one for one in beginnings}
    if beginnings:  # their logs go on from their own time
        world.epoch_us = max(one.start.log_time_us for one in beginnings)
    _configure_network(world, scenario)
    if scenario.are_pools_formed:
        world.forming = Forming(world)
        world.forming.start()
    rng = random.Random(f"{world.seed}/ids")
    joins = tuple(f"{server_name(plan, 1)}:4648" for plan in scenario.datacenters if plan.servers)
    agents: list[SimAgent] = []
    for plan in scenario.datacenters:
        for number in range(1, plan.servers + 1):
            beginning = began.get((plan.region, plan.name))
            serves = () if beginning is None else labels_of(beginning.state, plan.name)
            agents.append(_server(world, scenario, plan, number, joins, rng, serves))
        if (plan.region, plan.name) in began:
            agents.extend(began[plan.region, plan.name].clients(world))
        for shape in plan.nodes:
            for number in range(1, shape.count + 1):
                agents.append(_client(world, plan, shape, number))
    return agents


def server_name(plan: DatacenterPlan, number: int) -> str:
    return f"{plan.region}-{plan.name}-server-{number}"


def _configure_network(world: World, scenario: Scenario) -> None:
    network = world.network
    network.lan = scenario.lan or network.lan
    network.region = scenario.region_link or network.region
    network.wan = scenario.wan or network.wan
    network.links.update(scenario.links)


def _server(
    world: World,
    scenario: Scenario,
    plan: DatacenterPlan,
    number: int,
    joins: tuple[str, ...],
    rng: random.Random,
    serves: tuple[str, ...],
) -> SimServer:
    name = server_name(plan, number)
    config = ServerConfig(
        name=name,
        server_id=str(uuid.UUID(int=rng.getrandbits(128))),
        region=plan.region,
        datacenter=plan.name,
        rpc_addr=f"{name}:4647",
        gossip_addr=f"{name}:4648",
        http_addr=f"{name}:4646",
        bootstrap_expect=plan.servers,
        retry_join=(f"{server_name(plan, 1)}:4648", *joins),
        retry_interval_us=JOIN_RETRY_US,
        schema_max=plan.schema or SCHEMA,
        serves=serves,
    )
    disk = plan.disk or scenario.disk
    return SimServer(world, Place(plan.region, plan.name, name), config, disk)


def _client(world: World, plan: DatacenterPlan, shape: NodeShape, number: int) -> SimClient:
    name = f"{plan.region}-{plan.name}-{shape.label}-{number}"
    config = ClientConfig(
        name=name,
        region=plan.region,
        datacenter=plan.name,
        node_class=shape.node_class,
        node_pool=shape.pool,
        meta=shape.meta,
        servers=tuple(f"{server_name(plan, i)}:4647" for i in range(1, plan.servers + 1)),
        rpc_addr=f"{name}:4647",
        http_addr=f"{name}:4646",
        gossip_addr=f"{name}:4648",
        fingerprint=fingerprint(name, shape),
    )
    return SimClient(world, Place(plan.region, plan.name, name), config)


def fingerprint(name: str, shape: NodeShape) -> Fingerprint:
    """Return what the fingerprint of a real node of this shape would say."""
    attributes = {
        "kernel.name": "linux",
        "cpu.arch": "amd64",
        "cpu.numcores": str(max(1, shape.cpu // 1000)),
        "os.name": "debian",
        **{f"driver.{name}": "1" for name in shape.drivers},
        "unique.hostname": name,
        "unique.network.ip-address": name,
        **shape.attributes,
    }
    resources = NodeResources(
        cpu=NodeCpuResources(cpu_shares=shape.cpu, total_cpu_cores=max(1, shape.cpu // 1000)),
        memory=NodeMemoryResources(memory_mb=shape.memory),
        disk=NodeDiskResources(disk_mb=shape.disk),
    )
    driver = DriverInfo(detected=True, healthy=True, health_description="Healthy")
    drivers = dict.fromkeys(shape.drivers, driver)
    return Fingerprint(attributes=attributes, resources=resources, drivers=drivers)
