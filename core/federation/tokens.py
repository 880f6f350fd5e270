"""Callers' tokens over the federation: a write that is sent again changes nothing.

A write carries the id of its call and when it was issued. The datacenter that carries it out
keeps the first answer for 24 h (`core.state.access`), and a call older or newer than that is
refused. On the way to that datacenter a new job may find another home at each try, so:

* a job's uid derives from the call that registers it: two tries are one uid, which has one
  claim, and a claim that was given up stays so (core.federation.claims);
* who keeps an answer is asked first: the authority knows the calls of its own log.
"""

import hashlib
from typing import TYPE_CHECKING

from core.model.query import Query
from core.state.access import refuse_call
from core.state.commands import RecordCall

if TYPE_CHECKING:
    from core.state.state import State


def refusal(query: Query, now_us: int) -> str:
    """Return why a write is too old, or too far ahead, to be begun; "" when it is neither."""
    if not query.call_id or not query.call_issued_us:
        return ""
    return refuse_call(RecordCall(query.call_id, query.call_issued_us), now_us)


def uid_of(query: Query, namespace: str, job_id: str) -> str:
    """Return the uid of a job that this call registers: 32 hex digits, equal for each try."""
    seed = f"{query.call_id}/{namespace}/{job_id}".encode()
    return hashlib.blake2b(seed, digest_size=16).hexdigest()


def is_answered(state: "State", query: Query) -> bool:
    """Whether the first answer to a call is kept in this log."""
    return bool(query.call_id) and state.calls.get(query.call_id) is not None
