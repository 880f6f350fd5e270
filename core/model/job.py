"""The job, as Nomad's API carries it: the product of a job file, the input of everything else.

Field for field `api.Job` of Nomad. Durations are nanoseconds (`_ns`), sizes MiB (`_mb`),
CPU in MHz. Blocks that the product only keeps (Connect, CSI, secrets) are plain data.
"""

from typing import Any

import msgspec

from core.model.record import Record


class Constraint(Record):
    l_target: str = msgspec.field(name="LTarget", default="")
    r_target: str = msgspec.field(name="RTarget", default="")
    operand: str = ""


class Affinity(Record):
    l_target: str = msgspec.field(name="LTarget", default="")
    r_target: str = msgspec.field(name="RTarget", default="")
    operand: str = ""
    weight: int | None = None


class SpreadTarget(Record):
    value: str = ""
    percent: int = 0


class Spread(Record):
    attribute: str = ""
    weight: int | None = None
    spread_target: list[SpreadTarget] | None = None


class Port(Record):
    label: str = ""
    value: int = 0
    to: int = 0
    host_network: str = ""
    ignore_collision: bool = False


class DNSConfig(Record):
    servers: list[str] | None = None
    searches: list[str] | None = None
    options: list[str] | None = None


class NetworkResource(Record):
    mode: str = ""
    device: str = ""
    cidr: str = ""
    ip: str = ""
    hostname: str = ""
    dns: DNSConfig | None = None
    reserved_ports: list[Port] | None = None
    dynamic_ports: list[Port] | None = None
    mbits: int | None = msgspec.field(name="MBits", default=None)
    cni: dict[str, Any] | None = None


class RequestedDevice(Record):
    name: str = ""
    count: int | None = None
    constraints: list[Constraint] | None = None
    affinities: list[Affinity] | None = None


class Resources(Record):
    cpu: int | None = None
    cores: int | None = None
    memory_mb: int | None = None
    memory_max_mb: int | None = None
    disk_mb: int | None = None
    networks: list[NetworkResource] | None = None
    devices: list[RequestedDevice] | None = None
    numa: dict[str, Any] | None = None
    iops: int | None = msgspec.field(name="IOPS", default=None)
    secrets_mb: int | None = None


class RestartPolicy(Record):
    interval_ns: int | None = None
    attempts: int | None = None
    delay_ns: int | None = None
    mode: str | None = None
    render_templates: bool | None = None


class ReschedulePolicy(Record):
    attempts: int | None = None
    interval_ns: int | None = None
    delay_ns: int | None = None
    delay_function: str | None = None
    max_delay_ns: int | None = None
    unlimited: bool | None = None


class DisconnectStrategy(Record):
    lost_after_ns: int | None = None
    stop_on_client_after_ns: int | None = None
    replace: bool | None = None
    reconcile: str | None = None


class MigrateStrategy(Record):
    max_parallel: int | None = None
    health_check: str | None = None
    min_healthy_time_ns: int | None = None
    healthy_deadline_ns: int | None = None


class UpdateStrategy(Record):
    stagger_ns: int | None = None
    max_parallel: int | None = None
    health_check: str | None = None
    min_healthy_time_ns: int | None = None
    healthy_deadline_ns: int | None = None
    progress_deadline_ns: int | None = None
    canary: int | None = None
    auto_revert: bool | None = None
    auto_promote: bool | None = None


class EphemeralDisk(Record):
    sticky: bool | None = None
    migrate: bool | None = None
    size_mb: int | None = None


class LogConfig(Record):
    max_files: int | None = None
    max_file_size_mb: int | None = None
    enabled: bool | None = None
    disabled: bool | None = None


class TaskLifecycle(Record):
    hook: str = ""
    sidecar: bool = False


class CheckRestart(Record):
    limit: int = 0
    grace_ns: int | None = None
    ignore_warnings: bool = False


class ServiceCheck(Record):
    id: str = msgspec.field(name="Id", default="")
    name: str = ""
    type: str = ""
    command: str = ""
    args: list[str] | None = None
    path: str = ""
    protocol: str = ""
    port_label: str = ""
    expose: bool = False
    address_mode: str = ""
    advertise: str = ""
    interval_ns: int = 0
    timeout_ns: int = 0
    initial_status: str = ""
    notes: str = ""
    tls_server_name: str = ""
    tls_skip_verify: bool = False
    header: dict[str, list[str]] | None = None
    method: str = ""
    check_restart: CheckRestart | None = None
    grpc_service: str = msgspec.field(name="GRPCService", default="")
    grpc_use_tls: bool = msgspec.field(name="GRPCUseTLS", default=False)
    task_name: str = ""
    success_before_passing: int = 0
    failures_before_critical: int = 0
    failures_before_warning: int = 0
    body: str = ""
    on_update: str = ""


class Service(Record):
    id: str = msgspec.field(name="Id", default="")
    name: str = ""
    tags: list[str] | None = None
    canary_tags: list[str] | None = None
    enable_tag_override: bool = False
    port_label: str = ""
    address_mode: str = ""
    address: str = ""
    checks: list[ServiceCheck] | None = None
    check_restart: CheckRestart | None = None
    connect: dict[str, Any] | None = None
    meta: dict[str, str] | None = None
    canary_meta: dict[str, str] | None = None
    tagged_addresses: dict[str, str] | None = None
    task_name: str = ""
    on_update: str = ""
    identity: dict[str, Any] | None = None
    weights: dict[str, int] | None = None
    provider: str = ""
    cluster: str = ""
    kind: str = ""


class VolumeRequest(Record):
    name: str = ""
    type: str = ""
    source: str = ""
    read_only: bool = False
    sticky: bool = False
    access_mode: str = ""
    attachment_mode: str = ""
    mount_options: dict[str, Any] | None = None
    per_alloc: bool = False


class VolumeMount(Record):
    volume: str | None = None
    destination: str | None = None
    read_only: bool | None = None
    propagation_mode: str | None = None
    selinux_label: str | None = None


class TaskArtifact(Record):
    getter_source: str | None = None
    getter_options: dict[str, str] | None = None
    getter_headers: dict[str, str] | None = None
    getter_mode: str | None = None
    getter_insecure: bool | None = None
    relative_dest: str | None = None
    chown: bool = False


class Template(Record):
    source_path: str | None = None
    dest_path: str | None = None
    embedded_tmpl: str | None = None
    change_mode: str | None = None
    change_script: dict[str, Any] | None = None
    change_signal: str | None = None
    once: bool | None = None
    splay_ns: int | None = None
    perms: str | None = None
    uid: int | None = msgspec.field(name="Uid", default=None)
    gid: int | None = msgspec.field(name="Gid", default=None)
    left_delim: str | None = None
    right_delim: str | None = None
    envvars: bool | None = None
    vault_grace_ns: int | None = None
    wait: dict[str, Any] | None = None
    error_on_missing_key: bool | None = msgspec.field(name="ErrMissingKey", default=None)


class WorkloadIdentity(Record):
    name: str = ""
    audience: list[str] | None = None
    change_mode: str = ""
    change_signal: str = ""
    env: bool = False
    file: bool = False
    filepath: str = ""
    service_name: str = ""
    ttl_ns: int = 0
    extra_claims: list[str] | None = None


class Action(Record):
    name: str = ""
    command: str = ""
    args: list[str] | None = None


class ScalingPolicy(Record):
    id: str = ""
    namespace: str = ""
    target: dict[str, str] | None = None
    min: int | None = None
    max: int | None = None
    policy: dict[str, Any] | None = None
    enabled: bool | None = None
    type: str = ""
    create_index: int = 0
    modify_index: int = 0


class Task(Record):
    name: str = ""
    driver: str = ""
    user: str = ""
    lifecycle: TaskLifecycle | None = None
    config: dict[str, Any] | None = None
    constraints: list[Constraint] | None = None
    affinities: list[Affinity] | None = None
    env: dict[str, str] | None = None
    services: list[Service] | None = None
    resources: Resources | None = None
    restart_policy: RestartPolicy | None = None
    meta: dict[str, str] | None = None
    kill_timeout_ns: int | None = None
    log_config: LogConfig | None = None
    artifacts: list[TaskArtifact] | None = None
    vault: dict[str, Any] | None = None
    consul: dict[str, Any] | None = None
    templates: list[Template] | None = None
    dispatch_payload: dict[str, Any] | None = None
    volume_mounts: list[VolumeMount] | None = None
    csi_plugin_config: dict[str, Any] | None = None
    leader: bool = False
    shutdown_delay_ns: int = 0
    kill_signal: str = ""
    kind: str = ""
    scaling_policies: list[ScalingPolicy] | None = None
    secrets: list[dict[str, Any]] | None = None
    identity: WorkloadIdentity | None = None
    identities: list[WorkloadIdentity] | None = None
    actions: list[Action] | None = None
    schedule: dict[str, Any] | None = None


class TaskGroup(Record):
    name: str = ""
    count: int | None = None
    constraints: list[Constraint] | None = None
    affinities: list[Affinity] | None = None
    tasks: list[Task] | None = None
    spreads: list[Spread] | None = None
    volumes: dict[str, VolumeRequest] | None = None
    restart_policy: RestartPolicy | None = None
    disconnect: DisconnectStrategy | None = None
    reschedule_policy: ReschedulePolicy | None = None
    ephemeral_disk: EphemeralDisk | None = None
    update: UpdateStrategy | None = None
    migrate: MigrateStrategy | None = None
    networks: list[NetworkResource] | None = None
    meta: dict[str, str] | None = None
    services: list[Service] | None = None
    shutdown_delay_ns: int | None = None
    max_run_duration_ns: int | None = None
    stop_after_client_disconnect_ns: int | None = None
    max_client_disconnect_ns: int | None = None
    scaling: ScalingPolicy | None = None
    consul: dict[str, Any] | None = None
    prevent_reschedule_on_lost: bool | None = None


class PeriodicConfig(Record):
    enabled: bool | None = None
    spec: str | None = None
    specs: list[str] | None = None
    spec_type: str | None = None
    prohibit_overlap: bool | None = None
    time_zone: str | None = None


class ParameterizedJobConfig(Record):
    payload: str = ""
    meta_required: list[str] | None = None
    meta_optional: list[str] | None = None


class SpilloverPolicy(Record):
    """Where a job may go when its own region has no room, in order of preference."""

    regions: list[str] | None = None
    after_ns: int | None = None


class FederationWeights(Record):
    """How much each term of a datacenter's score counts, 0 to 100; None = the default."""

    headroom: int | None = None
    cost: int | None = None
    latency: int | None = None


class FederationPolicy(Record):
    """Serai's own block in a job: `federation { ... }` (FEDERATION: "In the job file")."""

    partition: str = "hold"
    spillover: SpilloverPolicy | None = None
    spread: list[Spread] | None = None
    affinities: list[Affinity] | None = None
    weights: FederationWeights | None = None


class Job(Record):
    """One job. `uid`, `home` and `federation` are Serai's; all else is Nomad's `api.Job`."""

    region: str | None = None
    namespace: str | None = None
    id: str | None = None
    name: str | None = None
    type: str | None = None
    priority: int | None = None
    all_at_once: bool | None = None
    datacenters: list[str] | None = None
    node_pool: str | None = None
    constraints: list[Constraint] | None = None
    affinities: list[Affinity] | None = None
    task_groups: list[TaskGroup] | None = None
    update: UpdateStrategy | None = None
    multiregion: dict[str, Any] | None = None
    spreads: list[Spread] | None = None
    periodic: PeriodicConfig | None = None
    parameterized_job: ParameterizedJobConfig | None = None
    reschedule: ReschedulePolicy | None = None
    migrate: MigrateStrategy | None = None
    meta: dict[str, str] | None = None
    ui: dict[str, Any] | None = None
    stop: bool | None = None
    parent_id: str | None = None
    dispatched: bool = False
    dispatch_idempotency_token: str | None = None
    payload: bytes | None = None
    consul_namespace: str | None = None
    vault_namespace: str | None = None
    nomad_token_id: str | None = None
    status: str | None = None
    status_description: str | None = None
    stable: bool | None = None
    version: int | None = None
    submit_time_ns: int | None = None
    create_index: int | None = None
    modify_index: int | None = None
    job_modify_index: int | None = None
    version_tag: dict[str, Any] | None = None
    federation: FederationPolicy | None = None
    uid: str | None = msgspec.field(name="SeraiUID", default=None)

    @property
    def is_template(self) -> bool:
        """Whether it runs nothing itself: periodic, or parameterized and not yet dispatched."""
        return self.periodic is not None or (
            self.parameterized_job is not None and not self.dispatched
        )
