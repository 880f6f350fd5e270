"""Where a query goes: another region, another datacenter, our leader, or here.

    own region?  no -> a server of that region            (a hop)
    own datacenter?  the federation says -> a server there (a hop), several, or refused
    endpoint's kind:
        AGENT   here
        CLIENT  here when the allocation is known, else at the leader; from there to the node
        READ    here when `stale`, else at the leader, behind a read barrier
        WRITE   at the leader

A hop is a passage into another datacenter; after `limits.hops` the query is refused
rather than sent in circles. Inside the datacenter `Query.AtLeader` passes a query once:
who gets it and does not lead says so, and the asker tries again until `leader_wait_us` is
over. Trying a write again is safe: the first server that sees it gives it a call token,
and the state keeps a token's first answer.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from core.federation.floors import floor_of
from core.federation.lists import GATHERED
from core.federation.verdicts import as_answer
from core.federation.where import Answered, Everywhere, Here, Refused, There, Where
from core.model.host import Address, CallDone
from core.model.query import Answer, Query
from core.server import acl
from core.server.changes import index_behind
from core.server.endpoints.table import ENDPOINTS
from core.server.gathering import Gathering
from core.server.measures import count
from core.server.patience import Patience
from core.server.prefixes import Prefixes
from core.server.request import (
    NO_LEADER,
    Deferred,
    Endpoint,
    Kind,
    Proposal,
    QueryError,
    Request,
    Respond,
)
from core.server.scatter import Scatter
from core.server.virtual_index import is_virtual
from core.state.commands import RefuseCall

if TYPE_CHECKING:
    from core.server.context import Server

AT_LEADER = "Query.AtLeader"
NOT_LEADER = "not the leader"
NO_PATH = "No path to region"
UNKNOWN_INDEX_US = 1_000_000  # longest wait of a query whose index means nothing here
_FINAL = frozenset({400, 404, 409})  # refusals that stand, whatever changes afterwards
_BY_STATE = frozenset({404, 409})  # refusals for what the state has or lacks
_RETRY_US = 100_000
_LONGEST_READ_US = 60_000_000

# Queries whose body may name the region they are meant for.
_JOB_BODIES = frozenset({"Job.Register", "Job.Plan"})

# Queries that need a name: also where the datacenter is chosen, the federation is asked.
_CLAIMING = frozenset({"Job.Register"})


class Router:
    def __init__(self, server: Server) -> None:
        self._server = server
        self.scatter = Scatter(server, self._pass_on, self._here)
        self._gathering = Gathering(server, self.scatter)
        self._prefixes = Prefixes(server, self.scatter)
        self._patience = Patience()

    # --- entry points -----------------------------------------------------------------

    def on_query(self, query: Query, respond: Respond) -> None:
        """Answer a query of this agent's API or of another agent, wherever it belongs."""
        count(self._server.measures.queries, query.method)
        respond = self._counting(respond)
        endpoint = ENDPOINTS.get(query.method)
        if endpoint is None:
            respond(Answer(status=404, error=f"Unknown query {query.method!r}"))
            return
        if query.hops > self._server.config.limits.hops:
            count(self._server.measures.refusals, "hops")
            respond(
                Answer(
                    status=500,
                    error=f"{query.method} passed through {query.hops} datacenters without"
                    " finding its owner: refused",
                )
            )
            return
        if endpoint.kind is Kind.WRITE:
            query = self._with_token(query)
        try:
            region = self._region_of(query)
        except QueryError as error:
            respond(error.answer())
            return
        config = self._server.config
        if region not in ("", "*", config.region):
            self._to_region(region, query, respond)
            return
        is_of_any = query.region == "*" and query.method in GATHERED and not query.is_part
        if query.datacenter and not self._is_own(query.datacenter) and not is_of_any:
            self._to_datacenter(query.datacenter, query, respond)
            return
        is_chosen = bool(query.datacenter) and query.method not in _CLAIMING
        if endpoint.kind is Kind.AGENT or (is_chosen and not is_of_any):
            self._here(endpoint, query, respond)
            return
        self._prefixes.resolve(query, lambda full: self._locate(endpoint, full, respond), respond)

    def _locate(self, endpoint: Endpoint, query: Query, respond: Respond) -> None:
        self._server.federation.locate(
            query, lambda where: self._located(where, endpoint, query, respond)
        )

    def on_query_at_leader(
        self, query: Query, respond: Respond, refuse: Callable[[], None]
    ) -> None:
        """Answer a query that a server of this datacenter passed on; `refuse` if not leading."""
        endpoint = ENDPOINTS.get(query.method)
        if not self._server.consensus.is_serving:
            refuse()
            return
        if endpoint is None:
            respond(Answer(status=404, error=f"Unknown query {query.method!r}"))
            return
        count(self._server.measures.queries, query.method)
        respond = self._counting(respond)
        self._at_leader(endpoint, query, respond)

    def _at_leader(self, endpoint: Endpoint, query: Query, respond: Respond) -> None:
        """Answer as the leader: a follower could not know what only the leader may decide.

        So the federation is asked again, but for a query that was sent to this very
        datacenter: what that is about has been decided.
        """
        if query.datacenter and query.method not in _CLAIMING:
            self._here(endpoint, query, respond)
            return
        self._locate(endpoint, query, respond)

    def answer_here(self, query: Query, respond: Respond) -> None:
        """Answer in this datacenter, without asking the federation again."""
        endpoint = ENDPOINTS.get(query.method)
        if endpoint is None:
            respond(Answer(status=404, error=f"Unknown query {query.method!r}"))
            return
        if endpoint.kind is Kind.WRITE:
            query = self._with_token(query)
        self._here(endpoint, query, respond)

    # --- choosing ---------------------------------------------------------------------

    def _region_of(self, query: Query) -> str:
        """Return the region that shall answer: the query's, else the one its job names."""
        region = query.region
        if not region and query.method in _JOB_BODIES and isinstance(query.body, dict):
            job = query.body.get("Job")
            named = query.body.get("Region") or (
                job.get("Region") if isinstance(job, dict) else None
            )
            if named is not None and not isinstance(named, str):
                raise QueryError(400, "Request body is not valid: Region must be a string")
            region = named or ""
        if region == "global" and region not in self._server.membership.regions():
            return ""  # Nomad's default region means the agent's own
        return region

    def _located(self, where: Where, endpoint: Endpoint, query: Query, respond: Respond) -> None:
        match where:
            case Here():
                self._here(endpoint, query, respond)
            case There(datacenter_id):
                self._to_datacenter(datacenter_id, query, respond)
            case Everywhere():
                self._gathering.start(where, endpoint, query, respond)
            case Answered(answer):
                respond(answer)
            case Refused(answer):
                count(self._server.measures.refusals, "federation")
                respond(answer)

    def _here(self, endpoint: Endpoint, query: Query, respond: Respond) -> None:
        """Answer in this datacenter: on this server, or at its leader."""
        is_local = (
            endpoint.kind is Kind.AGENT
            or self._server.consensus.is_serving
            or (query.stale and endpoint.kind is Kind.READ)
            or (endpoint.kind is Kind.CLIENT and self._knows_target(query))
        )
        if is_local:
            self._local(endpoint, query, respond)
        else:
            self._to_leader(query, respond)

    def _knows_target(self, query: Query) -> bool:
        alloc_id = str(query.params.get("alloc_id", ""))
        node_id = str(query.params.get("node_id", ""))
        state = self._server.state
        if alloc_id:
            return state.allocs.row_of(alloc_id) is not None
        return bool(node_id) and state.nodes.get(node_id) is not None

    # --- answering here ---------------------------------------------------------------

    def _local(self, endpoint: Endpoint, query: Query, respond: Respond) -> None:
        consensus = self._server.consensus
        if endpoint.kind is Kind.READ and not query.stale and consensus.is_serving:
            consensus.read_barrier(
                lambda is_leader: (
                    self._read(endpoint, query, respond)
                    if is_leader
                    else self._here_again(endpoint, query, respond)
                )
            )
        elif endpoint.kind is Kind.READ:
            self._read(endpoint, query, respond)
        else:
            self._run(endpoint, query, respond)

    def _here_again(self, endpoint: Endpoint, query: Query, respond: Respond) -> None:
        """The barrier failed, so another server leads by now, or soon will."""
        self._to_leader_later(query, respond)

    def _read(self, endpoint: Endpoint, query: Query, respond: Respond) -> None:
        request = Request(query, self._server)
        wait_us = query.wait_us
        if is_virtual(query.min_index):  # one log can't know it, nor ever come so far
            wait_us = min(wait_us or UNKNOWN_INDEX_US, UNKNOWN_INDEX_US)
        job_id = str(query.params.get("job_id", "")) if query.method.startswith("Job.") else ""
        state = self._server.state
        floor = floor_of(state, query.namespace, job_id) if job_id else 0

        keys: tuple[str, ...] = ()
        if endpoint.watches is not None:
            try:
                keys = endpoint.watches(request)
            except QueryError as error:
                respond(self._finished(error.answer(), query))
                return

        def evaluate() -> Answer:
            answer = self._finished(self._outcome(endpoint, request), query)
            if answer.status == 404:
                answer.index = max(1, index_behind(self._server.state, keys))
            answer.index += floor
            return answer

        self._server.blocking.answer_or_park(
            evaluate, respond, min_index=query.min_index, wait_us=wait_us, keys=keys
        )

    def _run(self, endpoint: Endpoint, query: Query, respond: Respond) -> None:
        outcome = self._outcome(endpoint, Request(query, self._server))
        match outcome:
            case Proposal(commands, answer):
                commands = self._server.federation.trails.recorded(query, commands)
                # Not at once: a leader that was just cut off would ask itself for ever.
                self._server.consensus.propose_call(
                    commands,
                    query,
                    answer,
                    respond,
                    lambda: self._to_leader_later(query, respond),
                )
            case Deferred(start):
                start(respond)
            case Answer() if outcome.status in _FINAL and query.hops and self._is_first(query):
                self._refuse(outcome, query, respond)
            case Answer() if endpoint.kind is Kind.WRITE and outcome.status in _BY_STATE:
                self._refuse_as_leader(outcome, query, respond)
            case Answer():
                respond(self._finished(outcome, query))

    def _refuse_as_leader(self, refusal: Answer, query: Query, respond: Respond) -> None:
        """Refuse a write for what the state lacks or has, once it is sure to be the newest."""

        def proven(is_leader: bool) -> None:
            if is_leader:
                respond(self._finished(refusal, query))
            else:
                self._to_leader_later(query, respond)

        self._server.consensus.read_barrier(proven)

    def _is_first(self, query: Query) -> bool:
        return bool(query.call_id) and query.call_id not in self._server.state.calls

    def _refuse(self, refusal: Answer, query: Query, respond: Respond) -> None:
        """Commit the refusal of a write that came from elsewhere, then answer.

        A copy of it may be on its way still, and arrive when nothing speaks against it any
        more; whoever was refused has gone on by then.
        """
        command = RefuseCall(status=refusal.status, error=refusal.error)
        finished = self._finished(refusal, query)
        self._server.consensus.propose_call(
            [command], query, lambda _: finished, respond,
            lambda: self._to_leader_later(query, respond),
        )  # fmt: skip

    def _outcome(self, endpoint: Endpoint, request: Request) -> Answer | Proposal | Deferred:
        try:
            if self._server.config.acl_enabled:
                acl.check(request.state, request.query, endpoint)
            return endpoint.handler(request)
        except QueryError as error:
            return self._kept(endpoint, request) or error.answer()

    def _kept(self, endpoint: Endpoint, request: Request) -> Answer | None:
        """Return the first answer to a write that can't be repeated: its job is gone since."""
        query = request.query
        kept = self._server.state.calls.get(query.call_id) if query.call_id else None
        if kept is None or endpoint.kind is not Kind.WRITE:
            return None
        refused = next((one for one in kept.results if one.is_error), None)
        if refused is not None:
            return Answer(status=refused.status, error=refused.error)
        value = kept.results[0].value if kept.results else None
        told = value if isinstance(value, dict) else {}
        body = {
            "EvalID": told.get("EvalID", ""),
            "EvalCreateIndex": kept.index,
            "JobModifyIndex": told.get("JobModifyIndex", 0),
            "Index": kept.index,
        }
        return Answer(body=body, index=kept.index)

    def _finished(self, outcome: Any, query: Query) -> Answer:
        """Fill in what every answer carries: a positive index, the leader's contact."""
        assert isinstance(outcome, Answer), "a read returns its answer at once"
        consensus = self._server.consensus
        outcome.index = max(1, outcome.index)
        outcome.known_leader = consensus.leader_address() != ""
        outcome.last_contact_ms = consensus.last_contact_ms()
        return outcome

    # --- passing on -------------------------------------------------------------------

    def _to_region(self, region: str, query: Query, respond: Respond) -> None:
        servers = self._server.membership.servers_of_region(region)
        if not servers:
            count(self._server.measures.refusals, "region")
            respond(Answer(status=500, error=NO_PATH))
            return
        passed = msgspec.structs.replace(query, region=region)
        passed = self._server.federation.trails.passed_on(passed, f"region {region}")
        self._pass_on([site.rpc for site in servers], passed, respond)

    def _to_datacenter(self, datacenter: str, query: Query, respond: Respond) -> None:
        servers = self._server.membership.servers_of_datacenter(datacenter)
        if not servers:
            count(self._server.measures.refusals, "datacenter")
            region = self._server.config.region
            found = self._server.membership.datacenters().values()
            known = ", ".join(sorted(one.name for one in found if one.region == region))
            text = f"No path to datacenter {datacenter!r} of region {region}"
            respond(Answer(status=500, error=f"{text}; known there: {known or 'none'}"))
            return
        # The caller's region may be another: a job that spilled over lives where its id says.
        passed = msgspec.structs.replace(query, region=servers[0].region)
        goal = f"{servers[0].region}/{servers[0].datacenter}"
        passed = self._server.federation.trails.passed_on(passed, goal)
        self._pass_on([site.rpc for site in servers], passed, respond)

    def _pass_on(self, addresses: list[Address], query: Query, respond: Respond) -> None:
        """Send the query into another datacenter, to the first server there that answers."""
        count(self._server.measures.forwards, "datacenter")
        # Each query begins with another server, so no gateway carries all of them.
        start = self._server.rng.randrange(len(addresses))
        order = (addresses[start:] + addresses[:start])[:3]
        forwarded = msgspec.structs.replace(query, hops=query.hops + 1)

        endpoint = ENDPOINTS.get(query.method)
        is_held_back = query.min_index or query.wait_us or _param_wait_us(query)
        may_be_short = not is_held_back and (endpoint is None or endpoint.kind is not Kind.WRITE)

        def attempt(position: int) -> None:
            address, timeout_us = order[position], self._timeout_us(query)
            if may_be_short:
                now_us = self._server.now.mono_us
                timeout_us = self._patience.timeout_us(address, timeout_us, now_us)
            self._server.outbox.ask(address, "Query", forwarded, timeout_us, done(position))

        def done(position: int) -> Callable[[CallDone], None]:
            def on_done(event: CallDone) -> None:
                self._patience.ended(order[position], event.error, self._server.now.mono_us)
                if not event.error:
                    respond(as_answer(event.body))
                elif position + 1 < len(order) and event.error.startswith("unreachable"):
                    attempt(position + 1)
                else:
                    respond(Answer(status=500, error=f"{NO_PATH}: {event.error}"))

            return on_done

        attempt(0)

    def _to_leader_later(self, query: Query, respond: Respond) -> None:
        self._server.outbox.after(_RETRY_US, lambda: self._to_leader(query, respond))

    def _to_leader(self, query: Query, respond: Respond) -> None:
        """Pass the query to the leader, again and again while there is none."""
        server = self._server
        give_up_us = server.now.mono_us + server.config.limits.leader_wait_us

        def attempt() -> None:
            endpoint = ENDPOINTS[query.method]
            if server.consensus.is_serving:  # this server was elected meanwhile
                self._at_leader(endpoint, query, respond)
                return
            address = server.consensus.leader_address()
            if not address or server.consensus.is_leader:
                later("")
                return
            count(server.measures.forwards, "leader")
            server.outbox.ask(address, AT_LEADER, query, self._timeout_us(query), on_done)

        def on_done(event: CallDone) -> None:
            if not event.error:
                respond(as_answer(event.body))
            else:
                later(event.error)

        def later(reason: str) -> None:
            if server.now.mono_us >= give_up_us:
                count(server.measures.refusals, "leader")
                text = NO_LEADER if reason in ("", NOT_LEADER) else f"{NO_LEADER}: {reason}"
                age_ms = server.consensus.last_contact_ms()
                respond(Answer(status=500, error=text, known_leader=False, last_contact_ms=age_ms))
                return
            server.outbox.after(_RETRY_US, attempt)

        attempt()

    def _timeout_us(self, query: Query) -> int:
        """Return how long to wait for another agent's answer."""
        limits = self._server.config.limits
        waits_us = 0
        if query.min_index > 0:
            waits_us = min(query.wait_us or limits.blocking_default_us, limits.blocking_max_us)
            waits_us += waits_us // 16
        else:
            waits_us = max(0, query.wait_us, _param_wait_us(query))
        return waits_us + limits.forward_timeout_us

    # --- small things -----------------------------------------------------------------

    def _is_own(self, datacenter: str) -> bool:
        return datacenter in (self._server.config.datacenter, self._server.datacenter_id)

    def _with_token(self, query: Query) -> Query:
        """Give a write its call token, so that sending it again changes nothing."""
        wall_us = self._server.now.wall_us
        if query.call_id:
            if query.call_issued_us:
                return query
            return msgspec.structs.replace(query, call_issued_us=wall_us)
        call_id = f"{self._server.rng.getrandbits(128):032x}"
        return msgspec.structs.replace(query, call_id=call_id, call_issued_us=wall_us)

    def _counting(self, respond: Respond) -> Respond:
        def counted(answer: Answer) -> None:
            if answer.is_error:
                count(self._server.measures.query_errors, str(answer.status))
            respond(answer)

        return counted


def _param_wait_us(query: Query) -> int:
    """Return how long a read at the end of a log shall wait for more, 0 = not at all."""
    given = str(query.params.get("wait_us", ""))
    return min(int(given), _LONGEST_READ_US) if given.isdigit() else 0


def as_query(body: Any) -> Query:
    """Return the query of a call's body, a record or plain data.

    Raises:
        msgspec.ValidationError: It is none.
    """
    return body if isinstance(body, Query) else msgspec.convert(body, Query)
