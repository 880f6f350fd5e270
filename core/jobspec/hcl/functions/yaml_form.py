"""YAML: `yamldecode` reads YAML 1.2, `yamlencode` writes what Nomad's function writes."""

import json
from typing import Any, Final

from core.jobspec.hcl import limits
from core.jobspec.hcl.functions.encoding import without_lone_surrogates
from core.jobspec.hcl.functions.function import Function
from core.jobspec.hcl.values import ValueProblem, number_of_text, to_string

# The reader is written in Python: 64 KiB take it a second.
_TEXT_CHARS: Final = 65_536
_STEPS_PER_CHAR: Final = 4


def _decode(text: Any) -> Any:
    import yaml

    whole = to_string(text)
    if len(whole) > _TEXT_CHARS:
        raise ValueProblem(f"a YAML text has at most {_TEXT_CHARS} characters")
    try:
        value = yaml.load(whole, _loader())
        return without_lone_surrogates(_plain(value, [limits.COLLECTION_ITEMS]))
    except RecursionError:
        raise ValueProblem("this YAML is nested too deeply") from None
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ValueProblem(f"this is not YAML: line {line}: {error.problem}") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise ValueProblem(f"this is not YAML: {str(error).splitlines()[0]}") from None


_LOADERS: Final[list[Any]] = []


def _loader() -> Any:
    """Return PyYAML's safe loader with the words of YAML 1.2: `yes` and dates are texts."""
    if _LOADERS:
        return _LOADERS[0]
    import re

    import yaml

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - PyYAML's interface

    for tag, pattern, first in (
        ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
        ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
        ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
        ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
        ("merge", r"<<", "<"),
    ):
        Loader.add_implicit_resolver(
            f"tag:yaml.org,2002:{tag}", re.compile(rf"^(?:{pattern})$"), list(first)
        )
    for tag in ("int", "float"):
        Loader.add_constructor(f"tag:yaml.org,2002:{tag}", _number)
    _LOADERS.append(Loader)
    return Loader


def _number(loader: Any, node: Any) -> int | float:
    text = loader.construct_scalar(node)
    return int(text, 0) if text[:2] in {"0x", "0o"} else number_of_text(text)


def _plain(value: Any, left: list[int]) -> Any:
    """Return a value of HCL; what refers to itself or to much too often is refused."""
    left[0] -= 1
    if left[0] < 0:
        raise ValueProblem(f"this YAML stands for more than {limits.COLLECTION_ITEMS} values")
    if isinstance(value, list):
        return [_plain(item, left) for item in value]
    if isinstance(value, dict):
        return {to_string(key): _plain(item, left) for key, item in value.items()}
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise ValueProblem(f"a {type(value).__name__} of YAML is no value of HCL")


def _encode(value: Any) -> str:
    lines: list[str] = []
    _add(value, 0, "", lines)
    return "\n".join(lines) + "\n"


def _add(value: Any, indent: int, lead: str, lines: list[str]) -> None:
    """Add the lines of a value; `lead` is what already stands on the first of them."""
    pad = " " * indent
    if isinstance(value, dict) and value:
        for key in sorted(value):
            _add_member(f"{lead or pad}{json.dumps(key, ensure_ascii=False)}:", value[key],
                        indent, lines)  # fmt: skip
            lead = ""
    elif isinstance(value, list) and value:
        for item in value:
            _add(item, indent + 2, f"{lead or pad}- ", lines)
            lead = ""
    else:
        lines += f"{lead or pad}{_scalar(value, indent)}".split("\n")


def _add_member(head: str, value: Any, indent: int, lines: list[str]) -> None:
    if isinstance(value, dict) and value:
        lines.append(head)
        _add(value, indent + 2, "", lines)
    elif isinstance(value, list) and value:
        lines.append(head)
        _add(value, indent, "", lines)  # the items of a list stand under its key
    else:
        lines += f"{head} {_scalar(value, indent + 2)}".split("\n")


def _scalar(value: Any, indent: int) -> str:
    if value is None:
        return "null"
    if isinstance(value, (dict, list)):
        return "{}" if isinstance(value, dict) else "[]"
    if not isinstance(value, str):
        return to_string(value)
    if "\n" not in value or (not value.isprintable() and not _is_literal(value)):
        return json.dumps(value, ensure_ascii=False)
    body = value.rstrip("\n")
    ending = {0: "-", 1: ""}.get(len(value) - len(body), "+")
    depth = "2" if value[:1] in {" ", "\n"} else ""
    pad = " " * max(indent, 2)
    lines = [pad + line if line else "" for line in value.removesuffix("\n").split("\n")]
    return "\n".join([f"|{depth}{ending}", *lines])


def _is_literal(value: str) -> bool:
    """Whether a text of several lines can stand as it is."""
    return bool(value.strip("\n ")) and all(c.isprintable() or c == "\n" for c in value)


FUNCTIONS: Final = {
    "yamldecode": Function(_decode, 1, 1, lambda text: _STEPS_PER_CHAR * len(str(text))),
    "yamlencode": Function(_encode, 1, 1),
}
