"""From an HTTP request's query string and headers to a `Query`, and what is wrong with it."""

from collections.abc import Mapping
from typing import Any, Final

from core.model.durations import parse_length_ns
from core.model.query import Query

# Carried by the Query itself; the rest goes into `params`.
_OWN: Final = frozenset(
    {
        "region", "namespace", "stale", "index", "wait", "pretty",
        "idempotency_time", "datacenter",
    }
)  # fmt: skip


class BadParameter(Exception):
    """The text is the answer's, status 400."""


def read_query(
    method: str, path_params: Mapping[str, str], query: Mapping[str, list[str]],
    headers: Mapping[str, str], body: Any,
) -> Query:  # fmt: skip
    """Build the `Query` of one HTTP request.

    Raises:
        BadParameter: A parameter has the wrong form.
    """

    def one(name: str) -> str:
        return query.get(name, [""])[-1]

    if one("stale") not in ("", "true", "false", "1", "0"):
        raise BadParameter("invalid value for stale query parameter")
    try:
        min_index = int(one("index") or 0)
        if min_index < 0:
            raise ValueError
    except ValueError:
        raise BadParameter("Invalid index") from None
    try:
        wait_us = parse_length_ns(one("wait")) // 1000 if one("wait") else 0
    except ValueError:
        raise BadParameter("Invalid wait time") from None
    if one("per_page") and not one("per_page").isdigit():
        raise BadParameter(
            f"Failed to parse value of per_page, a number is wanted: {one('per_page')!r}"
        )
    try:
        issued_us = int(float(one("idempotency_time") or 0) * 1e6)
    except (ValueError, OverflowError):
        raise BadParameter(
            "idempotency_time is when the call was issued, in seconds since 1970 UTC"
        ) from None
    params: dict[str, Any] = {
        name: values if name == "address" else values[-1]
        for name, values in query.items()
        if name not in _OWN
    }
    params.update(path_params)
    token = headers.get("x-nomad-token", "")
    authorization = headers.get("authorization", "")
    if not token and authorization.lower().startswith("bearer "):
        token = authorization[7:].strip()
    return Query(
        method=method,
        params=params,
        body=body,
        region=one("region"),
        datacenter=one("datacenter"),
        namespace=one("namespace") or "default",
        token=token,
        stale="stale" in query and one("stale") not in ("false", "0"),
        min_index=min_index,
        wait_us=wait_us,
        call_id=one("idempotency_token"),
        call_issued_us=issued_us,
    )
