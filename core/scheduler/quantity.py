"""Amounts with units, as devices describe themselves: "16 GiB", "1800 MHz", "250 W"."""

import re
from fractions import Fraction
from typing import Any, Final, NamedTuple


class Quantity(NamedTuple):
    kind: str  # what can be compared with each other
    value: Fraction  # in the kind's base unit


_DECIMAL: Final = {"": 0, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_BINARY: Final = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}


def _units() -> dict[str, tuple[str, Fraction]]:
    table: dict[str, tuple[str, Fraction]] = {}
    for suffix, kind in (("", "bytes"), ("/s", "bytes/s")):
        for prefix, power in _BINARY.items():
            table[f"{prefix}B{suffix}"] = kind, Fraction(1024**power)
        for prefix, power in _DECIMAL.items():
            table[f"{prefix}B{suffix}"] = kind, Fraction(1000**power)
    for prefix, power in (("", 0), ("M", 2), ("G", 3)):
        table[f"{prefix}Hz"] = "hertz", Fraction(1000**power)
    for prefix, power in (("m", -1), ("", 0), ("k", 1), ("M", 2), ("G", 3)):
        table[f"{prefix}W"] = "watt", Fraction(1000) ** power
    return table


_UNITS: Final = _units()
_SHAPE: Final = re.compile(r"(-?[0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([A-Za-z/]{1,5})")


def quantity_of(text: str) -> Quantity | None:
    """Return the amount that `text` says, None when it has no unit known here."""
    found = _SHAPE.fullmatch(text.strip())
    unit = _UNITS.get(found.group(2)) if found else None
    if found is None or unit is None:
        return None
    kind, factor = unit
    return Quantity(kind, Fraction(found.group(1)) * factor)


def text_of_attribute(attribute: dict[str, Any]) -> str | None:
    """Return a device attribute as constraints see it: {"Int": 16, "Unit": "GiB"} -> "16 GiB"."""
    for name in ("Int", "Float", "String", "Bool"):
        value = attribute.get(name)
        if value is not None:
            text = str(value).lower() if isinstance(value, bool) else str(value)
            unit = attribute.get("Unit") or ""
            return f"{text} {unit}".strip()
    return None
