"""Is a history of registers linearizable? Wing and Gong's search as Lowe improved it.

Wing, Gong: "Testing and Verifying Concurrent Objects" (1993); Lowe: "Testing for
linearizability" (2016). Registers are independent, so each key is judged alone (Herlihy
and Wing's locality).

An operation without an answer may have taken effect at any time after its call, or never.
Since written values are unique, two observations keep the search small:

* If nobody saw its value it may be left out: in an order with it, the next operation that
  looks must come after another write, so the order without it is as good.
* If somebody saw it, it took effect before the first who saw it was answered: it gets that
  moment as its return.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from sim.raft.history import Kind, Operation, Result

STEPS_MAX: Final = 2_000_000  # a key's search; far beyond what a history of a seed needs


def explain(operations: Sequence[Operation]) -> str:
    """Return "" for a linearizable history, else which key is not and why."""
    keys: dict[str, list[Operation]] = {}
    for operation in operations:
        if operation.result is not Result.FAILED:
            keys.setdefault(operation.key, []).append(operation)
    for key in sorted(keys):
        text = _explain_key(keys[key])
        if text:
            return f"register {key}: {text}"
    return ""


@dataclass(slots=True)
class _Call:
    """An operation as the search sees it: a step of a register between two moments."""

    operation: Operation
    call_us: int
    return_us: int


def _explain_key(operations: list[Operation]) -> str:
    written = {one.value for one in operations if one.kind is not Kind.READ}
    seen_us: dict[str, int] = {}  # value -> when the first who saw it was answered
    for one in operations:
        if one.result is not Result.OK or one.kind is Kind.WRITE or one.return_us is None:
            continue
        value = one.value if one.kind is Kind.READ else one.found
        if value and value not in written:
            return f"{_name(one)} saw {value!r}, which nobody wrote"
        seen_us[value] = min(seen_us.get(value, one.return_us), one.return_us)
    calls = []
    for one in operations:
        if one.result is Result.OK:
            assert one.return_us is not None
            calls.append(_Call(one, one.call_us, one.return_us))
        elif one.kind is not Kind.READ and one.value in seen_us:
            if seen_us[one.value] < one.call_us:
                return f"{one.value!r} was seen before {_name(one)} began"
            # It surely took effect: a swap found what it expected.
            sure = replace(one, result=Result.OK, found=one.expected)
            calls.append(_Call(sure, one.call_us, seen_us[one.value]))
    return _search(calls)


class _Event:
    """A call or a return in the list that the search lifts operations out of."""

    __slots__ = ("after", "before", "number", "partner")

    def __init__(self, number: int) -> None:
        self.number = number
        self.before: _Event = self
        self.after: _Event = self
        self.partner: _Event | None = None  # of a call: its return


def _search(calls: list[_Call]) -> str:
    head = _linked(calls)
    cache: set[tuple[int, str]] = set()
    trail: list[tuple[_Event, str]] = []
    state, done, best = "", 0, 0
    event = head.after
    steps = 0
    while head.after is not head:
        steps += 1
        if steps > STEPS_MAX:
            return f"not decided within {STEPS_MAX} steps: treat it as wrong, judge it by hand"
        is_possible = False
        if event.partner is not None:
            is_possible, held = _step(state, calls[event.number].operation)
            if is_possible and (mark := (done | 1 << event.number, held)) not in cache:
                cache.add(mark)
                trail.append((event, state))
                state, done = held, mark[0]
                _lift(event)
                best = max(best, len(trail))
                event = head.after
                continue
            event = event.after
            continue
        # A return whose call is not placed yet: go back one placement.
        if not trail:
            stuck = calls[event.number].operation
            return f"no order explains {_name(stuck)} ({best} of {len(calls)} could be placed)"
        event, state = trail.pop()
        done &= ~(1 << event.number)
        _unlift(event)
        event = event.after
    return ""


def _linked(calls: list[_Call]) -> _Event:
    """Return the head of a ring of calls and returns in the order of time.

    At one moment calls come before returns: then they overlap, which forbids less.
    """
    head = _Event(-1)
    moments: list[tuple[int, int, int, _Event]] = []
    for number, call in enumerate(calls):
        began, ended = _Event(number), _Event(number)
        began.partner = ended
        moments.append((call.call_us, 0, number, began))
        moments.append((call.return_us, 1, number, ended))
    last = head
    for *_, event in sorted(moments, key=lambda moment: moment[:3]):
        event.before, last.after = last, event
        last = event
    last.after, head.before = head, last
    return head


def _lift(call: _Event) -> None:
    for event in (call, call.partner):
        assert event is not None
        event.before.after, event.after.before = event.after, event.before


def _unlift(call: _Event) -> None:
    for event in (call.partner, call):
        assert event is not None
        event.before.after = event.after.before = event


def _step(state: str, operation: Operation) -> tuple[bool, str]:
    """Say whether the register in `state` can answer like that, and what it holds then."""
    if operation.kind is Kind.READ:
        return operation.value == state, state
    if operation.kind is Kind.WRITE:
        return True, operation.value
    if operation.found != state:
        return False, state
    return True, operation.value if state == operation.expected else state


def _name(operation: Operation) -> str:
    text = f"{operation.kind.value} {operation.call_id} of {operation.value!r}"
    if operation.kind is Kind.SWAP:
        text += f" (expected {operation.expected!r}, found {operation.found!r})"
    return f"{text} at {operation.call_us}..{operation.return_us} us"
