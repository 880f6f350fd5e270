"""`python -m sim.federation` and `python -m sim.federation explore`; see this package's page."""

import sys

if __name__ == "__main__":
    if sys.argv[1:2] == ["explore"]:
        from sim.federation.explore import main as explore

        sys.exit(explore(sys.argv[2:]))
    from sim.federation.program import PROGRAM
    from sim.seeds import main

    sys.exit(main(PROGRAM))
