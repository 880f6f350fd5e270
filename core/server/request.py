"""One query on its way to an endpoint: its parameters read with care, its answer's shape.

An endpoint is a plain function. A **read** looks at the state and returns an `Answer`;
it may run again, when it blocks. A **write** returns the `Proposal` to be committed, with
what to answer once it is applied; it never waits. Whatever is wrong with the input is
raised as `QueryError` and becomes the answer's status and text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar, get_origin

import msgspec

from core.model.ids import derived_id
from core.model.query import Answer, Query

if TYPE_CHECKING:
    from core.server.context import Server
    from core.state.result import Applied
    from core.state.state import State

T = TypeVar("T")
Respond = Callable[[Answer], None]
NO_LEADER = "No cluster leader"  # how the error begins of whoever found none in time


class QueryError(Exception):
    """The query is answered with this status and text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text

    def answer(self) -> Answer:
        return Answer(status=self.status, error=self.text)


class Kind(StrEnum):
    """Who answers a query, see core.server.endpoints."""

    READ = "read"  # a replica of the datacenter: its leader, any when `stale`
    WRITE = "write"  # the leader
    AGENT = "agent"  # whichever server is asked
    CLIENT = "client"  # the node that runs the allocation


@dataclass(frozen=True, slots=True)
class Proposal:
    """Commands that take effect together, and the answer once they have."""

    commands: list[Any]  # of core.state.commands.Command
    answer: Callable[[Applied], Answer]


@dataclass(frozen=True, slots=True)
class Deferred:
    """The answer comes later; `start` is handed the way to give it."""

    start: Callable[[Respond], None]


Outcome = Answer | Proposal | Deferred
Handler = Callable[["Request"], Outcome]


@dataclass(frozen=True, slots=True)
class Endpoint:
    kind: Kind
    handler: Handler
    is_public: bool = False  # answered without a token even when access control is on
    watches: Callable[[Request], tuple[str, ...]] | None = None  # keys of core.server.blocking


@dataclass(slots=True)
class Request:
    query: Query
    server: Server
    drawn: int = 0  # ids drawn so far

    @property
    def state(self) -> State:
        return self.server.state

    def draw_id(self) -> str:
        """Return a new id of this datacenter, drawn from the write's call token.

        So a write that is carried out again by the next leader draws the same ids, and
        the answer to its repetition names the same evaluation.
        """
        self.drawn += 1
        query = self.query
        seed = f"{query.call_id}/{query.method}/{query.namespace}/{self.drawn}"
        return derived_id(seed, self.server.datacenter_id)

    # --- parameters: strings as HTTP has them, or real values -------------------------

    def text(self, name: str, default: str = "") -> str:
        value = self.query.params.get(name, default)
        return value if isinstance(value, str) else str(value)

    def required(self, name: str) -> str:
        value = self.text(name)
        if not value:
            raise QueryError(400, f"Missing parameter {name!r}")
        return value

    def flag(self, name: str) -> bool:
        """Return a boolean parameter; a bare one ("?stale") counts as true.

        Raises:
            QueryError: It is neither true nor false.
        """
        value = self.query.params.get(name)
        if value is None or isinstance(value, bool):
            return bool(value)
        word = str(value).lower()
        if word in ("true", "1", "t", ""):
            return True
        if word in ("false", "0", "f"):
            return False
        raise QueryError(400, f"Failed to parse value of {name!r} ({value!r}) as a bool")

    def number(self, name: str, default: int = 0) -> int:
        value = self.query.params.get(name)
        if value is None or value == "":
            return default
        try:
            return int(value)
        except (TypeError, ValueError):
            raise QueryError(
                400, f"Failed to parse value of {name!r} ({value!r}) as an int"
            ) from None

    # --- body -------------------------------------------------------------------------

    def body(self) -> dict[str, Any]:
        """Return the JSON object of the body; an absent one is empty.

        Raises:
            QueryError: It is no object.
        """
        body = self.query.body
        if body is None:
            return {}
        if isinstance(body, msgspec.Struct):
            body = msgspec.to_builtins(body)
        if not isinstance(body, dict):
            raise QueryError(400, f"Request body must be a JSON object, not {_kind(body)}")
        return body

    def field(self, name: str, kind: type[T], default: T) -> T:
        """Return a field of the body as `kind`; absent or null is `default`.

        Raises:
            QueryError: The field has another type.
        """
        value = self.body().get(name)
        return default if value is None else convert(value, kind, name)


def convert(value: Any, kind: type[T], place: str) -> T:
    """Return plain data as a record.

    Raises:
        QueryError: With the path of the first value that does not fit.
    """
    if get_origin(kind) is None and isinstance(value, kind):
        return value
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        text = str(error).replace("$", place) if "$" in str(error) else f"{error} - at `{place}`"
        raise QueryError(400, f"Request body is not valid: {text}") from None


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", int: "a number"}
    return names.get(type(value), f"a {type(value).__name__}")
