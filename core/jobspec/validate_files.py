"""The checks of the files a task is given: templates, artifacts, the payload of a dispatch."""

import posixpath
from collections.abc import Iterable
from typing import Final

from core.model.job import Task, TaskArtifact, Template

_CHANGE_MODES: Final = ("noop", "restart", "signal", "script")
_ARTIFACT_MODES: Final = ("any", "file", "dir")
_HIGHEST_PERMS: Final = 0o7777


def check_files(task: Task) -> Iterable[str]:
    """Yield what is wrong with the files of a canonical task."""
    first: dict[str, int] = {}
    for number, template in enumerate(task.templates or [], 1):
        for problem in _template(template):
            yield f"Template {number} validation failed: {problem}"
        place = template.dest_path or ""
        if place and place in first:
            yield f"Template {number} has the same destination as template {first[place]}: {place}"
        first.setdefault(place, number)
    for number, artifact in enumerate(task.artifacts or [], 1):
        for problem in _artifact(artifact):
            yield f"Artifact {number} validation failed: {problem}"
    payload = (task.dispatch_payload or {}).get("File") or ""
    if _leaves_allocation(f"local/{payload}"):
        yield f'Dispatch payload: file "{payload}" leads out of the allocation\'s folder'


def _template(template: Template) -> Iterable[str]:
    if not template.dest_path:
        yield "a template needs a destination"
    elif _leaves_allocation(template.dest_path):
        yield f'destination "{template.dest_path}" leads out of the allocation\'s folder'
    if not template.source_path and not template.embedded_tmpl:
        yield "a template needs a source, or data"
    mode = template.change_mode or ""
    if mode not in _CHANGE_MODES:
        yield f'change_mode "{mode}" is unknown, must be one of {", ".join(_CHANGE_MODES)}'
    if mode == "signal" and not template.change_signal:
        yield 'change_mode "signal" needs a change_signal'
    if mode == "signal" and template.envvars:
        yield "a signal tells a task of no changed environment: env = true takes another mode"
    if mode == "script" and template.change_script is None:
        yield 'change_mode "script" needs a change_script block'
    if (template.splay_ns or 0) < 0:
        yield "splay can't be negative"
    if template.perms and not _is_perms(template.perms):
        yield f'perms "{template.perms}" is not an octal number such as 0644'


def _is_perms(text: str) -> bool:
    try:
        return text.isalnum() and 0 <= int(text, 8) <= _HIGHEST_PERMS
    except ValueError:
        return False


def _artifact(artifact: TaskArtifact) -> Iterable[str]:
    if not artifact.getter_source:
        yield "an artifact needs a source"
    if artifact.getter_mode not in {None, "", *_ARTIFACT_MODES}:
        yield (
            f'mode "{artifact.getter_mode}" is unknown, must be one of {", ".join(_ARTIFACT_MODES)}'
        )
    if artifact.relative_dest and _leaves_allocation(artifact.relative_dest):
        yield f'destination "{artifact.relative_dest}" leads out of the allocation\'s folder'


def _leaves_allocation(path: str) -> bool:
    """Whether a path, seen from the task's folder in the allocation's, leads above both."""
    depth = 1
    for part in posixpath.normpath(f"./{path}").split("/"):
        depth += -1 if part == ".." else part not in {"", "."}
        if depth < 0:
            return True
    return False
