"""Renders a `JobDiff` of the API as Nomad does: +, -, +/- before each line, indented."""

from collections.abc import Iterator
from typing import Any

from core.cli.output import Output

Diff = dict[str, Any]
_MARKS = {"Added": "+", "Deleted": "-", "Edited": "+/-", "None": ""}
_COLOURS = {"Added": "green", "Deleted": "red", "Edited": "cyan"}
_WARNING_WORDS = ("destructive", "destroy", "stop")
_UPDATE_COLOURS = {
    "create": "green", "destroy": "red", "migrate": "cyan", "canary": "cyan",
    "create/destroy update": "cyan", "in-place update": "cyan", "ignore": "",
}  # fmt: skip
_INDENT = "  "


def diff_lines(out: Output, diff: Diff, *, verbose: bool = False) -> Iterator[str]:
    """Yield the lines of a job's diff; unchanged parts only when `verbose`."""
    yield f'{_mark(out, diff)}{out.style("Job:", "bold")} "{diff.get("ID", "")}"'
    # A new or removed job's own fields are its whole content: the file says them.
    if diff.get("Type") == "Edited" or verbose:
        yield from _body(out, diff, _INDENT, verbose=verbose)
    for group in diff.get("TaskGroups") or []:
        if group.get("Type") == "None" and not verbose and not group.get("Updates"):
            continue
        yield from _group(out, group, verbose=verbose)


def _group(out: Output, group: Diff, *, verbose: bool) -> Iterator[str]:
    yield (
        f'{_mark(out, group)}{out.style("Task Group:", "bold")} "{group.get("Name", "")}"'
        f"{_updates(out, group.get('Updates'))}"
    )
    if group.get("Type") == "Edited" or verbose:
        yield from _body(out, group, _INDENT, verbose=verbose)
    for task in group.get("Tasks") or []:
        if task.get("Type") == "None" and not verbose:
            continue
        yield (
            f'{_INDENT}{_mark(out, task)}{out.style("Task:", "bold")} "{task.get("Name", "")}"'
            f"{_annotations(out, task.get('Annotations'))}"
        )
        if task.get("Type") == "Edited" or verbose:
            yield from _body(out, task, _INDENT * 2, verbose=verbose)


def _body(out: Output, diff: Diff, indent: str, *, verbose: bool) -> Iterator[str]:
    for field in diff.get("Fields") or []:
        if field.get("Type") != "None" or verbose:
            yield indent + _field(out, field)
    for thing in diff.get("Objects") or []:
        if thing.get("Type") == "None" and not verbose:
            continue
        yield f"{indent}{_mark(out, thing)}{thing.get('Name', '')} {{"
        yield from _body(out, thing, indent + _INDENT, verbose=verbose)
        yield f"{indent}}}"


def _field(out: Output, field: Diff) -> str:
    old, new = f'"{field.get("Old", "")}"', f'"{field.get("New", "")}"'
    value = {"Added": new, "Deleted": old, "Edited": f"{old} => {new}"}.get(field["Type"], new)
    return (
        f"{_mark(out, field)}{field.get('Name', '')}: {value}"
        f"{_annotations(out, field.get('Annotations'))}"
    )


def _mark(out: Output, diff: Diff) -> str:
    kind = diff.get("Type", "None")
    mark = _MARKS.get(kind, "")
    if not mark:
        return ""
    return out.style(mark, _COLOURS[kind]) + " "


def _annotations(out: Output, annotations: list[str] | None) -> str:
    if not annotations:
        return ""
    shown = [
        out.style(text, "yellow" if any(word in text for word in _WARNING_WORDS) else "cyan")
        for text in annotations
    ]
    return f" ({', '.join(shown)})"


def _updates(out: Output, updates: dict[str, int] | None) -> str:
    shown = []
    for kind, count in sorted((updates or {}).items()):
        text = f"{count} {kind}"
        colour = _UPDATE_COLOURS.get(kind, "")
        shown.append(out.style(text, colour) if colour else text)
    return f" ({', '.join(shown)})" if shown else ""
