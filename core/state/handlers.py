"""Which function carries out which command: the table of contents of apply."""

from typing import TYPE_CHECKING

from core.state import commands
from core.state.access import (
    bootstrap_acl,
    delete_token,
    put_token,
    refuse_it,
    set_scheduler_config,
)
from core.state.collecting import collect_garbage
from core.state.commands import Barrier, Bootstrap, RaiseSchema, SettleOrigin
from core.state.entry import UnknownCommand, register_handler
from core.state.job_commands import (
    deregister_job,
    mark_launch,
    register_job,
    set_job_stability,
    tag_job_version,
)
from core.state.node_commands import (
    purge_node,
    register_node,
    set_node_drain,
    set_node_eligibility,
    set_node_status,
)
from core.state.operating import (
    checkpoint,
    remove_server,
    restore_snapshot,
    set_autopilot_config,
    stage_snapshot,
)
from core.state.placing import apply_plans
from core.state.pools import delete_node_pool, upsert_node_pool
from core.state.quotas import delete_quota, upsert_namespace, upsert_quota
from core.state.reports import set_desired_transition, update_allocations
from core.state.result import CommandResult
from core.state.rollouts import delete_evaluations, upsert_deployments, upsert_evaluations
from core.state.scaling import record_scaling
from core.state.services import put_services

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State


def bootstrap(state: "State", command: Bootstrap, context: "Context") -> CommandResult:
    """Give the datacenter its identity, once."""
    if state.datacenter_id:
        return CommandResult(
            error=f"this is datacenter {state.datacenter_id} already: an identity is for ever",
            status=409,
        )
    state.become(command.datacenter_id, command.region, command.datacenter, command.is_authority)
    state.region_origin = command.region_origin
    context.changed("datacenter", "Bootstrap", command.datacenter_id)
    return CommandResult()


def settle_origin(state: "State", command: SettleOrigin, context: "Context") -> CommandResult:
    """Settle the origin of the region; what is settled stays."""
    if not state.region_origin:
        state.region_origin = command.origin
        context.changed("datacenter", "OriginSettled", command.origin)
    return CommandResult()


def barrier(state: "State", command: Barrier, context: "Context") -> CommandResult:
    """Change nothing: that it is applied is its meaning."""
    return CommandResult()


def measure(state: "State", command: commands.Measure, context: "Context") -> CommandResult:
    """Change nothing: how long it took to get here is its meaning."""
    return CommandResult()


def raise_schema(state: "State", command: RaiseSchema, context: "Context") -> CommandResult:
    """Commit that newer commands may come; a replica too old for them must stop here."""
    if command.schema > state.schema_max:
        raise UnknownCommand(
            f"the log rises to schema {command.schema}, this version knows up to "
            f"{state.schema_max}: upgrade it"
        )
    state.schema = max(state.schema, command.schema)
    return CommandResult(value=state.schema)


def register_all() -> None:
    """Make every command of core.state.commands part of the log."""
    register_handler(Bootstrap, bootstrap)
    register_handler(SettleOrigin, settle_origin)
    register_handler(Barrier, barrier)
    register_handler(commands.Measure, measure)
    register_handler(RaiseSchema, raise_schema)
    register_handler(commands.RegisterNode, register_node)
    register_handler(commands.SetNodeStatus, set_node_status)
    register_handler(commands.SetNodeEligibility, set_node_eligibility)
    register_handler(commands.SetNodeDrain, set_node_drain)
    register_handler(commands.PurgeNode, purge_node)
    register_handler(commands.RegisterJob, register_job)
    register_handler(commands.DeregisterJob, deregister_job)
    register_handler(commands.SetJobStability, set_job_stability)
    register_handler(commands.TagJobVersion, tag_job_version)
    register_handler(commands.MarkLaunch, mark_launch)
    register_handler(commands.UpsertEvaluations, upsert_evaluations)
    register_handler(commands.DeleteEvaluations, delete_evaluations)
    register_handler(commands.ApplyPlans, apply_plans)
    register_handler(commands.UpdateAllocations, update_allocations)
    register_handler(commands.SetDesiredTransition, set_desired_transition)
    register_handler(commands.UpsertDeployments, upsert_deployments)
    register_handler(commands.PutServices, put_services)
    register_handler(commands.BootstrapACL, bootstrap_acl)
    register_handler(commands.PutToken, put_token)
    register_handler(commands.DeleteToken, delete_token)
    register_handler(commands.RefuseCall, refuse_it)
    register_handler(commands.SetSchedulerConfig, set_scheduler_config)
    register_handler(commands.SetAutopilotConfig, set_autopilot_config)
    register_handler(commands.RemoveServer, remove_server)
    register_handler(commands.Checkpoint, checkpoint)
    register_handler(commands.StageSnapshot, stage_snapshot)
    register_handler(commands.RestoreSnapshot, restore_snapshot)
    register_handler(commands.UpsertNodePool, upsert_node_pool)
    register_handler(commands.DeleteNodePool, delete_node_pool)
    register_handler(commands.RecordScaling, record_scaling)
    register_handler(commands.CollectGarbage, collect_garbage)
    register_handler(commands.UpsertQuota, upsert_quota)
    register_handler(commands.DeleteQuota, delete_quota)
    register_handler(commands.UpsertNamespace, upsert_namespace)
