"""Follows an evaluation, and the deployment that comes of it, to the end.

The way is Nomad's: evaluation -> what it placed -> the evaluation that follows ->
deployment. Progress is asked for by blocking queries; each change is one line, stamped
with the time, so a pipe gets a transcript. On a terminal a deployment is shown as a
table that changes in place.

Exit codes: 0 all well, 1 the deployment failed, 2 something could not be placed.
"""

import time
from datetime import datetime
from typing import Any

from core.cli.output import Output, short
from core.cli.placement import group_failures
from core.cli.session import Session

OK = 0
FAILED = 1
NOT_PLACED = 2

_WAIT = "2s"  # of one blocking query; allocations are looked at that often at least
_PAUSE_S = 0.3  # between polls of what cannot be blocked on
_TERMINAL_EVAL = {"complete", "failed", "canceled"}
_TERMINAL_DEPLOYMENT = {"successful", "failed", "cancelled", "blocked"}


class Monitor:
    """One `job run`, `job stop` or `eval status -monitor`. `verbose` shows whole ids."""

    def __init__(self, session: Session, *, verbose: bool = False, namespace: str = "") -> None:
        self.api = session.api
        self.out: Output = session.out
        self.verbose = verbose
        self._query = {"namespace": namespace} if namespace else {}
        self._allocs: dict[str, str] = {}  # id -> client status last shown

    def follow(self, eval_id: str) -> int:
        """Follow an evaluation, those that come after it, and the deployment."""
        code = OK
        deployment_id = ""
        while eval_id:
            evaluation = self._follow_evaluation(eval_id)
            deployment_id = evaluation.get("DeploymentID") or deployment_id
            if evaluation.get("FailedTGAllocs"):
                code = NOT_PLACED
            elif evaluation["Status"] == "failed":
                code = max(code, FAILED)
            # A follow-up that waits (a rolling update's pause) is not waited for.
            eval_id = "" if evaluation.get("Wait") else evaluation.get("NextEval") or ""
        if code == OK and deployment_id:
            return self.follow_deployment(deployment_id)
        return code

    def _follow_evaluation(self, eval_id: str) -> dict[str, Any]:
        self._head(f'Monitoring evaluation "{self._short(eval_id)}"')
        shown_status, is_introduced, shown_deployment, index = "", False, "", 0
        while True:
            reply = self.api.read(f"/v1/evaluation/{eval_id}", index=index or None, wait=_WAIT)
            evaluation: dict[str, Any] = reply.body
            if not is_introduced:
                self._line(_introduction(evaluation, self._short))
                is_introduced = True
            deployment_id = evaluation.get("DeploymentID") or ""
            if deployment_id != shown_deployment:
                self._line(f'Evaluation within deployment: "{self._short(deployment_id)}"')
                shown_deployment = deployment_id
            self._show_allocations(f"/v1/evaluation/{eval_id}/allocations")
            status = evaluation["Status"]
            if shown_status and status != shown_status:
                self._line(f'Evaluation status changed: "{shown_status}" -> "{status}"')
            shown_status = status
            if status in _TERMINAL_EVAL:
                self._finish_evaluation(evaluation)
                return evaluation
            index = _next_index(index, reply.index)

    def _finish_evaluation(self, evaluation: dict[str, Any]) -> None:
        name, status = self._short(evaluation["ID"]), evaluation["Status"]
        failed = evaluation.get("FailedTGAllocs")
        if not failed:
            self._head(f'Evaluation "{name}" finished with status "{status}"')
            if status != "complete" and evaluation.get("StatusDescription"):
                self._line(evaluation["StatusDescription"])
            return
        self._head(
            f'Evaluation "{name}" finished with status "{status}" '
            "but failed to place all allocations:"
        )
        for line in group_failures(failed):
            self._line(line)
        if blocked := evaluation.get("BlockedEval"):
            self._line(
                f'Evaluation "{self._short(blocked)}" waiting for additional capacity '
                "to place remainder"
            )

    def follow_deployment(self, deployment_id: str) -> int:
        """Follow a deployment until it ends; on a terminal as a live table."""
        self._head(f'Monitoring deployment "{self._short(deployment_id)}"')
        if self.out.is_terminal:
            from core.cli.live import watch_deployment

            deployment = watch_deployment(
                self.api, self.out, deployment_id, self._query, verbose=self.verbose
            )
        else:
            deployment = self._transcribe_deployment(deployment_id)
        status = deployment["Status"]
        self._head(f'Deployment "{self._short(deployment_id)}" {_ending(deployment)}')
        if deployment.get("IsMultiregion"):
            from core.cli.regions import job_of_deployment, regions_table

            job = job_of_deployment(self.api, deployment)
            regions_table(self.api, self.out, job, verbose=self.verbose)
        return OK if status in {"successful", "cancelled", "blocked", "paused"} else FAILED

    def _transcribe_deployment(self, deployment_id: str) -> dict[str, Any]:
        index, shown, hinted = 0, "", ""
        while True:
            reply = self.api.read(
                f"/v1/deployment/{deployment_id}", index=index or None, wait=_WAIT
            )
            deployment: dict[str, Any] = reply.body
            self._show_allocations(f"/v1/deployment/allocations/{deployment_id}")
            text = _progress(deployment)
            if text != shown:
                for line in text.splitlines():
                    self._line(line)
                shown = text
            hint = hint_of(deployment, self._short(deployment_id))
            if hint and hint != hinted:
                self._line(hint)
            hinted = hint
            # Who finds it paused waits for nothing that comes by itself.
            is_paused = deployment["Status"] == "paused" and not index
            if deployment["Status"] in _TERMINAL_DEPLOYMENT or is_paused:
                return deployment
            index = _next_index(index, reply.index)

    def _show_allocations(self, route: str) -> None:
        for alloc in self.api.get(route, **self._query) or []:
            name, status = self._short(alloc["ID"]), alloc["ClientStatus"]
            before = self._allocs.get(alloc["ID"])
            self._allocs[alloc["ID"]] = status
            if before is None and alloc["DesiredStatus"] == "run":
                self._line(
                    f'Allocation "{name}" created: node "{self._short(alloc["NodeID"])}", '
                    f'group "{alloc["TaskGroup"]}"'
                )
                before = "pending"
            if before is not None and before != status:
                reason = f" ({alloc['ClientDescription']})" if alloc["ClientDescription"] else ""
                self._line(f'Allocation "{name}" status changed: "{before}" -> "{status}"{reason}')

    def _short(self, identifier: str) -> str:
        return short(identifier, verbose=self.verbose)

    def _head(self, text: str) -> None:
        self.out.line(f"{self.out.style('==>', 'bold')} {_stamp()}: {text}")

    def _line(self, text: str) -> None:
        self.out.line(f"    {_stamp()}: {text}")


def hint_of(deployment: dict[str, Any], name: str) -> str:
    """Return what an operator has to say for the deployment to go on, "" when nothing."""
    if deployment["Status"] == "paused":
        return f"It is paused, and waits for: serai deployment resume {name}"
    if deployment["Status"] not in _TERMINAL_DEPLOYMENT and needs_promotion(deployment):
        return f"Canaries wait for: serai deployment promote {name}"
    return ""


def needs_promotion(deployment: dict[str, Any]) -> bool:
    """Whether healthy canaries wait for an operator's word."""
    groups = (deployment.get("TaskGroups") or {}).values()
    waiting = [g for g in groups if g.get("DesiredCanaries") and not g.get("Promoted")]
    return bool(waiting) and all(
        not group.get("AutoPromote") and group.get("HealthyAllocs", 0) >= group["DesiredCanaries"]
        for group in waiting
    )


def _introduction(evaluation: dict[str, Any], short_id: Any) -> str:
    if node := evaluation.get("NodeID"):
        return f'Evaluation triggered by node "{short_id(node)}"'
    return f'Evaluation triggered by job "{evaluation.get("JobID", "")}"'


def _progress(deployment: dict[str, Any]) -> str:
    """Return the state of a deployment as lines; equal text means nothing changed."""
    lines = [f"Deployment is {deployment['Status']}: {deployment.get('StatusDescription', '')}"]
    for name, group in sorted((deployment.get("TaskGroups") or {}).items()):
        counts = [
            f"{group.get(key, 0)} {word}"
            for key, word in (
                ("DesiredTotal", "desired"),
                ("PlacedAllocs", "placed"),
                ("HealthyAllocs", "healthy"),
                ("UnhealthyAllocs", "unhealthy"),
            )
        ]
        lines.append(f'Group "{name}": {", ".join(counts)}')
    return "\n".join(lines)


def _ending(deployment: dict[str, Any]) -> str:
    if deployment["Status"] == "successful":
        return "successful"
    return f"{deployment['Status']}: {deployment.get('StatusDescription', '')}"


def _next_index(previous: int, current: int) -> int:
    """Return the index to block on; an agent that gives none is polled gently instead."""
    if current <= 0 or current < previous:
        time.sleep(_PAUSE_S)
        return 0
    return current


def _stamp() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
