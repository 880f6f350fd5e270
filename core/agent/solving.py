"""Placement problems, solved in a worker thread; large clusters get the compiled kernel."""

import sys
from typing import Any, Final

import trio

from core.scheduler import kernel

REMEDY: Final = "install serai[kernel]: large clusters are planned several times faster"
CACHE_REMEDY: Final = "see that NUMBA_CACHE_DIR or the home folder can be written"
# Compiling holds the interpreter for seconds, and a leader that is silent so long is one no
# more: another process compiles, and leaves what it made in numba's cache.
# It is in no hurry: what takes a processor for seconds takes it when nobody else wants it.
_LOAD: Final = "import os; os.nice(10); from core.scheduler import kernel; kernel.load()"
COMPILE: Final = [sys.executable, "-P", "-c", _LOAD]


class Solver:
    """Solves problems away from the loop, several at a time."""

    def __init__(self, nursery: trio.Nursery, log: Any) -> None:
        self._nursery, self._log = nursery, log
        self._has_asked = False  # for the kernel, once

    async def solve(self, problem: Any) -> Any:
        """Return the solution of a problem: of core.scheduler.problem, or of another part."""
        nodes = getattr(problem, "nodes", ())  # who hashes or reads a snapshot places nothing
        if len(nodes) >= kernel.WORTH_NODES and not self._has_asked:
            self._has_asked = True
            self._nursery.start_soon(self._load)
        return await trio.to_thread.run_sync(problem.solve)

    async def _load(self) -> None:
        # Meanwhile numpy places: the plans are the same.
        if not kernel.is_installed():
            self._log.warning("placement is not compiled: numba is missing", remedy=REMEDY)
            return
        try:
            compiled = await trio.run_process(
                COMPILE, capture_stdout=True, capture_stderr=True, check=False
            )
            problem = compiled.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            is_compiled = compiled.returncode == 0
        except OSError as error:
            problem, is_compiled = str(error), False
        if is_compiled and await trio.to_thread.run_sync(kernel.load, abandon_on_cancel=True):
            self._log.info("placement is compiled from here on")
        else:
            self._log.warning("placement is not compiled", reason=problem, remedy=CACHE_REMEDY)
