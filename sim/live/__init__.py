"""A live cluster as a scenario: its nodes, its jobs, what runs of them.

    inventory = read_clusters([("http://a:4646", get)])   # of Nomad's API, read-only
    inventory = read_snapshots(["eu.snap", "us.snap"])    # of operator snapshots
    write_files(inventory, "copy")                        # copy/scenario.hcl, copy/jobs/

What a simulation does not need is left out as it is read: environment, configuration,
templates, artifacts, metadata, services, tokens. So no secret reaches the files.
"""

from sim.live.inventory import Inventory, LiveError, LiveJob, LiveNode
from sim.live.nomad import read_clusters
from sim.live.snapshots import read_snapshots
from sim.live.writing import write_files

__all__ = [
    "Inventory", "LiveError", "LiveJob", "LiveNode", "read_clusters", "read_snapshots",
    "write_files",
]  # fmt: skip
