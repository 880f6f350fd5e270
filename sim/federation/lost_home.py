"""The exploration's second world: the home is declared off while it lives, and another adopts.

A is the home of one job, C runs a part of it. B is the region's authority and has A's backup.
At any moment B declares A off and adopts: the shipped leader's `Adopting` and `Arriving` take
their steps, and whatever they ask C travels as a message that may be late, doubled or lost. A
knows nothing of it, as if it were only cut off: it decides on, and its messages go on arriving.

What A runs itself does not count from then on: that is the operator's word.
"""

from typing import Any, Final, NamedTuple

import msgspec

from core.federation.adoption import BeginAdoption, adoptions_of
from core.federation.backup import PutBackups, backup_of
from core.federation.claims import CreateClaim
from core.federation.host import Done
from core.federation.roster_log import DeclareOff, EnrolMember
from core.model.job import Job
from core.model.node import Node
from core.server.federation_host import FederatedDatacenter
from core.state.commands import RegisterJob
from core.state.state import State
from sim.federation.sites import SPACING, HomeSite, Messages, ShareSite, Site, Step

_LATER: Final = 100 * SPACING  # indexes of B's entries after each step: equal histories, equal ones
_ROUNDS: Final = 12


class Asked(msgspec.Struct, frozen=True):
    """A call of the adopter's leader to a datacenter, or (`method` "") its answer."""

    who: str
    method: str
    body: dict[str, Any]


class _Call(NamedTuple):
    to: str
    method: str
    body: Any
    done: Done


class AdopterSite(HomeSite):
    """B: an authority without a part of the job, which adopts it."""

    def __init__(self, datacenter_id: str, lost: str, other: str, messages: Messages, node: Node,
                 job: Job) -> None:  # fmt: skip
        self.lost, self.other = lost, other
        Site.__init__(self, datacenter_id, messages, node, job.uid or "", is_authority=True)
        self.others = self.peers = (other,)
        state = State.restore(self._images[self.first])
        source = State()
        self.commit(source, [self.birth(lost), RegisterJob(job=job)])
        record = source.jobs.by_uid(self.uid)
        assert record is not None
        enrol = [EnrolMember(datacenter_id=one, name=one) for one in (datacenter_id, lost, other)]
        kept = PutBackups(source=lost, turn=1, backups=[backup_of(source, record)])
        claim = CreateClaim(namespace="default", job_id=job.id or "", uid=self.uid, home=lost)
        self.commit(state, [*enrol, claim, kept], SPACING)
        self.first = self.enter(state)

    def _to_say(self, state: State) -> tuple[int, ...]:
        """Every share as it is now, and what the adoption asks for."""
        shares = super()._to_say(state)
        if adoptions_of(state).get(self.lost) is None:
            return shares
        index = state.index
        calls = self._calls(State.restore(list(state.image().chunks())))
        state.index = index
        asked = [Asked(self.id, call.method, call.body) for call in calls if call.to == self.other]
        return (*shares, *(self.messages.number(self.other, one) for one in asked))

    def decide(self, number: int, decision: int, division: Any) -> Step:
        return super().decide(number, decision + 3 * _LATER // SPACING, division)

    def declare_off(self, number: int) -> Step:
        """Declare A off and begin to adopt, at once."""

        def carry_out(state: State) -> list[Any]:
            self.commit(
                state,
                [DeclareOff(datacenter_id=self.lost), BeginAdoption(source=self.lost)],
                _LATER,
            )
            self._calls(state)
            return []

        return self.step(number, "off", carry_out)

    def hear(self, number: int, message: int) -> Step:
        """C's answer arrives at the leader who asked."""
        answer: Asked = self.messages.bodies[message]

        def carry_out(state: State) -> list[Any]:
            state.index = max(state.index, 2 * _LATER)
            for call in self._calls(state):
                if (call.to, call.method) == (answer.who, answer.body["Method"]):
                    leader_done = call.done
                    leader_done(answer.body["Answer"], "")
                    self._calls(state)
                    break
            self.plan(state)
            return []

        return self.step(number, ("hear", message), carry_out)

    def _calls(self, state: State) -> list[_Call]:
        """Let a leader who has just been elected go as far as it can alone; return what it asks."""
        leader = self.leader(state)
        calls: list[_Call] = []
        here = leader._own.ask

        def ask(to: str, method: str, body: Any, timeout_us: int, done: Done) -> None:
            if to == self.id:
                here(to, method, body, timeout_us, done)
            elif method.startswith("Adopt."):
                calls.append(_Call(to, method, body, _then(leader, done)))

        leader._own.ask = ask  # type: ignore[method-assign, assignment]
        _step(leader)
        return calls


def _then(leader: FederatedDatacenter, done: Done) -> Done:
    """Let the leader go on after an answer."""

    def answered(body: Any, error: str) -> None:
        done(body, error)
        _step(leader)

    return answered


def _step(leader: FederatedDatacenter) -> None:
    for _ in range(_ROUNDS):
        index = leader.host.state.index
        leader.adopting.look()
        leader.arriving.look()
        if leader.host.state.index == index:
            return


class AskedSite(ShareSite):
    """C: it also answers the adopter."""

    def asked(self, number: int, message: int, adopter: str) -> Step:
        question: Asked = self.messages.bodies[message]

        def carry_out(state: State) -> list[Any]:
            leader = self.leader(state)
            answers: list[Any] = []

            def reply(body: Any, error: str) -> None:
                if not error:
                    plain = msgspec.to_builtins(body)
                    told = {"Method": question.method, "Answer": plain}
                    answers.append(Asked(self.id, "", told))

            leader.on_call(question.method, question.body, self.peer(adopter), reply)
            self.plan(state)
            return answers

        return self.step(number, ("asked", message), carry_out, to=adopter)
