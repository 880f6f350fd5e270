"""Records as the API answers them."""

from typing import Any

ALLOC_ID = "8ba85cef-22b3-4b1e-a7d1-0d12345678ab"
NODE_ID = "1f3a9c44-5555-4b1e-a7d1-0d12345678ab"
EVAL_ID = "5456bd7a-9fc0-c0dd-6131-0d12345678ab"
DEPLOYMENT_ID = "9fa81f27-3333-4b1e-a7d1-0d12345678ab"


def job(**changes: Any) -> dict[str, Any]:
    return {
        "ID": "web", "Name": "web", "Namespace": "default", "Type": "service", "Priority": 50,
        "Region": "eu", "Datacenters": ["*"], "NodePool": "default", "Status": "running",
        "SubmitTime": 1_700_000_000_000_000_000, "Version": 3,
        "TaskGroups": [{"Name": "front", "Count": 1, "Tasks": [{"Name": "main"}]}],
    } | changes  # fmt: skip


def alloc(**changes: Any) -> dict[str, Any]:
    return {
        "ID": ALLOC_ID, "EvalID": EVAL_ID, "NodeID": NODE_ID, "NodeName": "eu-client-1",
        "Name": "web.front[0]", "JobID": "web", "JobVersion": 3, "TaskGroup": "front",
        "DesiredStatus": "run", "ClientStatus": "running", "ClientDescription": "",
        "Namespace": "default", "CreateIndex": 11, "CreateTime": 0, "ModifyTime": 0,
        "TaskStates": {
            "main": {
                "State": "running", "Restarts": 1, "StartedAt": "2023-11-14T22:13:20Z",
                "FinishedAt": "0001-01-01T00:00:00Z", "LastRestart": "0001-01-01T00:00:00Z",
                "Events": [
                    {"Type": "Received", "Time": 1_700_000_000_000_000_000,
                     "DisplayMessage": "Task received by client"},
                    {"Type": "Started", "Time": 1_700_000_001_000_000_000,
                     "DisplayMessage": "Task started by client"},
                ],
            }
        },
    } | changes  # fmt: skip


def evaluation(**changes: Any) -> dict[str, Any]:
    return {
        "ID": EVAL_ID, "JobID": "web", "Namespace": "default", "Type": "service", "Priority": 50,
        "TriggeredBy": "job-register", "Status": "complete", "DeploymentID": "", "NextEval": "",
        "BlockedEval": "", "FailedTGAllocs": None, "CreateIndex": 10, "StatusDescription": "",
    } | changes  # fmt: skip


def deployment(**changes: Any) -> dict[str, Any]:
    group = {
        "DesiredTotal": 1, "PlacedAllocs": 1, "HealthyAllocs": 1, "UnhealthyAllocs": 0,
        "RequireProgressBy": "0001-01-01T00:00:00Z",
    }  # fmt: skip
    return {
        "ID": DEPLOYMENT_ID, "JobID": "web", "JobVersion": 3, "Namespace": "default",
        "Status": "successful", "StatusDescription": "Deployment completed successfully",
        "TaskGroups": {"front": group}, "CreateIndex": 12,
    } | changes  # fmt: skip


def node(**changes: Any) -> dict[str, Any]:
    return {
        "ID": NODE_ID, "Name": "eu-client-1", "Datacenter": "dc1", "NodeClass": "",
        "NodePool": "default", "Drain": False, "SchedulingEligibility": "eligible",
        "Status": "ready", "Drivers": {"raw_exec": {"Detected": True, "Healthy": True}},
        "NodeResources": {
            "Cpu": {"CpuShares": 2000}, "Memory": {"MemoryMB": 2048}, "Disk": {"DiskMB": 10240},
        },
    } | changes  # fmt: skip


NO_ROOM = {
    "NodesEvaluated": 2, "NodesExhausted": 2, "DimensionExhausted": {"memory": 2},
    "NodesAvailable": {"dc1": 2}, "CoalescedFailures": 1,
}  # fmt: skip
