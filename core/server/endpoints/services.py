"""Service.*: what runs where, by service name; and the one namespace there is so far."""

from typing import Any

from core.model.query import Answer
from core.model.service import ServiceRegistration
from core.server.endpoints.shared import on_namespace, only_index
from core.server.listing import filter_of, listed, plain
from core.server.ranking import rendezvous_order
from core.server.request import Endpoint, Kind, Proposal, QueryError, Request
from core.state.commands import PutServices


def service_list(request: Request) -> Answer:
    accepts = filter_of(request)
    found: dict[str, dict[str, dict[str, None]]] = {}
    for one in request.state.services.values():
        if on_namespace(request, one.namespace) and (accepts is None or accepts(plain(one))):
            tags = found.setdefault(one.namespace, {}).setdefault(one.service_name, {})
            tags.update(dict.fromkeys(one.tags or []))
    where: dict[str, Any] = {}
    if request.query.is_part:
        where["Datacenters"] = [f"{request.state.region}/{request.state.datacenter}"]
    body = [
        {
            "Namespace": namespace,
            "Services": [
                {"ServiceName": name, "Tags": sorted(names[name]), **where}
                for name in sorted(names)
            ],
        }
        for namespace, names in sorted(found.items())
    ]
    return Answer(body=body, index=request.state.table_index("services"))


def service_get(request: Request) -> Answer:
    name = request.required("name")
    found = [
        one
        for one in request.state.services.values()
        if one.service_name == name and on_namespace(request, one.namespace)
    ]
    answer = listed(
        request,
        found,
        key=lambda one: one.id,
        show=lambda one: one,
        index=request.state.table_index("services"),
    )
    choose = request.text("choose")
    if choose:
        answer.body = _chosen(answer.body, choose)
    return answer


def _chosen(rows: list[ServiceRegistration], choose: str) -> list[ServiceRegistration]:
    """Return N of the rows, the same ones for the same key as long as they live.

    Raises:
        QueryError: `choose` is not "N" or "N|key".
    """
    number, _, key = choose.partition("|")
    if not number.isdigit():
        raise QueryError(400, f"choose must be a number or 'number|key', not {choose!r}")
    return rendezvous_order(rows, key, lambda one: one.id)[: int(number)]


def service_delete(request: Request) -> Proposal:
    service_id = request.required("id")
    if all(one.id != service_id for one in request.state.services.values()):
        raise QueryError(404, "service registration not found")
    return Proposal([PutServices(removed=[service_id])], only_index)


def _watch(request: Request) -> tuple[str, ...]:
    return ("services",)


ENDPOINTS = {
    "Service.List": Endpoint(Kind.READ, service_list, watches=_watch),
    "Service.Get": Endpoint(Kind.READ, service_get, watches=_watch),
    "Service.Delete": Endpoint(Kind.WRITE, service_delete),
}
