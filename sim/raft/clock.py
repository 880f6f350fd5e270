"""A server's clock: its rate may be wrong, and change, but it never steps."""

from typing import Final

MILLION: Final = 1_000_000


class Clock:
    """Local time = local time at the base + rate * (true time since the base)."""

    def __init__(self) -> None:
        self.rate = MILLION  # how much it advances in a million microseconds
        self._base_us = self._base_local_us = 0

    def at(self, true_us: int) -> int:
        """Return what it shows."""
        return self._base_local_us + (true_us - self._base_us) * self.rate // MILLION

    def set_rate(self, ppm: int, true_us: int) -> None:
        """From now on it is `ppm` millionths fast."""
        self._base_local_us, self._base_us = self.at(true_us), true_us
        self.rate = MILLION + ppm

    def wait_us(self, local_us: int) -> int:
        """Return how long it truly takes until it has advanced by `local_us`."""
        return -(-max(0, local_us) * MILLION // self.rate)
