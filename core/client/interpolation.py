"""Interpolation at run time: `${node.unique.name}`, `${attr.x}`, `${meta.y}`, `${env["Z"]}`,
`${NOMAD_PORT_http}` in the strings of a task.

What is not known is left as it stands, as in Nomad: a shell's own `${HOME}` in an argument
must reach the shell.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

_REFERENCE: Final = re.compile(r"\$\{\s*([^{}]+?)\s*\}")
_ENV: Final = re.compile(r"""env\[\s*["']?([^"'\]]+)["']?\s*\]""")


def interpolate(text: str, values: Mapping[str, str]) -> str:
    """Return `text` with every known `${name}` replaced.

    Args:
        text: Any string of a job.
        values: By name: `node.class`, `attr.cpu.arch`, `meta.rack`, `NOMAD_ALLOC_ID`, ...
            `${env["X"]}` looks `X` up; a bare `${X}` does too.
    """
    if "${" not in text:
        return text

    def replacement(match: re.Match[str]) -> str:
        name = match.group(1)
        if env := _ENV.fullmatch(name):
            return values.get(env.group(1), "")
        return values.get(name, match.group(0))

    return _REFERENCE.sub(replacement, text)


def interpolate_all(value: Any, values: Mapping[str, str]) -> Any:
    """Return a copy of plain data (maps, lists, strings) with all strings interpolated."""
    if isinstance(value, str):
        return interpolate(value, values)
    if isinstance(value, list | tuple):
        return [interpolate_all(item, values) for item in value]
    if isinstance(value, dict):
        return {
            interpolate(key, values) if isinstance(key, str) else key: interpolate_all(item, values)
            for key, item in value.items()
        }
    return value
