"""Cron expressions against the calendar, and against a plain reference that tries each second."""

import datetime
import zoneinfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.jobspec.cron import Cron, CronError, next_of_us

US = 1_000_000


def _us(text: str, zone: str = "UTC", fold: int = 0) -> int:
    local = datetime.datetime.fromisoformat(text).replace(tzinfo=zoneinfo.ZoneInfo(zone), fold=fold)
    return int(local.timestamp()) * US


def _next(expression: str, after: str, zone: str = "UTC", count: int = 1) -> list[str]:
    found, moment = [], _us(after, zone)
    for _ in range(count):
        due = Cron(expression).next_us(moment, zone)
        if due is None:
            break
        moment = due
        local = datetime.datetime.fromtimestamp(moment // US, zoneinfo.ZoneInfo(zone))
        found.append(local.isoformat())
    return found


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        ("*/15 * * * *", "2026-01-01T00:00:00", "2026-01-01T00:15:00"),
        ("*/15 * * * * *", "2026-01-01T00:00:01", "2026-01-01T00:15:00"),  # six: a year, no seconds
        ("*/20 * * * * * *", "2026-01-01T00:00:01", "2026-01-01T00:00:20"),
        ("0 0 1 1 *", "2026-01-01T00:00:00", "2027-01-01T00:00:00"),
        ("30 4 * * MON-FRI", "2026-01-02T04:30:00", "2026-01-05T04:30:00"),
        ("0 12 * JAN,jul 0", "2026-02-01T00:00:00", "2026-07-05T12:00:00"),
        ("0 12 * * 7", "2026-01-01T00:00:00", "2026-01-04T12:00:00"),
        ("0 0 13 * FRI", "2026-01-03T00:00:00", "2026-01-09T00:00:00"),  # either is enough
        ("0 0 L 2 ?", "2026-01-01T00:00:00", "2026-02-28T00:00:00"),
        ("0 0 L 2 ?", "2028-01-01T00:00:00", "2028-02-29T00:00:00"),
        ("0 0 15W * ?", "2026-08-01T00:00:00", "2026-08-14T00:00:00"),  # the 15th is a Saturday
        ("0 0 1W * ?", "2026-07-31T00:00:01", "2026-08-03T00:00:00"),
        ("0 0 LW * ?", "2026-05-01T00:00:00", "2026-05-29T00:00:00"),
        ("0 0 ? * 5L", "2026-01-01T00:00:00", "2026-01-30T00:00:00"),
        ("0 0 ? * TUE#2", "2026-01-01T00:00:00", "2026-01-13T00:00:00"),
        ("5/20 0 1 1 *", "2026-01-01T00:05:00", "2026-01-01T00:25:00"),
        ("@weekly", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),
        ("@Daily", "2026-01-01T00:00:00", "2026-01-02T00:00:00"),
        ("0 0 0 29 2 ? 2027-2032", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
    ],
)
def test_next(expression: str, after: str, expected: str) -> None:
    assert _next(expression, after) == [expected + "+00:00"]


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 0 1 1 * 1999"])
def test_never_again(expression: str) -> None:
    assert Cron(expression).next_us(_us("2026-01-01T00:00:00")) is None


def test_the_skipped_hour_is_not_launched() -> None:
    assert _next("30 2 * * *", "2026-03-07T12:00:00", "America/New_York", 2) == [
        "2026-03-09T02:30:00-04:00",
        "2026-03-10T02:30:00-04:00",
    ]
    assert _next("*/30 * * * *", "2026-03-08T01:00:00", "America/New_York", 3) == [
        "2026-03-08T01:30:00-05:00",
        "2026-03-08T03:00:00-04:00",
        "2026-03-08T03:30:00-04:00",
    ]


def test_the_repeated_hour_is_launched_twice() -> None:
    assert _next("30 1 * * *", "2026-10-31T12:00:00", "America/New_York", 3) == [
        "2026-11-01T01:30:00-04:00",
        "2026-11-01T01:30:00-05:00",
        "2026-11-02T01:30:00-05:00",
    ]


def test_several_expressions_take_the_earliest() -> None:
    after = _us("2026-01-01T00:00:00")
    assert next_of_us(["@daily", "0 12 * * *"], after, "") == _us("2026-01-01T12:00:00")
    assert next_of_us([], after, "UTC") is None


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        ("", "0 fields"),
        ("* * *", "3 fields"),
        ("60 * * * *", "minute: 60 is not between 0 and 59"),
        ("* 5-2 * * *", "runs backwards"),
        ("* * 0 * *", "day of month: 0"),
        ("* * * FOO *", '"FOO" is no number'),
        ("*/0 * * * *", "a step of 0"),
        ("@often", "unknown cron expression"),
        ("* " * 300, "longer than"),
        ("1,,2 * * * *", "is no number"),
    ],
)
def test_what_is_wrong_is_named(expression: str, text: str) -> None:
    with pytest.raises(CronError, match=text):
        Cron(expression)


def test_an_unknown_zone_is_named() -> None:
    for name in ("Mars/Olympus", "../../etc/passwd", "Europe"):
        with pytest.raises(CronError, match="unknown time zone"):
            Cron("@daily").next_us(0, name)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 59), st.sets(st.integers(0, 23), min_size=1, max_size=4),
    st.integers(0, 366 * 2), st.sampled_from(["UTC", "Europe/Berlin", "America/New_York"]),
)  # fmt: skip
def test_agrees_with_trying_every_minute(minute: int, hours: set[int], day: int, zone: str) -> None:
    after = _us("2026-01-01T00:00:30") + day * 86_400 * US
    expression = f"{minute} {','.join(map(str, sorted(hours)))} * * *"
    tz = zoneinfo.ZoneInfo(zone)
    moment = after // US // 60 * 60
    while True:
        moment += 60
        local = datetime.datetime.fromtimestamp(moment, tz)
        if local.minute == minute and local.hour in hours:
            break
    assert Cron(expression).next_us(after, zone) == moment * US


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="0123456789*/,-?LW#MONJA @", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        due = Cron(text).next_us(_us("2026-01-01T00:00:00"))
    except CronError:
        return
    assert due is None or due > _us("2026-01-01T00:00:00")
