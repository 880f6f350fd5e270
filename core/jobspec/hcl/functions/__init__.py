"""What an expression may call: the functions Nomad's job files have, and a few of HCL's.

`FUNCTIONS` need nothing. `file_functions(reader)` read files and `random_functions(entropy)`
give something else each time: both are present only where the host hands in what they
need. `UNAVAILABLE` says why a known one is missing. `try`, `can` and `convert` look at
their arguments unevaluated: see evaluate.py.
"""

from collections.abc import Mapping
from typing import Final

from core.jobspec.hcl.functions import (
    collections,
    dates,
    encoding,
    files,
    network,
    numbers,
    patterns,
    secrets,
    yaml_form,
)
from core.jobspec.hcl.functions import strings as text
from core.jobspec.hcl.functions.files import FileReader, file_functions
from core.jobspec.hcl.functions.function import Function
from core.jobspec.hcl.functions.secrets import Entropy, random_functions

__all__ = [
    "FUNCTIONS",
    "UNAVAILABLE",
    "Entropy",
    "FileReader",
    "Function",
    "file_functions",
    "random_functions",
]

FUNCTIONS: Final[Mapping[str, Function]] = {
    **text.FUNCTIONS,
    **patterns.FUNCTIONS,
    **collections.FUNCTIONS,
    **numbers.FUNCTIONS,
    **encoding.FUNCTIONS,
    **yaml_form.FUNCTIONS,
    **secrets.FUNCTIONS,
    **dates.FUNCTIONS,
    **network.FUNCTIONS,
}

_NO_FILES: Final = "files can't be read here; the command line reads them, the API does not"

_NO_ENTROPY: Final = "nothing random is made here; use uuidv5(), sha256() or the value itself"

UNAVAILABLE: Final[Mapping[str, str]] = {
    **dict.fromkeys(files.NAMES, _NO_FILES),
    **dict.fromkeys(secrets.RANDOM_NAMES, _NO_ENTROPY),
}
