"""The keys of an agent's configuration file, and which of Nomad's are not carried out."""

from functools import partial
from typing import Any, Final

from core.jobspec.decode import Dialect
from core.jobspec.hcl.body import Body
from core.jobspec.schema import block, by_label, one
from core.jobspec.shorthand import Findings

# Here the wire names are the field names of core.agent.config.
_section = partial(block, spell=lambda name: name)

_SERVER_JOIN: Final = _section(
    "server_join",
    "retry_join:strings start_join:strings retry_max:int retry_interval=retry_interval_us:duration",
)
_SERVER: Final = _section(
    "server",
    "enabled:bool bootstrap_expect:int serves:strings retry_join:strings start_join:strings "
    "encrypt non_voting_server:bool cost:int authoritative_region raft_protocol:int "
    "default_scheduler_config:free data_dir num_schedulers:int enabled_schedulers:strings "
    "node_gc_threshold job_gc_threshold eval_gc_threshold deployment_gc_threshold "
    "heartbeat_grace min_heartbeat_ttl failover_heartbeat_ttl=failover_heartbeat_ttl_us:duration "
    "raft_snapshot_threshold:int job_default_priority:int job_max_priority:int "
    "raft_multiplier:int redundancy_zone upgrade_version rejoin_after_leave:bool "
    "plan_rejection_tracker:free search:free oidc_issuer job_max_source_size "
    "retry_interval=retry_interval_us:duration",
    blocks={"server_join": one(_SERVER_JOIN, "server_join")},
)
_RESERVED: Final = _section("reserved", "cpu:int memory:int disk:int reserved_ports cores")
_HOST_VOLUME: Final = _section("host_volume", "path read_only:bool", label="name")
_DEVICE: Final = _section("device", "ids:strings attributes:map env", label="vendor/type/name")
_CLIENT: Final = _section(
    "client",
    "enabled:bool servers:strings meta:map node_class node_pool options:map "
    "cpu_total_compute:int memory_total_mb:int disk_total_mb:int min_dynamic_port:int "
    "max_dynamic_port:int network_interface network_speed:int alloc_dir state_dir "
    "max_kill_timeout=max_kill_timeout_us:duration alloc_mounts_dir cni_path cni_config_dir "
    "bridge_network_name bridge_network_subnet gc_interval gc_disk_usage_threshold "
    "gc_inode_usage_threshold gc_max_allocs:int gc_parallel_destroys:int "
    "no_host_uuid:bool cgroup_parent artifact:free template:free host_network:free "
    "drain_on_shutdown:free preferred_address_family disable_remote_exec:bool chroot_env:map",
    blocks={
        "server_join": one(_SERVER_JOIN, "server_join"),
        "reserved": one(_RESERVED, "reserved"),
        "host_volume": by_label(_HOST_VOLUME, "host_volume"),
        "device": by_label(_DEVICE, "device"),
    },
)
_PLUGIN: Final = _section("plugin", "args:strings config:free", label="name")
_TLS: Final = _section(
    "tls",
    "http:bool rpc:bool ca_file cert_file key_file verify_server_hostname:bool "
    "verify_https_client:bool rpc_upgrade_mode:bool tls_cipher_suites tls_min_version "
    "tls_prefer_server_cipher_suites:bool",
)
_RAFT: Final = _section("raft", "engine")
_ACL: Final = _section(
    "acl",
    "enabled:bool token_ttl=token_ttl_us:duration policy_ttl=policy_ttl_us:duration "
    "role_ttl replication_token token_min_expiration_ttl token_max_expiration_ttl",
)
_TELEMETRY: Final = _section(
    "telemetry",
    "collection_interval=collection_interval_us:duration disable_hostname:bool "
    "prometheus_metrics:bool publish_allocation_metrics:bool publish_node_metrics:bool "
    "statsite_address statsd_address datadog_address datadog_tags:strings use_node_name:bool "
    "prefix_filter:strings filter_default:bool disable_dispatched_job_summary_metrics:bool "
    "in_memory_collection_interval in_memory_retention_period circonus_api_token",
)
_LIMITS: Final = _section(
    "limits",
    "http_max_conns_per_client:int rpc_max_conns_per_client:int "
    "https_handshake_timeout=https_handshake_timeout_us:duration "
    "rpc_handshake_timeout=rpc_handshake_timeout_us:duration",
)
_PORTS: Final = _section("ports", "http:int rpc:int serf:int")
_ADDRESSES: Final = _section("addresses", "http rpc serf")
_ADVERTISE: Final = _section("advertise", "http rpc serf")

AGENT: Final = _section(
    "agent configuration",
    "name region datacenter data_dir bind_addr log_level log_json:bool log_file "
    "enable_debug:bool leave_on_terminate:bool leave_on_interrupt:bool "
    "log_rotate_duration log_rotate_bytes:int log_rotate_max_files:int log_include_location:bool "
    "plugin_dir enable_syslog:bool syslog_facility disable_update_check:bool "
    "disable_anonymous_signature:bool http_api_response_headers:map "
    "consul:free vault:free autopilot:free audit:free sentinel:free ui:free reporting:free "
    "keyring:free eventlog:free users:free rpc:free client_introduction:free",
    blocks={
        "ports": one(_PORTS, "ports"),
        "addresses": one(_ADDRESSES, "addresses"),
        "advertise": one(_ADVERTISE, "advertise"),
        "server": one(_SERVER, "server"),
        "client": one(_CLIENT, "client"),
        "plugin": by_label(_PLUGIN, "plugin"),
        "tls": one(_TLS, "tls"),
        "acl": one(_ACL, "acl"),
        "raft": one(_RAFT, "raft"),
        "telemetry": one(_TELEMETRY, "telemetry"),
        "limits": one(_LIMITS, "limits"),
    },
)

_MISSING: Final = "a key of Nomad's that Serai does not carry out; it is ignored"
_CARRIED_OUT: Final = {
    "server": "enabled bootstrap_expect serves retry_join start_join encrypt retry_interval "
    "non_voting_server cost authoritative_region failover_heartbeat_ttl raft_snapshot_threshold",
    "client": "enabled servers meta node_class node_pool options cpu_total_compute "
    "memory_total_mb disk_total_mb min_dynamic_port max_dynamic_port network_interface "
    "alloc_dir state_dir max_kill_timeout",
    "reserved": "cpu memory disk reserved_ports cores",
    "tls": "http rpc ca_file cert_file key_file verify_server_hostname verify_https_client",
    "acl": "enabled token_ttl policy_ttl",
    "telemetry": "collection_interval disable_hostname prometheus_metrics "
    "publish_allocation_metrics publish_node_metrics",
    "agent configuration": "name region datacenter data_dir bind_addr log_level log_json "
    "log_file autopilot enable_debug leave_on_terminate leave_on_interrupt",
}
_SECTIONS: Final = (_SERVER, _CLIENT, _RESERVED, _TLS, _ACL, _TELEMETRY, AGENT)


def _old_places(findings: Findings, body: Body, wire: dict[str, Any]) -> None:
    """`retry_interval` of the server block itself, where Nomad had it once."""
    if "retry_interval_us" in wire:
        interval = wire.pop("retry_interval_us")
        wire.setdefault("server_join", {}).setdefault("retry_interval_us", interval)


CONFIG_FILE: Final = Dialect(
    AGENT,
    missing={
        (section.name, key): _MISSING
        for section in _SECTIONS
        for key in section.attributes
        if key not in _CARRIED_OUT[section.name].split()
    },
    shorthands={"server": _old_places},
    duration_unit_ns=1000,
)
