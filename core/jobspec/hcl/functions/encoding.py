"""Functions that encode, decode and hash."""

import base64
import binascii
import csv
import hashlib
import json
import re
import urllib.parse
import uuid
from typing import Any, Final

from core.jobspec.hcl.functions.function import Function
from core.jobspec.hcl.values import ValueProblem, to_string

_NAMESPACES: Final = {
    "dns": uuid.NAMESPACE_DNS,
    "url": uuid.NAMESPACE_URL,
    "oid": uuid.NAMESPACE_OID,
    "x500": uuid.NAMESPACE_X500,
}


def encode_json(value: Any) -> str:
    """Return JSON without spaces, keys sorted, as Go writes it."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def decode_json(text: Any) -> Any:
    try:
        return json.loads(to_string(text))
    except (ValueError, RecursionError) as error:
        raise ValueProblem(f"this is not JSON: {error}") from None


def _base64decode(text: Any) -> str:
    try:
        return base64.b64decode(to_string(text), validate=True).decode("utf-8")
    except (binascii.Error, UnicodeError, ValueError):
        raise ValueProblem("this is not base64 of a UTF-8 text") from None


def _digest(algorithm: str) -> Function:
    def digest(text: Any) -> str:
        return hashlib.new(algorithm, to_string(text).encode(), usedforsecurity=False).hexdigest()

    return Function(digest, 1, 1)


def _csvdecode(text: Any) -> list[dict[str, str]]:
    try:
        rows = list(csv.reader(to_string(text).splitlines(), strict=True))
    except csv.Error as error:
        raise ValueProblem(f"this is not CSV: {error}") from None
    if not rows:
        raise ValueProblem("the first line of CSV names the columns; there is none")
    header, *lines = rows
    for number, line in enumerate(lines, 2):
        if len(line) != len(header):
            raise ValueProblem(f"line {number} has {len(line)} fields, the header {len(header)}")
    return [dict(zip(header, line, strict=True)) for line in lines]


def _urlencode(text: Any) -> str:
    return urllib.parse.quote_plus(to_string(text))


def _uuidv5(namespace: Any, name: Any) -> str:
    space = to_string(namespace)
    try:
        root = _NAMESPACES.get(space) or uuid.UUID(space)
    except ValueError:
        raise ValueProblem("the namespace is dns, url, oid, x500 or a UUID") from None
    return str(uuid.uuid5(root, to_string(name)))


_PLAIN_YAML = re.compile(r"^[A-Za-z_/][A-Za-z0-9_./-]*$")
_YAML_WORDS: Final = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"}


def encode_yaml(value: Any) -> str:
    """Return block-style YAML, keys sorted; strings are quoted unless they are plain words."""
    lines: list[str] = []
    _yaml_lines(value, 0, lines, "")
    return "\n".join(lines) + "\n"


def _yaml_lines(value: Any, indent: int, lines: list[str], lead: str) -> None:
    pad = " " * indent
    if isinstance(value, dict) and value:
        for number, key in enumerate(sorted(value)):
            start = lead if number == 0 and lead else pad
            _yaml_member(f"{start}{_yaml_scalar(key)}:", value[key], indent, lines)
    elif isinstance(value, list) and value:
        for number, item in enumerate(value):
            start = lead if number == 0 and lead else pad
            if isinstance(item, (dict, list)) and item:
                _yaml_lines(item, indent + 2, lines, f"{start}- ")
            else:
                lines.append(f"{start}- {_yaml_scalar(item)}")
    else:
        lines.append((lead or pad) + _yaml_scalar(value))


def _yaml_member(head: str, value: Any, indent: int, lines: list[str]) -> None:
    if isinstance(value, (dict, list)) and value:
        lines.append(head)
        _yaml_lines(value, indent + 2, lines, "")
    else:
        lines.append(f"{head} {_yaml_scalar(value)}")


def _yaml_scalar(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, (dict, list)):
        return "{}" if isinstance(value, dict) else "[]"
    if isinstance(value, str):
        is_plain = _PLAIN_YAML.match(value) and value.lower() not in _YAML_WORDS
        return value if is_plain else json.dumps(value, ensure_ascii=False)
    return to_string(value)


FUNCTIONS: Final = {
    "base64decode": Function(_base64decode, 1, 1),
    "base64encode": Function(
        lambda text: base64.b64encode(to_string(text).encode()).decode(), 1, 1
    ),
    "csvdecode": Function(_csvdecode, 1, 1),
    "jsondecode": Function(decode_json, 1, 1),
    "jsonencode": Function(encode_json, 1, 1),
    "md5": _digest("md5"),
    "sha1": _digest("sha1"),
    "sha256": _digest("sha256"),
    "sha512": _digest("sha512"),
    "urlencode": Function(_urlencode, 1, 1),
    "uuidv5": Function(_uuidv5, 2, 2),
    "yamlencode": Function(encode_yaml, 1, 1),
}
