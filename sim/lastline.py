"""The last line that every benchmark and every seed program prints: one JSON object.

Whoever reads the figures by program takes that line alone. It names the commit, the sizes
of the run and how many samples stand behind the figures; a run too short to prove anything
says `"reduced": true`.
"""

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def last_line(
    figures: Mapping[str, Any], *, sizes: Mapping[str, Any], samples: int, is_reduced: bool = False
) -> str:
    """Return the line: the figures, then `commit`, `sizes`, `samples` and maybe `reduced`."""
    line = {**figures, "commit": commit(), "sizes": dict(sizes), "samples": samples}
    if is_reduced:
        line["reduced"] = True
    return json.dumps(line)


def commit() -> str:
    """Return the short id of the commit that this source is of; "" outside a repository."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=False,
        )
    except OSError:
        return ""
    return done.stdout.strip()
