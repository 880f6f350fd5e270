"""Whatever comes in is answered in words, and the server lives on."""

from typing import Any

import pytest
from clients import job
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stories import datacenter, leader

from core.model.host import MessageReceived, Peer, Requested
from core.server.endpoints.table import ENDPOINTS

WORLD = datacenter(1, 1)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 40), 1 << 40) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=8,
)
NAMES = ("Job", "ID", "TaskGroups", "Prefix", "Context", "Text", "Count", "Target", "JobVersion",
         "DrainSpec", "Eligibility", "Name", "Type", "Policies", "Region", "Pause")  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (None, 400, "Job must be specified"),
        ([1], 400, "must be a JSON object"),
        ({"Job": None}, 400, "Job must be specified"),
        ({"Job": 7}, 400, "Job"),
        ({"Job": {}}, 400, "Job ID hasn't been provided"),
        ({"Job": {"ID": "x", "TaskGroups": 3}}, 400, "Job.TaskGroups"),
        ({"Job": {"ID": "x", "Priority": "high"}}, 400, "Job.Priority"),
        ({"Job": {"ID": "x"}}, 500, "error"),
        ({"Job": {"ID": "x"}, "Region": 5}, 400, "Region"),
        ({"Job": job("a/periodic-1")}, 500, "kept for children"),
        ({"Job": job(Namespace="nope")}, 500, "nonexistent namespace"),
    ],
)
def test_a_job_that_is_none_is_refused_with_the_place(body: Any, status: int, words: str) -> None:
    answer = WORLD.ask(leader(WORLD), "Job.Register", body=body)
    assert answer.status == status and words in answer.error, answer


@pytest.mark.parametrize(
    ("method", "params", "status", "words"),
    [
        ("No.Such", {}, 404, "Unknown query"),
        ("Job.Get", {}, 400, "Missing parameter"),
        ("Job.Get", {"job_id": "x"}, 404, "job not found"),
        ("Alloc.Get", {"alloc_id": "zzzz"}, 404, "alloc not found"),
        ("Eval.Get", {"eval_id": "zzzz"}, 404, "eval not found"),
        ("Deployment.Get", {"deployment_id": "zz"}, 404, "deployment not found"),
        ("Node.Get", {"node_id": "zzzz"}, 404, "node not found"),
        ("Job.List", {"per_page": "many"}, 400, "per_page"),
        ("Job.List", {"meta": "maybe"}, 400, "meta"),
        ("Job.List", {"filter": "ID =="}, 400, "filter"),
        ("Alloc.List", {"prefix": "xyz"}, 400, "prefix"),
        ("Job.Dispatch", {"job_id": "x"}, 404, "job not found"),
    ],
)
def test_parameters_are_checked(method: str, params: Any, status: int, words: str) -> None:
    answer = WORLD.ask(leader(WORLD), method, params=params)
    assert answer.status == status and words in answer.error, answer


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    method=st.sampled_from(sorted(ENDPOINTS)),
    body=JSON | st.dictionaries(st.sampled_from(NAMES), JSON),
    params=st.dictionaries(
        st.sampled_from(["job_id", "alloc_id", "eval_id", "node_id", "deployment_id", "name",
                         "id", "accessor_id", "prefix", "filter", "per_page", "next_token",
                         "reverse", "version", "address", "node", "choose", "offset", "path"]),
        st.text(max_size=12) | st.integers() | st.booleans() | st.none(),
    ),
)  # fmt: skip
def test_no_body_and_no_parameter_breaks_an_endpoint(method: str, body: Any, params: Any) -> None:
    if method in ("Operator.TransferLeadership", "Operator.RaftMeasure", "Node.Purge"):
        return
    answer = WORLD.ask(leader(WORLD), method, params=params, body=body, seconds=120)
    assert 200 <= answer.status < 600
    assert answer.error if answer.is_error and answer.body is None else True


@settings(max_examples=100, deadline=None)
@given(method=st.sampled_from(["Query", "Query.AtLeader", "Node.Hello", "Node.Register",
                               "Node.Allocations", "Node.FetchAllocations", "Node.Update",
                               "Server.Pledge", "Server.LanView", "Claim.Create", "Nothing"]),
       body=JSON)  # fmt: skip
def test_no_call_of_a_stranger_breaks_the_server(method: str, body: Any) -> None:
    WORLD.deliver(leader(WORLD), Requested(WORLD.next_id(), method, body, Peer()))
    WORLD.run(0.1)
    assert leader(WORLD).server.consensus.is_serving


@settings(max_examples=60, deadline=None)
@given(body=JSON | st.binary(max_size=40) | st.tuples(st.text(max_size=5), st.binary(max_size=60)))
def test_no_raft_message_of_a_stranger_breaks_the_server(body: Any) -> None:
    WORLD.deliver(leader(WORLD), MessageReceived("raft", body, Peer()))
    assert leader(WORLD).server.consensus.is_serving
