"""What is read and kept, but not carried out yet: (block, name) -> what is missing.

A key names a block or attribute inside a block; decoding such a one adds a warning
with its line. A line leaves this table when the feature works.
"""

from typing import Any, Final

_CONSUL: Final = "Consul's mesh is not carried out; the service is registered without it"
_VAULT: Final = "Vault is not carried out; no token is made and no secret is read"
_VOLUME: Final = "a node with the host volume is chosen; it is not mounted into the task yet"

NOT_CARRIED_OUT: Final[dict[tuple[str, str], str]] = {
    ("job", "all_at_once"): "ignored, as Nomad does",
    ("job", "consul_token"): _CONSUL,
    ("job", "secret"): "secrets are not read yet",
    ("job", "vault"): _VAULT,
    ("job", "vault_token"): _VAULT,
    ("group", "consul"): _CONSUL,
    ("group", "scaling"): "there is no autoscaler; min, max and policy are kept",
    ("group", "secret"): "secrets are not read yet",
    ("group", "vault"): _VAULT,
    ("group", "volume"): _VOLUME,
    ("task", "action"): "actions can't be run yet",
    ("task", "artifact"): "artifacts are not downloaded yet",
    ("task", "consul"): _CONSUL,
    ("task", "csi_plugin"): "storage plugins are not carried out",
    ("task", "identity"): "workload identities are not issued yet",
    ("task", "scaling"): "there is no autoscaler; min, max and policy are kept",
    ("task", "schedule"): "task schedules are not carried out",
    ("task", "secret"): "secrets are not read yet",
    ("task", "template"): "templates are not rendered yet",
    ("task", "user"): "the task runs as the user of the agent yet",
    ("task", "vault"): _VAULT,
    ("task", "volume_mount"): _VOLUME,
    ("service", "connect"): _CONSUL,
    ("service", "identity"): "workload identities are not issued yet",
    ("service", "tagged_addresses"): "tagged addresses are not registered",
    ("service", "weights"): "weights are not registered",
    ("check", "expose"): _CONSUL,
    ("ephemeral_disk", "migrate"): "the data of an allocation is not moved yet",
    ("ephemeral_disk", "sticky"): "an update may be placed on another node yet",
    ("network", "cni"): "CNI networks are not carried out",
    ("network", "dns"): "the task sees the resolver of its host yet",
    ("network", "hostname"): "the task sees the name of its host yet",
    (
        "resources",
        "memory_max",
    ): "recorded where MemoryOversubscriptionEnabled is set; raw_exec limits no memory",
    ("resources", "numa"): "NUMA placement is not carried out",
}

# (block, attribute) -> value -> what is missing. "*" is any value not listed as carried out.
_DRIVERS: Final = frozenset({"raw_exec"})
_KNOWN_DRIVERS: Final = frozenset(
    {"docker", "exec", "java", "qemu", "podman", "mock_driver", "containerd-driver", "nspawn"}
)


def missing_for_value(block: str, name: str, value: Any) -> str:
    """Return what is missing to carry out `name = value`, "" when nothing is."""
    match (block, name, value):
        case ("task", "driver", str()) if value not in _DRIVERS:
            known = "" if value in _KNOWN_DRIVERS else ", and its name is unknown"
            return f'the driver "{value}" is not carried out yet{known}: its tasks stay pending'
        case ("network", "mode", str()) if value not in {"", "host"}:
            return f'network mode "{value}" is not carried out yet: ports are the host\'s'
        case ("check", "type", "script" | "grpc"):
            return f"{value} checks are not carried out yet: the check stays pending"
        case ("federation", "partition", "fence"):
            return 'partition = "fence" is refused until it is built'
        case _:
            return ""
