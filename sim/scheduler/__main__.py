"""`python -m sim.scheduler`; see this package's page."""

import sys

from sim.scheduler.program import PROGRAM
from sim.seeds import main

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
