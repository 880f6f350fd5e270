"""The report of a run: `report.html`, `summary.json` and `series.csv` in a folder.

    write_report("out", run, summary, "serai sim run small.hcl -seed 1")

The page is one file without any request to elsewhere. The CSV has a line per sample, the
columns of sim.observer.COLUMNS; the JSON is the summary that `-json` prints, with the
command that repeats the run.
"""

import csv
import os

import msgspec

from sim.observer import COLUMNS
from sim.report.data import gather
from sim.report.page import render
from sim.run import Run, Summary

__all__ = ["write_report"]


def write_report(folder: str, run: Run, summary: Summary, command: str) -> None:
    """Write the three files; the folder is made if need be.

    Raises:
        OSError: They can't be written.
    """
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "report.html"), "w", encoding="utf-8") as file:
        file.write(render(gather(run, summary, command)))
    with open(os.path.join(folder, "summary.json"), "wb") as file:
        file.write(msgspec.json.format(summary.as_json(command)) + b"\n")
    with open(os.path.join(folder, "series.csv"), "w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(COLUMNS)
        for sample in run.observer.samples:
            lines.writerow([round(value, 6) for value in sample.values])
