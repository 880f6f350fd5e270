"""The retry budget: repeated calls never become most of the traffic.

A destination that answers late or not at all would else be struck by everybody's retries at
once. Per destination, retries may be a tenth of the first sends, or two a second, whichever
is more. Both are token buckets; the steady one holds at most five seconds' worth.
"""

from dataclasses import dataclass
from typing import Final

SHARE: Final = 0.1
LEAST_PER_S: Final = 2.0
_BURST_S: Final = 5.0
_EARNED_MAX: Final = 50.0
_FORGOTTEN_US: Final = 600_000_000


@dataclass(slots=True)
class _Account:
    earned: float = 0.0  # by first sends
    steady: float = LEAST_PER_S  # by time
    at_us: int = 0


class RetryBudget:
    """One per server; destinations are whatever names the caller gives them."""

    def __init__(self, *, share: float = SHARE, least_per_s: float = LEAST_PER_S) -> None:
        self._share = share
        self._least_per_s = least_per_s
        self._accounts: dict[str, _Account] = {}

    def first(self, destination: str, now_us: int) -> None:
        """Note a first send: it earns a share of a retry."""
        account = self._account(destination, now_us)
        account.earned = min(_EARNED_MAX, account.earned + self._share)

    def may_retry(self, destination: str, now_us: int) -> bool:
        """Take a token for one retry; False when there is none: ask again later."""
        account = self._account(destination, now_us)
        if account.earned < 1 and account.steady < 1:
            return False
        # One retry is taken from both: together they allow the larger, not the sum.
        account.earned = max(0.0, account.earned - 1)
        account.steady = max(0.0, account.steady - 1)
        return True

    def _account(self, destination: str, now_us: int) -> _Account:
        account = self._accounts.get(destination)
        if account is None:
            self._forget(now_us)
            account = self._accounts[destination] = _Account(steady=self._least_per_s, at_us=now_us)
        waited_s = max(0, now_us - account.at_us) / 1e6
        account.steady = min(
            self._least_per_s * _BURST_S, account.steady + waited_s * self._least_per_s
        )
        account.at_us = now_us
        return account

    def _forget(self, now_us: int) -> None:
        for name, account in [*self._accounts.items()]:
            if now_us - account.at_us > _FORGOTTEN_US:
                del self._accounts[name]
