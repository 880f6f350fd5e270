"""What several endpoints do alike."""

from core.model.query import Answer
from core.server.acl import token_of
from core.server.request import QueryError, Request
from core.state.result import Applied


def checked(applied: Applied) -> Applied:
    """Return what was applied.

    Raises:
        QueryError: One of its commands was refused, with its status and text.
    """
    for result in applied.results:
        if result.is_error:
            raise QueryError(result.status if result.status >= 400 else 500, result.error)
    return applied


def check_registrations(request: Request) -> None:
    """Refuse what would register a job while `RejectJobRegistration` is set.

    Raises:
        QueryError: 403. A management token may still register.
    """
    if not request.state.scheduler_config.get("RejectJobRegistration"):
        return
    if request.server.config.acl_enabled:
        token = token_of(request.state, request.query.token)
        if token is not None and token.get("Type") == "management":
            return
    raise QueryError(
        403,
        "jobs can't be registered, dispatched or scaled now: RejectJobRegistration is set in"
        " the scheduler configuration",
    )


def only_index(applied: Applied) -> Answer:
    """Answer a write that has nothing to tell but its index."""
    checked(applied)
    return Answer(body={"Index": applied.index}, index=applied.index)


def on_namespace(request: Request, namespace: str) -> bool:
    """Whether a record of `namespace` belongs to the request's."""
    return request.query.namespace in ("*", namespace)
