"""`timeadd` and `formatdate`, on RFC 3339 texts. There is no `timestamp()`: no clock here."""

import re
from typing import Any, Final, NamedTuple

from core.jobspec.durations import DurationError, parse_duration_ns
from core.jobspec.hcl.functions.function import Function
from core.jobspec.hcl.values import ValueProblem, to_string

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(?:(Z)|([+-])(\d\d):(\d\d))"
)
_MONTHS: Final = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
_DAYS: Final = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_DAY_S: Final = 86_400
_SECOND_NS: Final = 1_000_000_000


class _Moment(NamedTuple):
    unix_ns: int
    offset_s: int  # of the zone, east positive


def _days_of(year: int, month: int, day: int) -> int:
    """Return days since 1970-01-01 (Howard Hinnant, "days_from_civil")."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def _date_of(days: int) -> tuple[int, int, int]:
    """Return (year, month, day) of days since 1970-01-01: the inverse of `_days_of`."""
    era, of_era = divmod(days + 719_468, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + (3 if shifted < 10 else -9)
    return year + era * 400 + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1


def _parse(text: Any) -> _Moment:
    match = _RFC3339.fullmatch(to_string(text))
    if match is None:
        raise ValueProblem('a time is written "2006-01-02T15:04:05Z"')
    year, month, day, hour, minute, second = (int(part) for part in match.groups()[:6])
    fraction, _, sign, zone_hour, zone_minute = match.groups()[6:]
    days = _days_of(year, month, day) if 1 <= month <= 12 else 0
    if not 1 <= month <= 12 or _date_of(days) != (year, month, day) or hour > 23 or minute > 59:
        raise ValueProblem(f'"{match.group()}" is not a time')
    offset = 0
    if sign:
        offset = (int(zone_hour) * 3600 + int(zone_minute) * 60) * (1 if sign == "+" else -1)
    seconds = days * _DAY_S + hour * 3600 + minute * 60 + second - offset
    return _Moment(seconds * _SECOND_NS + int((fraction or "0").ljust(9, "0")), offset)


def _timeadd(text: Any, duration: Any) -> str:
    moment = _parse(text)
    try:
        total = moment.unix_ns + parse_duration_ns(to_string(duration))
    except DurationError as error:
        raise ValueProblem(str(error)) from None
    return _formatdate("YYYY-MM-DD'T'hh:mm:ssZ", _Moment(total, moment.offset_s))


_FORMAT = re.compile(r"'((?:[^']|'')*)'|([A-Za-z])\2*|[^A-Za-z']+")


def _formatdate(pattern: Any, when: Any) -> str:
    moment = when if isinstance(when, _Moment) else _parse(when)
    local = moment.unix_ns // _SECOND_NS + moment.offset_s
    days, second = divmod(local, _DAY_S)
    year, month, day = _date_of(days)
    hour, weekday = second // 3600, _DAYS[(days + 3) % 7]
    values = {
        "YYYY": f"{year:04}", "YY": f"{year % 100:02}", "MMMM": _MONTHS[month - 1],
        "MMM": _MONTHS[month - 1][:3], "MM": f"{month:02}", "M": str(month),
        "DD": f"{day:02}", "D": str(day), "EEEE": weekday, "EEE": weekday[:3],
        "hh": f"{hour:02}", "h": str(hour), "HH": f"{hour % 12 or 12:02}",
        "H": str(hour % 12 or 12), "AA": "AM" if hour < 12 else "PM",
        "aa": "am" if hour < 12 else "pm", "mm": f"{second % 3600 // 60:02}",
        "m": str(second % 3600 // 60), "ss": f"{second % 60:02}", "s": str(second % 60),
        "Z": _zone(moment.offset_s, ":") if moment.offset_s else "Z",
        "ZZZZ": _zone(moment.offset_s, ""), "ZZZZZ": _zone(moment.offset_s, ":"),
        "ZZZ": _zone(moment.offset_s, "") if moment.offset_s else "UTC",
    }  # fmt: skip

    def one(match: re.Match[str]) -> str:
        if match.group(1) is not None:
            return match.group(1).replace("''", "'")
        if match.group(2) is None:
            return match.group()
        if match.group() not in values:
            raise ValueProblem(f'"{match.group()}" means nothing in a date format')
        return values[match.group()]

    return _FORMAT.sub(one, to_string(pattern))


def _zone(offset_s: int, separator: str) -> str:
    sign, minutes = "+" if offset_s >= 0 else "-", abs(offset_s) // 60
    return f"{sign}{minutes // 60:02}{separator}{minutes % 60:02}"


FUNCTIONS: Final = {
    "formatdate": Function(_formatdate, 2, 2),
    "timeadd": Function(_timeadd, 2, 2),
}
