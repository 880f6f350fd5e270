"""The endpoints of all modules in one table, by query method (see this package's page)."""

from typing import Final

from core.server.endpoints import (
    agent,
    allocations,
    authority,
    clients,
    datacenters,
    deployments,
    dispatching,
    evaluations,
    federation,
    jobs,
    nodes,
    operator,
    pools,
    quorum,
    registration,
    scaling,
    search,
    services,
    shares,
    tokens,
    versions,
    why,
)
from core.server.request import Endpoint

ENDPOINTS: Final[dict[str, Endpoint]] = {
    **jobs.ENDPOINTS,
    **versions.ENDPOINTS,
    **why.ENDPOINTS,
    **registration.ENDPOINTS,
    **shares.ENDPOINTS,
    **dispatching.ENDPOINTS,
    **allocations.ENDPOINTS,
    **evaluations.ENDPOINTS,
    **deployments.ENDPOINTS,
    **nodes.ENDPOINTS,
    **pools.ENDPOINTS,
    **scaling.ENDPOINTS,
    **services.ENDPOINTS,
    **search.ENDPOINTS,
    **agent.ENDPOINTS,
    **authority.ENDPOINTS,
    **federation.ENDPOINTS,
    **datacenters.ENDPOINTS,
    **tokens.ENDPOINTS,
    **operator.ENDPOINTS,
    **quorum.ENDPOINTS,
    **clients.ENDPOINTS,
}
