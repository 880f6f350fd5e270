"""Timing and limits of a pool: the LAN and the WAN profile.

All members of one pool should run with the same settings.
"""

from dataclasses import dataclass
from typing import Final

MS: Final = 1_000
S: Final = 1_000_000
HOUR: Final = 3_600 * S


@dataclass(frozen=True, slots=True)
class Settings:
    """One pool's settings; the defaults are the LAN profile.

    Raises:
        ValueError: a value that cannot work; the text names the field.
    """

    probe_interval_us: int = 1 * S
    probe_timeout_us: int = 500 * MS
    indirect_probes: int = 3
    stream_fallback: bool = True

    # Lifeguard's parts, each on unless somebody measures what it is worth
    health_max: int = 8  # scores are 0 .. health_max - 1; 1 turns local health off
    buddy: bool = True
    dynamic_suspicion: bool = True

    suspicion_multiplier: int = 4
    suspicion_max_multiplier: int = 6

    gossip_interval_us: int = 200 * MS
    gossip_fanout: int = 3
    retransmit_multiplier: int = 4
    gossip_to_dead_us: int = 30 * S

    exchange_interval_us: int = 30 * S
    exchange_timeout_us: int = 10 * S
    full_table_max_members: int = 64  # above it, summaries are exchanged first

    reconnect_interval_us: int = 30 * S
    isolated_interval_us: int = 5 * S  # as above, while nobody else is alive here
    tombstone_us: int = 24 * HOUR

    # The budget is four packets a target every 5 s; a packet every 1.25 s costs the
    # same and makes a digest a quarter as old.
    digest_interval_us: int = 1_250 * MS
    digest_packets: int = 1
    digest_keep_us: int = 1 * HOUR
    digest_origins_max: int = 4_096

    packet_bytes_max: int = 1_400
    packet_parts_max: int = 255
    members_max: int = 65_536
    relays_max: int = 1_024
    # A member refutes once per accusation. So many steps between two sights of it
    # cannot be honest, and a key that large would cost every honest refutation.
    incarnation_leap_max: int = 1 << 20

    def __post_init__(self) -> None:
        for name in (
            "probe_interval_us",
            "probe_timeout_us",
            "gossip_interval_us",
            "exchange_interval_us",
            "reconnect_interval_us",
            "isolated_interval_us",
            "digest_interval_us",
            "gossip_fanout",
            "retransmit_multiplier",
            "suspicion_multiplier",
            "suspicion_max_multiplier",
            "health_max",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, is {getattr(self, name)}")
        if self.probe_timeout_us >= self.probe_interval_us:
            raise ValueError(
                f"probe_timeout_us ({self.probe_timeout_us}) must be below probe_interval_us "
                f"({self.probe_interval_us}): indirect probes need the rest of the interval"
            )
        if self.packet_bytes_max < 1_200:
            raise ValueError(
                f"packet_bytes_max must be at least 1200, is {self.packet_bytes_max}: "
                "a member with 512 B of metadata has to fit"
            )


LAN: Final = Settings()

# Field defaults with a suspicion of 6 intervals leave a dead server of 50 suspect for
# 51 s at the least; 3 make it 25 s, and two accusers more are enough.
WAN: Final = Settings(
    probe_interval_us=5 * S,
    probe_timeout_us=3 * S,
    suspicion_multiplier=3,
    suspicion_max_multiplier=4,
    gossip_interval_us=500 * MS,
    gossip_fanout=4,
    gossip_to_dead_us=60 * S,
    exchange_interval_us=60 * S,
)
