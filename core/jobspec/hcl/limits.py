"""Bounds that keep any input from costing more than it is worth."""

from typing import Final

SOURCE_CHARS: Final = 2 << 20  # one file
BRACKETS: Final = 100  # brackets and braces inside each other
EXPRESSION_DEPTH: Final = 150  # operators, calls and accesses inside each other
TEMPLATE_DEPTH: Final = 8  # "${"${...}"}" inside each other
NUMBER_CHARS: Final = 400
STRING_CHARS: Final = 4 << 20  # a string that an expression makes
EVALUATION_STEPS: Final = 1_000_000  # expressions evaluated, values written, all in all
COLLECTION_ITEMS: Final = 100_000  # of a list or map that an expression makes


def megabytes(chars: int) -> str:
    return f"{chars / (1 << 20):.0f} MiB"
