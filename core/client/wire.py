"""The answers of a server, as a client reads them: ARCHITECTURE.md, "Calls between agents".

A body arrives as plain maps from the network and may arrive as records from the
simulator; `read` takes both, and names the place of what does not fit.
"""

from typing import Any, TypeVar

import msgspec

from core.model.allocation import Allocation
from core.model.host import Address
from core.model.job import Job


class HelloAnswer(msgspec.Struct, kw_only=True):
    datacenter_id: str
    region: str = ""
    datacenter: str = ""
    servers: list[Address] = []  # RPC addresses
    lan_members: list[Address] = []  # gossip addresses


class RegisterAnswer(msgspec.Struct, kw_only=True):
    index: int = 0
    servers: list[Address] = []


class AllocationsAnswer(msgspec.Struct, kw_only=True):
    index: int
    allocs: dict[str, int] | None = None  # id -> modify index; None: as at the index we named
    restored: int = 0  # index of the last restore of the servers' state


class FetchAnswer(msgspec.Struct, kw_only=True):
    allocs: list[Allocation]  # without their jobs and without metrics
    jobs: list[Job] = []  # of all of them, by namespace, id and version


class UpdateAnswer(msgspec.Struct, kw_only=True):
    index: int = 0


T = TypeVar("T")


def read(body: Any, type_: type[T]) -> tuple[T | None, str]:
    """Return the body as `type_` and "", or None and what is wrong with it."""
    try:
        return msgspec.convert(body if body is not None else {}, type_), ""
    except msgspec.ValidationError as error:
        return None, f"answer not understood: {error}"


def is_unknown_node(error: str) -> bool:
    """Whether a server refuses us because its state does not hold this node."""
    text = error.lower()
    return "unknown node" in text or "node not found" in text
