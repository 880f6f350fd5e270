"""Nomad's defaults for what is kept as plain data: vault, connect, scripts, CSI, regions.

Each function completes one block in place; keys are wire names. A job that came as API JSON
may lack any of them.
"""

from typing import Any, Final

from core.jobspec.shorthand import CHANGE_SCRIPT, SECOND_NS

Wire = dict[str, Any]

_VAULT: Final[Wire] = {
    "Env": True, "DisableFile": False, "Namespace": "", "ChangeMode": "restart",
    "AllowTokenExpiration": False,
}  # fmt: skip
_CSI_PLUGIN: Final[Wire] = {"MountDir": "/csi", "HealthTimeout": 30 * SECOND_NS}
_SIDECAR_TASK: Final[Wire] = {"KillTimeout": 5 * SECOND_NS, "ShutdownDelay": 0}
_SIDECAR_RESOURCES: Final[Wire] = {"CPU": 100, "Cores": 0, "MemoryMB": 300}
_SIDECAR_LOGS: Final[Wire] = {"MaxFiles": 10, "MaxFileSizeMB": 10, "Disabled": False}
_REGION: Final[Wire] = {"Count": 1, "Datacenters": [], "Meta": {}}
_WEIGHTS: Final[Wire] = {"Passing": 1, "Warning": 1}


def _fill(wire: Wire, defaults: Wire) -> None:
    """Give what is absent or empty its default; containers are never shared."""
    for name, value in defaults.items():
        if wire.get(name) in (None, ""):
            wire[name] = value.copy() if isinstance(value, (list, dict)) else value


def _inner(wire: Wire, name: str) -> Wire | None:
    """Return a block inside a block; API JSON may hold anything in its place."""
    value = wire.get(name)
    return value if isinstance(value, dict) else None


def _inner_list(wire: Wire, name: str) -> list[Wire]:
    value = wire.get(name)
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def complete_vault(vault: Wire) -> None:
    _fill(vault, _VAULT)
    vault["Cluster"] = vault.get("Cluster") or "default"
    if vault["ChangeMode"] == "signal":
        vault["ChangeSignal"] = str(vault.get("ChangeSignal") or "SIGHUP").upper()
    else:
        vault["ChangeSignal"] = vault.get("ChangeSignal") or ""


def complete_consul(consul: Wire) -> None:
    _fill(consul, {"Cluster": "default"})


def complete_change_script(script: Wire) -> None:
    _fill(script, {**CHANGE_SCRIPT, "RunOnFirstRender": False})


def complete_wait(wait: Wire) -> None:
    if wait.get("Max") is None and isinstance(wait.get("Min"), int):
        wait["Max"] = 2 * wait["Min"]


def complete_csi_plugin(plugin: Wire) -> None:
    _fill(plugin, _CSI_PLUGIN)
    plugin["StagePublishBaseDir"] = plugin.get("StagePublishBaseDir") or "/local/csi"
    if not plugin["HealthTimeout"]:
        plugin["HealthTimeout"] = _CSI_PLUGIN["HealthTimeout"]


def complete_weights(weights: Wire) -> None:
    for name, value in _WEIGHTS.items():
        weights[name] = weights.get(name) or value


def complete_multiregion(multiregion: Wire) -> None:
    if multiregion.get("Strategy") is None:
        multiregion["Strategy"] = {}
    strategy = _inner(multiregion, "Strategy")
    if strategy is not None:
        _fill(strategy, {"MaxParallel": 0, "OnFailure": ""})
    for region in _inner_list(multiregion, "Regions"):
        _fill(region, _REGION)


def complete_connect(connect: Wire) -> None:
    task = _inner(connect, "SidecarTask")
    if task is not None:
        _fill(task, _SIDECAR_TASK)
        _fill(task, {"Resources": {}, "LogConfig": {}})
        resources, logs = _inner(task, "Resources"), _inner(task, "LogConfig")
        if resources is not None:
            _fill(resources, {"CPU": 0} if resources.get("Cores") else {})
            _fill(resources, _SIDECAR_RESOURCES)
        if logs is not None:
            _fill(logs, _SIDECAR_LOGS)
    gateway = _inner(connect, "Gateway") or {}
    proxy, ingress = _inner(gateway, "Proxy"), _inner(gateway, "Ingress") or {}
    if proxy is not None:
        _fill(proxy, {"ConnectTimeout": 5 * SECOND_NS})
    for listener in _inner_list(ingress, "Listeners"):
        _fill(listener, {"Protocol": "tcp"})
