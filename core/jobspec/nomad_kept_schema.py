"""Blocks of a job file that are kept as plain data: Connect, CSI, secrets and small ones."""

from typing import Final

from core.jobspec.schema import by_label, many, one, plain

CONSUL: Final = plain("consul", "namespace cluster partition")
CNI: Final = plain("cni", "args:map")
NUMA: Final = plain("numa", "affinity devices:strings")
WEIGHTS: Final = plain("weights", "passing:int warning:int")
MOUNT_OPTIONS: Final = plain("mount_options", "fs_type=FSType mount_flags:strings")
CSI_PLUGIN: Final = plain(
    "csi_plugin", "id type mount_dir stage_publish_base_dir health_timeout:duration"
)
SECRET: Final = plain("secret", "provider path config:free env:map", label="Name")
CRON: Final = plain("cron", "start end timezone")
SCHEDULE: Final = plain("schedule", blocks={"cron": one(CRON)})

STRATEGY: Final = plain("strategy", "max_parallel:int? on_failure?")
REGION: Final = plain("region", "count:int? datacenters:strings node_pool meta:map", label="Name")
MULTIREGION: Final = plain(
    "multiregion", blocks={"strategy": one(STRATEGY), "region": many(REGION, "Regions")}
)

VAULT: Final = plain(
    "vault",
    "policies:strings role namespace? cluster env:bool? disable_file:bool? change_mode? "
    "change_signal? allow_token_expiration:bool?",
)
CHANGE_SCRIPT: Final = plain(
    "change_script",
    "command? args:strings timeout:duration? fail_on_error:bool? run_on_first_render:bool?",
)
WAIT: Final = plain("wait", "min:duration? max:duration?")
DISPATCH_PAYLOAD: Final = plain("dispatch_payload", "file")
UI_LINK: Final = plain("link", "label url")
UI: Final = plain("ui", "description", blocks={"link": many(UI_LINK, "Links")})
# Of a service; a task's is a record.
IDENTITY: Final = plain(
    "identity",
    "name aud=Audience:strings change_mode change_signal env:bool file:bool filepath "
    "service_name ttl=TTL:duration extra_claims:strings",
)

# --- Connect -------------------------------------------------------------------------

MESH_GATEWAY: Final = plain("mesh_gateway", "mode")
UPSTREAM: Final = plain(
    "upstreams",
    "destination_name destination_namespace destination_peer destination_partition "
    "destination_type local_bind_port:int datacenter local_bind_address "
    "local_bind_socket_path local_bind_socket_mode config:free",
    blocks={"mesh_gateway": one(MESH_GATEWAY)},
)
TRANSPARENT_PROXY: Final = plain(
    "transparent_proxy",
    "uid=UID outbound_port:int exclude_inbound_ports:strings exclude_outbound_ports:ints "
    "exclude_outbound_cidrs=ExcludeOutboundCIDRs:strings exclude_uids=ExcludeUIDs:strings "
    "no_dns=NoDNS:bool",
)
EXPOSE_PATH: Final = plain("path", "path protocol local_path_port:int listener_port")
EXPOSE: Final = plain("expose", blocks={"path": many(EXPOSE_PATH, "Paths")})
SIDECAR_PROXY: Final = plain(
    "proxy",
    "local_service_address local_service_port:int config:free",
    blocks={
        "expose": one(EXPOSE),
        "upstreams": many(UPSTREAM, "Upstreams"),
        "transparent_proxy": one(TRANSPARENT_PROXY),
    },
)
SIDECAR_SERVICE: Final = plain(
    "sidecar_service",
    "tags:strings port disable_default_tcp_check=DisableDefaultTCPCheck:bool meta:map",
    blocks={"proxy": one(SIDECAR_PROXY)},
)
_SIDECAR_RESOURCES: Final = plain(
    "resources",
    "cpu:int? cores:int? memory=MemoryMB:int? memory_max=MemoryMaxMB:int? disk=DiskMB:int?",
)
_SIDECAR_LOGS: Final = plain(
    "logs", "max_files:int? max_file_size=MaxFileSizeMB:int? disabled:bool?"
)
_SIDECAR_MOUNT: Final = plain(
    "volume_mount", "volume? destination? read_only:bool? propagation_mode? selinux_label?"
)
SIDECAR_TASK: Final = plain(
    "sidecar_task",
    "name driver user config:free env:map meta:map kill_timeout:duration? "
    "shutdown_delay:duration? kill_signal",
    blocks={
        "resources": one(_SIDECAR_RESOURCES),
        "logs": one(_SIDECAR_LOGS, "LogConfig"),
        "volume_mount": many(_SIDECAR_MOUNT, "VolumeMounts"),
        "identity": many(IDENTITY, "Identities"),
    },
)

_SDS: Final = plain("sds", "cluster_name cert_resource")
GATEWAY_TLS: Final = plain(
    "tls",
    "enabled:bool tls_min_version=TLSMinVersion tls_max_version=TLSMaxVersion "
    "cipher_suites:strings",
    blocks={"sds": one(_SDS, "SDS")},
)
_HEADERS: Final = plain("request_headers", "add:map set:map remove:strings")
INGRESS_SERVICE: Final = plain(
    "service",
    "name hosts:strings max_connections:int? max_pending_requests:int? "
    "max_concurrent_requests:int?",
    blocks={
        "tls": one(GATEWAY_TLS, "TLS"),
        "request_headers": one(_HEADERS),
        "response_headers": one(_HEADERS, "ResponseHeaders"),
    },
)
LISTENER: Final = plain(
    "listener", "port:int protocol", blocks={"service": many(INGRESS_SERVICE, "Services")}
)
INGRESS: Final = plain(
    "ingress", blocks={"tls": one(GATEWAY_TLS, "TLS"), "listener": many(LISTENER, "Listeners")}
)
LINKED_SERVICE: Final = plain("service", "name ca_file=CAFile cert_file key_file sni=SNI")
TERMINATING: Final = plain("terminating", blocks={"service": many(LINKED_SERVICE, "Services")})
BIND_ADDRESS: Final = plain("envoy_gateway_bind_addresses", "address port:int", label="Name")
GATEWAY_PROXY: Final = plain(
    "proxy",
    "connect_timeout:duration? envoy_gateway_bind_tagged_addresses:bool "
    "envoy_gateway_no_default_bind:bool "
    "envoy_dns_discovery_type=EnvoyDNSDiscoveryType config:free",
    blocks={"envoy_gateway_bind_addresses": by_label(BIND_ADDRESS, "EnvoyGatewayBindAddresses")},
)
GATEWAY: Final = plain(
    "gateway",
    blocks={
        "proxy": one(GATEWAY_PROXY),
        "ingress": one(INGRESS),
        "terminating": one(TERMINATING),
        "mesh": one(plain("mesh")),
    },
)
CONNECT: Final = plain(
    "connect",
    "native:bool",
    blocks={
        "gateway": one(GATEWAY),
        "sidecar_service": one(SIDECAR_SERVICE),
        "sidecar_task": one(SIDECAR_TASK),
    },
)
