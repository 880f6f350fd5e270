"""Replicas of another datacenter that write to this one: heeded in nothing, told of once.

Two datacenters may come to know each other's addresses by mistake: the same name twice, an
address given to another machine, a data folder carried over. Terms of one would unseat the
leader of the other, so every Raft message says whose it is.

Whoever is refused is told so, with the reason and the remedy, and writes it into its own
log: there its operator looks first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from core.model.host import Address, CallDone, Peer
from core.state.commands import Bootstrap
from core.state.entry import UnknownCommand, decode_entry
from raft.core import Boot
from raft.core import Kind as EntryKind
from raft.transfer import STRANGER

if TYPE_CHECKING:
    from core.server.context import Server

REFUSED: Final = "Server.Refused"
_CALL_TIMEOUT_US: Final = 3_000_000
_TEXT_MAX: Final = 500  # characters of what a refusal says
_REFUSALS_MAX: Final = 100  # that are written down, of a peer that says ever new ones
_FIRST_ENTRIES: Final = 4  # a configuration, then the identity
_REMEDY: Final = (
    "give one of the two datacenters another name, or start that server with an empty data_dir"
)


def cluster_of(boot: Boot) -> str:
    """Return the datacenter id that a log begins with, "" when that is not there (any more).

    A replica must know whose it is before it has applied anything, for a stranger may
    write to it first.
    """
    for entry in boot.entries[:_FIRST_ENTRIES]:
        if entry.kind is EntryKind.COMMAND:
            try:
                first = decode_entry(entry.data).commands[:1]
            except UnknownCommand:
                return ""
            if first and isinstance(first[0], Bootstrap):
                return first[0].datacenter_id
    return ""


class Strangers:
    """Tells our datacenter's replicas from others'."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._told: dict[str, str] = {}  # replica -> the cluster it said
        self._heard: set[tuple[str, str]] = set()  # (by whom, why) we were refused

    def refuse(self, sender: str, said: list[Any], address: Address) -> bool:
        """Return whether a message that says `said` of its cluster is to be dropped."""
        own = self._server.consensus.raft.cluster_id
        theirs = str(said[0]) if said else ""
        if not theirs or not own or theirs == own:
            return False
        self._server.consensus.raft.dropped["message of another cluster"] += 1
        if self._told.get(sender) != theirs:
            self._told[sender] = theirs
            self._note("raft messages of another datacenter are refused", sender, address, theirs)
            self.tell(address, f"it belongs to datacenter {theirs}, this is {own}: {_REMEDY}")
        return True

    def note_snapshot(self, before: int, sender: str, address: Address) -> None:
        """Tell of a snapshot that the core dropped because it is another cluster's."""
        if self._server.consensus.raft.dropped[STRANGER] != before:
            self._note("a snapshot of another datacenter was refused", sender, address, "")

    def tell(self, address: Address, reason: str) -> None:
        """Tell a server that its part in the quorum is refused; once, whether it hears it or not.

        Args:
            reason: Speaks of it as "it".
        """
        if address:
            body = {"by": self._server.config.name, "reason": reason}
            self._server.outbox.ask(address, REFUSED, body, _CALL_TIMEOUT_US, _whatever)

    def on_told(self, body: Any, source: Peer) -> tuple[Any, str]:
        """Another server refuses us: its reason goes into our log, each once."""
        if not isinstance(body, dict):
            return None, f"{REFUSED} needs a reason"
        by, reason = str(body.get("by", ""))[:_TEXT_MAX], str(body.get("reason", ""))[:_TEXT_MAX]
        if (by, reason) not in self._heard and len(self._heard) < _REFUSALS_MAX:
            self._heard.add((by, reason))
            self._server.outbox.log(
                "error", "this server is refused by the quorum of its datacenter",
                by=by, at=source.address, reason=reason,
            )  # fmt: skip
        return {}, ""

    def _note(self, text: str, sender: str, address: Address, theirs: str) -> None:
        own = self._server.consensus.raft.cluster_id
        self._server.outbox.log(
            "error", text, sender=sender, at=address, theirs=theirs, own=own, remedy=_REMEDY
        )


def _whatever(_: CallDone) -> None:
    """Whoever can't be told, or is of an older version, finds it in our log."""
