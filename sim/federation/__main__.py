"""`python -m sim.federation`; see this package's page."""

import sys

from sim.federation.program import PROGRAM
from sim.seeds import main

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
