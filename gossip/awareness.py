"""Local health: how much this member trusts its own timing (Lifeguard, "LHA-Probe")."""


class Awareness:
    """A score from 0 (healthy) up; it stretches this member's own probes, nobody else's.

    A missed answer says as much about the one who waits as about the one who is asked.
    So a failed probe, a missing nack and a refuted accusation raise the score, and an
    answered probe lowers it.

    Invariant: 0 <= score < limit.
    """

    __slots__ = ("_limit", "score")

    def __init__(self, limit: int) -> None:
        """`limit` is one more than the largest score; 1 keeps it at 0 for ever."""
        self._limit = limit
        self.score = 0

    def add(self, delta: int) -> None:
        self.score = min(max(self.score + delta, 0), self._limit - 1)

    def stretch_us(self, duration_us: int) -> int:
        """Return `duration_us` as long as the health demands."""
        return duration_us * (self.score + 1)
