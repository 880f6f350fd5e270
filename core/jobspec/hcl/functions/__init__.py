"""What an expression may call: the functions Nomad's job files have, but for a few.

`FUNCTIONS` need nothing; `file_functions(reader)` are those that read files, present
only where the host hands in a reader. `UNAVAILABLE` says why a known one is missing.
`try`, `can` and `convert` look at their arguments unevaluated: see evaluate.py.
"""

from collections.abc import Mapping
from typing import Final

from core.jobspec.hcl.functions import collections, dates, encoding, files, network, numbers
from core.jobspec.hcl.functions import strings as text
from core.jobspec.hcl.functions.files import FileReader, file_functions
from core.jobspec.hcl.functions.function import Function

__all__ = ["FUNCTIONS", "UNAVAILABLE", "FileReader", "Function", "file_functions"]

FUNCTIONS: Final[Mapping[str, Function]] = {
    **text.FUNCTIONS,
    **collections.FUNCTIONS,
    **numbers.FUNCTIONS,
    **encoding.FUNCTIONS,
    **dates.FUNCTIONS,
    **network.FUNCTIONS,
}

_NO_FILES: Final = "files can't be read here; the command line reads them, the API does not"

UNAVAILABLE: Final[Mapping[str, str]] = {
    **dict.fromkeys(files.NAMES, _NO_FILES),
    "bcrypt": "not carried out yet: give the hash itself, or use sha256()",
    "rsadecrypt": "not carried out yet: decrypt before the job is submitted",
    "uuidv4": "not carried out: a file must mean the same each time; use uuidv5()",
    "yamldecode": "not carried out yet: write the data as JSON and use jsondecode()",
}
