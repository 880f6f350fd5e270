import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.jobspec.durations import DurationError, duration_text, parse_duration_ns


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("1h30m", 5_400_000_000_000),
        ("1.5s", 1_500_000_000),
        (".5s", 500_000_000),
        ("250ms", 250_000_000),
        ("3us", 3_000),
        ("3µs", 3_000),
        ("-2s", -2_000_000_000),
        ("0", 0),
    ],
)
def test_go_durations_are_read(text: str, ns: int) -> None:
    assert parse_duration_ns(text) == ns


@pytest.mark.parametrize(
    "text", ["", "5", "s", "1d", "1 h", "1h ", "1e3s", ".s", "-", "9" * 30 + "h"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(DurationError):
        parse_duration_ns(text)


@given(st.integers(-(2**62), 2**62))
def test_printing_and_reading_is_the_identity(ns: int) -> None:
    assert parse_duration_ns(duration_text(ns)) == ns


def test_texts_are_gos() -> None:
    assert duration_text(5_400_000_000_000) == "1h30m0s"
    assert duration_text(1_500_000_000) == "1.5s"
    assert duration_text(1_500_000) == "1.5ms"
    assert duration_text(0) == "0s"
