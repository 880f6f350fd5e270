"""Blocks of a job file that the product keeps as plain data and does not carry out."""

from typing import Final

from core.jobspec.schema import block, by_label, many, one

CONSUL: Final = block("consul", "namespace cluster partition")
CNI: Final = block("cni", "args:map")
NUMA: Final = block("numa", "affinity devices:strings")
WEIGHTS: Final = block("weights", "passing:int warning:int")
MOUNT_OPTIONS: Final = block("mount_options", "fs_type=FSType mount_flags:strings")
CSI_PLUGIN: Final = block(
    "csi_plugin", "id type mount_dir stage_publish_base_dir health_timeout:duration"
)
SECRET: Final = block("secret", "provider path config:free env:map", label="Name")
CRON: Final = block("cron", "start end timezone")
SCHEDULE: Final = block("schedule", blocks={"cron": one(CRON)})

STRATEGY: Final = block("strategy", "max_parallel:int on_failure")
REGION: Final = block("region", "count:int datacenters:strings node_pool meta:map", label="Name")
MULTIREGION: Final = block(
    "multiregion", blocks={"strategy": one(STRATEGY), "region": many(REGION, "Regions")}
)

# --- Connect -------------------------------------------------------------------------

MESH_GATEWAY: Final = block("mesh_gateway", "mode")
UPSTREAM: Final = block(
    "upstreams",
    "destination_name destination_namespace destination_peer destination_partition "
    "destination_type local_bind_port:int datacenter local_bind_address "
    "local_bind_socket_path local_bind_socket_mode config:free",
    blocks={"mesh_gateway": one(MESH_GATEWAY)},
)
TRANSPARENT_PROXY: Final = block(
    "transparent_proxy",
    "uid=UID outbound_port:int exclude_inbound_ports:strings exclude_outbound_ports:ints "
    "exclude_outbound_cidrs=ExcludeOutboundCIDRs:strings exclude_uids=ExcludeUIDs:strings "
    "no_dns=NoDNS:bool",
)
EXPOSE_PATH: Final = block("path", "path protocol local_path_port:int listener_port")
EXPOSE: Final = block("expose", blocks={"path": many(EXPOSE_PATH, "Paths")})
SIDECAR_PROXY: Final = block(
    "proxy",
    "local_service_address local_service_port:int config:free",
    blocks={
        "expose": one(EXPOSE),
        "upstreams": many(UPSTREAM, "Upstreams"),
        "transparent_proxy": one(TRANSPARENT_PROXY),
    },
)
SIDECAR_SERVICE: Final = block(
    "sidecar_service",
    "tags:strings port disable_default_tcp_check=DisableDefaultTCPCheck:bool meta:map",
    blocks={"proxy": one(SIDECAR_PROXY)},
)
_SIDECAR_RESOURCES: Final = block(
    "resources", "cpu:int cores:int memory=MemoryMB:int memory_max=MemoryMaxMB:int"
)
_SIDECAR_LOGS: Final = block("logs", "max_files:int max_file_size=MaxFileSizeMB:int disabled:bool")
SIDECAR_TASK: Final = block(
    "sidecar_task",
    "name driver user config:free env:map meta:map kill_timeout:duration "
    "shutdown_delay:duration kill_signal",
    blocks={"resources": one(_SIDECAR_RESOURCES), "logs": one(_SIDECAR_LOGS, "LogConfig")},
)

_SDS: Final = block("sds", "cluster_name cert_resource")
GATEWAY_TLS: Final = block(
    "tls",
    "enabled:bool tls_min_version=TLSMinVersion tls_max_version=TLSMaxVersion "
    "cipher_suites:strings",
    blocks={"sds": one(_SDS, "SDS")},
)
_HEADERS: Final = block("request_headers", "add:map set:map remove:strings")
INGRESS_SERVICE: Final = block(
    "service",
    "name hosts:strings max_connections:int max_pending_requests:int max_concurrent_requests:int",
    blocks={
        "tls": one(GATEWAY_TLS, "TLS"),
        "request_headers": one(_HEADERS),
        "response_headers": one(_HEADERS, "ResponseHeaders"),
    },
)
LISTENER: Final = block(
    "listener", "port:int protocol", blocks={"service": many(INGRESS_SERVICE, "Services")}
)
INGRESS: Final = block(
    "ingress", blocks={"tls": one(GATEWAY_TLS, "TLS"), "listener": many(LISTENER, "Listeners")}
)
LINKED_SERVICE: Final = block("service", "name ca_file=CAFile cert_file key_file sni=SNI")
TERMINATING: Final = block("terminating", blocks={"service": many(LINKED_SERVICE, "Services")})
BIND_ADDRESS: Final = block("envoy_gateway_bind_addresses", "address port:int", label="Name")
GATEWAY_PROXY: Final = block(
    "proxy",
    "connect_timeout:duration envoy_gateway_bind_tagged_addresses:bool "
    "envoy_gateway_no_default_bind:bool "
    "envoy_dns_discovery_type=EnvoyDNSDiscoveryType config:free",
    blocks={"envoy_gateway_bind_addresses": by_label(BIND_ADDRESS, "EnvoyGatewayBindAddresses")},
)
GATEWAY: Final = block(
    "gateway",
    blocks={
        "proxy": one(GATEWAY_PROXY),
        "ingress": one(INGRESS),
        "terminating": one(TERMINATING),
        "mesh": one(block("mesh")),
    },
)
CONNECT: Final = block(
    "connect",
    "native:bool",
    blocks={
        "gateway": one(GATEWAY),
        "sidecar_service": one(SIDECAR_SERVICE),
        "sidecar_task": one(SIDECAR_TASK),
    },
)
