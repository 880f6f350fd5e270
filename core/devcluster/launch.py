"""Becomes an agent that does not outlive its supervisor.

    python -P -m core.devcluster.launch agent -config FILE

asks the kernel for SIGTERM at the parent's death and then executes `serai` with the same
arguments in this very process, so the pid that the supervisor knows is the agent's.
"""

import os
import signal
import sys

from core.devcluster.orphans import die_with_parent


def main() -> None:
    die_with_parent(signal.SIGTERM)
    if os.getppid() == 1:
        sys.exit(1)  # the parent ended before we asked
    os.execv(sys.executable, [sys.executable, "-P", "-m", "core.cli.main", *sys.argv[1:]])


if __name__ == "__main__":
    main()
