"""`python -m sim.gossip [lifeguard | isolation | fuzz | sockets] ...`; see this package's page."""

import sys
from collections.abc import Sequence

from sim.gossip import fuzz, isolation, lifeguard, program, sockets
from sim.seeds import main as run_program


def main(arguments: Sequence[str]) -> int:
    command = arguments[0] if arguments else ""
    if command == "lifeguard":
        return lifeguard.main(arguments[1:])
    if command == "isolation":
        return run_program(isolation.PROGRAM, arguments[1:])
    if command == "sockets":
        return sockets.main(arguments[1:])
    if command == "fuzz":
        return fuzz.main(arguments[1:])
    return run_program(program.PROGRAM, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
