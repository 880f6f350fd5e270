"""Functions that encode, decode and hash."""

import base64
import binascii
import csv
import hashlib
import io
import json
import urllib.parse
import uuid
from typing import Any, Final

from core.jobspec.hcl.functions.function import Function
from core.jobspec.hcl.values import ValueProblem, number_of_text, to_string

_NAMESPACES: Final = {
    "dns": uuid.NAMESPACE_DNS,
    "url": uuid.NAMESPACE_URL,
    "oid": uuid.NAMESPACE_OID,
    "x500": uuid.NAMESPACE_X500,
}


def encode_json(value: Any) -> str:
    """Return JSON without spaces, keys sorted, as Go writes it."""
    text = json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def decode_json(text: Any) -> Any:
    try:
        value = json.loads(
            to_string(text),
            parse_int=number_of_text,
            parse_float=number_of_text,
            parse_constant=_no_number,
        )
        return without_lone_surrogates(value)
    except RecursionError:
        raise ValueProblem("this JSON is nested too deeply") from None
    except ValueError as error:
        raise ValueProblem(f"this is not JSON: {error}") from None


def without_lone_surrogates(value: Any) -> Any:
    """Return the value with U+FFFD for halves of characters, as Go decodes them."""
    if isinstance(value, list):
        return [without_lone_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {
            without_lone_surrogates(key): without_lone_surrogates(item)
            for key, item in value.items()
        }
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value


def _no_number(word: str) -> Any:
    raise ValueProblem(f"this is not JSON: {word} is no number")


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
        rows = [row for row in csv.reader(io.StringIO(to_string(text), newline="")) if row]
    except csv.Error as error:
        raise ValueProblem(f"this is not CSV: {error}") from None
    if not rows:
        raise ValueProblem("the first line of CSV names the columns; there is none")
    header, *lines = rows
    if len(set(header)) < len(header):
        raise ValueProblem("two columns of the CSV have one name")
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
}
