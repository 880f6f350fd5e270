"""Serai's gossip beside memberlist and serf, in one run: `python -m bench.peers`.

bench.peers.contest has the method. The last line is one JSON object: per contender
`join_s`, `detect_s`, `bytes_per_member_s`, or null where it was skipped.
"""

import argparse
import sys

from bench.peers.contest import MEMBERS, QUIET_S, compare
from sim.lastline import last_line


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--members", type=int, default=MEMBERS)
    parser.add_argument("--quiet", type=int, default=QUIET_S, help="seconds without events")
    options = parser.parse_args()
    figures = compare(options.members, options.quiet)
    sizes = {"members": options.members, "quiet_s": options.quiet}
    print(last_line(figures, sizes=sizes, samples=sum(map(bool, figures.values()))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
