"""`python -m sim.raft`; see sim.raft.program."""

import sys

from sim.raft.program import PROGRAM
from sim.seeds import main

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
