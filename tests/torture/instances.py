"""What really runs of a federation's jobs, read off /proc: nobody is asked.

A task's process carries its allocation in the NOMAD_* variables of its environment. Only
those whose task folder lies below the federation's own folder count.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from core.devcluster.orphans import start_time

_PREFIX: Final = "NOMAD_"


class Instance(NamedTuple):
    """Index `index` of a job's only group, as an allocation that has a process."""

    job: str
    index: int
    region: str
    datacenter: str
    alloc: str

    @property
    def place(self) -> str:
        return f"{self.region}/{self.datacenter}"


@dataclass
class Processes:
    """Reads /proc again and again; a process's environment is read once."""

    folder: Path
    _known: dict[tuple[int, int], Instance | None] = field(default_factory=dict)

    def look(self) -> set[Instance]:
        """Return what runs now."""
        found: dict[tuple[int, int], Instance | None] = {}
        for pid in _pids():
            began = start_time(pid)
            if began is None:
                continue
            key = pid, began
            known = self._known.get(key)
            # Between fork and exec a child still has its parent's environment: look again.
            found[key] = known if known is not None else self._instance_of(pid)
        self._known = found
        return {one for one in found.values() if one is not None}

    def _instance_of(self, pid: int) -> Instance | None:
        try:
            told = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return None
        pairs = (item.partition("=") for item in told.split("\0") if item.startswith(_PREFIX))
        task = {name: value for name, _, value in pairs}
        is_ours = task.get("NOMAD_TASK_DIR", "").startswith(f"{self.folder}/")
        if not is_ours or state in ("Z", "X"):
            return None
        return Instance(
            job=task["NOMAD_JOB_ID"],
            index=int(task["NOMAD_ALLOC_INDEX"]),
            region=task["NOMAD_REGION"],
            datacenter=task["NOMAD_DC"],
            alloc=task["NOMAD_ALLOC_ID"],
        )


def _pids() -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name)


def places_of(instances: set[Instance], job: str) -> dict[int, list[str]]:
    """Return in which datacenters each index of a job runs, one for each allocation."""
    found: dict[int, list[str]] = {}
    for one in sorted(instances):
        if one.job == job:
            found.setdefault(one.index, []).append(one.place)
    return found
