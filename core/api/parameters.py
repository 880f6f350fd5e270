"""From an HTTP request's query string and headers to a `Query`, and what is wrong with it."""

import re
from collections.abc import Mapping
from typing import Any, Final

from core.model.query import Query

_DURATION_PART: Final = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_UNIT_US: Final = {
    "ns": 1e-3, "us": 1.0, "µs": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6, "h": 3600e6,
}  # fmt: skip
# Carried by the Query itself; the rest goes into `params`.
_OWN: Final = frozenset(
    {"region", "namespace", "stale", "index", "wait", "pretty", "idempotency_token", "datacenter"}
)


class BadParameter(Exception):
    """The text is the answer's, status 400."""


def duration_us(text: str) -> int:
    """Return the microseconds of a Go duration ("1h30m", "500ms").

    Raises:
        ValueError: It is not one.
    """
    if text == "0":
        return 0
    position, total = 0, 0.0
    while position < len(text):
        part = _DURATION_PART.match(text, position)
        if part is None:
            raise ValueError(f"not a duration: {text!r}")
        total += float(part[1]) * _UNIT_US[part[2]]
        position = part.end()
    if not text:
        raise ValueError("not a duration: ''")
    return int(total)


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
        wait_us = duration_us(one("wait")) if one("wait") else 0
    except ValueError:
        raise BadParameter("Invalid wait time") from None
    if one("per_page") and not one("per_page").isdigit():
        raise BadParameter(
            f"Failed to parse value of per_page, a number is wanted: {one('per_page')!r}"
        )
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
    )
