"""A write on its way into the log, and what its proposer is told of it.

Each proposal ends with exactly one `Outcome`. "Lost" is not "refused": the entry may still be
committed by the next leader, so its caller asks again with the same token, and is not answered.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from core.model.query import Answer
from core.server.request import QueryError, Respond
from core.state.result import Applied
from raft.core import Refusal

# Under load proposals wait for one another, see `shall_gather`.
LOADED: Final = 32  # entries that are not committed yet
GATHERED_MOST: Final = 128
GATHERED_US: Final = 4_000
LOST: Final = "leadership was lost before the write was confirmed; it may still take effect"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a proposal. `applied` is None when that is not known, see `reason`."""

    applied: Applied | None
    reason: str = ""


Then = Callable[[Outcome], None]


@dataclass(slots=True)
class Proposed:
    data: bytes
    then: Then
    since_us: int


def shall_gather(pending: Sequence[Proposed], under_way: int, now_us: int) -> bool:
    """Return whether what is proposed shall wait a moment for more; a batch is being written.

    Each batch costs two messages, what comes back of them, and a turn of every replica, for
    one entry as for a hundred. While one is being written and many entries are under way,
    the next would not be committed much sooner if it left now.
    """
    if not 0 < len(pending) < GATHERED_MOST or under_way < LOADED:
        return False
    return now_us - pending[0].since_us < GATHERED_US


def answering(
    answer: Callable[[Applied], Answer], respond: Respond, lost: Callable[[], None]
) -> Then:
    """Return what answers a caller once the fate of his write is known.

    `respond` gets the answer when the entry is applied; `lost` is called instead when this
    server stopped leading, for then the next leader can be asked.
    """

    def then(outcome: Outcome) -> None:
        if outcome.applied is None:
            if outcome.reason in (LOST, Refusal.NOT_LEADER.value):
                lost()
            else:
                respond(Answer(status=500, error=outcome.reason))
            return
        try:
            finished = answer(outcome.applied)
        except QueryError as error:
            finished = error.answer()
        finished.index = max(1, finished.index or outcome.applied.index)
        respond(finished)

    return then
