"""What a server machine is told when it is built, and what it is handed back from disk.

`ServerConfig` is settings: it does not change while the machine lives. `ServerBoot` is
what the host found in the data folder. Times are microseconds. Every limit of DESIGN.md
("Gossip: two pools") is a field, so that `-dev`, tests and scenarios may shorten it.
"""

from typing import Any

import msgspec

from core.federation.digest import PRICE_UNIT
from core.model.host import Address
from core.state.entry import SCHEMA

SECOND_US = 1_000_000


class LivenessConfig(msgspec.Struct, frozen=True, kw_only=True):
    """When a node counts as gone (DESIGN.md, "Gossip: two pools")."""

    ping_timeout_us: int = 5 * SECOND_US  # of the call that must fail as well
    renew_us: int = 180 * SECOND_US  # without any call for this long: disconnected
    grace_us: int = 60 * SECOND_US  # a new leader judges nobody before
    check_interval_us: int = SECOND_US


class LimitsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds that keep one caller from harming all others."""

    hops: int = 3
    blocking_default_us: int = 300 * SECOND_US
    blocking_max_us: int = 300 * SECOND_US
    blocking_queries: int = 20_000  # parked at once; more are answered 429
    forward_timeout_us: int = 10 * SECOND_US  # beyond what a blocking query waits
    leader_wait_us: int = 5 * SECOND_US  # a call waits this long for a leader
    update_gather_us: int = 20_000  # client reports of this window share one entry
    snapshot_entries: int = 8_192  # applied since the last snapshot
    snapshot_bytes: int = 64 << 20
    plan_batch: int = 64  # evaluations planned together: applied in one step of some 4 ms
    plans_in_flight: int = 1
    search_results: int = 20


class CollectionConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Ages after which finished records are forgotten."""

    interval_us: int = 300 * SECOND_US
    job_us: int = 4 * 3600 * SECOND_US
    evaluation_us: int = 3600 * SECOND_US
    deployment_us: int = 3600 * SECOND_US
    node_us: int = 24 * 3600 * SECOND_US


class AutopilotConfig(msgspec.Struct, frozen=True, kw_only=True):
    """How the leader keeps the quorum (core.server.autopilot); kept in the state once set."""

    cleanup_dead_servers: bool = True
    last_contact_threshold_us: int = SECOND_US  # not heard for longer: not healthy
    max_trailing_logs: int = 250  # entries behind: not healthy
    min_quorum: int = 3  # clean-up leaves at least as many voters
    server_stabilization_time_us: int = 10 * SECOND_US  # healthy (or dead) so long first


class ServerConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one server.

    `server_id` is drawn once by the host and kept in the data folder: it is the replica's
    id in Raft and the agent's in Agent.Self. `retry_join` are gossip addresses of the WAN
    pool: servers of any datacenter, the own one's included.
    """

    name: str
    server_id: str  # UUID-shaped
    region: str = "global"
    datacenter: str = "dc1"
    rpc_addr: Address = "127.0.0.1:4647"  # advertised
    gossip_addr: Address = "127.0.0.1:4648"  # advertised; the LAN pool's
    wan_gossip_addr: Address = ""  # "" = gossip_addr (one socket for both pools)
    http_addr: Address = "127.0.0.1:4646"  # advertised
    bootstrap_expect: int = 1
    retry_join: tuple[Address, ...] = ()
    retry_interval_us: int = 30 * SECOND_US
    serves: tuple[str, ...] = ()  # labels of small sites whose clients it takes in
    acl_enabled: bool = False
    is_dev: bool = False
    is_client: bool = False  # the agent is a client too (Agent.Health says so)
    tls_rpc: bool = False
    version: str = "0.1.0"
    raft: Any = None  # raft.core settings; None = their defaults
    raft_engine: str = "core"  # of raft.engine
    lan_gossip: Any = None  # gossip settings; None = their defaults
    wan_gossip: Any = None
    digest_interval_us: int = 5 * SECOND_US
    cost: int = PRICE_UNIT  # of a unit of work in this datacenter, against PRICE_UNIT
    liveness: LivenessConfig = LivenessConfig()
    limits: LimitsConfig = LimitsConfig()
    collection: CollectionConfig = CollectionConfig()
    autopilot: AutopilotConfig = AutopilotConfig()  # until an operator sets another
    is_non_voter: bool = False  # it receives the log and never votes
    schema_max: int = SCHEMA  # the newest that this server understands
    shown: dict[str, Any] = {}  # extra keys of Agent.Self's `config`, as the host knows them

    @property
    def wan_addr(self) -> Address:
        return self.wan_gossip_addr or self.gossip_addr


class ServerBoot(msgspec.Struct, frozen=True, kw_only=True):
    """What the data folder holds; all empty on a first start."""

    raft: Any = None  # raft.core.Boot; None = empty log
    # The image that `raft`'s snapshot meta names: bytes or a view of them; None = none.
    snapshot: Any = None
    lan_members: tuple[tuple[str, Address], ...] = ()  # of SaveMembers
    wan_members: tuple[tuple[str, Address], ...] = ()
