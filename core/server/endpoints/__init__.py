# ruff: noqa: E501 - the rows of a table are not wrapped
"""Every `Query` a server answers: what the HTTP routes and the CLI are built against.

`Query.params` holds what the path and the query string carried, by the names below;
values may be strings as HTTP has them ("true", "10") or real ones. Path parameters are
`job_id`, `alloc_id`, `eval_id`, `deployment_id`, `node_id`, `name`, `id`,
`accessor_id`. `Query.body` is the decoded JSON body with Nomad's names, untouched;
`Answer.body` is plain data or records that encode to Nomad's JSON.

Reads marked L also take: prefix, filter (go-bexpr), per_page, next_token, reverse.
All R honour `stale`, `min_index`, `wait_us`; every Answer carries `index` > 0.
W = write (goes to the leader), R = read, A = answered by the agent asked (or, with a
region given, by any server there), C = carried to the node that runs the allocation.

| method | kind | params / body | answer body |
|---|---|---|---|
| Job.List | R L | meta | [JobListStub]; namespace "*" = all |
| Job.Register | W | body {Job, EnforceIndex, JobModifyIndex, PreserveCounts, EvalPriority, Submission} | {EvalID, EvalCreateIndex, JobModifyIndex, Warnings, Index} |
| Job.Get | R | job_id | Job |
| Job.Deregister | W | job_id, purge, eval_priority | {EvalID, EvalCreateIndex, JobModifyIndex, Index} |
| Job.Plan | R | job_id; body {Job, Diff} | {Annotations, FailedTGAllocs, JobModifyIndex, CreatedEvals, Diff, NextPeriodicLaunch, Warnings, Index, SeraiPlacements, SeraiVerdicts} |
| Job.Validate | R | body {Job} | {DriverConfigValidated, ValidationErrors, Error, Warnings} |
| Job.Evaluate | W | job_id; body {EvalOptions: {ForceReschedule}} | {EvalID, EvalCreateIndex, JobModifyIndex, Index} |
| Job.Allocations | R | job_id, all | [AllocListStub] |
| Job.Evaluations | R | job_id | [Evaluation] |
| Job.Deployments | R | job_id, all | [Deployment] |
| Job.LatestDeployment | R | job_id | Deployment or null |
| Job.Summary | R | job_id | JobSummary |
| Job.Versions | R | job_id, diffs, diff_version, diff_tag | {Versions, Diffs} |
| Job.TagVersion | W | job_id, name; body {Version, Description} | {Name, Description, TaggedTime, Index} |
| Job.UntagVersion | W | job_id, name | {Index} |
| Job.Revert | W | job_id; body {JobVersion, EnforcePriorVersion} | as Job.Register |
| Job.Stable | W | job_id; body {JobVersion, Stable} | {Index} |
| Job.Scale | W | job_id; body {Count, Target: {Group}, Message, Error, Meta, JobModifyIndex} | as Job.Register |
| Job.ScaleStatus | R | job_id | {JobID, ..., TaskGroups} |
| Job.Shares | R | job_id | {JobID, Namespace, Home, Epoch, Unassigned, Shares: [{DatacenterID, Region, Datacenter, IsHome, Wanted, Running, Held, Indices, Copies, State, Reason}]}; Serai's own |
| Job.Start | W | job_id; the query's datacenter | as Job.Deregister; a part that was stopped there runs again |
| Job.Submission | R | job_id, version | {Source, Format, VariableFlags, Variables, ...} |
| Job.Services | R | job_id | [ServiceRegistration] |
| Job.Dispatch | W | job_id, idempotency_token; body {Payload (base64), Meta, IdPrefixTemplate} | {DispatchedJobID, EvalID, EvalCreateIndex, JobCreateIndex, Index} |
| Job.PeriodicForce | W | job_id | {EvalID, EvalCreateIndex, Index} |
| Alloc.List | R L | resources, task_states | [AllocListStub] |
| Alloc.Get | R | alloc_id (full, or a unique prefix) | Allocation with Job, Resources, TaskResources |
| Alloc.Stop | W | alloc_id, no_shutdown_delay, reschedule | {EvalID, Index} |
| Alloc.Services | R | alloc_id | [ServiceRegistration] |
| Eval.List | R L | status, job | [Evaluation] |
| Eval.Get | R | eval_id, related | Evaluation (+ RelatedEvals) |
| Eval.Count | R | filter | {Count} |
| Eval.Delete | W | filter; body {EvalIDs} | {Count, Index} |
| Eval.Allocations | R | eval_id | [AllocListStub] |
| Deployment.List | R L | | [Deployment] |
| Deployment.Get | R | deployment_id | Deployment |
| Deployment.Allocations | R | deployment_id | [AllocListStub] |
| Deployment.Fail | W | deployment_id | {EvalID, EvalCreateIndex, DeploymentModifyIndex, Index} |
| Deployment.Promote | W | deployment_id; body {All, Groups} | as Deployment.Fail |
| Deployment.SetAllocHealth | W | deployment_id; body {HealthyAllocationIDs, UnhealthyAllocationIDs} | as Deployment.Fail |
| Deployment.Pause | W | deployment_id; body {Pause} | as Deployment.Fail |
| Node.List | R L | resources, os | [NodeListStub] |
| Node.Get | R | node_id | Node without SecretID, with Drain |
| Node.AllocationsOf | R | node_id | [Allocation] (with Job) |
| Node.Eligibility | W | node_id; body {Eligibility} | {NodeModifyIndex, EvalIDs, EvalCreateIndex, Index} |
| Node.Drain | W | node_id; body {DrainSpec, MarkEligible} | as Node.Eligibility |
| Node.Purge | W | node_id | {EvalIDs, EvalCreateIndex, NodeModifyIndex, Index} |
| Node.Evaluate | W | node_id | as Node.Eligibility |
| NodePool.List | R L | | [NodePool] ("all", "default", and those nodes name) |
| NodePool.Get | R | name | NodePool |
| NodePool.Upsert | W | name; body NodePool | {Index} |
| NodePool.Delete | W | name | {Index} |
| Job.Why | A | job_id | {JobID, Namespace, Jobs: [{UID, Home, Status, Events: [{ID, Kind, Region, Datacenter, DatacenterID, Time, HybridTime, ClockOff, Depth, After, Facts, Text}]}], Dropped, Missing: [{Region, Datacenter, DatacenterID, Error, IsStale}]}; Serai's own |
| Authority.Status | R | | {Region, Datacenter, ID, IsAuthority, Generation, To, Claims}: of the region's authority; Serai's own |
| Authority.Own | R | | the same of the datacenter that is asked, with Succession: {Generation, Since, Stage, Lost, Members, Pledged, SupersededBy, Waiting} or null |
| Authority.Adopt | W | body {Datacenter: name or id, Force} | {ID, Generation, Index}: this datacenter succeeds that one, which is lost |
| Authority.Transfer | W | body {To: name or id} | {To, Index} |
| Datacenter.Drain | R | | {Region, Datacenter, ID, IsDraining, Since, IsLeaving, IsOff, Instances, Homes, Shares} |
| Datacenter.SetDrain | W | body {IsDraining} | {IsDraining, Index} |
| Datacenter.Leave | W | | {IsLeaving, Index}: this one, which is empty, leaves the federation |
| Datacenter.Off | W | body {Datacenter: name or id, Force} | {ID, Datacenter, Index}: by the region's authority |
| Datacenter.Adopt | W | body {Datacenter: name or id} | {ID, Index}: this datacenter adopts the jobs of that one |
| Datacenter.Adoptions | R | | [{ID, Datacenter, Region, By, Since, Stage, Jobs, Adopted, Lost, Refused, Waiting}] |
| Job.Chain | R | job_id | what one datacenter tells of it: core.federation.chains.Told |
| Federation.Status | A | | [{Region, Datacenter, ID, ServersAlive, Servers, HasQuorum, DigestAgeSeconds, NodesReady, FreeCPU, ..., Queue, Blocked, RoundTripMilliseconds, ClockOffsetMilliseconds, Error}]; Serai's own |
| Scaling.ListPolicies | R | job, type | [{ID, Enabled, Type, Target, CreateIndex, ModifyIndex}] |
| Scaling.GetPolicy | R | id | ScalingPolicy |
| Deployment.Unblock | W | deployment_id | refused: only rollouts over several regions are ever blocked |
| NodePool.Nodes | R L | name | [NodeListStub] |
| NodePool.Jobs | R L | name | [JobListStub] |
| Service.List | R | filter | [{Namespace, Services: [{ServiceName, Tags}]}] |
| Service.Get | R L | name, choose ("N" or "N\\|key") | [ServiceRegistration] |
| Service.Delete | W | name, id | {Index} |
| Namespace.List | R L | | [Namespace] ("default" is built in) |
| Namespace.Get | R | name | Namespace |
| Search.Prefix | R | body {Prefix, Context} | {Matches, Truncations} |
| Search.Fuzzy | R | body {Text, Context} | {Matches: {ctx: [{ID, Scope}]}, Truncations} |
| Status.Leader | A | | "host:port" of the leader's RPC, "" without one |
| Status.Peers | A | | ["host:port"] |
| Region.List | A | | [name] |
| Agent.Self | A | | {config, member, stats} |
| Agent.Members | A | | {ServerName, ServerRegion, ServerDC, Members} (WAN pool) |
| Agent.Nodes | A | | the same of the LAN pool (servers and clients of this datacenter) |
| Agent.Join | A | address: [gossip address] | {num_joined, error}; needs the node's answer, so it may take 10 s |
| Agent.ForceLeave | A | node, prune | {} |
| Agent.Keyring.List | A | | {Keys: {key: members}, PrimaryKeys, Messages: {member: error}, NumNodes, NumResp, NumErr, Members: [{Name, Keys, Error}]} |
| Agent.Keyring.Install, .Use, .Remove | A | body {Key} | the same; 400 when members would be cut off |
| Agent.Health | A | type | {server: {ok, message}}; status 500 when not ok |
| Agent.Servers | A | | [rpc address] |
| ACL.Bootstrap | W | body {BootstrapSecret} | ACLToken |
| ACL.Token.List | R L | | [ACLTokenListStub] |
| ACL.Token.Get | R | accessor_id | ACLToken |
| ACL.Token.Self | R | | ACLToken |
| ACL.Token.Create | W | body ACLToken | ACLToken |
| ACL.Token.Update | W | accessor_id; body ACLToken | ACLToken |
| ACL.Token.Delete | W | accessor_id | {Index} |
| Operator.RaftConfiguration | R | | {Servers: [{ID, Node, Address, Leader, Voter, RaftProtocol}], Index} |
| Operator.TransferLeadership | W | id or address ("" = the best follower) | {From, To} |
| Operator.RemovePeer | W | id or address | null |
| Operator.RaftVerify | W | | {Index, Equal, Servers: [{ID, Node, Address, Hash, Error}], Differences: [{Table, Group, Servers}]} |
| Operator.AutopilotGet | R | | AutopilotConfiguration |
| Operator.AutopilotSet | W | cas; body AutopilotConfiguration | true or false with cas, else null |
| Operator.AutopilotHealth | W | | OperatorHealthReply; status 429 when one is not healthy |
| Operator.SnapshotOpen | R | at_index (0 = now) | {ServerID, ExportID, Index, DatacenterID} |
| Operator.SnapshotChunk | A | server_id, export_id, offset | {data: bytes, is_last} |
| Operator.SnapshotStage | W | restore_id, offset; body {data: bytes} | {Size} |
| Operator.SnapshotRestore | W | restore_id, digest, force | {Index} |
| Operator.RaftMeasure | W | body {Size, Window, Seconds, Rate} | {Committed, CommitsPerSecond, Milliseconds: {P50, P90, P99, P999, Max}, ...} |
| Operator.SchedulerGet | R | | {SchedulerConfig, Index} |
| Operator.SchedulerSet | W | cas; body SchedulerConfiguration | {Updated, Index} |
| System.GC | W | | null |
| System.ReconcileSummaries | W | | null |
| Client.Logs | C | alloc_id, task, type, origin, offset, limit, wait_us, frame | {data: bytes, offset, frame, eof} |
| Client.FS.List | C | alloc_id, path | [{Name, IsDir, Size, FileMode, ModTime, ContentType}] |
| Client.FS.Stat | C | alloc_id, path | one of these |
| Client.FS.Cat, Client.FS.ReadAt, Client.FS.Stream | C | alloc_id, path, offset, limit, origin, wait_us | {data: bytes, offset, eof} |
| Client.Restart | C | alloc_id; body {TaskName, AllTasks} | {Index} |
| Client.Signal | C | alloc_id; body {Signal, Task} | {Index} |
| Client.Checks | C | alloc_id | {checkID: {...}} |
| Client.AllocStats | C | alloc_id, task | AllocResourceUsage |
| Client.Stats | C | node_id | HostStats |

Following a log is repeated Client.Logs with the `offset` and `frame` last answered and
a `wait_us`; the HTTP floor makes a stream of it.

Errors are `Answer(status, error)` with Nomad's texts: 400 a bad parameter or body, 403
"Permission denied" and "ACL token not found", 404 "job not found", "alloc not found",
"eval not found", "deployment not found", "node not found", 409 a call token that is
too old, 429 too many blocking queries, 500 "No path to region", "No cluster leader" and
what validation found ("N error(s) occurred: ..."), 501 what is not built.
"""
