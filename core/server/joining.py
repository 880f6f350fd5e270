"""Answers of several datacenters joined into one: rows merged in order, pages cut anew.

Each part is ordered by its keys and cut into pages of its own, all from the same place. So
the first page of the merged rows is within the first pages of the parts, and the place
where the next one begins is (key, datacenter): two logs may hold the same key, a job's name
in two regions, and a page may end between them. As a token: `KEY~DATACENTER_ID`.
"""

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from core.model.query import Answer, Query
from core.server.listing import plain

_MARK: Final = "~"
_ID_LENGTH: Final = 12


class Place(NamedTuple):
    """Where a row stands in the merged list."""

    key: str
    datacenter_id: str = ""

    @property
    def token(self) -> str:
        return f"{self.key}{_MARK}{self.datacenter_id}"

    @classmethod
    def of_token(cls, token: str) -> "Place":
        """Return the place that a token names; one of a single log names only a key."""
        key, mark, datacenter_id = token.rpartition(_MARK)
        if mark and len(datacenter_id) == _ID_LENGTH:
            return cls(key, datacenter_id)
        return cls(token)


def is_reversed(query: Query) -> bool:
    return str(query.params.get("reverse", "false")).lower() in ("true", "1", "t", "")


def per_page(query: Query) -> int:
    given = str(query.params.get("per_page", ""))
    return int(given) if given.isdigit() else 0


def part_params(query: Query) -> dict[str, Any]:
    """Return the parameters that ask one datacenter for its part of a page."""
    token = str(query.params.get("next_token", ""))
    if not token:
        return query.params
    # One row more: the first may be of the page before, if its key stands in several logs.
    more = {"per_page": str(per_page(query) + 1)} if per_page(query) else {}
    return {**query.params, **more, "next_token": Place.of_token(token).key}


def joined(answers: dict[str, Answer], query: Query) -> Answer:
    """Return the answers, by datacenter id and none of them an error, as one."""
    given = list(answers.values())
    answer = Answer(
        known_leader=all(one.known_leader for one in given),
        last_contact_ms=max((one.last_contact_ms for one in given), default=0),
    )
    bodies = [one.body for one in given]
    if join := _JOINERS.get(query.method):
        answer.body = join([plain(body) for body in bodies if body is not None])
    elif all(isinstance(body, dict) for body in bodies):
        answer.body = _joined_maps(bodies)
    else:
        answer.body, answer.next_token = _merged_rows(answers, query)
    return answer


def _merged_rows(answers: dict[str, Answer], query: Query) -> tuple[list[Any], str]:
    backwards, page = is_reversed(query), per_page(query)
    token = str(query.params.get("next_token", ""))
    start = Place.of_token(token) if token else None
    rows: list[tuple[Place, Any]] = []
    beyond: list[Place] = []  # where parts go on that were cut
    for datacenter_id, answer in answers.items():
        body = answer.body or []
        keys = answer.keys or [str(_field(row, "ID")) for row in body]
        rows += [
            (Place(key, datacenter_id), row) for key, row in zip(keys, body, strict=True)
        ]  # fmt: skip
        if answer.next_token:
            beyond.append(Place(answer.next_token, datacenter_id))
    rows.sort(key=lambda pair: pair[0], reverse=backwards)
    if query.method == "NodePool.List":  # a pool is one, however many datacenters have it
        rows = list({place.key: (place, row) for place, row in rows}.values())
    if start is not None:
        rows = [
            pair for pair in rows if (pair[0] <= start if backwards else pair[0] >= start)
        ]  # fmt: skip
    if not page:
        return [row for _, row in rows], ""
    cut = [place for place, _ in rows[page : page + 1]] + beyond
    following = (max if backwards else min)(cut, default=None)
    return [row for _, row in rows[:page]], following.token if following is not None else ""


def _field(row: Any, name: str) -> Any:
    return row.get(name) if isinstance(row, dict) else getattr(row, name.lower(), "")


def _joined_maps(bodies: list[Any]) -> dict[str, Any]:
    """Join maps key by key: lists of finds follow each other, numbers add up."""
    joined_map: dict[str, Any] = {}
    for body in bodies:
        for key, value in body.items():
            known = joined_map.get(key)
            if isinstance(value, dict) and isinstance(known, dict):
                joined_map[key] = _joined_maps([known, value])
            elif isinstance(value, list) and isinstance(known, list):
                joined_map[key] = known + [row for row in value if row not in known]
            elif isinstance(value, bool) and isinstance(known, bool):
                joined_map[key] = known or value
            elif isinstance(value, int) and isinstance(known, int):
                joined_map[key] = known + value
            else:
                joined_map[key] = value
    return joined_map


def _joined_services(bodies: list[Any]) -> list[dict[str, Any]]:
    """Join the services of namespaces: a service is one, wherever it is registered."""
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for row in (row for body in bodies for row in body):
        names = found.setdefault(row["Namespace"], {})
        for service in row["Services"]:
            names.setdefault(service["ServiceName"], []).append(service)
    return [
        {
            "Namespace": namespace,
            "Services": [
                {
                    "ServiceName": name,
                    "Tags": sorted({tag for one in parts for tag in one["Tags"]}),
                    "Datacenters": sorted({dc for one in parts for dc in one["Datacenters"]}),
                }
                for name, parts in sorted(names.items())
            ],
        }
        for namespace, names in sorted(found.items())
    ]


# --- one job in several datacenters: the home's answer comes first --------------------------


def _joined_summary(bodies: list[Any]) -> Any:
    """Add up what became of a job's allocations; all else is the home's word."""
    home = bodies[0]
    groups = _joined_maps([body["Summary"] for body in bodies])
    return {**home, "Summary": groups}


def _joined_scale(bodies: list[Any]) -> Any:
    """Add up what runs of each group; what is desired, and the events, the home knows."""
    home = bodies[0]
    groups = {}
    for name, group in home["TaskGroups"].items():
        parts = [body["TaskGroups"].get(name) or {} for body in bodies]
        numbers = {key: sum(part.get(key, 0) for part in parts) for key in _SCALED}
        groups[name] = {**group, **numbers}
    return {**home, "TaskGroups": groups}


def _first(bodies: list[Any]) -> Any:
    return bodies[0] if bodies else None


def _newest_first(bodies: list[Any]) -> list[Any]:
    """Join what happened; indices compare only within one log, so time orders it."""
    rows = [row for body in bodies for row in body]
    return sorted(rows, key=lambda row: (-row["CreateTime"], row["ID"]))


_SCALED: Final = ("Placed", "Running", "Healthy", "Unhealthy")
_JOINERS: Final[dict[str, Callable[[list[Any]], Any]]] = {
    "Service.List": _joined_services,
    "Job.Summary": _joined_summary,
    "Job.ScaleStatus": _joined_scale,
    "Job.LatestDeployment": _first,
    "Job.Evaluations": _newest_first,
    "Job.Deployments": _newest_first,
}
