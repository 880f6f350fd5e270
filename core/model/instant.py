"""Moments as RFC 3339 text, for the few records where Nomad's JSON carries them so."""

from typing import Final

ZERO_TIME: Final = "0001-01-01T00:00:00Z"
_DAY_S: Final = 86_400


def rfc3339_of_ns(time_ns: int) -> str:
    """Return UTC text with as many decimals as needed; 0 is Go's zero time.

    Days are turned into a date by counting in eras of 400 years that begin in March.
    """
    if time_ns == 0:
        return ZERO_TIME
    seconds, fraction_ns = divmod(time_ns, 1_000_000_000)
    days, second = divmod(seconds, _DAY_S)
    days += 719_468  # 0000-03-01 to 1970-01-01
    era, day_of_era = divmod(days, 146_097)
    year_of_era = (
        day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    month_from_march = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * month_from_march + 2) // 5 + 1
    month = month_from_march + 3 if month_from_march < 10 else month_from_march - 9
    year = era * 400 + year_of_era + (month <= 2)
    text = (
        f"{year:04d}-{month:02d}-{day:02d}"
        f"T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
    )
    if fraction_ns:
        text += f".{fraction_ns:09d}".rstrip("0")
    return text + "Z"


def ns_of_rfc3339(text: str) -> int:
    """Return nanoseconds since 1970 of RFC 3339 text; Go's zero time and "" are 0.

    Raises:
        ValueError: It is no such text.
    """
    if text in {"", ZERO_TIME}:
        return 0
    try:
        date, clock = text[:10], text[11:]
        year, month, day = int(date[:4]), int(date[5:7]), int(date[8:10])
        hour, minute, second = int(clock[:2]), int(clock[3:5]), int(clock[6:8])
        rest = clock[8:]
        fraction_ns = 0
        if rest.startswith("."):
            digits = rest[1:].rstrip("Z").split("+")[0].split("-")[0]
            fraction_ns = int(digits[:9].ljust(9, "0"))
            rest = rest[1 + len(digits) :]
        offset_s = 0
        if rest not in {"Z", "z"}:
            sign = {"+": 1, "-": -1}[rest[0]]
            offset_s = sign * (int(rest[1:3]) * 3600 + int(rest[4:6]) * 60)
    except (ValueError, KeyError, IndexError) as error:
        raise ValueError(f"not an RFC 3339 time: {text!r}") from error
    year -= month <= 2
    era, year_of_era = divmod(year, 400)
    day_of_year = (153 * (month - 3 if month > 2 else month + 9) + 2) // 5 + day - 1
    day_of_era = year_of_era * 365 + year_of_era // 4 - year_of_era // 100 + day_of_year
    days = era * 146_097 + day_of_era - 719_468
    seconds = days * _DAY_S + hour * 3600 + minute * 60 + second - offset_s
    return seconds * 1_000_000_000 + fraction_ns
