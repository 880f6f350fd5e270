"""Users of a job over several regions: they submit it, fail and unblock regions, stop it all.

The job is `multi`; it lists the regions of its world in an order of its own, with one
instance in each, and asks for health, so that its regions take turns. Every version differs
in what it runs.
"""

import random
from functools import partial
from typing import Any

import msgspec

from core.model.evaluation import DeploymentStatus
from core.model.job import (
    Job,
    UpdateStrategy,
)
from core.model.query import Answer, Query
from sim.federation.datacenter import Datacenter
from sim.federation.workload import (
    NAMESPACE,
    Kind,
    NameRules,
    Operation,
    Workload,
    marked_group,
)
from sim.federation.world import BEGIN_US, S

NAME = "multi"
_PAUSE_US = (2 * S, 25 * S)
_MEDDLE_US = (3 * S, 30 * S)
_NS = 1_000_000_000
_RACE_PART = 0.3
_RACE_US = 150_000
_SHORT = "short"  # a version that does not list the last region


class RolloutUsers(Workload):
    """The users of one world's job over several regions; no job where there is one region."""

    def begin(self) -> None:
        rng = self.rng
        regions = sorted({one.region for one in self.world.datacenters.values()})
        rng.shuffle(regions)
        self.regions = regions
        self.max_parallel = rng.choice((0, 1, 1, 2))
        self.on_failure = rng.choice(("", "fail_all", "fail_local"))
        if len(regions) < 2 or rng.random() < 0.3:
            return
        rules = NameRules(
            name=NAME, region="", spillover=(), after_us=0, datacenters=("*",), partition="hold"
        )
        self.names[NAME] = rules
        for _ in range(rng.choice((1, 1, 2))):
            self.world.after(rng.randrange(5 * S), partial(self._act, rules))
        self.world.after(rng.randint(*_MEDDLE_US), self._meddle)

    def _act(self, rules: NameRules, kind: Kind | None = None) -> None:
        if self.is_over:
            return
        rng = self.rng
        if rng.random() < 0.5:  # let what is under way come to its end
            self.world.after(rng.randint(*_PAUSE_US), partial(self._act, rules))
            return
        if kind is None:
            (kind,) = rng.choices((Kind.REGISTER, Kind.STOP, Kind.PURGE), (14, 1, 1))
        operation = Operation(
            kind=kind, name=NAME, mark=f"{NAME}{self._next()}", count=1,
            call_us=self.world.now_us, token=f"{rng.getrandbits(128):032x}",
            place=_SHORT if len(self.regions) > 2 and rng.random() < 0.35 else "",
        )  # fmt: skip
        self.operations.append(operation)
        self._try(operation, rules, self._somewhere(rules), tries=rng.choice((1, 2, 4)))
        if kind is Kind.REGISTER and rng.random() < _RACE_PART:
            self.world.after(rng.randrange(_RACE_US), self._race, rules)

    def _race(self, rules: NameRules) -> None:
        """Somebody else submits the job at the same time, elsewhere."""
        operation = Operation(
            kind=Kind.REGISTER, name=NAME, mark=f"{NAME}{self._next()}", count=1,
            call_us=self.world.now_us, token=f"{self.rng.getrandbits(128):032x}",
        )  # fmt: skip
        self.operations.append(operation)
        self._try(operation, rules, self._somewhere(rules), tries=1, is_last=True)

    def _somewhere(self, rules: NameRules, rng: random.Random | None = None) -> Datacenter:
        return (rng or self.rng).choice([*self.world.datacenters.values()])

    def _query(self, operation: Operation, rules: NameRules) -> Query:
        common: dict[str, Any] = {
            "namespace": NAMESPACE,
            "call_id": operation.token,
            "call_issued_us": BEGIN_US + operation.call_us,
        }
        if operation.kind is Kind.REGISTER:
            return Query(method="Job.Register", body=self._body(operation), **common)
        params = {"job_id": NAME, "global": "true"}
        if operation.kind is Kind.PURGE:
            params["purge"] = "true"
        return Query(method="Job.Deregister", params=params, **common)

    def _body(self, operation: Operation) -> dict[str, Any]:
        regions = self.regions[:-1] if operation.place == _SHORT else self.regions
        job = Job(
            id=NAME,
            name=NAME,
            namespace=NAMESPACE,
            type="service",
            datacenters=["*"],
            meta={"mark": operation.mark},
            multiregion={
                "Strategy": {"MaxParallel": self.max_parallel, "OnFailure": self.on_failure},
                "Regions": [{"Name": name} for name in regions],
            },
            task_groups=[
                marked_group(
                    operation,
                    UpdateStrategy(max_parallel=1, min_healthy_time_ns=0, progress_deadline_ns=0),
                )
            ],
        )
        return {"Job": msgspec.to_builtins(job)}

    # --- one region's deployment ------------------------------------------------------------

    def _meddle(self) -> None:
        """Fail the deployment of a region, or unblock it, now and then."""
        if self.is_over:
            return
        rng, world = self.rng, self.world
        world.after(rng.randint(*_MEDDLE_US), self._meddle)
        datacenter = rng.choice([*world.datacenters.values()])
        latest = datacenter.state.deployments.latest_of_job(NAMESPACE, NAME)
        hosts = [host for host in datacenter.servers if host.is_up]
        if latest is None or not hosts:
            return
        is_blocked = latest.status is DeploymentStatus.BLOCKED
        method = "Deployment.Unblock" if is_blocked and rng.random() < 0.3 else "Deployment.Fail"
        query = Query(
            method=method, params={"deployment_id": latest.id}, namespace=NAMESPACE,
            call_id=f"{rng.getrandbits(128):032x}",
        )  # fmt: skip
        world.situations["region's deployment failed or unblocked by hand"] += 1
        rng.choice(hosts).on_query(query, _ignored)


def _ignored(_: Answer) -> None:
    return None
