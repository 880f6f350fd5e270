"""`python -m sim.gossip [lifeguard | isolation | fuzz] ...`; see this package's page."""

import sys
from collections.abc import Callable, Sequence


def main(arguments: Sequence[str]) -> int:
    if arguments and arguments[0] in _COMMANDS:
        return _COMMANDS[arguments[0]](arguments[1:])
    from sim.gossip.program import PROGRAM
    from sim.seeds import main as run

    return run(PROGRAM, arguments)


def _lifeguard(arguments: Sequence[str]) -> int:
    from sim.gossip import lifeguard

    return lifeguard.main(arguments)


def _isolation(arguments: Sequence[str]) -> int:
    from sim.gossip.isolation import PROGRAM
    from sim.seeds import main as run

    return run(PROGRAM, arguments)


def _fuzz(arguments: Sequence[str]) -> int:
    from sim.gossip import fuzz

    return fuzz.main(arguments)


_COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "lifeguard": _lifeguard,
    "isolation": _isolation,
    "fuzz": _fuzz,
}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
