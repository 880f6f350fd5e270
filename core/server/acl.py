"""Who may: tokens, and what the anonymous caller is left with.

With access control off everything is allowed. With it on, a query needs the secret id of
a management token; other tokens and the anonymous are refused, save for the few public
queries that tools need before they have a token (status, regions, health, bootstrap).
Policies come later; until then only management tokens carry rights.

The check is made by the server that answers, against its own datacenter's tokens.
"""

from typing import TYPE_CHECKING, Any

from core.model.query import OwnQuery, Query
from core.server.request import Endpoint, QueryError

if TYPE_CHECKING:
    from core.state.state import State

ANONYMOUS: dict[str, Any] = {
    "AccessorID": "anonymous",
    "Name": "Anonymous Token",
    "Type": "client",
    "Policies": ["anonymous"],
    "Global": False,
}


def token_of(state: "State", secret_id: str) -> dict[str, Any] | None:
    """Return the token with this secret, the anonymous one for "", None when unknown."""
    if not secret_id:
        return ANONYMOUS
    return state.tokens.by_secret(secret_id)


def check(state: "State", query: Query, endpoint: Endpoint) -> None:
    """Let the query pass, or refuse it.

    Raises:
        QueryError: 403 with Nomad's text.
    """
    if isinstance(query, OwnQuery):
        return  # it was allowed where it was submitted
    token = token_of(state, query.token)
    if token is None:
        raise QueryError(403, "ACL token not found")
    if endpoint.is_public or token.get("Type") == "management":
        return
    raise QueryError(403, "Permission denied")
