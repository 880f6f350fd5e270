"""A service registration: one instance of a named service, as clients report it."""

from core.model.record import Record


class ServiceRegistration(Record):
    id: str
    service_name: str
    namespace: str = "default"
    node_id: str = ""
    datacenter: str = ""
    job_id: str = ""
    alloc_id: str = ""
    tags: list[str] | None = None
    address: str = ""
    port: int = 0
    status: str = "passing"  # of its checks: passing | critical | pending
    create_index: int = 0
    modify_index: int = 0
