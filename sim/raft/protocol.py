"""The checkers that know Raft: they look at messages, disks and logs of `RaftCore`.

    election safety      one leader a term
    leadership           nobody stands without a majority that would vote for it, nor goes on
                         leading without hearing of one; nobody votes who hears a leader, unless
                         that one asked for it, and it asks only who holds its whole log
    one vote a term      across restarts, and never against an earlier candidacy
    leader completeness  who leads holds what was committed before
    log matching         (index, term) names one content and one predecessor
    read barrier         a read is answered once a majority was heard after it was asked for, or
                         under a lease, which a hand-over ends
    commit rule          a majority holds it durably; the newest is of the leader's term
    durability           what a message promises is on disk; what was is there after a crash
    membership           one voter at a time, a learner that has caught up, each change after the
                         one before is committed; who takes part is what the log says
    bounds               what is under way, of one follower and in all, stays in its window

They are rules of the text (Ongaro's dissertation, sections 3 and 4), checked from outside:
nothing here calls into the code that is checked, beyond reading a replica's log.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from raft.core import Boot, Configuration, Entry, Kind, Output, Persist, RaftCore, Role
from raft.engine import Engine
from raft.messages import (
    Append,
    AppendAnswer,
    Heartbeat,
    Message,
    SnapshotChunk,
    TimeoutNow,
    VoteAnswer,
    VoteRequest,
)
from sim.seeds import Violation

if TYPE_CHECKING:
    from sim.raft.host import Host
    from sim.raft.world import World

_LARGE_WINDOW_BYTES: Final = 1 << 20  # no seed fills it

Place = tuple[int | None, int, bytes]  # the previous entry's term, kind, data


class Protocol:
    def __init__(self) -> None:
        self._leaders: dict[int, str] = {}
        self._votes: dict[tuple[str, int], str] = {}
        self._pre_votes: dict[tuple[str, int], set[str]] = {}  # (for whom, term) -> who would
        self._heard_us: dict[str, dict[str, int]] = {}  # by whom -> of whom, on its clock
        self._leads_since_us: dict[str, int] = {}
        self._led_us: dict[str, int] = {}  # who -> when it heard a leader, on its clock
        self._may_vote: set[tuple[str, str, int, bool]] = set()  # (who, for whom, term, pre-vote)
        self._handed_over: dict[tuple[str, int], int] = {}  # (who, in which term) -> since when
        self._full: set[str] = set()  # whose disk was full at their last output
        self._urged: set[tuple[str, int]] = set()  # (who, in which term it was handed the lead)
        self._places: dict[tuple[int, int], Place] = {}
        # index -> (term of the entry, term in which somebody first saw it committed)
        self._committed: dict[int, tuple[int, int]] = {}
        self._high_committed = 0

    # --- storage ----------------------------------------------------------------------

    def check_recovery(self, host: "Host", boot: Boot, in_flight: Sequence[Persist]) -> None:
        """What was reported durable is there after a crash, and of the rest only a prefix."""
        held = host.durable
        before = f"term {held.term}, vote {held.voted_for!r}, log to {held.last_index}"
        if not any(possible == boot for possible in held.possible(in_flight, boot.snapshot)):
            entries = boot.entries
            raise Violation(
                "durability",
                f"{host.name} came back with term {boot.term}, vote {boot.voted_for!r}, snapshot "
                f"{boot.snapshot.index}, log to {entries[-1].index if entries else '-'}; durable "
                f"was {before}",
            )
        self.check_synced(host)

    def check_synced(self, host: "Host") -> None:
        waiting = host.disk.unsynced("log-")
        if waiting:
            raise Violation(
                "durability", f"{host.name} relies on {waiting}, which a power cut could change"
            )

    def on_start(self, host: "Host") -> None:
        if not host.world.settings.lease_us:
            self._led_us.pop(host.name, None)  # where nobody reads by a lease it may be forgotten

    # --- messages that arrive ---------------------------------------------------------

    def on_message(self, host: "Host", sender: str, message: Message) -> None:
        self._heard_us.setdefault(host.name, {})[sender] = host.now_us
        engine = host.engine
        assert engine is not None
        match message:
            case VoteAnswer(is_pre_vote=True, is_granted=True):
                self._pre_votes.setdefault((host.name, message.term), {host.name}).add(sender)
            case Append() | Heartbeat() | SnapshotChunk() if message.term >= engine.term:
                self._led_us[host.name] = host.now_us
            case VoteRequest() if self._may_grant(host, engine, message):
                vote = (host.name, sender, message.term, message.is_pre_vote)
                self._may_vote.add(vote)
            case TimeoutNow():
                self._urged.add((host.name, message.term))
                self._led_us.pop(host.name, None)  # it need not wait any more

    def _may_grant(self, host: "Host", engine: Engine, request: VoteRequest) -> bool:
        if isinstance(engine, RaftCore):
            own = (engine.log.last_term, engine.last_index)
            if own > (request.last_term, request.last_index):
                return False
        return request.is_transfer or not self._hears_leader(host, engine)

    def _hears_leader(self, host: "Host", engine: Engine) -> bool:
        """Say whether it must not help to unseat who leads (4.2.3): leases stand on that."""
        settings = host.world.settings
        if not settings.is_check_quorum:
            return False
        led_us = self._led_us.get(host.name)
        is_led = led_us is not None and host.now_us - led_us < settings.election_min_us
        return is_led or engine.role is Role.LEADER

    # --- output -----------------------------------------------------------------------

    def check_role(self, name: str, engine: Engine, output: Output) -> None:
        if output.role_changed and engine.role is Role.LEADER:
            held = self._leaders.setdefault(engine.term, name)
            if held != name:
                text = f"{held} and {name} lead in term {engine.term}"
                raise Violation("election safety", text)

    def check_output(self, host: "Host", core: RaftCore, output: Output) -> None:
        if core.role is Role.LEADER:
            self._check_leader(host.name, core)
            self._check_windows(host.name, core)
            if output.role_changed:
                self._leads_since_us[host.name] = host.now_us
                self._check_votes(host, core)
            elif core.settings.is_check_quorum:
                self._check_contact(host, core)
        persist = output.persist
        if persist is not None:
            if persist.entries:
                self._check_places(core, persist)
                self._check_changes(host, core, persist)
            self._check_cut(host, core, persist)
            if persist.truncate_from or persist.reset_to is not None:
                self._check_configuration(host.name, core)
        if output.configuration_changed:
            self._check_configuration(host.name, core)
        for to, message in output.messages:
            self._check_promise(host, core, to, message)
        if core.is_disk_full:
            self._full.add(host.name)
        else:
            self._full.discard(host.name)

    def _check_votes(self, host: "Host", core: RaftCore) -> None:
        """Who leads has the votes of a majority, its own on its disk."""
        name = host.name
        counted = [configuration.voters for _, configuration in core.configurations[-2:]]
        if not any(name in voters for voters in counted):
            raise Violation("election safety", f"{name} leads term {core.term} and is no voter")
        own = (host.durable.term, host.durable.voted_for) == (core.term, host.name)
        elected = any(
            sum(
                own if voter == name else self._votes.get((voter, core.term)) == name
                for voter in voters
            )
            > len(voters) // 2
            for voters in counted
        )
        if not elected:
            raise Violation(
                "election safety", f"{name} leads term {core.term} without a majority's votes"
            )

    def _has_heard_since(self, host: "Host", core: RaftCore, floor_us: int) -> bool:
        """Say whether a majority said something since then, on the host's clock."""
        heard = self._heard_us.get(host.name, {})
        # Also by the members before the newest change: it may be of this moment.
        return any(
            sum(v == host.name or heard.get(v, -1) >= floor_us for v in configuration.voters)
            > len(configuration.voters) // 2
            for _, configuration in core.configurations[-2:]
        )

    def check_read(self, host: "Host", core: RaftCore, asked_us: int) -> None:
        """A read was found safe to answer."""
        if self._has_heard_since(host, core, asked_us):
            return
        lease_us = core.settings.lease_us
        handed_us = self._handed_over.get((host.name, core.term), asked_us)
        is_lease = lease_us > 0 and asked_us <= handed_us
        if not (is_lease and self._has_heard_since(host, core, asked_us - lease_us)):
            raise Violation(
                "read barrier",
                f"{host.name} answers a read that it was asked at {asked_us}, and has no "
                f"majority since in term {core.term}",
            )

    def _check_contact(self, host: "Host", core: RaftCore) -> None:
        """Who leads heard of a majority within twice the longest election timeout."""
        floor_us = host.now_us - 2 * core.settings.election_max_us
        if self._leads_since_us.get(host.name, host.now_us) > floor_us or host.was_stopped:
            return
        if not self._has_heard_since(host, core, floor_us):
            raise Violation(
                "leadership", f"{host.name} leads term {core.term} without hearing of a majority"
            )

    def _check_leader(self, name: str, core: RaftCore) -> None:
        high = self._high_committed
        if core.last_index == core.term_start_index and high > core.log.offset:
            term, seen_in = self._committed[high]
            if seen_in < core.term and core.log.term_at(high) != term:
                raise Violation(
                    "leader completeness",
                    f"{name} leads term {core.term}, at {high} its log has term "
                    f"{core.log.term_at(high)}; committed is term {term}",
                )
        commit = core.commit_index
        if commit > high and core.log.term_at(commit) != core.term:
            raise Violation(
                "commit rule",
                f"{name} leads term {core.term} and commits up to {commit}, of term "
                f"{core.log.term_at(commit)}",
            )

    def _check_promise(self, host: "Host", core: RaftCore, to: str, message: Message) -> None:
        """What a message promises is on disk when it leaves."""
        match message:
            case AppendAnswer(is_accepted=True, term=core.term):
                index = message.index
                term = core.log.term_at(index) if index else 0
                is_held = term is None or host.durable.holds(index, term)
                if not is_held or host.durable.term < core.term:
                    raise Violation(
                        "durability",
                        f"{host.name} acknowledges ({index}, {term}) in term {core.term}, on disk "
                        f"is ({host.durable.last_index}, {host.durable.last_term}) and term "
                        f"{host.durable.term}",
                    )
            case VoteAnswer(is_granted=True):
                vote = (host.name, to, message.term, message.is_pre_vote)
                if vote not in self._may_vote:
                    raise Violation(
                        "leadership",
                        f"{host.name} votes for {to} in term {message.term}, and hears a leader "
                        "or has a longer log",
                    )
                if not message.is_pre_vote:
                    self._check_vote(host, message.term, to)
            case VoteRequest(is_pre_vote=True):
                self._check_candidate(host, core)
            case VoteRequest():
                self._check_vote(host, message.term, host.name)
                self._check_pre_votes(host.name, core, message)
                held = host.durable
                if (message.last_term, message.last_index) > (held.last_term, held.last_index):
                    raise Violation(
                        "durability",
                        f"{host.name} claims a log to ({message.last_index}, "
                        f"{message.last_term}), on disk is ({held.last_index}, {held.last_term})",
                    )

            case Append():
                size = sum(len(entry.data) for entry in message.entries)
                if size > core.settings.append_bytes and len(message.entries) > 1:
                    text = f"{host.name} sends {size} bytes of entries at once"
                    raise Violation("bounds", text)
            case TimeoutNow() if to == core.transfer_to:
                self._handed_over.setdefault((host.name, core.term), host.now_us)
                heir = host.world.hosts[to].durable
                if not heir.holds(core.last_index, core.log.last_term):
                    raise Violation(
                        "leadership",
                        f"{host.name} hands over to {to}, which holds the log up to "
                        f"{heir.last_index} of {core.last_index}",
                    )

    def _check_candidate(self, host: "Host", core: RaftCore) -> None:
        """Who hears its leader, or has no room for what a leader must write, does not stand."""
        led_us = self._led_us.get(host.name)
        is_led = led_us is not None and (
            host.pump_us < host.now_us - led_us < core.settings.election_min_us
        )
        if is_led and list(core.configuration.voters) != [host.name]:
            text = f"{host.name} stands in term {core.term + 1}, and hears its leader"
            raise Violation("leadership", text)
        if core.is_disk_full and host.name in self._full:
            raise Violation("leadership", f"{host.name} stands with a full disk")

    def _check_windows(self, name: str, core: RaftCore) -> None:
        settings = core.settings
        for to, peer in core.peers.items():
            if len(peer.inflight) > settings.inflight_appends:
                text = f"{name} has {len(peer.inflight)} Appends under way to {to}"
                raise Violation("bounds", text)
        if settings.uncommitted_bytes >= _LARGE_WINDOW_BYTES:
            return
        sizes = [
            len(entry.data)
            for entry in core.log.slice(core.commit_index + 1, core.last_index)
            if entry.kind == Kind.COMMAND and entry.term == core.term
        ]
        if sum(sizes) > settings.uncommitted_bytes and len(sizes) > 1:
            raise Violation("bounds", f"{name} has {sum(sizes)} bytes proposed and not committed")

    def _check_cut(self, host: "Host", core: RaftCore, batch: Persist) -> None:
        """Nothing that others may have counted on is thrown away."""
        held = host.durable
        meta, cut = batch.reset_to, batch.truncate_from
        if meta is not None and meta.index < held.last_index:
            if held.term_at(meta.index) == meta.term:
                raise Violation(
                    "durability",
                    f"{host.name} throws its log to {held.last_index} away for a snapshot at "
                    f"{meta.index} that it agrees with",
                )
        term, seen_in = self._committed.get(cut, (0, 0))
        if not term or held.term_at(cut) != term:
            return
        # A leader older than the commit may still have it cut, where nobody counted on it. What
        # a full disk refused was looked at when it was first asked for.
        placed = next((entry.term for entry in batch.entries if entry.index == cut), core.term)
        if placed != term and placed >= seen_in and not batch.is_retry:
            raise Violation("durability", f"{host.name} cuts ({cut}, {term}), which is committed")

    def _check_pre_votes(self, name: str, core: RaftCore, request: VoteRequest) -> None:
        """Who stands for election was told by a majority that it would get their votes.

        Or by the leader of the term before that it shall.
        """
        if request.is_transfer and (name, request.term - 1) not in self._urged:
            text = f"{name} stands in term {request.term} as if the leader had asked it to"
            raise Violation("leadership", text)
        if request.is_transfer or not core.settings.is_pre_vote or request.term != core.term:
            return
        would = self._pre_votes.get((name, request.term), {name})
        # Its disk may have been slow: the configuration is that of the log it stands with.
        held = [one for index, one in core.configurations if index <= request.last_index]
        voters = (held or [core.configuration])[-1].voters
        if len(would & set(voters)) <= len(voters) // 2:
            raise Violation(
                "leadership", f"{name} stands in term {request.term}, only {sorted(would)} would"
                " vote for it",
            )  # fmt: skip

    def _check_vote(self, host: "Host", term: int, candidate: str) -> None:
        other = self._votes.setdefault((host.name, term), candidate)
        if other != candidate:
            text = f"{host.name} votes for {candidate} in term {term}, it did for {other}"
            raise Violation("one vote a term", text)
        held = host.durable
        if (held.term, held.voted_for) != (term, candidate) and held.term <= term:
            raise Violation(
                "durability",
                f"{host.name} votes for {candidate} in term {term}, on disk is "
                f"{held.voted_for!r} in {held.term}",
            )

    def _check_places(self, core: RaftCore, batch: Persist) -> None:
        log, places = core.log, self._places
        for entry in batch.entries:
            place = (entry.index, entry.term)
            found: Place = (log.term_at(entry.index - 1), entry.kind, entry.data)
            held = places.setdefault(place, found)
            if held != found and (held[1:] != found[1:] or None not in (held[0], found[0])):
                raise Violation("log matching", f"{place} is {found} and {held}")

    def _check_changes(self, host: "Host", core: RaftCore, batch: Persist) -> None:
        if core.role is not Role.LEADER or batch.is_retry:
            return
        for entry in batch.entries:
            if entry.kind == Kind.CONFIGURATION and entry.term == core.term and entry.index > 1:
                self._check_change(host, core, entry)

    def _check_change(self, host: "Host", core: RaftCore, entry: Entry) -> None:
        name = host.name
        index, before = [held for held in core.configurations if held[0] < entry.index][-1]
        after = Configuration.decode(entry.data)
        changed = set(before.voters) ^ set(after.voters)
        commit = core.commit_index
        floor = entry.index - 1 - core.settings.promotion_lag
        why = ""
        if len(changed) > 1:
            why = f"{sorted(changed)} at once"
        elif not after.voters:
            why = "so that nobody votes"
        elif set(after.voters) - set(before.addresses):
            why = f"with {sorted(changed)}, which was no learner"
        elif any(
            host.world.hosts[one].durable.last_index < floor
            for one in set(after.voters) - set(before.voters)
        ):
            why = f"with {sorted(changed)}, which has not caught up"
        elif index > commit:
            why = f"while the change at {index} is pending"
        elif commit < core.term_start_index:
            why = f"before an entry of its term {core.term} is committed"
        if why:
            text = f"{name} changes membership at {entry.index} {why} (commit {commit})"
            raise Violation("membership", text)

    def _check_configuration(self, name: str, core: RaftCore) -> None:
        """A replica works with the newest configuration of its log."""
        newest = (core.snapshot.configuration_index, core.snapshot.configuration)
        for entry in core.log.slice(core.log.first_index, core.last_index):
            if entry.kind == Kind.CONFIGURATION and entry.index > newest[0]:
                newest = (entry.index, Configuration.decode(entry.data))
        if core.configuration != newest[1]:
            raise Violation(
                "membership",
                f"{name} works with the members of {core.configuration_index}, its log's newest "
                f"are of {newest[0]}",
            )

    # --- commit -----------------------------------------------------------------------

    def check_commit(self, world: "World", core: RaftCore, entry: Entry) -> None:
        """An entry is applied for the first time: a majority of voters holds it durably."""
        # Several calls may share one output: the newest members may be newer than the commit.
        counted = [configuration.voters for _, configuration in core.configurations[-2:]]
        holders = {
            name
            for voters in counted
            for name in voters
            if world.hosts[name].durable.holds(entry.index, entry.term)
        }
        if not any(len(holders & set(voters)) > len(voters) // 2 for voters in counted):
            raise Violation(
                "commit rule",
                f"{core.replica_id} commits ({entry.index}, {entry.term}), durable at "
                f"{sorted(holders)} of {list(core.configuration.voters)}",
            )
        self._committed[entry.index] = (entry.term, core.term)
        self._high_committed = max(self._high_committed, entry.index)
