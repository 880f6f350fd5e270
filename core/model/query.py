"""A request to the API and its answer, in the form that travels between agents.

The HTTP floor turns a route into a `Query`; any agent may pass it on, over RPC, to
the datacenter that can answer. The same pair serves HTTP, RPC forwarding and the
simulator's users.
"""

from typing import Any

import msgspec


class Query(msgspec.Struct, kw_only=True, omit_defaults=True):
    method: str  # "Job.Register": the table in core/server/endpoints says which exist
    params: dict[str, Any] = {}  # what the path and the query string carried
    body: Any = None  # decoded JSON, or a record
    region: str = ""  # "" = the region of the agent that took the call; "*" = all
    datacenter: str = ""  # name or id; "" = whichever owns the answer
    namespace: str = "default"  # "*" = all allowed
    token: str = ""  # secret id of an ACL token
    stale: bool = False
    min_index: int = 0  # blocking query: answer once the index is beyond this
    wait_us: int = 0  # ... or after this long
    hops: int = 0  # datacenters passed through; more than 3 is refused
    call_id: str = ""  # of a write: repeating it changes nothing
    call_issued_us: int = 0  # wall clock of the caller, microseconds
    # What led here, of a write about a job: core.federation.causes.Event as plain data.
    trail: list[dict[str, Any]] = []
    is_part: bool = False  # of an answer that several datacenters give together


class OwnQuery(Query, kw_only=True, omit_defaults=True):
    """A query that a server asks itself, about what was allowed where it was submitted.

    Nothing that was decoded is one: over a connection it becomes a plain `Query`.
    """


class ReadQuery(Query, kw_only=True, omit_defaults=True):
    """A registration whose job file was read already, by the server that answers it.

    Over a connection it becomes a plain `Query`: who gets that reads the file anew.
    """

    job: Any = None  # core.model.job.Job, canonical and valid: that of `body`

    @classmethod
    def of(cls, query: Query, job: Any, **changed: Any) -> "ReadQuery":
        known = {name: getattr(query, name) for name in Query.__struct_fields__}
        return cls(**(known | changed), job=job)


class Answer(msgspec.Struct, kw_only=True, omit_defaults=True):
    status: int = 200  # HTTP status
    error: str = ""  # plain text, when status >= 400
    body: Any = None
    index: int = 0
    known_leader: bool = True
    last_contact_ms: int = 0
    next_token: str = ""
    headers: dict[str, str] = {}
    keys: list[str] = []  # of a list that is part of one: what each row is ordered by

    @property
    def is_error(self) -> bool:
        return self.status >= 400
