"""Timings and bounds of a replica. The defaults suit one datacenter on a LAN."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Settings:
    """All times in microseconds, all sizes in bytes.

    A leader is missed after a wait drawn from [election_min_us, election_max_us]. A
    pre-vote binds nobody, so an unanswered one may be repeated much sooner.
    """

    heartbeat_us: int = 100_000
    election_min_us: int = 500_000
    election_max_us: int = 1_000_000
    pre_vote_retry_us: int = 120_000  # at least; at most twice that
    campaign_retry_us: int = 250_000  # at least; at most twice that
    is_pre_vote: bool = True
    is_check_quorum: bool = True
    clock_drift_ppm: int | None = None  # bound of clock rates apart; None = no lease reads

    append_bytes: int = 1024 * 1024  # entries of one Append, at least one entry
    inflight_bytes: int = 8 * 1024 * 1024  # sent to one follower and not yet answered
    inflight_appends: int = 16
    inflight_stale_us: int = 250_000  # unanswered for so long: ask what arrived
    uncommitted_bytes: int = 64 * 1024 * 1024  # of proposals; then the window is full
    entry_bytes: int = 32 * 1024 * 1024  # the longest proposal

    chunk_bytes: int = 512 * 1024
    chunk_stale_us: int = 2_000_000  # an unanswered chunk is sent again
    trailing_entries: int = 4096  # kept behind a snapshot, for followers a little behind
    trailing_bytes: int = 64 * 1024 * 1024  # of these entries, at most
    promotion_lag: int = 1000  # a learner may be so many entries behind when promoted
    disk_retry_us: int = 1_000_000  # a full disk is tried again

    def __post_init__(self) -> None:
        if not 0 < self.heartbeat_us * 2 <= self.election_min_us < self.election_max_us:
            raise ValueError(
                "raft timings: want 0 < 2 * heartbeat <= election_min < election_max, got "
                f"heartbeat {self.heartbeat_us} us, election {self.election_min_us} to "
                f"{self.election_max_us} us"
            )
        if self.clock_drift_ppm is not None and not 0 <= self.clock_drift_ppm < 500_000:
            raise ValueError(f"raft clock_drift_ppm {self.clock_drift_ppm}: want 0 to 499999")

    @property
    def lease_us(self) -> int:
        """How long after a heartbeat was sent its quorum surely elects nobody else.

        Section 6.4.1: the followers' shortest wait, shrunk by how far the clocks' rates
        may be apart. 0 where no bound is configured.
        """
        if self.clock_drift_ppm is None:
            return 0
        return self.election_min_us * (1_000_000 - 2 * self.clock_drift_ppm) // 1_000_000
