"""Job files that differ in their names alone are filled in and checked once for all.

Whoever submits thousands of jobs makes them by a pattern, and filling in Nomad's defaults and
checking each costs several times what the rest of its registration does. So what was canonical
and valid is kept by all that its file says beside `ID` and `Name`, and given to the next one
that says the same, under its own names.

Only where names matter nowhere else: a service is named after its job, for one. That is found
out by trial, not by a list of such places: the file is read once more under other names, and
unless nothing else differs it is read each time.
"""

from hashlib import blake2b
from typing import Any, Final

import msgspec

from core.jobspec.canonical import canonicalize, complete
from core.jobspec.validate import identity_errors, validate
from core.model.job import Job

_KEPT: Final = 1_024
_SEEN: Final = 8_192
_BYTES_MOST: Final = 8_192  # of a file; larger ones do not come by the thousand
_NAMES: Final = ("ID", "Name")
_OTHER: Final = "\x01other"  # a name that no valid job has


class JobForms:
    """What a server remembers of files that it read. Its answers are those without it."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._encoder = msgspec.msgpack.Encoder()
        self._forms: dict[bytes, Job | None] = {}  # None: names matter elsewhere too
        self._seen: dict[bytes, None] = {}  # digests of what came once

    def read(self, said: Any) -> Job | None:
        """Return the canonical job of a file as decoded JSON, None when it is not valid.

        What it returns shares its parts with others: records are replaced, never changed.
        """
        key = self._key(said)
        known = self._forms.get(key) if key else None
        if known is not None:
            named = msgspec.structs.replace(
                known, id=said["ID"], name=said.get("Name") or said["ID"]
            )
            return None if any(identity_errors(named)) else named
        job = self._fresh(said)
        if job is not None and key and key not in self._forms:
            self._note(key, said, job)
        return job

    def _key(self, said: Any) -> bytes:
        """Return bytes that are equal for files that differ in names alone; b"" = not asked."""
        if not isinstance(said, dict) or not isinstance(said.get("ID"), str) or not said["ID"]:
            return b""
        if not isinstance(said.get("Name", ""), str):
            return b""
        try:
            key = self._encoder.encode({k: v for k, v in said.items() if k not in _NAMES})
        except (OverflowError, ValueError, TypeError, RecursionError):
            return b""
        return key if len(key) <= _BYTES_MOST else b""

    def _fresh(self, said: Any) -> Job | None:
        try:
            read = msgspec.convert(said, Job)
            fill = canonicalize if read is said else complete  # a record is somebody else's
            job = fill(read, region=self._region)
        except (msgspec.ValidationError, RecursionError):
            return None
        return None if validate(job) else job

    def _note(self, key: bytes, said: dict[str, Any], job: Job) -> None:
        """Keep a form that comes again, once it is tried whether names matter in it."""
        mark = blake2b(key, digest_size=16).digest()
        if mark not in self._seen:
            if len(self._seen) >= _SEEN:
                self._seen.clear()
            self._seen[mark] = None
            return
        other = msgspec.convert({**said, "ID": _OTHER, "Name": _OTHER}, Job)
        other = complete(other, region=self._region)
        same = msgspec.structs.replace(other, id=job.id, name=job.name)
        is_alike = self._encoder.encode(same) == self._encoder.encode(job) and not validate(same)
        if len(self._forms) >= _KEPT:
            del self._forms[next(iter(self._forms))]
        self._forms[key] = job if is_alike else None
