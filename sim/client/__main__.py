"""`python -m sim.client`; see this package's page."""

import sys

from sim.client.program import PROGRAM
from sim.seeds import main

if __name__ == "__main__":
    sys.exit(main(PROGRAM))
