"""Runs spread over many machines: a scheduler of Dask hands them to its workers.

    with DaskWorkers("tcp://10.0.0.7:8786") as pool:
        for found in pool.map(play, scenarios): ...

Dask is the extra `serai[dask]`; every machine needs it, and the same serai as here: a worker
whose code differs is refused, for its runs would not repeat. What a run reads from files
travels with it (`sim.plans.Scenario.files`).
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any, Final

from sim.spread import Asked, Found, WorkerLost

CONNECT_S: Final = 10
PACKAGES: Final = ("core", "gossip", "raft", "sim")
SHOWN: Final = 3  # workers that are named when they are not of use


class NoScheduler(Exception):
    """Dask is not installed, nobody answers there, or the workers are not of use."""


class DaskWorkers:
    """The workers of a scheduler; use it as a context.

    Args:
        address: As Dask writes it: tcp://HOST:PORT, tls://HOST:PORT or HOST:PORT. What TLS
            needs is read from Dask's own configuration.

    Raises:
        NoScheduler: It can't be used; the text says why, and what helps.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._client: Any = None

    def __enter__(self) -> "DaskWorkers":
        try:
            import distributed
        except ImportError:
            raise NoScheduler(
                "runs go to other machines by Dask, which is not installed: pip install"
                " 'serai[dask]'"
            ) from None
        connect: Any = distributed.Client
        try:
            self._client = connect(self._address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as error:
            reason = str(error) or type(error).__name__
            raise NoScheduler(
                f"no scheduler of Dask answers at {self._address}: {reason}"
            ) from None
        try:
            self._refuse_other_code(self._client)
        except BaseException:
            self._client.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._client is not None:
            self._client.close()

    def _refuse_other_code(self, client: Any) -> None:
        found: dict[str, Any] = client.run(code_digest, on_error="return")
        if not found:
            raise NoScheduler(
                f"the scheduler at {self._address} has no workers yet: start some with:"
                f" dask worker {self._address}"
            )
        ours = code_digest()
        wrong = {name: one for name, one in found.items() if one != ours}
        if wrong:
            shown = ", ".join(list(wrong)[:SHOWN])
            more = f" and {len(wrong) - SHOWN} more" if len(wrong) > SHOWN else ""
            missing = any(isinstance(one, Exception) for one in wrong.values())
            has = "have no serai that can be imported" if missing else "have another serai"
            raise NoScheduler(f"workers {has}: {shown}{more}. Install there what is installed here")

    def map(self, function: Callable[[Asked], Found], items: Iterable[Asked]) -> Iterator[Found]:
        """Yield `function(item)` of each item, in order, whichever is done first.

        Raises:
            WorkerLost: Workers died of one item again and again, or the scheduler is gone.
        """
        from distributed import KilledWorker

        assert self._client is not None, "use it as a context"
        futures = self._client.map(function, list(items), pure=False)
        try:
            for future in futures:
                yield future.result()
        except KilledWorker:
            raise WorkerLost(
                "workers died of one run again and again, perhaps for want of memory"
            ) from None
        except (CancelledError, OSError) as error:
            raise WorkerLost(f"the scheduler at {self._address} is gone: {error}") from None
        finally:
            self._client.cancel(futures)


def code_digest() -> str:
    """Return a digest over the sources that a run is made of, where this is called."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root).as_posix()}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
