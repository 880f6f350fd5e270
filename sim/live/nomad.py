"""An inventory out of the HTTP API of any Nomad-compatible cluster. It only reads.

Of each address: `/v1/regions`, then of each region `/v1/nodes`, `/v1/jobs`, `/v1/job/ID`,
`/v1/allocations`; `/v1/node/ID` as well where jobs ask for attributes or metadata of nodes,
which lists do not show. Two addresses may be of one cluster: its regions are taken once. Two
clusters may call their regions alike ("global"): then the second gets a name of its own.
"""

import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import quote

import msgspec

from core.model.job import Job
from sim.live.inventory import (
    Inventory,
    LiveError,
    LiveJob,
    LiveNode,
    References,
    fit_name,
    free_name,
    is_usable,
    live_node,
)
from sim.live.jobs import essence, is_submitted, references

Get = Callable[..., Any]  # (path, **parameters) -> JSON
Record = dict[str, Any]

_ALL: Final = "*"  # namespaces
_LIVE: Final = frozenset({"pending", "running", "unknown"})


class _Region:
    """One region of one cluster, as its API lists it."""

    def __init__(self, source: "_Source", name: str, nodes: list[Record]) -> None:
        self.source, self.name, self.nodes = source, name, nodes
        self.shown = name  # in the scenario
        self.node_ids = {str(node.get("ID")) for node in nodes}

    def list(self, path: str, **params: Any) -> list[Record]:
        return self.source.list(path, region=self.name, **params)

    def get(self, path: str, **params: Any) -> Any:
        return self.source.get(path, region=self.name, **params)


class _Source:
    """One address."""

    def __init__(self, address: str, get: Get) -> None:
        self.address, self.get = address, get

    def list(self, path: str, **params: Any) -> list[Any]:
        found = self.get(path, **params)
        if not isinstance(found, list):
            raise LiveError(
                f"{self.address}: {path} answered with no list: is this the address of Nomad's API?"
            )
        return found


def read_clusters(
    sources: Sequence[tuple[str, Get]], regions: Iterable[str] = (), namespace: str = ""
) -> Inventory:
    """Return what the clusters at some addresses hold.

    Args:
        sources: Address and how to GET a path there, with query parameters.
        regions: Only these, if any.
        namespace: Jobs of this one only; "" = of all.

    Raises:
        LiveError: What answers is no API of Nomad's, or there is no such region.
    """
    inventory = Inventory(origin=", ".join(address for address, _ in sources))
    found: list[_Region] = []
    wanted = list(regions)
    for address, get in sources:
        source = _Source(address, get)
        names = [str(name) for name in source.list("/v1/regions")]
        for name in names:
            if not wanted or name in wanted:
                _add(found, source, name, inventory)
        missing = [name for name in wanted if name not in names and len(sources) == 1]
        if missing:
            raise LiveError(f"{address} knows no region {missing[0]!r}, only {', '.join(names)}")
    if not found:
        raise LiveError(f"{inventory.origin}: there is no region {', '.join(wanted)}".rstrip())
    shown = {(region.source.address, region.name): region.shown for region in found}
    reader = _Jobs(inventory, namespace or _ALL, shown)
    for region in found:
        reader.read(region)
    asked = references(one.job for one in inventory.jobs)
    for region in found:
        _add_nodes(region, asked, inventory)
    if not inventory.datacenters:
        raise LiveError(f"{inventory.origin}: there is not a single node")
    inventory.drop_lost_jobs()
    return inventory


def _add(found: list[_Region], source: _Source, name: str, inventory: Inventory) -> None:
    """Add a region, unless an address before was of the same one."""
    region = _Region(source, name, source.list("/v1/nodes", region=name, resources=True))
    for other in found:
        is_same = region.node_ids & other.node_ids or not (region.node_ids or other.node_ids)
        if other.name == name and is_same:
            return
    region.shown = free_name(fit_name(name), [other.shown for other in found])
    if region.shown != name:
        inventory.note(f"region {name!r} of {source.address} is called {region.shown!r}")
    found.append(region)


# --- nodes --------------------------------------------------------------------------------


def _datacenter_names(region: _Region) -> dict[str, str]:
    """Return the scenario's name of each datacenter by the cluster's."""
    names: dict[str, str] = {}
    for node in region.nodes:
        name = str(node.get("Datacenter") or "dc1")
        if name not in names:
            names[name] = free_name(fit_name(name), set(names.values()))
    return names


def _add_nodes(region: _Region, asked: References, inventory: Inventory) -> None:
    names = _datacenter_names(region)
    unused: dict[str, int] = {}
    for view in region.nodes:
        name = names[str(view.get("Datacenter") or "dc1")]
        nodes = inventory.datacenters.setdefault((region.shown, name), [])
        if not is_usable(view):
            unused[name] = unused.get(name, 0) + 1
            continue
        nodes.append(_node(region, view, asked))
    for name, count in unused.items():
        text = "nodes that are down, draining or not eligible are left out"
        inventory.note(f"{region.shown}/{name}: {text}: {count:,}")


def _node(region: _Region, view: Record, asked: References) -> LiveNode:
    if asked or view.get("NodeResources") is None:
        whole = region.get(f"/v1/node/{quote(str(view.get('ID')), safe='')}")
        view = {**view, **whole}
    return live_node(view, asked)


# --- jobs ---------------------------------------------------------------------------------


class _Jobs:
    """Reads the jobs of region after region."""

    def __init__(
        self, inventory: Inventory, namespace: str, shown: Mapping[tuple[str, str], str]
    ) -> None:
        self._inventory, self._namespace = inventory, namespace
        self._shown = shown  # names of regions in the scenario, by address and name there
        self._by_uid: dict[str, LiveJob] = {}

    def read(self, region: _Region) -> None:
        """Add the jobs of a region that run, or will by themselves."""
        allocs = _Allocations(region.list("/v1/allocations", namespace=self._namespace))
        names = _datacenter_names(region)
        for stub in region.list("/v1/jobs", namespace=self._namespace):
            if self._is_wanted(stub):
                self._add(region, stub, allocs, names)

    def _is_wanted(self, stub: Record) -> bool:
        if stub.get("Stop") or stub.get("Status") == "dead":
            return False
        return is_submitted(
            str(stub.get("ID")),
            is_parameterized=bool(stub.get("ParameterizedJob")),
            has_parent=bool(stub.get("ParentID")),
            note=self._inventory.note,
        )

    def _add(
        self, region: _Region, stub: Record, allocs: "_Allocations", names: Mapping[str, str]
    ) -> None:
        namespace, job_id = str(stub.get("Namespace") or "default"), str(stub["ID"])
        body = region.get(f"/v1/job/{quote(job_id, safe='')}", namespace=namespace)
        try:
            job = msgspec.convert(body, Job)
        except msgspec.ValidationError as error:
            self._inventory.note(f"job {job_id} is left out, its record is not understood: {error}")
            return
        running = allocs.running(namespace, job_id)
        known = self._by_uid.get(job.uid or "")
        if known is not None:  # the same job, seen from another region
            known.running += running
            return
        # A job that lives in another region than it was submitted to is submitted there again.
        asked = self._shown.get((region.source.address, job.region or ""), region.shown)
        kept = essence(job, asked, names, self._inventory.note)
        run_time_s = allocs.run_time_s(namespace, job_id) if job.type == "batch" else None
        live = LiveJob(name=job_id, region=asked, job=kept, running=running, run_time_s=run_time_s)
        self._inventory.add(live, f"{region.shown}, namespace {namespace}")
        if job.uid:
            self._by_uid[job.uid] = live


class _Allocations:
    """The allocations of a region, by job."""

    def __init__(self, stubs: Iterable[Record]) -> None:
        self._running: dict[tuple[str, str], int] = {}
        self._times_s: dict[tuple[str, str], list[float]] = {}
        for stub in stubs:
            key = (str(stub.get("Namespace") or "default"), str(stub.get("JobID")))
            status = stub.get("ClientStatus")
            if status in _LIVE and stub.get("DesiredStatus") == "run":
                self._running[key] = self._running.get(key, 0) + (status == "running")
            elif status == "complete":
                took_s = (int(stub.get("ModifyTime") or 0) - int(stub.get("CreateTime") or 0)) / 1e9
                self._times_s.setdefault(key, []).append(max(0.0, took_s))

    def running(self, namespace: str, job_id: str) -> int:
        return self._running.get((namespace, job_id), 0)

    def run_time_s(self, namespace: str, job_id: str) -> float | None:
        """Return how long runs took that are over: their median, None without any."""
        times_s = self._times_s.get((namespace, job_id))
        return statistics.median(times_s) if times_s else None
