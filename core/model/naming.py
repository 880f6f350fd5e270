"""Python names on our side, Nomad's JSON names on the wire.

Nomad's API carries Go field names. `go_name` turns `memory_mb` into `MemoryMB`,
so a record says its wire name by its own; the few that Go spells otherwise are
given by hand in the record.
"""

from typing import Final

# Words that Go code writes in capitals. Others are capitalised.
_INITIALISMS: Final = {
    "acl": "ACL", "api": "API", "cpu": "CPU", "csi": "CSI", "dns": "DNS", "gc": "GC",
    "http": "HTTP", "id": "ID", "ids": "IDs", "ip": "IP", "mb": "MB", "tls": "TLS",
    "tg": "TG", "ttl": "TTL", "ui": "UI", "uri": "URI", "url": "URL", "cni": "CNI", "numa": "NUMA",
    "selinux": "SELinux", "gid": "GID", "uid": "UID", "os": "OS", "cidr": "CIDR",
}  # fmt: skip

# A unit that only our side writes: Nomad's durations are nanoseconds without saying so.
_SILENT_UNITS: Final = {"ns"}


def go_name(snake: str) -> str:
    """Return the Go field name of a Python field: `kill_timeout_ns` -> `KillTimeout`."""
    words = snake.rstrip("_").split("_")
    if len(words) > 1 and words[-1] in _SILENT_UNITS:
        words = words[:-1]
    return "".join(_INITIALISMS.get(word, word.capitalize()) for word in words)
