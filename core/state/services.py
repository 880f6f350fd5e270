"""Service registrations: by name, by node and by allocation."""

from typing import TYPE_CHECKING

import msgspec

from core.model.service import ServiceRegistration
from core.state.commands import PutServices
from core.state.result import CommandResult
from core.state.table import Table

if TYPE_CHECKING:
    from core.state.context import Context
    from core.state.state import State


class ServiceTable(Table[str, ServiceRegistration]):
    """Registrations by id."""

    def __init__(self) -> None:
        super().__init__("services", str, ServiceRegistration)
        self._by_name: dict[tuple[str, str], dict[str, None]] = {}
        self._by_node: dict[str, dict[str, None]] = {}
        self._by_alloc: dict[str, dict[str, None]] = {}

    def names(self, namespace: str = "*") -> list[tuple[str, str]]:
        """Return (namespace, name) of the services with an instance, sorted."""
        return sorted(name for name in self._by_name if namespace in {"*", name[0]})

    def of_name(self, namespace: str, name: str) -> list[ServiceRegistration]:
        return self._all(self._by_name.get((namespace, name)))

    def of_node(self, node_id: str) -> list[ServiceRegistration]:
        return self._all(self._by_node.get(node_id))

    def of_alloc(self, alloc_id: str) -> list[ServiceRegistration]:
        return self._all(self._by_alloc.get(alloc_id))

    def of_job(self, namespace: str, job_id: str) -> list[ServiceRegistration]:
        return [r for r in self.values() if r.namespace == namespace and r.job_id == job_id]

    def on_put(self, key: str, old: ServiceRegistration | None, new: ServiceRegistration) -> None:
        if old is not None:
            self._unlink(key, old)
        self._by_name.setdefault((new.namespace, new.service_name), {})[key] = None
        self._by_node.setdefault(new.node_id, {})[key] = None
        self._by_alloc.setdefault(new.alloc_id, {})[key] = None

    def on_delete(self, key: str, old: ServiceRegistration) -> None:
        self._unlink(key, old)

    def _unlink(self, key: str, old: ServiceRegistration) -> None:
        name = (old.namespace, old.service_name)
        del self._by_name[name][key]
        if not self._by_name[name]:
            del self._by_name[name]
        for index, where in ((self._by_node, old.node_id), (self._by_alloc, old.alloc_id)):
            del index[where][key]
            if not index[where]:
                del index[where]

    def _all(self, keys: dict[str, None] | None) -> list[ServiceRegistration]:
        return [self._records[key] for key in sorted(keys or {})]


def put_services(state: "State", command: PutServices, context: "Context") -> CommandResult:
    """Create, replace and remove registrations; an equal one again changes nothing."""
    for new in command.registrations:
        old = state.services.get(new.id)
        kept = {
            "create_index": old.create_index if old else context.index,
            "modify_index": old.modify_index if old else context.index,
        }
        new = msgspec.structs.replace(new, **kept)
        if new == old:
            continue
        state.services.put(new.id, msgspec.structs.replace(new, modify_index=context.index))
        context.changed("services", "ServiceRegistration", new.id, new.namespace)
    for key in command.removed:
        remove_service(state, key, context)
    return CommandResult()


def remove_service(state: "State", key: str, context: "Context") -> None:
    """Remove a registration if there is one."""
    old = state.services.delete(key)
    if old is not None:
        context.changed("services", "ServiceDeregistration", key, old.namespace)
