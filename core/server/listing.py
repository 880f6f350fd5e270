"""Lists: ordered, narrowed by prefix and filter, and cut into pages.

`next_token` is the key of the first row of the next page, so a row that appears in
between is neither repeated nor makes another one vanish. The order is that of the keys;
`reverse` turns it round.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec

from core.model.query import Answer
from core.server.filtering import FilterError, Predicate, compile_filter
from core.server.request import QueryError, Request

T = TypeVar("T")


def plain(record: Any) -> Any:
    """Return a record as the JSON data that its encoding would give."""
    return msgspec.to_builtins(record)


def filter_of(request: Request) -> Predicate | None:
    """Return the request's `filter`, None when it has none.

    Raises:
        QueryError: It does not parse.
    """
    expression = request.text("filter")
    if not expression.strip():
        return None
    try:
        return compile_filter(expression)
    except FilterError as error:
        raise QueryError(400, f"failed to read filter expression: {error}") from None


def listed(
    request: Request,
    rows: Iterable[T],
    *,
    key: Callable[[T], str],
    show: Callable[[T], Any],
    index: int,
    prefix_of: Callable[[T], str] | None = None,
    filtered_as: Callable[[T], Any] = plain,
) -> Answer:
    """Return one page of `rows` as an answer.

    Args:
        key: Unique per row, orders the list; what `next_token` holds.
        show: Row -> what the list shows of it.
        prefix_of: What `prefix` is compared with; the key when None.
        filtered_as: Row -> JSON data that `filter` reads: the record, not its stub.
    """
    accepts = filter_of(request)
    prefix = request.text("prefix")
    is_reverse = request.flag("reverse")
    per_page = request.number("per_page")
    if per_page < 0:
        raise QueryError(400, "per_page must not be negative")
    token = request.text("next_token")
    named = prefix_of or key
    chosen = [row for row in rows if not prefix or named(row).startswith(prefix)]
    chosen.sort(key=key, reverse=is_reverse)
    shown: list[Any] = []
    keys: list[str] = []
    next_token = ""
    # Whoever joins the parts of several datacenters needs to know how they are ordered.
    is_part = request.query.is_part
    where = _where(request)
    for row in chosen:
        place = key(row)
        if token and (place > token if is_reverse else place < token):
            continue
        if accepts is not None and not accepts(filtered_as(row)):
            continue
        if per_page and len(shown) == per_page:
            next_token = place
            break
        one = show(row)
        shown.append({**where, **plain(one)} if where else one)
        if is_part:
            keys.append(place)
    return Answer(body=shown, index=index, next_token=next_token, keys=keys)


def _where(request: Request) -> dict[str, str]:
    """Return what tells rows of several datacenters apart, {} where there is only one."""
    query, state = request.query, request.state
    if not (query.is_part or query.region == "*" or query.datacenter):
        return {}
    return {"Region": state.region, "Datacenter": state.datacenter}


def age_key(request: Request, index: int, time_ns: int, id_: str) -> str:
    """Return the key of a record in a list that is ordered by age, oldest first.

    In one log that is the index of its creation; several logs have only time in common.
    """
    return f"{time_ns if request.query.is_part else index:020d}.{id_}"


def check_prefix(prefix: str) -> None:
    """Nomad resolves ids by an even number of hex digits; others are the caller's mistake.

    Raises:
        QueryError: The prefix holds what no id has.
    """
    if any(char not in "0123456789abcdefABCDEF-" for char in prefix):
        raise QueryError(400, f"prefix {prefix!r} is not of an id: hex digits and dashes only")
