"""What a leader asks of others and of its own log, one thing at a time for each key."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from core.federation.host import CALL_TIMEOUT_US, Done, FederationHost
from core.state.commands import Command

K = TypeVar("K")


class Asking(Generic[K]):
    """Questions and proposals under way, and what went wrong with the last question of each key.

    What comes back when leadership was lost meanwhile is dropped: `clear` at each change.
    """

    def __init__(self, host: FederationHost, look: Callable[[], None]) -> None:
        """Args: look: Takes the next step; called once an answer was taken."""
        self._host, self._look = host, look
        self._busy: dict[K, None] = {}
        self.errors: dict[K, str] = {}

    def clear(self) -> None:
        self._busy.clear()
        self.errors.clear()

    def begin(self, key: K) -> bool:
        """Make the key busy; False when it is."""
        if key in self._busy:
            return False
        self._busy[key] = None
        return True

    def end(self, key: K) -> bool:
        """Make the key free; False when it was, for leadership was lost meanwhile."""
        was_busy = key in self._busy
        self._busy.pop(key, None)
        return was_busy

    def ask(self, key: K, to: str, method: str, body: Any, done: Callable[[Any], None]) -> None:
        """Call a datacenter, unless the key is busy; `done` gets its answer."""
        if self.begin(key):
            self._host.ask(to, method, body, CALL_TIMEOUT_US, self.answered(key, done))

    def answered(self, key: K, done: Callable[[Any], None]) -> Done:
        """Return what takes the answer to a question that was begun.

        `done` may find the answer wanting and say so in `errors`.
        """

        def take(value: Any, error: str) -> None:
            if not self._host.is_serving or not self.end(key):
                return  # asked in an earlier leadership
            self.errors.pop(key, None)
            if error:
                self.errors[key] = error
                return
            done(value)
            if key not in self.errors:
                self._look()

        return take

    def propose(self, key: K, commands: list[Command]) -> None:
        """Commit these, unless the key is busy, and take the next step."""
        if not self.begin(key):
            return

        def done(_value: Any, _error: str) -> None:
            self.end(key)
            if self._host.is_serving:
                self._look()

        self._host.propose(commands, done)
