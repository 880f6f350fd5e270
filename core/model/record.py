"""The base of every record that appears in Nomad's JSON."""

import msgspec

from core.model.naming import go_name


class Record(msgspec.Struct, kw_only=True, rename=go_name, gc=False):
    """A record whose fields carry Nomad's JSON names on every wire.

    Lists and maps that Nomad leaves out are `null` there, hence `None` here:
    "not said" and "said to be empty" stay apart until canonicalisation.
    A field that our side adds is named without ambiguity and ignored by Nomad's
    tools; unknown fields of a caller are ignored, as Nomad ignores them.

    Records hold values and other records, never themselves: the search for reference cycles
    leaves them out (`gc=False`), which halves the cost of reading many.
    """
