"""A job as a job file: the way back from `Job` to HCL, by the same schema.

    text = write_job(job)                    # parses to `job` again
    text = write_job(essential(job))         # without what the defaults fill in anyway

What a file can't say is left out: the server's own records (status, indexes, version) and
empty lists of blocks. `${attr.x}` and its like stay references, any other `${` is escaped.
"""

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import msgspec

from core.jobspec.canonical import canonicalize
from core.jobspec.diagnostics import Diagnostic, JobFileError
from core.jobspec.durations import duration_text
from core.jobspec.hcl.format import format_text
from core.jobspec.hcl.write import Segment, expression, header, is_name
from core.jobspec.nomad_schema import JOB
from core.jobspec.parse import parse_job
from core.jobspec.schema import Arity, AttributeSchema, BlockSchema, Kind
from core.model.job import Job

_RUNTIME = re.compile(
    r"\$\{(?:attr|node|meta|env|device|[A-Z][A-Z0-9]*_?[\w]*)"
    r'(?:\.[^\W\d][\w-]*|\["[\w./-]*"\])*\}'
)
_ZERO_TAIL = re.compile(r"(?<=[hm])0[ms](?:0s)?$")
# What names a block; defaults may be made of it, so it always stays.
_NAMES: Final = frozenset({"ID", "Name", "Label", "Value", "Type", "Max"})
DEFAULT_TYPE: Final = "service"
_TASK_SCALING: Final = {"vertical_cpu": "cpu", "vertical_mem": "mem"}
# Kept by the server beside what was submitted; no file says them.
_SERVERS_OWN: Final = (
    "uid", "stop", "parent_id", "dispatched", "dispatch_idempotency_token", "payload", "status",
    "status_description", "stable", "version", "submit_time_ns", "create_index", "modify_index",
    "job_modify_index", "version_tag", "nomad_token_id", "consul_namespace", "vault_namespace",
)  # fmt: skip


def write_job(job: Job) -> str:
    """Return a job file in canonical layout.

    Raises:
        ValueError: a string or number in the job that HCL can't hold.
    """
    lines = _block("job", JOB, _wire(job))
    return format_text("\n".join([*lines, ""]), job.id or "job")


def as_submitted(job: Job) -> Job:
    """Return a copy without what only servers know: what two files are compared by."""
    copy = msgspec.convert(msgspec.to_builtins(job), Job)
    blank = Job()
    for name in _SERVERS_OWN:
        setattr(copy, name, getattr(blank, name))
    return copy


def essential(job: Job) -> Job:
    """Return the least of a canonical job whose file gives the same job again.

    A block goes when the defaults bring it back; of the others, each value goes that the
    defaults bring back. Where values hang together in another way, the whole job stays.
    """
    region = job.region or "global"
    whole = as_submitted(job)
    without_blocks = _canonical(_bare(whole, keeps_blocks=False), region)
    within_blocks = _canonical(_bare(whole, keeps_blocks=True), region)
    kept = _unlike(_plain(whole), without_blocks, within_blocks)
    if kept["Type"] == DEFAULT_TYPE:
        del kept["Type"]  # bare jobs had it, for the defaults that follow from it
    least = msgspec.convert({**kept, "ID": whole.id, "Region": whole.region}, Job)
    return least if _canonical(least, region) == _canonical(whole, region) else whole


def _plain(struct: msgspec.Struct) -> Any:
    return msgspec.to_builtins(struct)


def _canonical(job: Job, region: str) -> Any:
    """The wire form of what the server makes of a job, by way of its file."""
    with contextlib.suppress(JobFileError):  # a bare job may lack what a file must have
        job = parse_job(write_job(job), filename="").job
    return _plain(canonicalize(job, region=region))


def _bare(job: Job, *, keeps_blocks: bool) -> Job:
    """A copy with every value unset but names; single blocks stay, empty, or go as well."""
    copy = msgspec.convert(_plain(job), Job)
    pending: list[Any] = [copy]
    while pending:
        struct = pending.pop()
        for field in msgspec.structs.fields(struct):
            value = getattr(struct, field.name)
            inner = _structs(value)
            if inner and (keeps_blocks or isinstance(value, (list, dict))):
                pending += inner
            elif field.encode_name not in _NAMES and field.default is not msgspec.NODEFAULT:
                setattr(struct, field.name, field.default)
    return copy


def _structs(value: Any) -> list[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    values = value if isinstance(value, list) else [value]
    return [item for item in values if isinstance(item, msgspec.Struct)]


def _unlike(value: Any, without: Any, within: Any) -> Any:
    """Return the parts of a wire form that neither of the others has."""
    if not isinstance(value, dict) or not isinstance(within, dict):
        return value
    outer = without if isinstance(without, dict) else {}
    kept = {}
    for key, item in value.items():
        inner = within.get(key)
        if key in _NAMES:
            kept[key] = item
        elif _are_blocks(item) and isinstance(inner, list) and len(item) == len(inner):
            bare = outer.get(key)
            others = bare if isinstance(bare, list) and len(bare) == len(item) else inner
            kept[key] = [_unlike(*three) for three in zip(item, others, inner, strict=True)]
        elif isinstance(item, dict) and outer.get(key) != item:
            kept[key] = _unlike(item, outer.get(key), inner)
        elif not isinstance(item, dict) and inner != item:
            kept[key] = item
    return kept


def _are_blocks(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def features_missing(job: Job, filename: str) -> list[Diagnostic]:
    """Return what a job that came without a file asks for and is not carried out."""
    text = write_job(essential(canonicalize(job, region=job.region or "global")))
    warnings = parse_job(text, filename=filename).warnings
    return [dataclasses.replace(one, line=0, source_line="") for one in warnings]


# --- lines --------------------------------------------------------------------------------


def _wire(struct: msgspec.Struct) -> dict[str, Any]:
    """Return the fields that say something, by wire name; inner structs stay structs."""
    fields = msgspec.structs.fields(struct)
    values = ((f.encode_name, getattr(struct, f.name), f.default) for f in fields)
    return {
        name: value for name, value, default in values if value is not None and value != default
    }


def _block(type_: str, schema: BlockSchema, wire: Mapping[str, Any], label: str = "") -> list[str]:
    wire = _UNFOLD.get(schema.name, lambda found: found)(wire)
    label = label or str(wire.get(schema.label) or "")
    inner = [*_lines(schema, wire)]
    head = header(type_, [label] if schema.label else [])
    return [head, *inner, "}"] if inner else [f"{head}}}"]


def _lines(schema: BlockSchema, wire: Mapping[str, Any]) -> Iterator[str]:
    count = 0
    for attribute in schema.attributes.values():
        value = wire.get(attribute.wire)
        if value is not None and attribute.wire != schema.label:
            if attribute.kind not in _AS_BLOCK or not _has_names(value):
                count += 1
                yield _attribute(attribute, value)
    for lines in _blocks(schema, wire):
        if count:
            yield ""
        count += 1
        yield from lines


def _attribute(attribute: AttributeSchema, value: Any) -> str:
    if attribute.kind is Kind.DURATION:
        value = _ZERO_TAIL.sub("", duration_text(value))
    return f"{attribute.name} = {expression(value, _references)}"


def _blocks(schema: BlockSchema, wire: Mapping[str, Any]) -> Iterator[Iterable[str]]:
    for attribute in schema.attributes.values():
        value = wire.get(attribute.wire)
        if attribute.kind in _AS_BLOCK and value is not None and _has_names(value):
            yield _free_block(attribute.name, value)
    for name, child in schema.blocks.items():
        value = wire.get(child.wire)
        if value is None:
            continue
        for label, item in _each(child.arity, value):
            inner = _wire(item) if isinstance(item, msgspec.Struct) else item
            yield _block(name, child.schema, inner, label)


def _each(arity: Arity, value: Any) -> Iterable[tuple[str, Any]]:
    """Return the label, where the key is one, and the body of each block of a type."""
    if arity is Arity.BY_LABEL:
        return list(value.items())
    return [("", item) for item in ([value] if arity is Arity.ONE else value)]


# --- blocks without a schema --------------------------------------------------------------

_AS_BLOCK: Final = frozenset({Kind.MAP, Kind.LIST_MAP, Kind.FREE})


def _has_names(value: Mapping[str, Any]) -> bool:
    return all(is_name(key) for key in value)


def _free_block(name: str, value: Mapping[str, Any], *, is_list: bool = False) -> list[str]:
    """Return a block of any keys; a list of maps inside is blocks again."""
    lines = [f"{name} {{"]
    for key, item in value.items():
        if _is_blocks(key, item):
            for inner in item:
                lines += _free_block(key, inner)
        else:
            lines.append(f"{key} = {expression(item, _references)}")
    return [*lines, "}"] if len(lines) > 1 else [f"{name} {{}}"]


def _is_blocks(key: str, value: Any) -> bool:
    return (
        key != "dynamic"
        and isinstance(value, list)
        and bool(value)
        and all(isinstance(item, dict) and _has_names(item) for item in value)
    )


# --- strings ------------------------------------------------------------------------------


def _references(text: str) -> Sequence[Segment]:
    """Split off what the client resolves where the task runs: it is written as it is."""
    segments: list[Segment] = []
    at = 0
    for match in _RUNTIME.finditer(text):
        if match.start() > at:
            segments.append(Segment(text[at : match.start()], False))
        segments.append(Segment(match.group(), True))
        at = match.end()
    if at < len(text) or not segments:
        segments.append(Segment(text[at:], False))
    return segments


# --- shorthands, the other way around -----------------------------------------------------


def _constraint(wire: Mapping[str, Any]) -> Mapping[str, Any]:
    if wire.get("Operand") == "=":
        return {key: value for key, value in wire.items() if key != "Operand"}
    return wire


def _network(wire: Mapping[str, Any]) -> Mapping[str, Any]:
    ports = [*(wire.get("ReservedPorts") or ()), *(wire.get("DynamicPorts") or ())]
    return {**wire, "Ports": ports}


def _task(wire: Mapping[str, Any]) -> Mapping[str, Any]:
    own = wire.get("Identity")
    identities = [*([own] if own is not None else []), *(wire.get("Identities") or ())]
    return {**wire, "Identities": identities}


def _scaling(wire: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**wire, "Type": _TASK_SCALING.get(wire.get("Type", ""), wire.get("Type"))}


def _job(wire: Mapping[str, Any]) -> Mapping[str, Any]:
    if wire.get("Name") == wire.get("ID"):
        return {key: value for key, value in wire.items() if key != "Name"}
    return wire


_UNFOLD: Final = {
    "affinity": _constraint,
    "constraint": _constraint,
    "job": _job,
    "network": _network,
    "scaling": _scaling,
    "task": _task,
}
