"""The planner's driver, on the leader: evaluations in, committed plans out.

    applied entries -> broker and blocked    (what is pending, what may fit now)
    broker -> prepare -> Compute             (the host solves it in a worker)
    Computed -> ApplyPlans                   (one entry for the batch)
    applied -> acknowledged                  (or nacked, and tried again)

All of it lives in memory only and is rebuilt from the state by a new leader. A solution
that comes back after leadership was lost is thrown away: its ticket is not known any more.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from core.model.evaluation import EvalStatus, Evaluation
from core.model.host import FOREVER_US
from core.model.plan import Plan
from core.scheduler import BlockedEvaluations, EvaluationBroker, Picture, prepare
from core.server.effects import Compute, Computed
from core.server.measures import count
from core.server.outbox import Timer
from core.server.proposal import Outcome
from core.state.allocs import HELD
from core.state.commands import ApplyPlans, UpsertEvaluations
from core.state.result import Change, PlanResult

if TYPE_CHECKING:
    from core.server.context import Server

_MERGED = "a newer evaluation of the job made this one needless"
_GIVEN_UP = "planning failed too often"
_BATCH_INSTANCES = 4_096


class Planning:
    def __init__(self, server: Server, rng: random.Random) -> None:
        self._server = server
        self._rng = random.Random(rng.getrandbits(64))
        self.broker = EvaluationBroker()
        self.blocked = BlockedEvaluations()
        self._picture = Picture()
        self._is_active = False
        self._in_flight: dict[int, tuple[list[Evaluation], int]] = {}  # ticket -> batch, since
        self._timer: Timer | None = None
        self._is_pass_due = False

    # --- leadership, applied entries --------------------------------------------------

    def on_leadership(self, is_leader: bool) -> None:
        self.broker.clear()
        self.blocked.clear()
        self._in_flight.clear()
        self._picture = Picture()  # a worker may still have the other in its hands
        self._is_active = is_leader
        if is_leader:
            for evaluation in self._server.state.evals.open():
                if evaluation.status is EvalStatus.BLOCKED:
                    # Room may have appeared while nobody led: all are tried once more.
                    self._enqueue_woken([evaluation])
                else:
                    self._take_in(evaluation)
            self._is_pass_due = True

    def on_applied(self, changes: list[Change]) -> None:
        """Follow the state: evaluations that came or ended, jobs changed, room appeared."""
        if not self._is_active:
            return
        state = self._server.state
        deleted: list[str] = []
        for change in changes:
            if change.table == "evals":
                evaluation = state.evals.get(change.key)
                if evaluation is None:
                    self.broker.cancel(change.key)
                    deleted.append(change.key)
                else:
                    self._take_in(evaluation)
            elif change.table == "nodes":
                self._on_node(change.key)
            elif change.table == "allocs" and change.rows is not None:
                self._on_allocs(change.rows)
            elif change.table == "jobs":
                self._on_job(change.namespace, change.key)
            elif change.table in ("quotas", "namespaces"):
                self._room_in_quotas()
        if deleted and len(self.blocked):
            self.blocked.forget(frozenset(deleted))
        self._is_pass_due = True

    def _take_in(self, evaluation: Evaluation) -> None:
        now_us = self._server.now.wall_us
        if evaluation.status is EvalStatus.PENDING:
            self.broker.enqueue(evaluation, now_us)
        elif evaluation.status is EvalStatus.BLOCKED:
            if not self.blocked.block(evaluation):
                self._enqueue_woken([evaluation])
        else:
            self.broker.cancel(evaluation.id)

    def _enqueue_woken(self, woken: list[Evaluation]) -> None:
        """Plan blocked evaluations again. They stay "blocked" in the state until they end."""
        for evaluation in woken:
            pending = msgspec.structs.replace(
                evaluation, status=EvalStatus.PENDING, wait_until_us=0
            )
            self.broker.enqueue(pending, self._server.now.wall_us)

    def _on_node(self, node_id: str) -> None:
        nodes = self._server.state.nodes
        ordinal = nodes.ordinal_of(node_id)
        if ordinal is not None and nodes.is_ready[ordinal]:
            self._room_on({int(nodes.class_id[ordinal]): None})

    def _on_allocs(self, rows: Any) -> None:
        """Room appeared where allocations ended.

        Noted even when nothing is blocked: what is being planned now does not know of it.
        """
        state = self._server.state
        columns = state.allocs.columns
        ended = rows[~HELD[columns.client[rows]]]
        if len(ended):
            classes = np.unique(state.nodes.class_id[np.unique(columns.node[ended])])
            self._room_on(dict.fromkeys(classes[classes >= 0].tolist()))
            if state.spent:
                self._room_in_quotas()

    def _room_in_quotas(self) -> None:
        index = self._server.consensus.applied_index
        self._enqueue_woken(self.blocked.unblock_quotas(index))

    def _room_on(self, class_ids: dict[int, None]) -> None:
        state = self._server.state
        index = self._server.consensus.applied_index
        for class_id in class_ids:
            self._enqueue_woken(self.blocked.unblock(state.nodes.class_key(class_id), index))

    def _on_job(self, namespace: str, job_id: str) -> None:
        record = self._server.state.jobs.get(namespace, job_id)
        if record is None or record.is_stopped:
            stale = self.blocked.untrack(namespace, job_id)
            if stale is not None:
                self._finish([stale], EvalStatus.CANCELLED, "the job was stopped or removed")

    # --- planning ---------------------------------------------------------------------

    def pump(self) -> bool:
        """Begin the next batch if there is one; whether anything was begun."""
        if not self._is_active or not self._is_pass_due:
            return False
        self._is_pass_due = False
        self._tidy()
        has_begun = self._begin()
        self._set_timer()
        self._measure()
        return has_begun

    def _begin(self) -> bool:
        server = self._server
        if server.state.scheduler_config.get("PauseEvalBroker"):
            return False  # the next applied entry looks again, so lifting the pause does
        limits = server.config.limits
        if len(self._in_flight) >= limits.plans_in_flight:
            return False
        batch = self._next_batch(limits.plan_batch)
        if not batch:
            return False
        problem = prepare(
            server.state,
            batch,
            now_us=server.now.wall_us,
            rng=self._rng,
            picture=None if self._in_flight else self._picture,
        )
        ticket = server.outbox.next_id()
        self._in_flight[ticket] = (batch, server.now.mono_us)
        server.outbox.emit(Compute(ticket, problem))
        return True

    def _next_batch(self, most: int) -> list[Evaluation]:
        """Take evaluations until their jobs want about `_BATCH_INSTANCES` together.

        What is planned together is one entry and applied in one step, on each replica: a
        step of a second would cost the leader its followers.
        """
        batch: list[Evaluation] = []
        instances = 0
        while len(batch) < most and instances < _BATCH_INSTANCES:
            taken = self.broker.dequeue(1, self._server.now.wall_us)
            if not taken:
                break
            batch += taken
            record = self._server.state.jobs.get(taken[0].namespace, taken[0].job_id)
            groups = (record.job.task_groups if record is not None else None) or []
            instances += sum(1 if group.count is None else group.count for group in groups)
        return batch

    def on_computed(self, event: Computed) -> None:
        """A batch is solved: propose its plans."""
        found = self._in_flight.get(event.ticket)
        if found is None:
            return
        _, since_us = found
        server = self._server
        server.measures.planning_time.add(server.now.mono_us - since_us)
        plans = getattr(event.solution, "plans", None)
        if plans is None:  # the host could not solve it
            self._picture = Picture()  # it may have been left half-changed
            server.outbox.log("error", "planning failed", reason=str(event.solution))
            self._end(event.ticket, None)
        elif not plans:
            self._end(event.ticket, None)
        else:
            server.consensus.propose(
                [ApplyPlans(plans=plans)],
                lambda outcome: self._end(event.ticket, outcome, plans),
            )

    def _end(self, ticket: int, outcome: Outcome | None, plans: Sequence[Plan] = ()) -> None:
        """The batch's fate is known: acknowledge what is committed, try the rest again."""
        found = self._in_flight.pop(ticket, None)
        if found is None:
            return
        self._is_pass_due = True
        batch, _ = found
        now_us = self._server.now.wall_us
        applied = outcome.applied if outcome is not None else None
        for evaluation in batch:
            if applied is None:
                self.broker.nack(evaluation.id, now_us)
            else:
                self.broker.ack(evaluation.id)
        if applied is not None and applied.results:
            results = applied.results[0].value
            self._after_plans(results)
            if any(result.dropped for result in results):
                self._on_dropped(results, plans)

    def _on_dropped(self, results: list[PlanResult], plans: Sequence[Plan]) -> None:
        """What was refused takes no room: others of the batch may have been told that it would."""
        nodes: dict[int, None] = {}
        for dropped in (one for result in results for one in result.dropped):
            batch = plans[dropped.plan].placements[dropped.batch]
            there = np.frombuffer(batch.node, "<i4")[dropped.rows]
            nodes |= dict.fromkeys(there.tolist())
        table = self._server.state.nodes
        known = [node for node in nodes if node < len(table)]
        self._room_on({int(n): None for n in table.class_id[known].tolist() if n >= 0})
        if self._server.state.spent:
            self._room_in_quotas()

    def _after_plans(self, results: list[PlanResult]) -> None:
        """Count; what no longer fitted is looked at again, the entry itself saw to that."""
        server = self._server
        for result in results:
            dropped = sum(len(rows.rows) for rows in result.dropped)
            server.measures.placements += result.placed
            if dropped:
                count(server.measures.placements_refused, "outdated", dropped)
            count(server.measures.evaluations_done, "refused" if result.error else "planned")
            finished = server.state.evals.get(result.eval_id)
            for metric in ((finished and finished.failed_tg_allocs) or {}).values():
                missing = metric.coalesced_failures + 1
                count(server.measures.placements_refused, "no_node", missing)

    # --- housekeeping -----------------------------------------------------------------

    def _tidy(self) -> None:
        """Close the evaluations that will never be planned."""
        self._finish(self.broker.take_superseded(), EvalStatus.CANCELLED, _MERGED)
        self._finish(self.blocked.take_duplicates(), EvalStatus.CANCELLED, _MERGED)
        self._finish(self.broker.take_failed(), EvalStatus.FAILED, _GIVEN_UP)

    def _finish(self, ended: list[Evaluation], status: EvalStatus, why: str) -> None:
        if not ended:
            return
        now_ns = self._server.now.wall_us * 1000
        closed = [
            msgspec.structs.replace(
                one, status=status, status_description=why, modify_time_ns=now_ns
            )
            for one in ended
        ]
        count(self._server.measures.evaluations_done, status.value, len(closed))
        self._server.consensus.propose(
            [UpsertEvaluations(evaluations=closed)], lambda outcome: None
        )

    def _set_timer(self) -> None:
        """Come back when the next delayed evaluation is due by the wall clock."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due_us = self.broker.deadline_us
        if due_us < FOREVER_US:
            delay_us = max(1_000, due_us - self._server.now.wall_us)
            self._timer = self._server.outbox.after(delay_us, self._on_timer)

    def _on_timer(self) -> None:
        self._is_pass_due = True

    def _measure(self) -> None:
        measures, counts = self._server.measures, self.broker.counts
        measures.queue_ready = counts.ready
        measures.queue_waiting = counts.delayed
        measures.queue_blocked = len(self.blocked)
