"""Every command: where it lives and what it does, without importing it.

`serai --help` and a group's help are made from this table alone; a module of commands is
imported when one of its commands runs, so the help answers at once.
"""

from typing import Final, NamedTuple


class Entry(NamedTuple):
    target: str  # "module:attribute" of a click command
    summary: str


GROUPS: Final[dict[str, str]] = {
    "acl": "Manage access control",
    "acl token": "Manage tokens",
    "alloc": "Look into and act on allocations",
    "deployment": "Follow and steer deployments",
    "eval": "Look at and delete evaluations",
    "authority": "See and move the authority of a region",
    "datacenter": "Empty a datacenter, or give a lost one up",
    "federation": "Look at the federation",
    "job": "Run and manage jobs",
    "job periodic": "Steer periodic jobs",
    "job tag": "Tag versions of a job",
    "namespace": "Look at namespaces",
    "node": "Look at and manage nodes",
    "node pool": "Look at and manage node pools",
    "quota": "Look at and manage quotas",
    "operator": "Tools for operators of a datacenter",
    "operator autopilot": "See how a datacenter keeps its quorum",
    "operator gossip": "Manage the gossip pools",
    "operator gossip keyring": "Manage gossip encryption keys",
    "operator raft": "Look at and steer a datacenter's Raft",
    "operator scheduler": "Read and change the scheduler's configuration",
    "operator snapshot": "Save, look at and restore the state of a datacenter",
    "region": "Look at the regions of the federation",
    "server": "Look at and manage servers",
    "service": "Look up registered services",
    "sim": "Simulate a federation on virtual time",
    "scaling": "Look at scaling policies",
    "scaling policy": "Look at scaling policies",
    "system": "Act on the state store",
    "system reconcile": "Make records whole again",
    "tls": "Make and look at certificates",
    "tls ca": "Make and look at an authority",
    "tls cert": "Make and look at certificates of agents and people",
}

COMMANDS: Final[dict[str, Entry]] = {
    "acl bootstrap": Entry("core.cli.acl:bootstrap", "Create the first management token"),
    "acl token create": Entry("core.cli.acl:create", "Create a token"),
    "acl token delete": Entry("core.cli.acl:delete", "Delete a token"),
    "acl token info": Entry("core.cli.acl:info", "Show one token"),
    "acl token list": Entry("core.cli.acl:list_", "List the tokens"),
    "acl token self": Entry("core.cli.acl:self_", "Show the token in use"),
    "agent": Entry("core.cli.agent:agent", "Run an agent"),
    "agent-info": Entry("core.cli.server:agent_info", "Show an agent's own view of itself"),
    "alloc checks": Entry("core.cli.alloc:checks", "Show the health checks of an allocation"),
    "alloc fs": Entry("core.cli.alloc_files:fs", "List or read files of an allocation"),
    "alloc logs": Entry("core.cli.alloc_files:logs", "Show or follow a task's output"),
    "alloc restart": Entry("core.cli.alloc:restart", "Restart tasks in place"),
    "alloc signal": Entry("core.cli.alloc:signal", "Send a signal to tasks"),
    "alloc status": Entry("core.cli.alloc_status:status", "Show an allocation"),
    "alloc stop": Entry("core.cli.alloc:stop", "Stop an allocation and place it anew"),
    "completion": Entry("core.cli.completion:completion", "Print a shell's completion script"),
    "deployment fail": Entry("core.cli.deployment:fail", "Give up a deployment"),
    "deployment list": Entry("core.cli.deployment:list_", "List deployments"),
    "deployment pause": Entry("core.cli.deployment:pause", "Pause a deployment"),
    "deployment promote": Entry("core.cli.deployment:promote", "Promote canaries"),
    "deployment resume": Entry("core.cli.deployment:resume", "Resume a paused deployment"),
    "deployment status": Entry("core.cli.deployment:status", "Show a deployment"),
    "deployment unblock": Entry("core.cli.deployment:unblock", "Unblock a deployment"),
    "dev": Entry("core.cli.dev:dev", "Run a whole federation on this machine"),
    "eval delete": Entry("core.cli.evaluation:delete", "Delete evaluations"),
    "eval list": Entry("core.cli.evaluation:list_", "List evaluations"),
    "eval status": Entry("core.cli.evaluation:status", "Show an evaluation"),
    "authority adopt": Entry(
        "core.cli.authority:adopt", "Succeed an authority whose datacenter is lost"
    ),
    "authority status": Entry("core.cli.authority:status", "Show the authority of the region"),
    "authority transfer": Entry(
        "core.cli.authority:transfer", "Let another datacenter own the region's names"
    ),
    "datacenter adopt": Entry(
        "core.cli.lost_datacenter:adopt", "Take over the jobs of a datacenter that is off"
    ),
    "datacenter drain": Entry("core.cli.datacenter:drain", "Move all work out of a datacenter"),
    "datacenter leave": Entry("core.cli.datacenter:leave", "Take an empty datacenter away"),
    "datacenter off": Entry("core.cli.lost_datacenter:off", "Declare a lost datacenter off"),
    "federation status": Entry("core.cli.federation:status", "Show every datacenter"),
    "fmt": Entry("core.cli.fmt:fmt", "Lay out HCL files in the canonical way"),
    "hcl2json": Entry("core.cli.convert:hcl2json", "Make JSON of any HCL file"),
    "job allocs": Entry("core.cli.job_views:allocs", "List a job's allocations"),
    "job deployments": Entry("core.cli.job_views:deployments", "List a job's deployments"),
    "job dispatch": Entry("core.cli.job_children:dispatch", "Start a parameterized job"),
    "job eval": Entry("core.cli.job_actions:evaluate", "Evaluate a job again"),
    "job history": Entry("core.cli.job_views:history", "Show a job's versions"),
    "job init": Entry("core.cli.job_init:init", "Write an example job file"),
    "job inspect": Entry("core.cli.job_views:inspect", "Show a job as the servers keep it"),
    "job periodic force": Entry("core.cli.job_children:force", "Launch a periodic job now"),
    "job plan": Entry("core.cli.job_plan:plan", "Show what a job file would change"),
    "job promote": Entry("core.cli.deployment:promote_job", "Promote a job's canaries"),
    "job restart": Entry("core.cli.job_restart:restart", "Restart a job's allocations"),
    "job revert": Entry("core.cli.job_actions:revert", "Go back to an earlier version"),
    "job run": Entry("core.cli.job_run:run", "Run a new job or update a running one"),
    "job scale": Entry("core.cli.job_actions:scale", "Change a group's count"),
    "job scaling-events": Entry("core.cli.scaling:events", "Show who changed a job's counts"),
    "job start": Entry("core.cli.job_actions:start", "Start a stopped job"),
    "job status": Entry("core.cli.job_status:status", "Show jobs, or one job"),
    "job stop": Entry("core.cli.job_actions:stop", "Stop a job"),
    "job tag apply": Entry("core.cli.job_tag:apply", "Tag a version of a job"),
    "job tag unset": Entry("core.cli.job_tag:unset", "Take a tag off a job"),
    "job why": Entry("core.cli.job_why:why", "Tell what happened to a job, and why"),
    "job validate": Entry("core.cli.job_validate:validate", "Check job files"),
    "json2hcl": Entry("core.cli.convert:json2hcl", "Make HCL of any JSON object"),
    "monitor": Entry("core.cli.server:monitor", "Follow an agent's log"),
    "namespace apply": Entry("core.cli.quota:namespace_apply", "Change a namespace"),
    "namespace inspect": Entry("core.cli.quota:namespace_inspect", "Show a namespace as JSON"),
    "namespace list": Entry("core.cli.server:namespaces", "List namespaces"),
    "namespace status": Entry("core.cli.quota:namespace_status", "Show a namespace"),
    "quota apply": Entry("core.cli.quota:apply", "Create or change a quota"),
    "quota delete": Entry("core.cli.quota:delete", "Delete a quota"),
    "quota init": Entry("core.cli.quota:init", "Write an example of a quota"),
    "quota inspect": Entry("core.cli.quota:inspect", "Show a quota and its usage as JSON"),
    "quota list": Entry("core.cli.quota:list_", "List quotas"),
    "quota status": Entry("core.cli.quota:status", "Show a quota and what of it is held"),
    "node drain": Entry("core.cli.node_actions:drain", "Move a node's work elsewhere"),
    "node eligibility": Entry("core.cli.node_actions:eligibility", "Let a node take work, or not"),
    "node pool apply": Entry("core.cli.node_pool:apply", "Create or change a node pool"),
    "node pool delete": Entry("core.cli.node_pool:delete", "Delete a node pool"),
    "node pool info": Entry("core.cli.node_pool:info", "Show a node pool"),
    "node pool init": Entry("core.cli.node_pool:init", "Write an example of a node pool"),
    "node pool jobs": Entry("core.cli.node_pool:jobs", "List the jobs of a node pool"),
    "node pool list": Entry("core.cli.node_pool:list_", "List the node pools"),
    "node pool nodes": Entry("core.cli.node_pool:nodes", "List the nodes of a node pool"),
    "node purge": Entry("core.cli.node_pool:purge", "Forget a node"),
    "node status": Entry("core.cli.node_status:status", "Show nodes, or one node"),
    "operator api": Entry("core.cli.operator:api", "Send a request to the HTTP API"),
    "operator gossip keyring generate": Entry(
        "core.cli.operator:generate_key", "Draw a new encryption key"
    ),
    "operator gossip keyring install": Entry("core.cli.operator:install_key", "Install a key"),
    "operator gossip keyring list": Entry("core.cli.operator:list_keys", "List the keys in use"),
    "operator gossip keyring remove": Entry("core.cli.operator:remove_key", "Remove a key"),
    "operator gossip keyring use": Entry("core.cli.operator:use_key", "Send under another key"),
    "operator autopilot get-config": Entry(
        "core.cli.operator_raft:get_config", "Show how the leader keeps the quorum"
    ),
    "operator autopilot health": Entry(
        "core.cli.operator_raft:health", "Show which servers are healthy"
    ),
    "operator autopilot set-config": Entry(
        "core.cli.operator_raft:set_config", "Change how the leader keeps the quorum"
    ),
    "operator raft list-peers": Entry("core.cli.operator_raft:list_peers", "List the Raft peers"),
    "operator raft measure": Entry("core.cli.operator:measure", "Measure how fast the log commits"),
    "operator raft remove-peer": Entry(
        "core.cli.operator_raft:remove_peer", "Remove a server from the quorum"
    ),
    "operator raft transfer-leadership": Entry(
        "core.cli.operator_raft:transfer_leadership", "Hand leadership to another server"
    ),
    "operator raft verify": Entry(
        "core.cli.operator_raft:verify", "Compare the state of all servers"
    ),
    "operator snapshot inspect": Entry(
        "core.cli.operator_snapshot:inspect", "Show what a snapshot holds"
    ),
    "operator snapshot restore": Entry(
        "core.cli.operator_snapshot:restore", "Replace the state by a snapshot's"
    ),
    "operator snapshot save": Entry("core.cli.operator_snapshot:save", "Save the state to a file"),
    "operator snapshot state": Entry(
        "core.cli.operator_snapshot:state", "Show what a snapshot holds"
    ),
    "operator scheduler get-config": Entry(
        "core.cli.operator:get_scheduler_config", "Show the scheduler's configuration"
    ),
    "operator scheduler set-config": Entry(
        "core.cli.operator:set_scheduler_config", "Change the scheduler's configuration"
    ),
    "region list": Entry("core.cli.server:regions", "List the regions of the federation"),
    "scaling policy info": Entry("core.cli.scaling:info", "Show a scaling policy"),
    "scaling policy list": Entry("core.cli.scaling:list_", "List the scaling policies"),
    "server force-leave": Entry("core.cli.server:force_leave", "Make a dead server leave"),
    "server join": Entry("core.cli.server:join", "Join servers"),
    "server members": Entry("core.cli.server:members", "List servers and their state"),
    "service info": Entry("core.cli.service:info", "Show where a service runs"),
    "service list": Entry("core.cli.service:list_", "List the services"),
    "status": Entry("core.cli.lookup:status", "Show whatever an id names"),
    "sim from-nomad": Entry(
        "core.cli.sim_live:from_nomad", "Make a scenario of a live cluster, by its API"
    ),
    "sim from-snapshot": Entry(
        "core.cli.sim_live:from_snapshot", "Make a scenario of operator snapshots"
    ),
    "sim fuzz": Entry("core.cli.sim:fuzz", "Run a scenario under random faults, seed by seed"),
    "sim machines": Entry(
        "core.cli.sim_machines:machines", "Print which machines both hosts build"
    ),
    "sim replay": Entry("core.cli.sim:replay", "Replay a recorded agent, or a scenario to a break"),
    "sim run": Entry("core.cli.sim:run", "Run a scenario"),
    "sim shrink": Entry(
        "core.cli.sim_search:shrink", "Find the least of a scenario that still fails"
    ),
    "sim sweep": Entry("core.cli.sim_search:sweep", "Run a scenario over values of its variables"),
    "system gc": Entry("core.cli.server:collect_garbage", "Forget what has ended"),
    "system reconcile summaries": Entry(
        "core.cli.server:reconcile_summaries", "Count the summaries anew"
    ),
    "tls ca create": Entry("core.cli.tls:ca_create", "Create a certificate authority"),
    "tls ca info": Entry("core.cli.tls:ca_info", "Show an authority's certificate"),
    "tls cert create": Entry("core.cli.tls:cert_create", "Create a certificate"),
    "tls cert info": Entry("core.cli.tls:cert_info", "Show a certificate"),
    "version": Entry("core.cli.server:version", "Show the version"),
}

# Nomad's older spellings: they work and are not listed.
ALIASES: Final[dict[str, str]] = {
    "alloc-status": "alloc status",
    "eval-status": "eval status",
    "fs": "alloc fs",
    "init": "job init",
    "inspect": "job inspect",
    "logs": "alloc logs",
    "node-drain": "node drain",
    "node-status": "node status",
    "plan": "job plan",
    "run": "job run",
    "server-force-leave": "server force-leave",
    "server-join": "server join",
    "server-members": "server members",
    "stop": "job stop",
    "validate": "job validate",
}
