"""Every order of a few messages while a home is declared off and its job adopted.

The world is `sim.federation.lost_home`: A is the home and lives, cut off; B adopts; C runs a
part. To the steps of `sim.federation.explore` come: A is declared off, the adopter's questions
and C's answers arrive, and B decides as soon as it is the home. Checked in each state:

    index twice, process twice    in B and C, and in A as long as it is not off
    stuck                         when all arrives, B is the home, and it knows what C runs
"""

from collections.abc import Iterator
from itertools import product

from core.federation.homes import Report
from core.federation.shares import Share
from sim.federation.explore import (
    IDS,
    LETTERS,
    Bounds,
    Broken,
    Exploration,
    Whole,
    _put,
    a_job,
    a_node,
)
from sim.federation.lost_home import AdopterSite, Asked, AskedSite
from sim.federation.sites import HomeSite, Messages

A, B, C = IDS
BOUNDS = Bounds(decisions=1, syncs=0, instances=1, states=0)
LATER = 1  # decisions of the adopter


class LostHome(Exploration):
    """The search."""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.messages = Messages()
        job = a_job(bounds.instances)
        self.home = HomeSite(A, (C,), self.messages, a_node(A), job)
        self.adopter = AdopterSite(B, A, C, self.messages, a_node(B), job)
        self.third = AskedSite(C, A, self.messages, a_node(C), job)
        self.shares = [self.third]
        self.sites = [self.home, self.adopter, self.third]
        self.steps = self.longest = 0
        self.is_complete = True
        self._settled = {}
        self._choices = [*product((A, C, ""), repeat=bounds.instances)]
        self._later = [*product((B, C, ""), repeat=bounds.instances)]
        self._came_from = {}

    # --- steps ------------------------------------------------------------------------------

    def _all_after(self, whole: Whole) -> Iterator[tuple[str, Whole]]:
        for message in sorted(whole.sent):
            yield from self._arrives(whole, message)
        for place, site in enumerate(self.sites):
            for instance in site.views[whole.numbers[place]].ending:
                step = site.end(whole.numbers[place], instance)
                yield f"{LETTERS[site.id]} ended {instance}", _put(whole, place, step)
        if not whole.is_off:
            off = self.adopter.declare_off(whole.numbers[1])
            yield "A is declared off", _put(whole, 1, off)._replace(is_off=True)
        if whole.decisions < self.bounds.decisions:
            yield from self._decisions(whole)
        if whole.later < LATER and self.adopter.views[whole.numbers[1]].is_home:
            yield from self._later_decisions(whole)

    def _arrives(self, whole: Whole, message: int) -> Iterator[tuple[str, Whole]]:
        body, to = self.messages.bodies[message], self.messages.to[message]
        place = IDS.index(to)
        number = whole.numbers[place]
        if isinstance(body, Asked):
            if body.method:
                step = self.third.asked(number, message, B)
                yield f"C takes {body.method}", _put(whole, place, step)
            else:
                step = self.adopter.hear(number, message)
                yield f"B hears {body.body['Method']}", _put(whole, place, step)
        elif isinstance(body, Report):
            site = self.home if place == 0 else self.adopter
            step = site.take(number, message)
            yield f"{LETTERS[to]} takes {self._shown(message)}", _put(whole, place, step)
        elif isinstance(body, Share):
            for has_room in (True, False):
                step = self.third.take(number, message, has_room=has_room)
                text = f"C takes {LETTERS[body.home]}'s {self._shown(message)}"
                yield text + ("" if has_room else ", no room"), _put(whole, place, step)

    def _later_decisions(self, whole: Whole) -> Iterator[tuple[str, Whole]]:
        number = whole.numbers[1]
        divisions = {
            division: None
            for choice in self._later
            for division in self.adopter.divisions(number, choice)
        }
        for division in divisions:
            step = self.adopter.decide(number, whole.later, division)
            if step.number != number:
                shown = " ".join(f"{who}{sorted(had)}" for who, had in zip("BC", division))
                yield f"B decides {shown}", _put(whole, 1, step)._replace(later=whole.later + 1)

    # --- checks -----------------------------------------------------------------------------

    def _check(self, whole: Whole) -> None:
        sites = self.sites[1:] if whole.is_off else self.sites
        numbers = whole.numbers[1:] if whole.is_off else whole.numbers
        views = [site.views[number] for site, number in zip(sites, numbers)]
        for number, one in enumerate(views):
            for other in views[number + 1 :]:
                if one.authorised & other.authorised:
                    raise Broken("index twice", self._story(whole))
                if one.running & other.running:
                    raise Broken("process twice", self._story(whole))
        if whole.is_off and whole.numbers[1:] not in self._settled:
            self._settled[whole.numbers[1:]] = None
            self._check_end(whole)

    def _check_end(self, whole: Whole) -> None:
        """Let B's questions and shares arrive, and all end that shall: then B knows it all."""
        _, ours, theirs = whole.numbers
        for _ in range(20):
            before = ours, theirs
            for instance in self.adopter.views[ours].ending:
                ours = self.adopter.end(ours, instance).number
            for instance in self.third.views[theirs].ending:
                theirs = self.third.end(theirs, instance).number
            for message in self.adopter.views[ours].messages:
                if isinstance(self.messages.bodies[message], Asked):
                    step = self.third.asked(theirs, message, B)
                else:
                    step = self.third.take(theirs, message, has_room=True)
                theirs = step.number
                for answer in step.answers:
                    is_answer = isinstance(self.messages.bodies[answer], Asked)
                    heard = self.adopter.hear if is_answer else self.adopter.take
                    ours = heard(ours, answer).number
            for message in self.third.views[theirs].messages:
                if self.messages.to[message] == B:
                    ours = self.adopter.take(ours, message).number
            if before == (ours, theirs):
                break
        view, runs = self.adopter.views[ours], self.third.views[theirs].running
        if not view.is_home:
            raise Broken("stuck", f"B never became the home; {self._story(whole)}")
        told = dict(view.parts).get(C)
        wanted = told.allowed if told is not None else frozenset()
        if runs != wanted or (told is not None and not told.is_settled):
            raise Broken("stuck", f"C runs {sorted(runs)}, B has {told}; {self._story(whole)}")
