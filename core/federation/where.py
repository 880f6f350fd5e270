"""Where a query belongs: what the coordinator tells the server's router."""

from dataclasses import dataclass

from core.model.query import Answer


@dataclass(frozen=True, slots=True)
class Here:
    """This datacenter answers."""


@dataclass(frozen=True, slots=True)
class There:
    """Another datacenter answers: pass the query on (one hop more)."""

    datacenter_id: str


@dataclass(frozen=True, slots=True)
class Everywhere:
    """Each of these answers and the lists are joined; this one's own id may be among them.

    `guests` are outside the region: they add what was submitted here and has its home there.
    """

    datacenter_ids: tuple[str, ...]
    guests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    answer: Answer


@dataclass(frozen=True, slots=True)
class Answered:
    """The coordinator carried the query out itself, with the help of other datacenters."""

    answer: Answer


Where = Here | There | Everywhere | Refused | Answered
