"""The records of a scenario: what a run simulates. sim.scenario reads them from HCL.

Times are microseconds of virtual time, counted from the start.
"""

from typing import Final

import msgspec

from sim.disk import DiskModel
from sim.distributions import Distribution
from sim.network import LinkModel

AT_END: Final = -1  # `at_us` of a goal
ALWAYS: Final = -2
SNAPSHOT_LABEL: Final = "node"  # a snapshot's nodes are called REGION-DATACENTER-node-NAME


class NodeShape(msgspec.Struct, frozen=True, kw_only=True):
    """`count` equal nodes. CPU in MHz, memory and disk in MiB."""

    label: str
    count: int
    cpu: int
    memory: int
    disk: int = 100_000
    node_class: str = ""
    pool: str = "default"
    attributes: dict[str, str] = {}
    meta: dict[str, str] = {}
    drivers: tuple[str, ...] = ("raw_exec",)


class Start(msgspec.Struct, frozen=True, kw_only=True):
    """What a datacenter begins from: a snapshot without secrets. See sim.starting."""

    region: str
    datacenter: str
    datacenter_id: str
    image: bytes
    log_time_us: int  # wall clock of the state
    node_names: tuple[str, ...]  # in the order of their ordinals


class DatacenterPlan(msgspec.Struct, frozen=True, kw_only=True):
    region: str
    name: str
    servers: int
    nodes: tuple[NodeShape, ...]
    disk: DiskModel | None = None  # of its servers; None = the scenario's
    schema: int = 0  # the newest that its servers understand at first; 0 = what ships
    snapshot: str = ""  # path of what it begins from; "" = it is born empty
    batch_run_time: Distribution | None = None  # of tasks of batch jobs in the snapshot
    start: Start | None = None  # what that file holds

    @property
    def node_count(self) -> int:
        began_with = 0 if self.start is None else len(self.start.node_names)
        return began_with + sum(shape.count for shape in self.nodes)


class JobPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Submit a job file at a time, to an agent of `region`, as `serai job run` does."""

    name: str
    file: str
    at_us: int
    region: str
    datacenter: str = ""  # ask an agent there; "" = anywhere in the region
    job_name: str = ""  # of the job, where it is another version of one; "" = `name`
    copies: int = 1  # registers name, name-2, name-3, ...
    every_us: int = 1_000  # between two copies
    count: int = 0  # of each group; 0 = as the file says
    run_time: Distribution | None = None  # of each task; None = as its environment says
    failures: float = 0.0  # the fraction of runs that exit with code 1
    lifetime: Distribution | None = None  # then the job is stopped; None = never
    variables: dict[str, str] = {}


class ArrivalPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Submit copies of a job file again and again: NAME-1, NAME-2, ..."""

    name: str
    file: str
    process: str  # poisson | steady | burst | daily
    rate_per_s: float = 0.0
    from_us: int = 10_000_000
    until_us: int = 0  # 0 = the end of the scenario
    limit: int = 0  # 0 = none
    every_us: int = 0  # of burst
    size: int = 1  # of burst
    peak_us: int = 14 * 3_600_000_000  # of daily: the time of day with the most arrivals
    swing: float = 0.5  # of daily: at the peak 1 + swing times the rate
    regions: tuple[str, ...] = ()  # drawn for each; () = the first
    count: Distribution | None = None
    run_time: Distribution | None = None
    failures: float = 0.0
    lifetime: Distribution | None = None
    variables: dict[str, str] = {}


class TracePlan(msgspec.Struct, frozen=True, kw_only=True):
    """Replay a CSV of submissions; see sim.arrivals for its columns."""

    name: str
    file: str
    job: str  # a job file that each row fills in
    from_us: int = 10_000_000
    until_us: int = 0
    speed: float = 1.0  # 2 = twice as fast as recorded
    regions: tuple[str, ...] = ()
    variables: dict[str, str] = {}


class StopPlan(msgspec.Struct, frozen=True, kw_only=True):
    job: str
    at_us: int
    region: str
    purge: bool = False


class CallPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Ask the API something, as an operator does; see sim.calling."""

    method: str
    at_us: int
    region: str
    every_us: int = 0  # and again, so often
    datacenter: str = ""  # that is to answer; "" = whichever owns the answer
    namespace: str = "default"
    job: str = ""  # job_id, or the job of which an id is wanted
    node: str = ""  # the node that is meant, as of a fault's target
    params: dict[str, str] = {}
    body: str = ""  # JSON


class FaultPlan(msgspec.Struct, frozen=True, kw_only=True):
    """One fault, or (with `rate_per_s` or `every_us`) one again and again: sim.schedule."""

    kind: str
    at_us: int
    for_us: int = 0  # 0 = until the end
    source: str = ""  # of what has two ends
    target: str = ""  # see sim.targets
    count: int = 0  # so many of the targets; 0 = see sim.targets
    share: float = 0.0  # this fraction of the targets
    extra_us: int = 0  # of slow, slow-disk
    fraction: float = 0.0  # of loss, sick
    factor: float = 1.0  # of slow-disk
    ppm: int = 0  # of clock
    period_us: int = 0  # of flap, sick
    batch: int = 1  # of restart, upgrade, maintenance: so many at once
    gap_us: int = 0  # ... and so long between two batches
    down_us: int = 5_000_000  # ... and so long a restart takes
    schema: int = 0  # of upgrade: the schema that is understood afterwards
    by: str = ""  # of adopt: the datacenter that adopts; "" = the region's first that is up
    job: str = ""  # of stop-job
    lasts: Distribution | None = None  # `for`, drawn anew each time
    rate_per_s: float = 0.0
    every_us: int = 0
    until_us: int = 0  # nothing begins after; 0 = the scenario's duration


class GoalPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What must be so; see sim.goals for each kind and its keys."""

    kind: str
    job: str = ""
    count: int = -1
    region: str = ""
    at_us: int = AT_END
    at_least: float = -1.0
    at_most: float = -1.0
    quantile: float = 0.99
    from_us: int = 0
    until_us: int = 0
    within_us: int = 0


class Scenario(msgspec.Struct, kw_only=True):
    name: str
    folder: str = ""
    # Texts of job files and traces by path, where they travel with it; else they are read.
    files: dict[str, str] = {}
    duration_us: int = 60_000_000
    settle_us: int = 60_000_000  # quiet time after the last fault, before the end is judged
    until_us: int = 0  # stop here, whatever else is planned; 0 = at the scenario's end
    seed: int = 1
    start_spread_us: int = 500_000  # within which all agents start
    are_pools_formed: bool = False  # LAN pools begin as if they had known each other for long
    datacenters: list[DatacenterPlan] = []
    lan: LinkModel | None = None
    region_link: LinkModel | None = None
    wan: LinkModel | None = None
    links: dict[tuple[str, str], LinkModel] = {}
    disk: DiskModel = DiskModel()
    jobs: list[JobPlan] = []
    arrivals: list[ArrivalPlan] = []
    traces: list[TracePlan] = []
    stops: list[StopPlan] = []
    calls: list[CallPlan] = []
    faults: list[FaultPlan] = []
    goals: list[GoalPlan] = []

    @property
    def regions(self) -> list[str]:
        return list(dict.fromkeys(plan.region for plan in self.datacenters))

    @property
    def node_count(self) -> int:
        return sum(plan.node_count for plan in self.datacenters)

    @property
    def server_count(self) -> int:
        return sum(plan.servers for plan in self.datacenters)
