"""ACL.*: the first token, and the others after it."""

from typing import Any

from core.model.instant import rfc3339_of_ns
from core.model.query import Answer
from core.server import acl, views
from core.server.endpoints.shared import checked, only_index
from core.server.listing import listed
from core.server.request import Endpoint, Kind, Proposal, QueryError, Request
from core.state.commands import BootstrapACL, DeleteToken, PutToken
from core.state.result import Applied

_TYPES = ("client", "management")


def bootstrap(request: Request) -> Proposal:
    """Create the first management token; its secret is shown this once."""
    _require_enabled(request)
    server = request.server
    given = request.field("BootstrapSecret", str, "")
    if given and not _is_uuid(given):
        raise QueryError(400, "bootstrap secret must be a UUID")
    secret_id = given or server.new_id()
    command = BootstrapACL(
        accessor_id=request.draw_id(),
        secret_id=secret_id,
        create_time=rfc3339_of_ns(server.now.wall_us * 1000),
    )

    def answer(applied: Applied) -> Answer:
        checked(applied)
        # Of a repeated call the stored token counts, not the secret drawn this time.
        token = request.state.tokens.get(command.accessor_id)
        return Answer(body=token, index=applied.index)

    return Proposal([command], answer)


def token_list(request: Request) -> Answer:
    is_global = request.query.params.get("global")
    rows = [
        token
        for token in request.state.tokens.values()
        if is_global is None or bool(token.get("Global")) == request.flag("global")
    ]
    return listed(
        request,
        rows,
        key=_accessor,
        show=views.token_stub,
        filtered_as=views.token_stub,
        index=max(1, request.state.table_index("acl_token")),
    )


def _accessor(token: dict[str, Any]) -> str:
    return str(token["AccessorID"])


def token_get(request: Request) -> Answer:
    token = request.state.tokens.get(request.required("accessor_id"))
    if token is None:
        raise QueryError(404, "ACL token not found")
    return Answer(body=token, index=max(1, int(token.get("ModifyIndex") or 0)))


def token_self(request: Request) -> Answer:
    _require_enabled(request)
    token = acl.token_of(request.state, request.query.token)
    if token is None:
        raise QueryError(403, "ACL token not found")
    return Answer(body=token, index=max(1, int(token.get("ModifyIndex") or 0)))


def token_create(request: Request) -> Proposal:
    _require_enabled(request)
    body = request.body()
    if body.get("AccessorID"):
        raise QueryError(400, "AccessorID must not be given: it is drawn")
    token = _token(request, body)
    token["AccessorID"] = request.draw_id()
    token["SecretID"] = request.server.new_id()
    token["CreateTime"] = rfc3339_of_ns(request.server.now.wall_us * 1000)
    return _put(request, token)


def token_update(request: Request) -> Proposal:
    _require_enabled(request)
    accessor = request.required("accessor_id")
    known = request.state.tokens.get(accessor)
    if known is None:
        raise QueryError(404, "ACL token not found")
    body = request.body()
    if body.get("AccessorID") not in (None, "", accessor):
        raise QueryError(400, "token accessor ID in the body does not match the path")
    token = {**known, **_token(request, {**known, **body})}
    return _put(request, token)


def token_delete(request: Request) -> Proposal:
    _require_enabled(request)
    accessor = request.required("accessor_id")
    if request.state.tokens.get(accessor) is None:
        raise QueryError(404, "ACL token not found")
    return Proposal([DeleteToken(accessor_id=accessor)], only_index)


def _token(request: Request, body: dict[str, Any]) -> dict[str, Any]:
    """Return what a caller may say of a token, checked.

    Raises:
        QueryError: 400 with the field.
    """
    kind = body.get("Type") or "client"
    if kind not in _TYPES:
        raise QueryError(400, f"token type must be client or management, not {kind!r}")
    policies = body.get("Policies") or []
    if not isinstance(policies, list) or not all(isinstance(name, str) for name in policies):
        raise QueryError(400, "Policies must be a list of names")
    if kind == "management" and policies:
        raise QueryError(400, "management token cannot be associated with policies or roles")
    name = body.get("Name") or ""
    if not isinstance(name, str) or len(name) > 256:
        raise QueryError(400, "token name must be text of at most 256 characters")
    return {
        "Name": name,
        "Type": kind,
        "Policies": policies or None,
        "Roles": None,
        "Global": bool(body.get("Global")),
        "ExpirationTime": None,
        "ExpirationTTL": 0,
    }


def _put(request: Request, token: dict[str, Any]) -> Proposal:
    def answer(applied: Applied) -> Answer:
        checked(applied)
        kept = request.state.tokens.get(token["AccessorID"])
        return Answer(body=kept, index=applied.index)

    return Proposal([PutToken(token=token)], answer)


def _require_enabled(request: Request) -> None:
    if not request.server.config.acl_enabled:
        raise QueryError(400, "ACL support disabled")


def _is_uuid(text: str) -> bool:
    shape = [len(part) for part in text.split("-")]
    return shape == [8, 4, 4, 4, 12] and all(c in "0123456789abcdef-" for c in text.lower())


ENDPOINTS = {
    "ACL.Bootstrap": Endpoint(Kind.WRITE, bootstrap, is_public=True),
    "ACL.Token.List": Endpoint(Kind.READ, token_list, watches=lambda request: ("acl_token",)),
    "ACL.Token.Get": Endpoint(Kind.READ, token_get, watches=lambda request: ("acl_token",)),
    "ACL.Token.Self": Endpoint(Kind.READ, token_self, is_public=True),
    "ACL.Token.Create": Endpoint(Kind.WRITE, token_create),
    "ACL.Token.Update": Endpoint(Kind.WRITE, token_update),
    "ACL.Token.Delete": Endpoint(Kind.WRITE, token_delete),
}
