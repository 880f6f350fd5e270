"""Access control tokens, the scheduler's settings, and calls that may be repeated."""

from typing import TYPE_CHECKING, Any, Final

import msgspec

from core.state.commands import (
    BootstrapACL,
    DeleteToken,
    PutToken,
    RecordCall,
    RefuseCall,
    SetSchedulerConfig,
)
from core.state.result import CommandResult
from core.state.table import Table

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State

CALL_KEPT_US: Final = 24 * 3600 * 1_000_000


class TokenTable(Table[str, dict[str, Any]]):
    """Nomad's ACLToken by accessor id, and found by secret."""

    def __init__(self) -> None:
        super().__init__("acl_tokens", str, dict[str, Any])
        self._by_secret: dict[str, str] = {}

    def by_secret(self, secret_id: str) -> dict[str, Any] | None:
        accessor = self._by_secret.get(secret_id)
        return None if accessor is None else self._records[accessor]

    def on_put(self, key: str, old: dict[str, Any] | None, new: dict[str, Any]) -> None:
        if old is not None:
            self._by_secret.pop(old.get("SecretID", ""), None)
        self._by_secret[new.get("SecretID", "")] = key

    def on_delete(self, key: str, old: dict[str, Any]) -> None:
        self._by_secret.pop(old.get("SecretID", ""), None)


class CallAnswer(msgspec.Struct, omit_defaults=True):
    """The first answer to a caller's token."""

    issued_us: int
    index: int
    results: list[CommandResult]
    jobs: tuple[tuple[str, str], ...] = ()  # (namespace, job id) of those it changed


class CallTable(Table[str, CallAnswer]):
    """Answers by call id, oldest first; kept as long as a repetition may still come."""

    def __init__(self) -> None:
        super().__init__("calls", str, CallAnswer)
        self._by_job: dict[tuple[str, str], dict[str, None]] = {}

    def of_job(self, namespace: str, job_id: str) -> dict[str, CallAnswer]:
        """Return the answers to calls that changed a job of this name, of whatever uid.

        They survive its purge: where the name is used next, a late repetition of one of them
        must not be taken for a new call.
        """
        known = self._by_job.get((namespace, job_id), {})
        return {call_id: self._records[call_id] for call_id in known}

    def jobs(self) -> list[tuple[str, str]]:
        """Return (namespace, job id) of all that a kept call changed."""
        return list(self._by_job)

    def keep(self, answers: dict[str, CallAnswer]) -> None:
        """Take over the answers that another datacenter gave; our own stand."""
        for call_id, answer in answers.items():
            if call_id not in self:
                self.put(call_id, answer)

    def on_put(self, key: str, old: CallAnswer | None, new: CallAnswer) -> None:
        if old is not None:
            self.on_delete(key, old)
        for job in new.jobs:
            self._by_job.setdefault(job, {})[key] = None

    def on_delete(self, key: str, old: CallAnswer) -> None:
        for job in old.jobs:
            known = self._by_job[job]
            known.pop(key, None)
            if not known:
                del self._by_job[job]

    def expire(self, now_us: int) -> None:
        """Forget the answers whose calls would be refused as too old by now."""
        while self._records:
            oldest = next(iter(self._records))
            if self._records[oldest].issued_us + CALL_KEPT_US >= now_us:
                return
            self.delete(oldest)


def refuse_call(call: RecordCall, now_us: int) -> str:
    """Return why a call must not be carried out, "" when it may.

    Its answer is kept for 24 h from its issue, so one that is older, or claims to come
    from further ahead than that, could be a repetition that nobody remembers.
    """
    if abs(call.issued_us - now_us) <= CALL_KEPT_US:
        return ""
    hours = (now_us - call.issued_us) / 3_600_000_000
    return (
        f"call {call.call_id} was issued {hours:.1f} h ago; only 24 h are accepted: issue it anew"
    )


def refuse_it(state: "State", command: RefuseCall, context: "Context") -> CommandResult:
    """Have the refusal kept as the answer to the call that this entry carries."""
    return CommandResult(error=command.error, status=command.status)


def bootstrap_acl(state: "State", command: BootstrapACL, context: "Context") -> CommandResult:
    """Create the first management token. `value`: the token."""
    if state.acl_bootstrap_index:
        return CommandResult(
            error=f"ACL bootstrap already done (reset index: {state.acl_bootstrap_index})",
            status=400,
        )
    token = {
        "AccessorID": command.accessor_id,
        "SecretID": command.secret_id,
        "Name": "Bootstrap Token",
        "Type": "management",
        "Policies": None,
        "Roles": None,
        "Global": True,
        "CreateTime": command.create_time,
        "ExpirationTime": None,
        "CreateIndex": context.index,
        "ModifyIndex": context.index,
    }
    state.acl_bootstrap_index = context.index
    state.tokens.put(command.accessor_id, token)
    context.changed("acl_token", "ACLTokenUpserted", command.accessor_id)
    return CommandResult(value=token)


def put_token(state: "State", command: PutToken, context: "Context") -> CommandResult:
    """Create or replace a token. `value`: the token as stored."""
    accessor = command.token.get("AccessorID") or ""
    secret = command.token.get("SecretID") or ""
    if not accessor or not secret:
        return CommandResult(error="ACL token needs AccessorID and SecretID", status=400)
    old = state.tokens.get(accessor)
    if old is not None and old.get("SecretID") != secret:
        return CommandResult(error="cannot change the secret ID of a token", status=400)
    holder = state.tokens.by_secret(secret)
    if holder is not None and holder.get("AccessorID") != accessor:
        return CommandResult(error="secret ID is in use by another token", status=400)
    created = old.get("CreateIndex", 0) if old else context.index
    token = {**command.token, "CreateIndex": created, "ModifyIndex": context.index}
    state.tokens.put(accessor, token)
    context.changed("acl_token", "ACLTokenUpserted", accessor)
    return CommandResult(value=token)


def delete_token(state: "State", command: DeleteToken, context: "Context") -> CommandResult:
    if state.tokens.delete(command.accessor_id) is None:
        return CommandResult(error="ACL token not found", status=404)
    context.changed("acl_token", "ACLTokenDeleted", command.accessor_id)
    return CommandResult()


def set_scheduler_config(
    state: "State", command: SetSchedulerConfig, context: "Context"
) -> CommandResult:
    """Replace Nomad's SchedulerConfiguration. `value`: the index."""
    created = state.scheduler_config.get("CreateIndex") or context.index
    state.scheduler_config = {
        **command.config,
        "CreateIndex": created,
        "ModifyIndex": context.index,
    }
    context.changed("scheduler_config", "SchedulerConfig")
    return CommandResult(value=context.index)
