"""A parameterized job, and what must be true of its children.

dispatched twice       one idempotency token gives one child, whoever was faster
child not as asked     payload and meta are what the caller gave, also where it runs
dispatched a stopped job
a wrong answer         the answer names the child that there is
"""

import base64
import random
from collections import Counter
from typing import Any, Final

import msgspec

from core.jobspec import canonicalize
from core.model.child import DISPATCH
from core.model.job import EphemeralDisk, Job, ParameterizedJobConfig, Resources, Task, TaskGroup
from core.model.query import Answer, Query
from core.server.endpoints.dispatching import job_dispatch
from core.server.proposal import Outcome
from core.server.request import Proposal, QueryError, Request
from core.state.commands import DeregisterJob, RegisterJob
from sim.scheduler.clients import Behaviour
from sim.scheduler.leader import Leader, S
from sim.scheduler.ledger import Ledger
from sim.seeds import Violation

NAME: Final = "param"
_CALLS_MOST: Final = 12
_TOKENS: Final = ("", "a", "b", "c")


class Dispatches:
    """Calls for children of one job, and follows them."""

    def __init__(self, rng: random.Random, ledger: Ledger, situations: Counter[str]) -> None:
        self._rng, self._ledger, self._situations = rng, ledger, situations
        self._calls = 0
        self._is_on = False
        self._asked: dict[str, tuple[dict[str, str], bytes]] = {}  # by child id
        does = Behaviour(ends_after_us=rng.choice((2, 30)) * S, is_failing=rng.random() < 0.2)
        task = Task(
            name="task",
            driver="raw_exec",
            config=msgspec.to_builtins(does),
            resources=Resources(cpu=50, memory_mb=32),
        )
        group = TaskGroup(name="g", count=1, tasks=[task], ephemeral_disk=EphemeralDisk(size_mb=1))
        job = Job(
            id=NAME,
            name=NAME,
            namespace="default",
            type=rng.choice(("batch", "batch", "sysbatch")),
            priority=rng.choice((20, 50)),
            datacenters=["*"],
            node_pool="all",
            meta={"kept": "yes"},
            parameterized_job=ParameterizedJobConfig(
                payload=rng.choice(("optional", "required")), meta_required=["who"]
            ),
            task_groups=[group],
        )
        self.job = canonicalize(job, region="r")

    def call(self, leader: Leader) -> None:
        """Ask for a child, now and then twice with the same token before the first is there."""
        if self._calls >= _CALLS_MOST:
            return  # too many that wait for room, and a slow planner is never done
        token = self._rng.choice(_TOKENS)
        for _ in range(self._rng.choice((1, 1, 2, 3))):
            self._call_once(leader, token)

    def _call_once(self, leader: Leader, token: str) -> None:
        self._calls += 1
        meta = {"who": f"caller {self._calls}"}
        payload = self._rng.randbytes(self._rng.randint(1, 40))
        query = Query(
            method="Job.Dispatch",
            params={"job_id": NAME, "idempotency_token": token},
            body={"Payload": base64.b64encode(payload).decode(), "Meta": meta},
            call_id=f"dispatch{self._calls}",
        )
        try:
            outcome = job_dispatch(Request(query, leader.server))
        except QueryError:
            record = leader.state.jobs.get("default", NAME)
            if record is not None and not record.is_stopped:
                raise
            self._situations["dispatch of a stopped job refused"] += 1
            return
        if isinstance(outcome, Answer):
            self._check_answer(leader, outcome, token)
            return
        assert isinstance(outcome, Proposal)
        for command in outcome.commands:
            self._asked[command.job.id] = meta, payload

        def on_outcome(done: Outcome, proposal: Proposal = outcome) -> None:
            if done.applied is None:
                return  # leadership was lost: the caller asks again, or does not
            try:
                answer = proposal.answer(done.applied)
            except QueryError:
                self._situations["dispatch of a stopped job refused"] += 1
            else:
                self._check_answer(leader, answer, token)

        leader.propose(*outcome.commands, then=on_outcome)

    def _check_answer(self, leader: Leader, answer: Answer, token: str) -> None:
        name = answer.body["DispatchedJobID"]
        record = leader.state.jobs.get("default", name)
        if record is None or (record.job.dispatch_idempotency_token or "") != token:
            raise Violation("a wrong answer", f"{name} for token {token!r}")

    def on_entry(self, commands: list[Any], leader: Leader) -> None:
        """Judge what an entry dispatched.

        Raises:
            Violation: It must not have done that.
        """
        for command in commands:
            if isinstance(command, DeregisterJob) and command.job_id == NAME:
                self._is_on = False
            elif isinstance(command, RegisterJob) and command.job.id == NAME:
                self._is_on = True
            elif isinstance(command, RegisterJob) and command.job.parent_id == NAME:
                self._check_child(leader, command.job)

    def _check_child(self, leader: Leader, child: Job) -> None:
        record = leader.state.jobs.get("default", child.id or "")
        token = child.dispatch_idempotency_token
        siblings = leader.state.jobs.children_of("default", NAME)
        alike = [one for one in siblings if token and one.job.dispatch_idempotency_token == token]
        if len(alike) > 1:
            raise Violation("dispatched twice", f"{alike[0].id} and {alike[1].id} of {token!r}")
        if record is None:
            self._situations["dispatch that came too late"] += 1
            return
        if not self._is_on:
            raise Violation("dispatched a stopped job", record.id)
        self._situations["dispatched"] += 1
        self._check_job(record.job)

    def check(self) -> None:
        """Judge what runs: the job that a client is given says what its caller said."""
        for known in self._ledger.known.values():
            if known.alloc.job is not None and (known.alloc.job_id or "").startswith(NAME):
                self._check_job(known.alloc.job)

    def _check_job(self, job: Job) -> None:
        meta, payload = self._asked[job.id or ""]
        said = dict(job.meta or {}), bytes(job.payload or b"")
        if said != ({"kept": "yes", **meta}, payload) or not (job.id or "").startswith(
            NAME + DISPATCH
        ):
            raise Violation("child not as asked", f"{job.id}: {said}, not {(meta, payload)}")
