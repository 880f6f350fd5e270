"""The endpoints of all modules in one table, by query method (see this package's page)."""

from typing import Final

from core.server.endpoints import (
    agent,
    allocations,
    clients,
    deployments,
    evaluations,
    jobs,
    nodes,
    operator,
    registration,
    search,
    services,
    tokens,
)
from core.server.request import Endpoint

ENDPOINTS: Final[dict[str, Endpoint]] = {
    **jobs.ENDPOINTS,
    **registration.ENDPOINTS,
    **allocations.ENDPOINTS,
    **evaluations.ENDPOINTS,
    **deployments.ENDPOINTS,
    **nodes.ENDPOINTS,
    **services.ENDPOINTS,
    **search.ENDPOINTS,
    **agent.ENDPOINTS,
    **tokens.ENDPOINTS,
    **operator.ENDPOINTS,
    **clients.ENDPOINTS,
}
