"""What a scrape of a server and a client says, from real machines without sockets."""

import random
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from promtool import promtool

from core.agent.metrics import HOST_FAMILIES, Exporter, HostMeasures, every_family, series_names
from core.client.config import ClientBoot, ClientConfig
from core.client.machine import ClientMachine
from core.client.measures import FAMILIES as CLIENT_FAMILIES
from core.model.host import Now, Requested, Tick
from core.model.query import Query
from core.server.config import ServerBoot, ServerConfig
from core.server.machine import ServerMachine
from core.server.measures import FAMILIES as SERVER_FAMILIES

START = Now(1_000_000, 1_800_000_000_000_000)


class OneAgent:
    """The machines of one agent that is server and client, and the exporter over them."""

    def __init__(self) -> None:
        self.host = HostMeasures()
        self.server = ServerMachine(
            config=ServerConfig(name="a", server_id="00000000-0000-0000-0000-000000000001"),
            boot=ServerBoot(), rng=random.Random(1), now=START,
        )  # fmt: skip
        self.client = ClientMachine(
            config=ClientConfig(
                name="a", servers=("127.0.0.1:4647",), alloc_dir="/a", gossip_addr="127.0.0.1:4648"
            ),
            boot=ClientBoot(), rng=random.Random(2), now=START,
        )  # fmt: skip
        self.exporter = Exporter()
        self.exporter.add(SERVER_FAMILIES, lambda: self.server.measures)
        self.exporter.add(CLIENT_FAMILIES, lambda: self.client.measures)
        self.exporter.add(HOST_FAMILIES, lambda: self.host)

    def run(self) -> None:
        for step in range(1, 200):
            now = Now(START.mono_us + step * 50_000, START.wall_us + step * 50_000)
            self.server.handle(Tick(), now)
            self.client.handle(Tick(), now)
        self.server.handle(Requested(1, "Query", Query(method="Nothing.Such")), now)
        self.host.count_request("Job.List", 200, 0.004)

    def text(self, accept: str = "text/plain") -> str:
        return self.exporter.text(accept)[0].decode()

    def samples(self) -> dict[str, float]:
        found = {}
        for family in text_string_to_metric_families(self.text()):
            for sample in family.samples:
                found[sample.name + str(sorted(sample.labels.items()))] = sample.value
        return found


@pytest.fixture
def agent() -> OneAgent:
    found = OneAgent()
    found.run()
    return found


def test_promtool_is_content_with_names_types_and_help(agent: OneAgent) -> None:
    agent.server.server.measures.digest_age_us = {"eu/dc1": 1}
    assert promtool("check", "metrics", text=agent.text()) == ""


def test_every_family_is_exported_once_with_its_help(agent: OneAgent) -> None:
    text = agent.text()
    for name, kind, help_text, *_ in every_family():
        shown = f"{name}_total" if kind == "counter" else name
        assert text.count(f"# HELP {shown} {help_text}\n") == 1, name
        assert text.count(f"# TYPE {shown} {kind}\n") == 1, name
        assert help_text.endswith("."), name


def test_families_of_one_name_are_the_same_family(agent: OneAgent) -> None:
    seen: dict[str, Any] = {}
    for family in (*HOST_FAMILIES, *SERVER_FAMILIES, *CLIENT_FAMILIES):
        name, kind, help_text, _, labels = family
        assert seen.setdefault(name, (kind, help_text, labels)) == (kind, help_text, labels)


def test_no_label_shadows_who_was_scraped() -> None:
    taken = {"region", "datacenter", "agent", "role", "instance", "job"}
    for family in every_family():
        assert not taken & set(family[4].split("/")), family[0]


def test_gossip_drops_of_machines_and_socket_are_one_family(agent: OneAgent) -> None:
    agent.server.server.membership.lan.counters.drop("wrong_target")
    agent.host.gossip_dropped = {"socket/label": 3}
    found = agent.samples()
    name = "serai_gossip_packets_dropped_total"
    assert found[name + "[('pool', 'lan'), ('reason', 'wrong_target')]"] == 1
    assert found[name + "[('pool', 'socket'), ('reason', 'label')]"] == 3


def test_what_two_machines_count_is_added_up(agent: OneAgent) -> None:
    pools = [agent.server.server.membership.lan, *agent.client.lan.pools.values()]
    expected = sum(pool.counters.packets_sent for pool in pools)
    found = agent.samples()
    name = "serai_gossip_packets_total[('direction', 'sent'), ('pool', 'lan')]"
    assert found[name] == expected


def test_a_histogram_ends_with_all_it_counted(agent: OneAgent) -> None:
    agent.host.http_time.add(99_000_000)  # beyond the last bound
    found = agent.samples()
    assert found["serai_http_request_seconds_bucket[('le', '+Inf')]"] == 2
    assert found["serai_http_request_seconds_bucket[('le', '10.0')]"] == 1
    assert found["serai_http_request_seconds_count[]"] == 2
    assert found["serai_http_request_seconds_sum[]"] == pytest.approx(99.004)


def test_series_names_are_those_of_the_exposition(agent: OneAgent) -> None:
    known = {name for family in every_family() for name in series_names(family)}
    shown = {key.partition("[")[0] for key in agent.samples()}
    assert shown <= known
    assert "serai_query_errors_total" in shown


def test_openmetrics_is_served_to_who_asks_for_it(agent: OneAgent) -> None:
    text = agent.text("application/openmetrics-text; version=1.0.0")
    assert text.rstrip().endswith("# EOF")
