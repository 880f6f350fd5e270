"""Wall-clock moments as text, as Go writes them: RFC 3339 in UTC, no trailing zeros.

Machines know no clock and no calendar module, so the calendar is computed here: days
since 1970 to a date of the proleptic Gregorian calendar, by eras of 400 years.
"""

from functools import lru_cache

_DAYS_PER_ERA = 146_097
_DAYS_TO_1970 = 719_468  # from 0000-03-01, where an era begins


@lru_cache(16)  # many things happen at one moment, and share its text
def rfc3339(wall_us: int) -> str:
    """Return `2026-11-23T09:08:51.25Z` for microseconds since 1970 UTC."""
    seconds, us = divmod(wall_us, 1_000_000)
    days, second = divmod(seconds, 86_400)
    era, day_of_era = divmod(days + _DAYS_TO_1970, _DAYS_PER_ERA)
    year_of_era = (
        day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096
    ) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted_month = (5 * day_of_year + 2) // 153  # March is 0: leap days come last
    day = day_of_year - (153 * shifted_month + 2) // 5 + 1
    month = shifted_month + 3 if shifted_month < 10 else shifted_month - 9
    year = year_of_era + era * 400 + (month <= 2)
    fraction = f".{us:06d}".rstrip("0") if us else ""
    return (
        f"{year:04d}-{month:02d}-{day:02d}T"
        f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}{fraction}Z"
    )
