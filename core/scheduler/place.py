"""Where instances go: greedy, one after the other, best score first, ties to the lower ordinal.

`Placer.place` does that for `count` identical instances without looking at every node for
every instance. Where one placement changes the score of its own node only, the order in
which a greedy planner would take them is known in closed form: let s[0], s[1], ... be
what a node scores for its first, second, ... instance. The planner always takes the best
of the nodes' next scores, so it takes a node's instances in order of the running minimum
of its s (a better score behind a worse one is reached only through the worse one, and
then at once). Sorting all (running minimum, ordinal) pairs therefore *is* the greedy order, and
only the nodes with the `count` best first scores can take part.

A few instances of a group that has none yet are chosen one by one from a column that the
room keeps for all who ask alike (`_few`).

Where placements couple nodes (spread, distinct_property) the scores of all nodes are
renewed after each, as vectors. Many instances with a spread over few values are taken from
queues instead, one for each kind of node (kinds.py).
"""

import random
from dataclasses import dataclass, field

import numpy as np

from core.model.units import Units
from core.scheduler.kernel import loaded
from core.scheduler.kinds import Kinds
from core.scheduler.room import Ask, Room
from core.scheduler.sampling import Sampler, sample_size
from core.scheduler.spread import PropertyLimit, SpreadScorer
from core.scheduler.unit_placing import UnitPlacer
from core.scheduler.units import TaskAsk
from core.scheduler.view import Floats, Ints, Mask

_ROUND_MAX = 1_024  # instances decided at once: bounds the score matrix
_FIRST_BLOCK = 16
_FIRST_DEPTH = 4
_ARGMAX_MOST = 32  # so few are found faster one by one than by sorting
REASONS_MAX = 5  # nodes whose scores are kept for an explanation
FEW = 8


@dataclass(slots=True)
class Wish:
    """What is to be placed for one group, and what its nodes already hold of it.

    Columns are by node ordinal; None stands for all zeros.
    """

    ask: Ask
    eligible: Mask
    count: int  # of the group: the denominator of anti-affinity
    collisions: Ints  # instances of this group on each node; `place` adds its own
    candidates: int = -1  # `Candidates.number` of those eligible; -1: nobody else asks so
    affinity: Floats | None = None
    is_batch: bool = False
    units: tuple[TaskAsk, ...] = ()  # cores and devices
    is_alone: bool = False  # distinct_hosts: `occupied` nodes are closed, each takes one
    occupied: Ints | None = None  # instances that nothing may stand beside
    spreads: list[SpreadScorer] = field(default_factory=list)
    limits: list[PropertyLimit] = field(default_factory=list)  # distinct_property
    # Components of the first placements' scores, for whoever asks why: (node, name -> score).
    reasons: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    @property
    def is_coupled(self) -> bool:
        return bool(self.spreads or self.limits)

    def let_go(self, node: int) -> None:
        """One that was counted on `node` leaves as soon as its successor has a place."""
        if self.occupied is not None:
            self.occupied[node] -= 1
        for limit in self.limits:
            limit.remove(np.array([node]))

    def keep(self, node: int) -> None:
        """No place was found: the one on `node` stays after all."""
        at = np.array([node])
        self.collisions[node] += 1
        if self.occupied is not None:
            self.occupied[node] += 1
        for counted in (*self.spreads, *self.limits):
            counted.add(at)


@dataclass(slots=True)
class Placed:
    """Chosen nodes in the order of placement, with their final scores."""

    nodes: Ints
    scores: Floats
    ports: list[list[int]] = field(default_factory=list)  # a row's dynamic ports
    units: list[Units] = field(default_factory=list)  # a row's cores and devices


class Placer:
    """Places on one `Room`, which it changes.

    Args:
        rng: With it, by Nomad's sampling (sampling.py); None looks at every node.
    """

    def __init__(self, room: Room, rng: random.Random | None = None) -> None:
        self._room, self._rng = room, rng
        self._units = UnitPlacer(self, room)

    def place(self, wish: Wish, wanted: int, avoid: int = -1) -> Placed:
        """Place up to `wanted` instances; fewer come back when there is no room.

        Args:
            avoid: Node ordinal that gets the penalty of a failed predecessor, -1 = none.
        """
        if wish.units:
            return self._units.place(wish, wanted, nothing(), avoid=avoid)
        if avoid >= 0 or self._rng is not None or wish.limits:
            return self._steps(wish, wanted, avoid)
        if wish.spreads:
            return self._spread(wish, wanted)
        if wanted <= FEW and self._is_plain(wish):
            return self._few(wish, wanted)
        nodes: list[Ints] = [np.zeros(0, np.int64)]
        scores: list[Floats] = [np.zeros(0)]
        ports: list[list[int]] = []
        left = wanted
        while left > 0:
            placed = self._round(wish, min(left, _ROUND_MAX))
            if not placed.nodes.size:
                break
            if len(wish.reasons) < REASONS_MAX:
                self._explain(wish, placed, avoid)
            self.take(wish, placed.nodes)
            if wish.ask.has_ports:
                ports += [self._room.take_ports(wish.ask, n) for n in placed.nodes.tolist()]
            nodes.append(placed.nodes)
            scores.append(placed.scores)
            left -= placed.nodes.size
        return Placed(np.concatenate(nodes), np.concatenate(scores), ports)

    def place_on(self, wish: Wish, node: int) -> Placed:
        """Place one instance on `node`, of which `fits` said that it holds it."""
        if wish.units:
            return self._units.place(wish, 1, nothing(), only=node)
        at = np.array([node])
        fit = self._room.head_scores(wish.ask, at)
        placed = Placed(at, fit)
        if len(wish.reasons) < REASONS_MAX:
            self._explain(wish, placed, -1)
        self.take(wish, at)
        if wish.ask.has_ports:
            placed.ports.append(self._room.take_ports(wish.ask, node))
        return placed

    def take(self, wish: Wish, nodes: Ints, ask: Ask | None = None) -> None:
        """Count one instance on each of `nodes`; `ask` stands for the wish's where it differs."""
        self._room.take(ask or wish.ask, nodes)
        np.add.at(wish.collisions, nodes, 1)
        if wish.occupied is not None:
            np.add.at(wish.occupied, nodes, 1)
        for counted in (*wish.spreads, *wish.limits):
            counted.add(nodes)

    def _explain(self, wish: Wish, placed: Placed, avoid: int) -> None:
        for node, score in zip(placed.nodes.tolist(), placed.scores.tolist()):
            if len(wish.reasons) == REASONS_MAX:
                return
            self.explain(wish, node, score, avoid)

    def explain(
        self, wish: Wish, node: int, score: float, avoid: int, ask: Ask | None = None, **more: float
    ) -> None:
        """Note why `node` was chosen, before it is taken: once a node, for the first few."""
        if len(wish.reasons) == REASONS_MAX or any(known == node for known, _ in wish.reasons):
            return
        at, already = np.array([node]), int(wish.collisions[node])
        parts = {"binpack": self._room.head_after(ask or wish.ask, node, 0)}
        parts["job-anti-affinity"] = -(already + 1) / max(wish.count, 1) if already else 0.0
        parts["node-reschedule-penalty"] = -1.0 if node == avoid else 0.0
        parts["node-affinity"] = 0.0 if wish.affinity is None else float(wish.affinity[node])
        parts["allocation-spread"] = sum((float(one.scores(at)[0]) for one in wish.spreads), 0.0)
        wish.reasons.append((node, {**parts, **more, "normalized": score}))

    def fits(self, wish: Wish, most: int) -> Ints:
        """Return how many more instances each node may take, by ordinal."""
        is_alone = wish.is_alone and wish.occupied is not None
        fits = self._room.fits(wish.ask, self.open_nodes(wish), 1 if is_alone else most)
        if wish.units:
            for node in np.flatnonzero(fits).tolist():
                fits[node] = self._units.holds(wish, node)  # one at a time is all that is asked
        return fits

    def fits_on(self, wish: Wish, fits: Ints, node: int) -> bool:
        """Whether one of many nodes takes one more, by `fits` of before."""
        return bool(fits[node])

    def exhausted(self, wish: Wish) -> list[str]:
        """Return what of a quota lacks for one instance more: nothing, for there is none."""
        return []

    def holds(self, wish: Wish, node: int) -> bool:
        """Whether one node has room for one instance more, whoever it must not stand beside."""
        if wish.units:
            return self._units.holds(wish, node)
        return self._room.holds(wish.ask, node)

    def open_nodes(self, wish: Wish) -> Mask:
        """Return which nodes may take one more instance, whatever room they have."""
        is_open = wish.eligible.copy()
        if wish.is_alone and wish.occupied is not None:
            is_open &= wish.occupied == 0
        for limit in wish.limits:
            is_open &= limit.open_nodes()
        return is_open

    def _total(self, wish: Wish, nodes: Ints, fit: Floats, already: Ints) -> tuple[Floats, Ints]:
        # Sum and number of the components that need no look at other nodes.
        total, parts = fit, np.ones(fit.shape, np.int64)
        crowd = np.where(already > 0, -(already + 1) / max(wish.count, 1), 0.0)
        total = total + crowd
        parts = parts + (already > 0)
        if wish.affinity is not None:
            liking = wish.affinity[nodes]
            total = total + liking
            parts = parts + (liking != 0.0)
        return total, parts

    def _steps(self, wish: Wish, wanted: int, avoid: int) -> Placed:
        # One after the other; what couples nodes is renewed for all, the rest for the chosen.
        room, ask = self._room, wish.ask
        nodes = np.flatnonzero(self.fits(wish, 1))
        total, parts = self._total(
            wish, nodes, room.head_scores(ask, nodes), wish.collisions[nodes]
        )
        penalty = np.where(nodes == avoid, -1.0, 0.0)
        sampler = self._sampler(wish, nodes.size)
        chosen: list[int] = []
        scores: list[float] = []
        ports: list[list[int]] = []
        while nodes.size and len(chosen) < wanted:
            score = self.coupled_scores(wish, nodes, total + penalty, parts + (penalty != 0.0))
            # The first of equals: the lowest ordinal.
            best = int(np.argmax(score)) if sampler is None else sampler.choose(score)
            if score[best] == -np.inf:
                break
            at = nodes[best : best + 1]
            one = Placed(at, score[best : best + 1])
            if len(wish.reasons) < REASONS_MAX:
                self._explain(wish, one, avoid)
            self.take(wish, at)
            if ask.has_ports:
                ports.append(room.take_ports(ask, int(at[0])))
            chosen.append(int(at[0]))
            scores.append(float(one.scores[0]))
            if room.holds(ask, int(at[0])) and not wish.is_alone:
                renewed = self._total(wish, at, room.head_scores(ask, at), wish.collisions[at])
                total[best], parts[best] = renewed[0][0], renewed[1][0]
            else:
                total[best] = -np.inf
        return Placed(np.array(chosen, np.int64), np.array(scores), ports)

    @staticmethod
    def _is_plain(wish: Wish) -> bool:
        """Whether a node's score for the first instance is its fitness alone."""
        is_new = not wish.collisions.any() and (wish.occupied is None or not wish.occupied.any())
        return is_new and wish.affinity is None and not wish.ask.has_ports

    def _few(self, wish: Wish, wanted: int) -> Placed:
        # Taking the chosen has the room renew what `choose` wrote into the column.
        room = self._room
        standing = room.standings.of(wish.ask, wish.eligible, wish.candidates)
        chosen, scores = room.standings.choose(standing, wanted, wish.count, is_alone=wish.is_alone)
        nodes = np.array(chosen, np.int64)
        placed = Placed(nodes, np.array(scores))
        if chosen:
            if len(wish.reasons) < REASONS_MAX:
                self._explain(wish, placed, -1)
            self.take(wish, nodes)
        return placed

    def _spread(self, wish: Wish, wanted: int) -> Placed:
        # The first ones one by one: their scores are kept for whoever asks why.
        first = self._steps(wish, min(wanted, FEW), -1)
        left = wanted - first.nodes.size
        if not left or first.nodes.size < FEW:
            return first
        queued = None if wish.ask.has_ports else self._by_kind(wish, left)
        if queued is None:
            rest = self._steps(wish, left, -1)
        else:
            rest = queued
            if rest.nodes.size:
                self.take(wish, rest.nodes)
        return Placed(
            np.concatenate([first.nodes, rest.nodes]),
            np.concatenate([first.scores, rest.scores]),
            first.ports + rest.ports,
        )

    def _by_kind(self, wish: Wish, wanted: int) -> Placed | None:
        # None when the nodes are of too many kinds for queues.
        room, ask = self._room, wish.ask
        fits = self.fits(wish, wanted)
        nodes = np.flatnonzero(fits)
        total, parts = self._total(
            wish, nodes, room.head_scores(ask, nodes), wish.collisions[nodes]
        )
        kernel = loaded()
        if kernel is not None:
            taken = kernel.spread(room, wish, wanted, nodes, fits[nodes], total, parts)
            return None if taken is None else Placed(*taken)

        # Most nodes take one or two: what they score then is found for all at once.
        second = self._total(
            wish, nodes, room.run_scores(ask, nodes, 2)[:, 1], wish.collisions[nodes] + 1
        )
        totals, counts = second[0].tolist(), second[1].tolist()

        def renewed(position: int, taken: int) -> tuple[float, int]:
            # As `_total`, for one node that took `taken` more.
            if taken == 1:
                return totals[position], counts[position]
            node = int(nodes[position])
            already = int(wish.collisions[node]) + taken
            total = room.head_after(ask, node, taken) - (already + 1) / max(wish.count, 1)
            liking = 0.0 if wish.affinity is None else float(wish.affinity[node])
            return total + liking, 2 + (liking != 0.0)

        kinds = Kinds.of(wish.spreads, nodes, fits[nodes], total, parts, renewed)
        if kinds is None:
            return None
        chosen, scores = kinds.take(wanted)
        return Placed(np.array(chosen, np.int64), np.array(scores))

    def _sampler(self, wish: Wish, nodes: int) -> Sampler | None:
        if self._rng is None:
            return None
        is_wide = bool(wish.spreads) or wish.affinity is not None
        size = sample_size(nodes, wish.count, is_batch=wish.is_batch, is_wide=is_wide)
        return Sampler(self._rng, nodes, size)

    def coupled_scores(self, wish: Wish, nodes: Ints, total: Floats, parts: Ints) -> Floats:
        """Return the scores of `nodes` with what couples them; `total` and `parts` are theirs."""
        for limit in wish.limits:
            total = np.where(limit.open_nodes()[nodes], total, -np.inf)
        if not wish.spreads:
            return total / parts
        spread = np.zeros(nodes.size)
        for scorer in wish.spreads:
            spread = spread + scorer.scores(nodes)
        score: Floats = (total + spread) / (parts + (spread != 0.0))
        return score

    def _round(self, wish: Wish, wanted: int) -> Placed:
        fits = self.fits(wish, wanted)
        nodes = np.flatnonzero(fits)
        if not nodes.size:
            return Placed(nodes, np.zeros(0))
        total, parts = self._total(
            wish, nodes, self._room.head_scores(wish.ask, nodes), wish.collisions[nodes]
        )
        kernel = loaded()
        if kernel is not None:
            chosen = kernel.greedy(self._room, wish, wanted, nodes, fits[nodes], total, parts)
            return Placed(*chosen)
        heads = total / parts
        best = _best(heads, wanted)
        nodes, heads = nodes[best], heads[best]
        block = min(_FIRST_BLOCK, nodes.size)
        while True:
            placed, is_enough = self._runs(wish, nodes, heads, fits, block, wanted)
            if is_enough:
                return placed
            block = min(block * 4, nodes.size)

    def _runs(
        self, wish: Wish, nodes: Ints, heads: Floats, fits: Ints, block: int, wanted: int
    ) -> tuple[Placed, bool]:
        # The greedy order over the first `block` nodes, as far as no other node interferes.
        members = np.sort(nodes[:block])
        held = fits[members]
        depths = np.full(members.size, _FIRST_DEPTH)
        while True:
            runs = []
            for depth in np.unique(depths).tolist():
                alike = depths == depth
                runs.append(self._keys(wish, members[alike], held[alike], depth))
            owner, rank, keys, scores = (np.concatenate(columns) for columns in zip(*runs))
            order = np.lexsort((rank, owner, -keys))[:wanted]
            # A node of which all is taken that was looked at might have given more.
            taken = np.bincount(np.searchsorted(members, owner[order]), minlength=members.size)
            is_short = (taken == depths) & (depths < held)
            if not is_short.any():
                break
            depths = np.where(is_short, depths * 8, depths)
        owner = owner[order]
        placed = Placed(owner, scores[order])
        if block < nodes.size:
            key, rival = keys[order], heads[block]
            before = (key > rival) | ((key == rival) & (owner < nodes[block]))
            return placed, int(before.sum()) >= wanted
        return placed, True

    def _keys(
        self, wish: Wish, members: Ints, held: Ints, depth: int
    ) -> tuple[Ints, Ints, Floats, Floats]:
        # Of each member's first `depth` instances, as far as it holds them: owner, number,
        # least score so far, score.
        depth = min(depth, int(held.max()))
        fit = self._room.run_scores(wish.ask, members, depth)
        number = np.broadcast_to(np.arange(depth), fit.shape)
        already = wish.collisions[members][:, None] + number
        total, parts = self._total(wish, members[:, None], fit, already)
        scores = total / parts
        keys = np.minimum.accumulate(scores, axis=1)
        is_held = number < held[:, None]
        owner = np.broadcast_to(members[:, None], fit.shape)
        return owner[is_held], number[is_held], keys[is_held], scores[is_held]


def nothing() -> Placed:
    """Return what is placed where there is no room."""
    return Placed(np.zeros(0, np.int64), np.zeros(0))


def _best(heads: Floats, wanted: int) -> Ints:
    """Return positions of the `wanted` best heads, best first, equals by position."""
    if wanted > _ARGMAX_MOST:
        return np.argsort(-heads, kind="stable")[:wanted]
    left = heads.copy()
    chosen = np.empty(min(wanted, heads.size), np.int64)
    for number in range(chosen.size):
        chosen[number] = best = np.argmax(left)
        left[best] = -np.inf
    return chosen
