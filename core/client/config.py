"""What a client machine is told when it is built, and what it is handed back from disk.

    machine = ClientMachine(config=config, boot=boot, rng=random.Random(seed), now=now)

`ClientConfig` is settings plus what the fingerprint found: it does not change while the
machine lives. `ClientBoot` is what the previous life left: the values of all `SaveState`
effects by key, and the LAN members of `SaveMembers`. Times are microseconds.
"""

from typing import Any

import msgspec

from core.model.host import Address
from core.model.node import DriverInfo, HostVolumeInfo, NodeReservedResources, NodeResources

SECOND_US = 1_000_000


class Fingerprint(msgspec.Struct, frozen=True, kw_only=True):
    """What this machine is and has (core.agent.fingerprint, or the simulator's model)."""

    attributes: dict[str, str] = {}
    resources: NodeResources = msgspec.field(default_factory=NodeResources)
    drivers: dict[str, DriverInfo] = {}


class ClientTimings(msgspec.Struct, frozen=True, kw_only=True):
    """Every wait of a client, so that `-dev`, tests and scenarios may shorten it."""

    retry_min_us: int = 100_000  # first pause after a failed call to the servers
    retry_max_us: int = 15 * SECOND_US  # the pause doubles up to this
    call_timeout_us: int = 10 * SECOND_US
    allocations_wait_us: int = 60 * SECOND_US  # the blocking query that renews the node
    update_gather_us: int = 200_000  # reports of this window travel together
    farewell_us: int = SECOND_US  # at shutdown: wait this long for the last report


class ClientConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one client.

    `alloc_dir` is only named in the tasks' environment: the machine touches no file. In an
    agent that is a server too, the server is the LAN pool's member: `gossip_addr` is "".
    """

    name: str
    region: str = "global"
    datacenter: str = "dc1"  # the label; a small site's differs from its servers'
    node_class: str = ""
    node_pool: str = "default"
    meta: dict[str, str] = {}
    servers: tuple[Address, ...] = ()  # RPC addresses to begin with
    rpc_addr: Address = "127.0.0.1:4647"  # advertised
    http_addr: Address = "127.0.0.1:4646"  # advertised
    gossip_addr: Address = ""  # advertised; "" = no member of the LAN pool
    gossip: Any = None  # gossip.config.GossipConfig; None = its LAN defaults
    fingerprint: Fingerprint = Fingerprint()
    reserved: NodeReservedResources = msgspec.field(default_factory=NodeReservedResources)
    host_volumes: dict[str, HostVolumeInfo] = {}  # by the name that jobs ask for
    device_variables: dict[str, str] = {}  # vendor/type/name -> where a task finds its ids
    alloc_dir: str = "/alloc"
    env_allow: tuple[str, ...] = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "USER")
    max_kill_timeout_us: int = 30 * SECOND_US
    max_terminal_allocs: int = 50  # folders of finished allocations that are kept
    tls_enabled: bool = False
    is_dev: bool = False
    timings: ClientTimings = ClientTimings()


class ClientBoot(msgspec.Struct, frozen=True, kw_only=True):
    """What the data folder holds; empty on a first start."""

    saved: dict[str, bytes] = {}
    lan_members: tuple[tuple[str, Address], ...] = ()
