"""The blocks of a job file, in Nomad's terms and with Nomad's wire names.

What the product only keeps (Connect, CSI, secrets) stands in nomad_kept_schema.py.
Reads bottom-up: a block is defined before the block that holds it.
"""

from typing import Final

from core.jobspec.nomad_kept_schema import (
    CHANGE_SCRIPT,
    CNI,
    CONNECT,
    CONSUL,
    CSI_PLUGIN,
    DISPATCH_PAYLOAD,
    MOUNT_OPTIONS,
    MULTIREGION,
    NUMA,
    SCHEDULE,
    SECRET,
    UI,
    VAULT,
    WAIT,
    WEIGHTS,
)
from core.jobspec.nomad_kept_schema import IDENTITY as SERVICE_IDENTITY
from core.jobspec.schema import BlockSchema, block, by_label, many, one

# --- where -------------------------------------------------------------------------

# Besides `operator`, an operator's name may stand as an attribute with its operand.
CONSTRAINT: Final = block(
    "constraint",
    "attribute=LTarget value=RTarget operator=Operand "
    "version semver regexp set_contains set_contains_any set_contains_all "
    "distinct_hosts:bool distinct_property is_set is_not_set",
)
AFFINITY: Final = block(
    "affinity",
    "attribute=LTarget value=RTarget operator=Operand weight:int "
    "version semver regexp set_contains set_contains_any set_contains_all",
)
SPREAD_TARGET: Final = block("target", "percent:int", label="Value")
SPREAD: Final = block(
    "spread", "attribute weight:int", blocks={"target": many(SPREAD_TARGET, "SpreadTarget")}
)
PLACEMENT: Final = {
    "constraint": many(CONSTRAINT, "Constraints"),
    "affinity": many(AFFINITY, "Affinities"),
}

# --- resources ---------------------------------------------------------------------

PORT: Final = block(
    "port", "static=Value:int to:int host_network ignore_collision:bool", label="Label"
)
DNS: Final = block("dns", "servers:strings searches:strings options:strings")
NETWORK: Final = block(
    "network",
    "mode device cidr ip hostname mbits=MBits:int",
    blocks={
        "port": many(PORT, "Ports"),
        "reserved_ports": many(PORT, "StaticPorts"),
        "dns": one(DNS),
        "cni": one(CNI, "CNI"),
    },
)
DEVICE: Final = block("device", "count:int", label="Name", blocks=PLACEMENT)
RESOURCES: Final = block(
    "resources",
    "cpu:int cores:int memory=MemoryMB:int memory_max=MemoryMaxMB:int disk=DiskMB:int "
    "secrets=SecretsMB:int iops=IOPS:int",
    blocks={
        "network": many(NETWORK, "Networks"),
        "device": many(DEVICE, "Devices"),
        "numa": one(NUMA, "NUMA"),
    },
)

# --- when things go wrong, when they change ------------------------------------------

RESTART: Final = block(
    "restart", "interval:duration attempts:int delay:duration mode render_templates:bool"
)
RESCHEDULE: Final = block(
    "reschedule",
    "attempts:int interval:duration delay:duration delay_function max_delay:duration "
    "unlimited:bool",
)
DISCONNECT: Final = block(
    "disconnect", "lost_after:duration stop_on_client_after:duration replace:bool reconcile"
)
MIGRATE: Final = block(
    "migrate",
    "max_parallel:int health_check min_healthy_time:duration healthy_deadline:duration",
)
UPDATE: Final = block(
    "update",
    "stagger:duration max_parallel:int health_check min_healthy_time:duration "
    "healthy_deadline:duration progress_deadline:duration canary:int auto_revert:bool "
    "auto_promote:bool",
)
SCALING: Final = block("scaling", "min:int max:int enabled:bool type policy:free")
TASK_SCALING: Final = block("scaling", "min:int max:int enabled:bool policy:free", label="Type")

# --- services ------------------------------------------------------------------------

CHECK_RESTART: Final = block("check_restart", "limit:int grace:duration ignore_warnings:bool")
CHECK: Final = block(
    "check",
    "name type command args:strings path protocol port=PortLabel expose:bool address_mode "
    "advertise interval:duration timeout:duration initial_status notes tls_server_name "
    "tls_skip_verify:bool header:listmap method grpc_service=GRPCService "
    "grpc_use_tls=GRPCUseTLS:bool task=TaskName success_before_passing:int "
    "failures_before_critical:int failures_before_warning:int body on_update",
    blocks={"check_restart": one(CHECK_RESTART)},
)
IDENTITY: Final = block(
    "identity",
    "name aud=Audience:strings change_mode change_signal env:bool file:bool filepath "
    "service_name ttl=TTL:duration extra_claims:strings",
)
SERVICE: Final = block(
    "service",
    "name tags:strings canary_tags:strings enable_tag_override:bool port=PortLabel "
    "address_mode address meta:map canary_meta:map tagged_addresses:map task=TaskName "
    "on_update provider cluster kind",
    blocks={
        "check": many(CHECK, "Checks"),
        "check_restart": one(CHECK_RESTART),
        "connect": one(CONNECT),
        "identity": one(SERVICE_IDENTITY),
        "weights": one(WEIGHTS),
    },
)

# --- tasks ---------------------------------------------------------------------------

LIFECYCLE: Final = block("lifecycle", "hook sidecar:bool")
LOGS: Final = block(
    "logs", "max_files:int max_file_size=MaxFileSizeMB:int enabled:bool disabled:bool"
)
ARTIFACT: Final = block(
    "artifact",
    "source=GetterSource options=GetterOptions:map headers=GetterHeaders:map "
    "mode=GetterMode insecure=GetterInsecure:bool destination=RelativeDest chown:bool",
)
TEMPLATE: Final = block(
    "template",
    "source=SourcePath destination=DestPath data=EmbeddedTmpl change_mode change_signal "
    "once:bool splay:duration perms uid=Uid:int gid=Gid:int left_delimiter=LeftDelim "
    "right_delimiter=RightDelim env=Envvars:bool vault_grace:duration "
    "error_on_missing_key=ErrMissingKey:bool",
    blocks={"change_script": one(CHANGE_SCRIPT), "wait": one(WAIT)},
)
VOLUME_MOUNT: Final = block(
    "volume_mount", "volume destination read_only:bool propagation_mode selinux_label"
)
ACTION: Final = block("action", "command args:strings", label="Name")
TASK: Final = block(
    "task",
    "driver user config:free env:map meta:map kill_timeout:duration leader:bool "
    "shutdown_delay:duration kill_signal kind",
    label="Name",
    blocks={
        **PLACEMENT,
        "lifecycle": one(LIFECYCLE),
        "service": many(SERVICE, "Services"),
        "resources": one(RESOURCES),
        "restart": one(RESTART, "RestartPolicy"),
        "logs": one(LOGS, "LogConfig"),
        "artifact": many(ARTIFACT, "Artifacts"),
        "vault": one(VAULT),
        "consul": one(CONSUL),
        "template": many(TEMPLATE, "Templates"),
        "dispatch_payload": one(DISPATCH_PAYLOAD),
        "volume_mount": many(VOLUME_MOUNT, "VolumeMounts"),
        "csi_plugin": one(CSI_PLUGIN, "CSIPluginConfig"),
        "scaling": many(TASK_SCALING, "ScalingPolicies"),
        "secret": many(SECRET, "Secrets"),
        "identity": many(IDENTITY, "Identities"),
        "action": many(ACTION, "Actions"),
        "schedule": one(SCHEDULE),
    },
)

# --- groups --------------------------------------------------------------------------

EPHEMERAL_DISK: Final = block("ephemeral_disk", "sticky:bool migrate:bool size=SizeMB:int")
VOLUME: Final = block(
    "volume",
    "type source read_only:bool sticky:bool access_mode attachment_mode per_alloc:bool",
    label="Name",
    blocks={"mount_options": one(MOUNT_OPTIONS)},
)
# `vault` and `secret` here are copied to the tasks that have none.
GROUP: Final = block(
    "group",
    "count:int meta:map shutdown_delay:duration max_run_duration:duration "
    "stop_after_client_disconnect:duration max_client_disconnect:duration "
    "prevent_reschedule_on_lost:bool",
    label="Name",
    blocks={
        **PLACEMENT,
        "task": many(TASK, "Tasks"),
        "spread": many(SPREAD, "Spreads"),
        "volume": by_label(VOLUME, "Volumes"),
        "restart": one(RESTART, "RestartPolicy"),
        "disconnect": one(DISCONNECT),
        "reschedule": one(RESCHEDULE, "ReschedulePolicy"),
        "ephemeral_disk": one(EPHEMERAL_DISK),
        "update": one(UPDATE),
        "migrate": one(MIGRATE),
        "network": many(NETWORK, "Networks"),
        "service": many(SERVICE, "Services"),
        "scaling": one(SCALING),
        "consul": one(CONSUL),
        "vault": one(VAULT),
        "secret": many(SECRET, "Secrets"),
    },
)

# --- the job -------------------------------------------------------------------------

PERIODIC: Final = block(
    "periodic",
    "enabled:bool cron=Spec crons=Specs:strings prohibit_overlap:bool time_zone",
)
PARAMETERIZED: Final = block("parameterized", "payload meta_required:strings meta_optional:strings")

# Serai's own (FEDERATION: "In the job file").
SPILLOVER: Final = block("spillover", "regions:strings after:duration")
FEDERATION_WEIGHTS: Final = block("weights", "headroom:int cost:int latency:int")
FEDERATION: Final = block(
    "federation",
    "partition",
    blocks={
        "spillover": one(SPILLOVER),
        "spread": many(SPREAD, "Spread"),
        "affinity": many(AFFINITY, "Affinities"),
        "weights": one(FEDERATION_WEIGHTS),
    },
)

JOB: Final = block(
    "job",
    "region namespace id name type priority:int all_at_once:bool datacenters:strings "
    "node_pool meta:map consul_token vault_token",
    label="ID",
    blocks={
        **PLACEMENT,
        "group": many(GROUP, "TaskGroups"),
        "task": many(TASK, "Tasks"),
        "update": one(UPDATE),
        "multiregion": one(MULTIREGION),
        "spread": many(SPREAD, "Spreads"),
        "periodic": one(PERIODIC),
        "parameterized": one(PARAMETERIZED, "ParameterizedJob"),
        "reschedule": one(RESCHEDULE),
        "migrate": one(MIGRATE),
        "ui": one(UI, "UI"),
        "federation": one(FEDERATION),
        "vault": one(VAULT),
        "secret": many(SECRET, "Secrets"),
    },
)

FILE: Final[BlockSchema] = block(
    "file",
    blocks={
        "job": many(JOB, "Job"),
        "variable": many(
            block("variable", label="Name", blocks={"validation": many(block("validation"), "")}),
            "Variable",
        ),
        "variables": many(block("variables"), "Variables"),
        "locals": many(block("locals"), "Locals"),
    },
)
