"""A job goes to another region: its claim there comes first.

    1. the authority of the job's own region notes the region in the claim, and tells the
       epoch; of a job whose home is the authority itself this makes the claim
    2. the authority of the other region takes a foreign claim: the name is held there for a
       job whose origin is this region

A name that somebody has there already is refused by 2; the job goes elsewhere, and what 1
noted does no harm.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from core.federation.claims import ExtendClaim
from core.federation.home_log import claimed_record
from core.federation.homes import Home
from core.federation.host import Done

if TYPE_CHECKING:
    from core.federation.coordinator import Coordinator

Then = Callable[[int, tuple[str, ...], str], None]  # epoch, regions gained, error


class Extending:
    """One per coordinator."""

    def __init__(self, coordinator: "Coordinator") -> None:
        self._coordinator = coordinator
        self._host = coordinator.host

    def handlers(self) -> dict[str, Any]:
        return {"Claim.Extend": self._on_extend}

    def extend(self, home: Home, regions: list[str], then: Then) -> None:
        """Have a job's name held in these regions, one after the other."""
        call = self._coordinator.naming.ask_authority
        own = self._host.region if home.region == "*" else home.region
        record = self._host.state.jobs.by_uid(home.uid)
        if record is None:
            then(0, (), "the job is gone")
            return
        record = claimed_record(self._host.state, record)
        state = {"epoch": 0}
        gained: list[str] = []

        def step(position: int) -> None:
            if position == len(regions):
                then(state["epoch"], tuple(gained), "")
                return
            region = regions[position]

            def noted(body: Any, error: str) -> None:
                if error:
                    then(0, (), error)
                    return
                state["epoch"] = int(body["Epoch"])
                if region == own:
                    step(position + 1)
                else:
                    origin = {**named, "Origin": own, "Follows": state["epoch"]}
                    call(region, "Claim.Create", origin, held)

            def held(_: Any, error: str) -> None:
                if error:
                    then(0, (), error)
                    return
                gained.append(region)
                step(position + 1)

            named = {
                "Namespace": record.namespace, "JobID": record.id, "UID": record.uid,
                "Home": self._host.datacenter_id, "Said": self._host.state.index,
            }  # fmt: skip
            call(own, "Claim.Extend", {**named, "Region": region}, noted)

        step(0)

    def _on_extend(self, body: Any, reply: Done) -> None:
        command = ExtendClaim(
            namespace=body["Namespace"], job_id=body["JobID"], uid=body["UID"],
            home=body["Home"], region=body["Region"], said=body.get("Said", 0),
        )  # fmt: skip
        self._host.propose([command], reply)
