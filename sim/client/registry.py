"""What the servers have registered, against what is offered."""

from typing import TYPE_CHECKING, Any, Final

from sim.client.lives import AllocLife

if TYPE_CHECKING:
    from sim.client.watch import Watch

SETTLED_US: Final = 2_000_000  # what the servers were to hear after a change
TROUBLE_US: Final = 7_000_000  # and after calls that failed


def judge_taken_out(watch: "Watch", life: AllocLife, task: str, us: int) -> None:
    """With a shutdown delay callers look elsewhere before the signal comes."""
    watch.offers[life.alloc.id].settle(us)
    for name, offer in watch.offers[life.alloc.id].wanted.items():
        told = us - offer.changed_us > SETTLED_US and us - watch.trouble_us > TROUBLE_US
        if task in offer.needs and told and _registered(watch, life, name) is not None:
            raise life.fault("services", task, f"{name} is still registered at its signal")


def look_at_services(watch: "Watch", us: int) -> None:
    """What the servers know is what is offered, a while after the last change."""
    if not watch.agent_lives or us - watch.trouble_us < TROUBLE_US:
        return
    for alloc_id, offers in watch.offers.items():
        life = watch.lives[alloc_id]
        for name, offer in offers.wanted.items():
            if life.is_loose or offer.is_wanted is None or us - offer.changed_us < SETTLED_US:
                continue
            found = _registered(watch, life, name)
            if (found is not None) != offer.is_wanted:
                text = "not registered" if found is None else "registered"
                raise life.fault("services", "", f"{name} is {text} since {offer.changed_us}")
            if found is not None and found["Status"] != offer.status:
                text = f"{name} is said to be {found['Status']}, and is {offer.status}"
                raise life.fault("services", "", text)
            watch.situations["service registered"] += offer.is_wanted


def _registered(watch: "Watch", life: AllocLife, name: str) -> dict[str, Any] | None:
    for service in watch.registered().values():
        if service["AllocID"] == life.alloc.id and service["ServiceName"] == name:
            return service
    return None
