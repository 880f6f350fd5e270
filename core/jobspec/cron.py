"""Cron expressions: when a periodic job is due.

    Cron("*/15 8-18 * * MON-FRI").next_us(after_us, "Europe/Berlin")

Fields, as Nomad's users write them: five (minute, hour, day of month, month, day of
week), six (the same with a year), seven (seconds first, a year last), or @yearly,
@annually, @monthly, @weekly, @daily, @midnight, @hourly. In a field: `*`, `?`, numbers,
names (JAN, MON), ranges, lists, steps (`*/15`, `5-50/5`, `5/15`); in days of month also
`L` (the last), `LW` (the last weekday) and `15W` (the weekday next to the 15th); in days
of week `5L` (the last Friday) and `5#3` (the third Friday), 0 and 7 being Sunday. Where
both kinds of days are restricted, either is enough.

Times are wall-clock times of a zone. When clocks leap forward, what falls into the hour
that does not exist is not launched; when they fall back, what falls into the repeated
hour is launched twice. Jobs that must not care say UTC, which is the default.
"""

import bisect
import calendar
import datetime
import re
import zoneinfo
from typing import Final, NamedTuple

UTC: Final = datetime.UTC
_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=UTC)
_LAST_YEAR: Final = 2099
_SECOND_US: Final = 1_000_000
_MONTHS: Final = {name.upper(): n for n, name in enumerate(calendar.month_abbr) if name}
_DAYS: Final = {name: n for n, name in enumerate(("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"))}
_PREDEFINED: Final = {
    "@annually": "0 0 0 1 1 * *",
    "@yearly": "0 0 0 1 1 * *",
    "@monthly": "0 0 0 1 * * *",
    "@weekly": "0 0 0 * * 0 *",
    "@daily": "0 0 0 * * * *",
    "@midnight": "0 0 0 * * * *",
    "@hourly": "0 0 * * * * *",
}
_LONGEST: Final = 512  # characters
_STEP = re.compile(r"([^/]+)/(\d{1,4})")
_NTH = re.compile(r"(\w{1,9})#([1-5])")


class CronError(ValueError):
    """The expression can't be read; the text names the field and what is wrong with it."""


class _Field(NamedTuple):
    name: str
    low: int
    high: int
    names: dict[str, int]


_FIELDS: Final = (
    _Field("second", 0, 59, {}),
    _Field("minute", 0, 59, {}),
    _Field("hour", 0, 23, {}),
    _Field("day of month", 1, 31, {}),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _DAYS),
    _Field("year", 1970, _LAST_YEAR, {}),
)


class Cron:
    """One parsed expression."""

    def __init__(self, text: str) -> None:
        """Parse an expression.

        Raises:
            CronError: It is none.
        """
        self.text = text
        words = _words(text)
        sets: list[list[int]] = []
        self._nth: list[tuple[int, int]] = []  # day of week, 1..5 or -1 for the last
        self._near: list[int] = []  # the weekday next to this day; 0 = the last of the month
        self._is_last_day = False
        for field, word in zip(_FIELDS, words, strict=True):
            plain = self._special(field, word)
            sets.append(sorted(_values(field, plain)) if plain else [])
        self._seconds, self._minutes, self._hours = sets[:3]
        self._months, self._years = sets[4], sets[6]
        self._days = frozenset(sets[3])
        self._weekdays = frozenset(day % 7 for day in sets[5])
        self._any_day, self._any_weekday = (words[n] in "*?" for n in (3, 5))

    def next_us(self, after_us: int, time_zone: str = "UTC") -> int | None:
        """Return the first moment after `after_us` (both UTC microseconds), None = never again.

        Raises:
            CronError: The zone is not known.
        """
        zone = zone_of(time_zone)
        start_s = after_us // _SECOND_US + 1
        while True:
            offset_s = _offset_s(zone, start_s)
            local = self._next_local(_moment(start_s + offset_s))
            if local is None:
                return None
            found_s = int((local - _EPOCH).total_seconds()) - offset_s
            if _offset_s(zone, found_s) == offset_s:
                return found_s * _SECOND_US
            # Clocks change in between: look again from there on, by the new clock.
            start_s = _transition_s(zone, start_s, found_s)

    # --- reading ----------------------------------------------------------------------

    def _special(self, field: _Field, word: str) -> str:
        # Takes out what is about the end of a month or the n-th of a weekday.
        if field.name not in ("day of month", "day of week"):
            return word
        plain = []
        for item in word.split(","):
            if not self._take_special(field, item):
                plain.append(item)
        return ",".join(plain)

    def _take_special(self, field: _Field, item: str) -> bool:
        if field.name == "day of month":
            if item == "L":
                self._is_last_day = True
            elif item in ("LW", "WL"):
                self._near.append(0)
            elif item.endswith("W") and item[:-1].isdigit():
                self._near.append(_number(field, item[:-1]))
            else:
                return False
            return True
        if item != "L" and item.endswith("L") and item not in _DAYS:
            self._nth.append((_number(field, item[:-1]) % 7, -1))
        elif found := _NTH.fullmatch(item):
            self._nth.append((_number(field, found[1]) % 7, int(found[2])))
        elif item == "L":
            self._nth.append((6, 0))  # every Saturday, the week's last day
        else:
            return False
        return True

    # --- searching --------------------------------------------------------------------

    def _next_local(self, start: datetime.datetime) -> datetime.datetime | None:
        """Return the first match at or after a local time, which is written as if in UTC."""
        year_at = bisect.bisect_left(self._years, start.year)
        for year in self._years[year_at:]:
            for month in self._months:
                if (year, month) < (start.year, start.month):
                    continue
                is_first_month = (year, month) == (start.year, start.month)
                for day in self._days_of(year, month):
                    if is_first_month and day < start.day:
                        continue
                    is_first = is_first_month and day == start.day
                    time = self._time_of_day(start.time() if is_first else datetime.time())
                    if time is not None:
                        return datetime.datetime.combine(
                            datetime.date(year, month, day), time, tzinfo=UTC
                        )
        return None

    def _days_of(self, year: int, month: int) -> list[int]:
        first, length = calendar.monthrange(year, month)  # first: 0 = Monday
        weekday_of = [(first + 1 + day) % 7 for day in range(length)]  # 0 = Sunday, by day - 1
        by_month = {day for day in self._days if day <= length}
        if self._is_last_day:
            by_month.add(length)
        for near in self._near:
            by_month |= _nearest_weekday(near or length, length, weekday_of)
        by_week = {day + 1 for day, weekday in enumerate(weekday_of) if weekday in self._weekdays}
        for weekday, nth in self._nth:
            days = [day + 1 for day, found in enumerate(weekday_of) if found == weekday]
            if nth == 0:
                by_week.update(days)
            elif nth <= len(days):
                by_week.add(days[nth - 1 if nth > 0 else -1])
        if self._any_day:
            return sorted(by_week)
        if self._any_weekday:
            return sorted(by_month)
        return sorted(by_month | by_week)

    def _time_of_day(self, start: datetime.time) -> datetime.time | None:
        for hour in self._hours[bisect.bisect_left(self._hours, start.hour) :]:
            from_minute = start.minute if hour == start.hour else 0
            for minute in self._minutes[bisect.bisect_left(self._minutes, from_minute) :]:
                is_start = (hour, minute) == (start.hour, start.minute)
                at = bisect.bisect_left(self._seconds, start.second if is_start else 0)
                if at < len(self._seconds):
                    return datetime.time(hour, minute, self._seconds[at])
        return None


def next_of_us(expressions: list[str], after_us: int, time_zone: str) -> int | None:
    """Return the earliest next moment of several expressions, None when there is none.

    Raises:
        CronError: An expression or the zone is not valid.
    """
    found = [Cron(text).next_us(after_us, time_zone) for text in expressions]
    return min((moment for moment in found if moment is not None), default=None)


def zone_of(name: str) -> datetime.tzinfo:
    """Return a time zone by its IANA name; "" and "UTC" are UTC.

    Raises:
        CronError: Nobody knows it.
    """
    if name in ("", "UTC"):
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        raise CronError(f'unknown time zone "{name}"') from None


def _words(text: str) -> list[str]:
    expression = _PREDEFINED.get(text.strip().lower(), text.strip())
    if len(expression) > _LONGEST:
        raise CronError(f"cron expression is longer than {_LONGEST} characters")
    words = expression.upper().split()
    if expression.startswith("@"):
        known = ", ".join(sorted(_PREDEFINED))
        raise CronError(f'unknown cron expression "{text}"; known are {known}')
    if not 5 <= len(words) <= 7:
        raise CronError(f'cron expression "{text}" has {len(words)} fields; 5 to 7 are needed')
    if len(words) < 7:
        words.insert(0, "0")
    return words if len(words) == 7 else [*words, "*"]


def _values(field: _Field, word: str) -> set[int]:
    found: set[int] = set()
    for item in word.split(","):
        if stepped := _STEP.fullmatch(item):
            low, high = _range(field, stepped[1], is_open=True)
            step = int(stepped[2])
            if not 0 < step <= max(field.high, 1):
                raise CronError(f'{field.name}: a step of {step} in "{item}" is out of range')
        else:
            (low, high), step = _range(field, item, is_open=False), 1
        if low > high:
            raise CronError(f'{field.name}: the range "{item}" runs backwards')
        found.update(range(low, high + 1, step))
    return found


def _range(field: _Field, item: str, *, is_open: bool) -> tuple[int, int]:
    # `5/15` goes on to the end; `5` alone is just that.
    if item in ("*", "?"):
        return field.low, 6 if field.name == "day of week" else field.high
    low, dash, high = item.partition("-")
    first = _number(field, low)
    if dash:
        last = _number(field, high)
        return first, 7 if field.name == "day of week" and last == 0 < first else last
    return first, field.high if is_open else first


def _number(field: _Field, text: str) -> int:
    value = field.names.get(text[:3] if text.isalpha() else text)
    if value is None and text.isascii() and text.isdigit() and len(text) <= 4:
        value = int(text)
    if value is None:
        raise CronError(f'{field.name}: "{text}" is no number or name')
    if not field.low <= value <= field.high:
        raise CronError(f"{field.name}: {value} is not between {field.low} and {field.high}")
    return value


def _nearest_weekday(day: int, length: int, weekday_of: list[int]) -> set[int]:
    # Never leaves the month: the first on a Saturday becomes Monday the third.
    if day > length:
        return set()
    weekday = weekday_of[day - 1]
    if weekday == 6:
        return {day - 1 if day > 1 else day + 2}
    if weekday == 0:
        return {day + 1 if day < length else day - 2}
    return {day}


def _moment(seconds: int) -> datetime.datetime:
    return _EPOCH + datetime.timedelta(seconds=seconds)


def _offset_s(zone: datetime.tzinfo, at_s: int) -> int:
    offset = _moment(at_s).astimezone(zone).utcoffset()
    return int(offset.total_seconds()) if offset is not None else 0


def _transition_s(zone: datetime.tzinfo, low_s: int, high_s: int) -> int:
    """Return the first second whose offset is not that of `low_s`; `high_s` has another."""
    before = _offset_s(zone, low_s)
    while high_s - low_s > 1:
        middle = (low_s + high_s) // 2
        if _offset_s(zone, middle) == before:
            low_s = middle
        else:
            high_s = middle
    return high_s
