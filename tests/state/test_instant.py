"""Moments as text, against the standard library's calendar."""

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.model.instant import ZERO_TIME, ns_of_rfc3339, rfc3339_of_ns


@given(st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2500, 1, 1)))
def test_dates_agree_with_the_calendar(moment):
    moment = moment.replace(microsecond=0, tzinfo=datetime.UTC)
    seconds = int(moment.timestamp())
    if seconds:
        assert rfc3339_of_ns(seconds * 10**9) == moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@given(st.integers(-(10**18), 10**19))
def test_text_comes_back_as_it_was(time_ns):
    assert ns_of_rfc3339(rfc3339_of_ns(time_ns)) == time_ns


def test_zero_is_the_zero_time_of_nomad():
    assert rfc3339_of_ns(0) == ZERO_TIME
    assert ns_of_rfc3339("") == ns_of_rfc3339(ZERO_TIME) == 0


def test_offsets_and_decimals_are_understood():
    assert ns_of_rfc3339("1970-01-01T01:00:00.5+01:00") == 500_000_000
    assert ns_of_rfc3339("1969-12-31T23:00:00-01:00") == 0


@pytest.mark.parametrize("text", ["tomorrow", "2024-01-01", "2024-01-01T00:00:00", "x" * 30])
def test_other_text_is_refused(text):
    with pytest.raises(ValueError, match="RFC 3339"):
        ns_of_rfc3339(text)
