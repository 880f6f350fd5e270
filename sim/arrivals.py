"""When jobs arrive: arrival processes, and traces of submissions as CSV.

A trace has a line of column names, then one line per job, in any order:

    at,name,count,cpu,memory,run_time,exit_code,region
    0.0,build-1,4,500,256,312,0,eu

    at         seconds since the trace's beginning (required)
    name       the job's id; otherwise the trace block's name and the line's number
    count      instances of each group
    cpu        MHz of each task
    memory     MiB of each task
    run_time   seconds that each task runs, or a distribution
    exit_code  what each task exits with
    region     where it is submitted

An empty field, and a column that is not there, leave what the job file says.
"""

import csv
import math
import random
from collections.abc import Iterator
from typing import Final

import msgspec

from core.jobspec.diagnostics import SourceError, did_you_mean
from sim.distributions import Distribution, parse_distribution
from sim.plans import ArrivalPlan

DAY_US: Final = 86_400_000_000
COLUMNS: Final = ("at", "name", "count", "cpu", "memory", "run_time", "exit_code", "region")


def arrival_times_us(plan: ArrivalPlan, rng: random.Random, end_us: int) -> Iterator[int]:
    """Yield the time of each arrival, ascending, none at or after the end."""
    stop_us = min(plan.until_us or end_us, end_us)
    for number, at_us in enumerate(_PROCESSES[plan.process](plan, rng, stop_us)):
        if at_us >= stop_us or (plan.limit and number >= plan.limit):
            return
        yield at_us


def _poisson(plan: ArrivalPlan, rng: random.Random, _stop_us: int) -> Iterator[int]:
    at_us = float(plan.from_us)
    while True:
        at_us += rng.expovariate(plan.rate_per_s) * 1e6
        yield int(at_us)


def _steady(plan: ArrivalPlan, _rng: random.Random, _stop_us: int) -> Iterator[int]:
    number = 0
    while True:
        yield plan.from_us + int(number * 1e6 / plan.rate_per_s)
        number += 1


def _burst(plan: ArrivalPlan, _rng: random.Random, _stop_us: int) -> Iterator[int]:
    at_us = plan.from_us
    while True:
        for number in range(plan.size):
            yield at_us + min(number * 1_000, plan.every_us - 1)  # a thousand a second
        at_us += plan.every_us


def _daily(plan: ArrivalPlan, rng: random.Random, stop_us: int) -> Iterator[int]:
    """A Poisson process whose rate swings with the time of day, by thinning."""
    highest = plan.rate_per_s * (1 + plan.swing)
    at_us = float(plan.from_us)
    while at_us < stop_us:
        at_us += rng.expovariate(highest) * 1e6
        angle = 2 * math.pi * (at_us - plan.peak_us) / DAY_US
        if rng.random() * (1 + plan.swing) < 1 + plan.swing * math.cos(angle):
            yield int(at_us)
    yield stop_us


_PROCESSES: Final = {"poisson": _poisson, "steady": _steady, "burst": _burst, "daily": _daily}


class TraceRow(msgspec.Struct, frozen=True, kw_only=True):
    """One job of a trace; what is None stays as the job file says."""

    at_us: int
    name: str
    count: int | None = None
    cpu: int | None = None
    memory: int | None = None
    run_time: Distribution | None = None
    exit_code: int | None = None
    region: str = ""


def read_trace_file(text: str, filename: str, prefix: str) -> list[TraceRow]:
    """Return the rows of a trace, by time.

    Raises:
        SourceError: A column is unknown, or a field is none of its kind; with its line.
    """
    lines = csv.reader(text.splitlines())
    header = [name.strip() for name in next(lines, [])]
    if "at" not in header:
        raise SourceError.of_file(
            filename, f'line 1: a trace needs the column "at"; columns are {", ".join(COLUMNS)}'
        )
    for name in header:
        if name not in COLUMNS:
            hint = did_you_mean(name, COLUMNS) or f"columns are {', '.join(COLUMNS)}"
            raise SourceError.of_file(filename, f"line 1: there is no column {name!r}", hint)
    rows, names = [], set()
    for fields in lines:
        if not any(field.strip() for field in fields):
            continue
        line = lines.line_num
        if len(fields) != len(header):
            message = f"line {line}: {len(fields)} fields, the first line has {len(header)}"
            raise SourceError.of_file(filename, message)
        row = _row(dict(zip(header, fields, strict=True)), f"{prefix}-{line - 1}", filename, line)
        if row.name in names:
            raise SourceError.of_file(filename, f"line {line}: a second job {row.name!r}")
        names.add(row.name)
        rows.append(row)
    return sorted(rows, key=lambda row: row.at_us)


def _row(fields: dict[str, str], name: str, filename: str, line: int) -> TraceRow:
    def number(column: str, *, least: float) -> float | None:
        text = fields.get(column, "").strip()
        if not text:
            return None
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value < 1e12:
            raise SourceError.of_file(filename, f"line {line}: {column} {text!r} is no such number")
        return value

    def whole(column: str, *, least: int) -> int | None:
        value = number(column, least=least)
        return None if value is None else int(value)

    at_s = number("at", least=0)
    if at_s is None:
        raise SourceError.of_file(filename, f"line {line}: the time 'at' is missing")
    run_time = fields.get("run_time", "").strip()
    try:
        drawn = parse_distribution(run_time) if run_time else None
    except ValueError as error:
        raise SourceError.of_file(filename, f"line {line}: run_time: {error}") from None
    return TraceRow(
        at_us=int(at_s * 1e6),
        name=fields.get("name", "").strip() or name,
        count=whole("count", least=1),
        cpu=whole("cpu", least=1),
        memory=whole("memory", least=1),
        run_time=drawn,
        exit_code=whole("exit_code", least=0),
        region=fields.get("region", "").strip(),
    )
