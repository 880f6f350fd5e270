"""The record of a function: its code and how many arguments it takes."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from core.jobspec.hcl.values import ValueProblem, type_name


@dataclass(frozen=True, slots=True)
class Function:
    call: Callable[..., Any]
    least: int
    most: int | None = None  # None: any number
    # What a call costs beside looking at its arguments, in steps of evaluation.
    steps: Callable[..., int] | None = None

    def check_count(self, name: str, count: int) -> None:
        """Raise ValueProblem unless `count` arguments will do."""
        if count < self.least or (self.most is not None and count > self.most):
            if self.most is None:
                wanted = f"at least {self.least}"
            elif self.least == self.most:
                wanted = str(self.least)
            else:
                wanted = f"{self.least} to {self.most}"
            raise ValueProblem(f"{name}() takes {wanted} argument(s), {count} given")


def as_list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueProblem(f"a list is needed here, this is a {type_name(value)}")
    return value


def as_map(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueProblem(f"a map is needed here, this is a {type_name(value)}")
    return value
