"""The agent's configuration: files, folders, merging, flags, mistakes, safety."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.agent.config import (
    AgentConfig,
    check_config,
    check_safety,
    load_config,
    merge,
    missing_volumes,
    parse_settings,
    split_address,
)
from core.agent.config_records import ClientSection, HostVolume
from core.jobspec import SourceError

SECOND_US = 1_000_000
EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def load(tmp_path: Path, *texts: str, **options: Any) -> AgentConfig:
    paths = []
    for number, text in enumerate(texts):
        path = tmp_path / f"{number}.hcl"
        path.write_text(text)
        paths.append(str(path))
    return load_config(paths, **options)


def failure_of(text: str) -> str:
    with pytest.raises(SourceError) as caught:
        parse_settings(text, "agent.hcl")
    return str(caught.value)


def test_the_examples_load_and_may_start() -> None:
    for name in ("agent-server.hcl", "agent-client.hcl"):
        config = load_config([str(EXAMPLES / name)])
        assert config.warnings == []
        assert check_config(config, is_dev=False) == []
        assert check_safety(config, is_dev=False, insecure=False) == []


def test_defaults_are_nomads() -> None:
    config = load_config([])
    assert (config.region, config.datacenter, config.bind_addr) == ("global", "dc1", "127.0.0.1")
    assert (config.ports.http, config.ports.rpc, config.ports.serf) == (4646, 4647, 4648)
    assert not config.server.enabled and not config.client.enabled
    assert not config.is_raw_exec_enabled
    assert config.server.server_join.retry_interval_us == 30 * SECOND_US


def test_dev_is_server_and_client_with_raw_exec() -> None:
    config = AgentConfig.dev()
    assert config.server.enabled and config.client.enabled and config.is_raw_exec_enabled
    assert config.server.bootstrap_expect == 1
    assert check_config(config, is_dev=True) == []
    assert check_safety(config, is_dev=True, insecure=False) == []


FULL = """
name = "n"
region = "eu"
ports { http = 1 }
advertise { rpc = "10.0.0.1:99" }
server {
  enabled          = true
  bootstrap_expect = 3
  serves           = ["site"]
  retry_join       = ["b"]
  server_join {
    retry_join     = ["a"]
    retry_interval = "1m"
  }
}
client {
  meta { rack = 7 }
  options = { x = "y" }
  reserved { cpu = 100 }
  host_volume "data" {
    path      = "/data"
    read_only = true
  }
}
plugin "raw_exec" {
  config { enabled = true }
}
tls { http = true }
telemetry { collection_interval = "5s" }
"""


def test_each_section_is_read(tmp_path: Path) -> None:
    config = load(tmp_path, FULL)
    assert (config.name, config.region, config.ports.http, config.ports.rpc) == ("n", "eu", 1, 4647)
    assert config.advertise_address("rpc") == "10.0.0.1:99"
    assert config.server.joins == ["a", "b"]
    assert config.server.serves == ["site"]
    assert config.server.server_join.retry_interval_us == 60 * SECOND_US
    assert config.client.meta == {"rack": "7"} and config.client.options == {"x": "y"}
    assert config.client.reserved.cpu == 100
    assert config.client.host_volume["data"].read_only
    assert config.is_raw_exec_enabled and config.tls.http and not config.tls.rpc
    assert config.telemetry.collection_interval_us == 5 * SECOND_US
    assert config.warnings == []


def test_json_says_the_same(tmp_path: Path) -> None:
    form = {
        "server": {"enabled": True, "server_join": {"retry_join": ["a"]}},
        "plugin": {"raw_exec": {"config": {"enabled": True}}},
        "client": [{"host_volume": {"data": {"path": "/x"}}}],
        "ports": {"http": 80},
    }
    config = load(tmp_path, json.dumps(form))
    assert config.server.enabled and config.server.joins == ["a"]
    assert config.is_raw_exec_enabled and config.ports.http == 80
    assert config.client.host_volume["data"].path == "/x"


def test_later_files_win_maps_merge_and_lists_add_up(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        'region = "a"\nserver {\n enabled = true\n retry_join = ["x"]\n}\n'
        "client {\n meta { k = 1 }\n}",
        'region = "b"\nserver { retry_join = ["x", "y"] }\nclient {\n meta { l = 2 }\n}',
    )
    assert config.region == "b"
    assert config.server.enabled and config.server.retry_join == ["x", "y"]
    assert config.client.meta == {"k": "1", "l": "2"}


def test_what_a_later_file_does_not_say_stays(tmp_path: Path) -> None:
    config = load(tmp_path, "ports { http = 1 }", "ports { rpc = 2 }")
    assert (config.ports.http, config.ports.rpc, config.ports.serf) == (1, 2, 4648)


def test_a_folder_is_read_in_the_order_of_names(tmp_path: Path) -> None:
    (tmp_path / "b.json").write_text('{"region": "b"}')
    (tmp_path / "a.hcl").write_text('region = "a"\ndatacenter = "d"')
    (tmp_path / "c.txt").write_text("not configuration")
    (tmp_path / ".a.hcl").write_text("neither {")
    config = load_config([str(tmp_path)])
    assert (config.region, config.datacenter) == ("b", "d")


def test_flags_override_the_files(tmp_path: Path) -> None:
    flags = {"region": "f", "ports.http": 0, "client.meta": {"b": "2"}}
    config = load(tmp_path, 'region = "a"\nclient {\n meta { a = 1 }\n}', flags=flags)
    assert (config.region, config.ports.http) == ("f", 0)
    assert config.client.meta == {"a": "1", "b": "2"}


def test_the_old_place_of_retry_interval() -> None:
    assert parse_settings('server { retry_interval = "2s" }', "a.hcl") == {
        "server": {"server_join": {"retry_interval_us": 2 * SECOND_US}}
    }


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        ("servr { enabled = true }", "1:1", 'did you mean "server"?'),
        ("server { bootstrap_expct = 1 }", "1:10", 'did you mean "bootstrap_expect"?'),
        ("server { enabled = 12 }", "1:20", "true or false is needed"),
        ('ports { http = "x" }', "1:16", "a number is needed"),
        ("ports = 1", "1:1", "write ports { ... }"),
        ('client { servers = "a" }', "1:20", 'write ["a"]'),
        ('network_interface = "eth0"', "1:1", '"network_interface" belongs in a client block'),
        ("server {}\nserver {}", "2:1", "this is a second"),
        ('server {\n server_join { retry_interval = "5" }\n}', "2:33", 'for example "5s"'),
        ("plugin { }", "1:1", "this plugin has no name"),
        ('{"server": {"enable": true}}', "1:13", 'did you mean "enabled"?'),
        ('{"server": true}', "1:12", "an object is needed"),
        ("server {", "1:8", "never closed"),
        ('job "x" {}', "1:1", 'no block "job" in an agent configuration'),
    ],
)
def test_a_mistake_names_file_line_column_and_remedy(text: str, place: str, message: str) -> None:
    error = failure_of(text)
    assert error.startswith(f"agent.hcl:{place}: error:"), error
    assert message in error, error


def test_all_mistakes_of_a_file_are_told() -> None:
    with pytest.raises(SourceError) as caught:
        parse_settings("a = 1\nserver { b = 1 }\nports { http = true }", "agent.hcl")
    assert sorted(found.line for found in caught.value.diagnostics) == [1, 2, 3]


def test_keys_of_nomad_that_are_not_carried_out_warn_with_their_line(tmp_path: Path) -> None:
    config = load(tmp_path, 'region = "a"\nconsul {\n address = "x"\n}\nclient { cni_path = "/x" }')
    assert [w.split(": ", 1)[0].rsplit(".hcl", 1)[1] for w in config.warnings] == [":2:1", ":5:10"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"ports.http": 70000}, "ports.http is 70000"),
        ({"ports.http": "x"}, "Expected `int`"),
        ({"ports.rpc": 4646}, "ports.rpc and ports.http are both 4646"),
        ({"region": "a b"}, 'region "a b"'),
        ({"log_level": "LOUD"}, "TRACE, DEBUG"),
        ({"bind_addr": '{{ GetInterfaceIP "eth0" }}'}, "is a template"),
        ({"bind_addr": "http://x"}, "is not a host"),
        ({"advertise.rpc": "10.0.0.1:x"}, "no valid port"),
        ({"client.min_dynamic_port": 40000}, "40000 to 32000"),
        ({"client.reserved.reserved_ports": "22,x"}, '"x" is no port'),
        ({"client.memory_total_mb": -1}, "is negative"),
    ],
)
def test_a_value_that_can_not_be_is_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(SourceError) as caught:
        load_config([], flags=flags)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({}, "nothing to do"),
        ({"server.enabled": True, "data_dir": "/d"}, "nobody to join"),
        ({"server.enabled": True, "server.bootstrap_expect": 9}, "1, 3, 5 or 7"),
        ({"server.enabled": True, "server.bootstrap_expect": 1}, "data_dir is not set"),
        ({"server.enabled": True, "data_dir": "rel"}, "not an absolute path"),
        ({"client.enabled": True, "data_dir": "/d"}, "client.servers is not set"),
        ({"tls.http": True}, "tls.ca_file is not set"),
        ({"bind_addr": "0.0.0.0"}, "nothing that others can dial"),
    ],
)
def test_a_configuration_that_can_not_work_is_told(flags: dict[str, Any], message: str) -> None:
    problems = check_config(load_config([], flags=flags), is_dev=False)
    assert any(message in problem for problem in problems), problems


def test_a_raft_engine_that_does_not_exist_is_told(tmp_path: Path) -> None:
    config = load(tmp_path, 'raft { engine = "paxos" }', flags={"server": {"enabled": True}})
    assert any("want one of core, pysyncobj" in line for line in check_config(config, is_dev=True))
    assert load(tmp_path, 'raft { engine = "pysyncobj" }').raft.engine == "pysyncobj"
    assert load(tmp_path, "").raft.engine == "core"


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "none.hcl")
    with pytest.raises(SourceError, match=r"none\.hcl: error: can't be read"):
        load_config([missing])
    (tmp_path / "b.hcl").write_bytes(b'region = "\xff"')
    with pytest.raises(SourceError, match="not UTF-8 at byte 10"):
        load_config([str(tmp_path / "b.hcl")])


# --- safety ------------------------------------------------------------------------------

SECURE = {"tls.http": True, "tls.rpc": True, "acl.enabled": True}


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.1", "::", "example.com"])
def test_beyond_loopback_needs_tls_and_acl(host: str) -> None:
    bare = load_config([], flags={"bind_addr": host})
    refusals = check_safety(bare, is_dev=False, insecure=False)
    assert len(refusals) == 3
    assert "acl { enabled = true }" in refusals[0] and "-insecure" in refusals[0]
    assert check_safety(bare, is_dev=False, insecure=True) == []
    safe = load_config([], flags={"bind_addr": host, **SECURE})
    assert check_safety(safe, is_dev=False, insecure=False) == []


def test_one_protocol_beyond_loopback_is_enough_to_refuse() -> None:
    config = load_config([], flags={"addresses.http": "10.0.0.1"}, is_dev=True)
    (refusal,) = check_safety(config, is_dev=True, insecure=False)
    assert refusal.startswith("http binds to 10.0.0.1:4646")


@pytest.mark.parametrize("missing", sorted(SECURE))
def test_each_half_of_the_protection_counts(missing: str) -> None:
    flags = {"bind_addr": "10.0.0.1", **SECURE, missing: False}
    assert check_safety(load_config([], flags=flags), is_dev=False, insecure=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_nothing(host: str) -> None:
    config = load_config([], flags={"bind_addr": host})
    assert check_safety(config, is_dev=False, insecure=False) == []


def test_raw_exec_is_on_only_where_it_is_said(tmp_path: Path) -> None:
    off = 'plugin "raw_exec" {\n config { enabled = false }\n}'
    assert not load(tmp_path, off).is_raw_exec_enabled
    assert not load(tmp_path, off, is_dev=True).is_raw_exec_enabled
    assert load(
        tmp_path, 'client { options = { "driver.raw_exec.enable" = 1 } }'
    ).is_raw_exec_enabled


# --- addresses ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("10.0.0.1", ("10.0.0.1", 0)),
        ("10.0.0.1:80", ("10.0.0.1", 80)),
        ("[::1]:80", ("::1", 80)),
        ("[::1]", ("::1", 0)),
        ("fe80::1", ("fe80::1", 0)),
    ],
)
def test_addresses_are_split(text: str, parts: tuple[str, int]) -> None:
    assert split_address(text) == parts


def test_advertised_addresses() -> None:
    config = load_config([], flags={"bind_addr": "::1", "advertise.http": "h", "ports.rpc": 0})
    assert config.advertise_address("http") == "h:4646"
    assert config.advertise_address("rpc", bound_port=12345) == "[::1]:12345"


NESTED = st.recursive(
    st.integers() | st.lists(st.integers(), max_size=3),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)
SETTINGS = st.dictionaries(st.sampled_from("abc"), NESTED, max_size=3)


@settings(max_examples=80, deadline=None)
@given(SETTINGS)
def test_merging_nothing_changes_nothing_and_never_shares(value: dict[str, Any]) -> None:
    assert merge(value, {}) == value == merge({}, value)
    before = json.dumps(value)
    merge(value, {"a": {"b": {"c": 1}}})
    assert json.dumps(value) == before


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=80))
def test_any_text_gives_settings_or_a_source_error(text: str) -> None:
    try:
        parse_settings(text, "a.hcl")
    except SourceError as error:
        assert str(error)


def test_a_host_volume_must_be_a_folder_of_this_machine(tmp_path: Path) -> None:
    there = AgentConfig(client=ClientSection(host_volume={"a": HostVolume(path=str(tmp_path))}))
    assert missing_volumes(there) == []
    gone = str(tmp_path / "gone")
    away = AgentConfig(client=ClientSection(host_volume={"a": HostVolume(path=gone)}))
    (refusal,) = missing_volumes(away)
    assert '"a"' in refusal and gone in refusal
