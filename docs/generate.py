"""Fills the tables of the documentation from the code, so that they can't say otherwise.

    python docs/generate.py            # writes what changed
    python docs/generate.py -check     # exit 1 when something would change

A page holds `<!-- NAME -->` and `<!-- end -->`; what stands between is ours:

    table PATH        a block of the job file, by its way from `job`: job/group/network
    not carried out   all that is read and kept only
    functions         what expressions may call
    pages             the index of docs/jobspec
    planted bugs      tests/mutants: what each breaks, and which seed programs judge it
"""

import json
import re
import statistics
import sys
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any, Final

import msgspec

from core.jobspec.canonical import canonicalize
from core.jobspec.durations import duration_text
from core.jobspec.hcl.functions import FUNCTIONS, UNAVAILABLE, files
from core.jobspec.nomad_schema import JOB
from core.jobspec.schema import Arity, BlockSchema, Kind
from core.jobspec.unsupported import NOT_CARRIED_OUT, missing_for_value
from core.model.job import Job
from sim import mutants

DOCS: Final = Path(__file__).parent
PAGES: Final = DOCS / "jobspec"
_SECTION = re.compile(r"<!-- (?!end)([^>]+?) -->\n(.*?)<!-- end -->", re.S)
_TAKES: Final = {
    Kind.STRING: "string", Kind.INT: "number", Kind.BOOL: "bool", Kind.DURATION: "duration",
    Kind.STRINGS: "list of strings", Kind.MAP: "map of strings",
    Kind.LIST_MAP: "map of lists of strings", Kind.FREE: "anything", Kind.INTS: "list of numbers",
}  # fmt: skip
# Values whose support differs; what a file says with them is asked of the same function
# that warns.
_PROBES: Final[dict[tuple[str, str], tuple[Any, ...]]] = {
    ("task", "driver"): ("raw_exec", "exec", "docker", "podman", "java", "qemu"),
    ("network", "mode"): ("host", "bridge", "none", "cni/NAME"),
    ("check", "type"): ("http", "tcp", "script", "grpc"),
    ("update", "canary"): (1,),
    ("federation", "partition"): ("hold", "surge", "fence"),
}


def generated(text: str) -> str:
    """Return a page with all of its sections as the code has them."""
    return _SECTION.sub(lambda m: f"<!-- {m[1]} -->\n{_section(m[1])}<!-- end -->", text)


def pages() -> list[Path]:
    return sorted([*PAGES.glob("*.md"), DOCS / "coming-from-nomad.md"])


def all_pages() -> list[Path]:
    """The list of planted bugs too: it may be behind the patches, and is made anew now and then."""
    return [*pages(), DOCS / "planted-bugs.md"]


def _section(name: str) -> str:
    if name.startswith("table "):
        return _lines(_table(name.removeprefix("table ")))
    return _lines(_SECTIONS[name]())


def _lines(lines: Iterator[str]) -> str:
    return "\n" + "".join(f"{line}\n" for line in lines) + "\n"


# --- blocks -------------------------------------------------------------------------------


def _find(path: str) -> tuple[BlockSchema, list[tuple[str, str]]]:
    """Return the schema at a path, and the (block, name) steps that lead to it."""
    schema, steps = JOB, []
    for name in path.split("/")[1:]:
        steps.append((schema.name, name))
        schema = schema.blocks[name].schema
    return schema, steps


def _table(path: str) -> Iterator[str]:
    schema, steps = _find(path)
    whys = [NOT_CARRIED_OUT[step] for step in steps if step in NOT_CARRIED_OUT]
    if whys:
        yield f"**Kept, but not carried out yet:** {whys[0]}."
        yield ""
    if schema.label:
        yield f'Written `{schema.name} "NAME" {{ ... }}`.'
        yield ""
    if not schema.attributes and not schema.blocks:
        yield "The block has no attributes."
        return
    defaults = _defaults(path)
    yield "| name | takes | default | carried out |"
    yield "|---|---|---|---|"
    for attribute in schema.attributes.values():
        default = _shown(attribute.kind, defaults.get(attribute.wire))
        default = "" if attribute.name == "name" else default  # made of other names
        status = "kept" if whys else _status(schema.name, attribute.name)
        yield f"| {attribute.name} | {_TAKES[attribute.kind]} | {default} | {status} |"
    for name, child in schema.blocks.items():
        takes = "block" if child.arity is Arity.ONE else "blocks"
        status = "kept" if whys else _status(schema.name, name)
        yield f"| {_linked(name)} | {takes} | | {status} |"


def _linked(name: str) -> str:
    return f"[{name}]({name}.md)" if (PAGES / f"{name}.md").exists() else name


def _status(block: str, name: str) -> str:
    missing = NOT_CARRIED_OUT.get((block, name))
    if missing is not None:
        return f"no: {missing}"
    probes = _PROBES.get((block, name), ())
    refused = [str(value) for value in probes if missing_for_value(block, name, value)]
    return f"all but {', '.join(refused)}" if refused else "yes"


def _shown(kind: Kind, value: Any) -> str:
    if value is None or value == "":
        return ""
    if kind is Kind.DURATION:
        return f"`{duration_text(value)}`"
    return f"`{msgspec.json.encode(value).decode()}`"


def _defaults(path: str) -> Mapping[str, Any]:
    """Return what a service job gets for the attributes of an empty block at a path."""
    job = canonicalize(msgspec.convert(_full(JOB), Job), region="global")
    found = msgspec.to_builtins(job)
    found |= {"ID": None, "Name": None, "Region": None}
    schema = JOB
    for name in path.split("/")[1:]:
        child = schema.blocks[name]
        value = found.get(child.wire)
        if isinstance(value, list):
            value = value[0] if value else {}
        elif child.arity is Arity.BY_LABEL and value:
            value = next(iter(value.values()))
        found, schema = value or {}, child.schema
    return found


def _full(schema: BlockSchema) -> dict[str, Any]:
    """Return the wire form of a block that holds each of its blocks once, empty."""
    wire: dict[str, Any] = {schema.label: ""} if schema.label else {}
    for child in schema.blocks.values():
        inner = _full(child.schema)
        wire[child.wire] = {
            Arity.ONE: inner, Arity.MANY: [inner], Arity.BY_LABEL: {"": inner}
        }[child.arity]  # fmt: skip
    return wire


# --- lists --------------------------------------------------------------------------------


def _not_carried_out() -> Iterator[str]:
    yield "| in | what | meanwhile |"
    yield "|---|---|---|"
    for (block, name), missing in sorted(NOT_CARRIED_OUT.items()):
        yield f"| {block} | {name} | {missing} |"
    for (block, name), values in sorted(_PROBES.items()):
        for value in values:
            if missing := missing_for_value(block, name, value):
                yield f"| {block} | {name} = {msgspec.json.encode(value).decode()} | {missing} |"


def _functions() -> Iterator[str]:
    named = [*FUNCTIONS, "can", "convert", "try"]
    yield ", ".join(f"`{name}`" for name in sorted(set(named))) + "."
    yield ""
    yield "On the command line, but not in the API, also those that read files: "
    yield ", ".join(f"`{name}`" for name in sorted(files.NAMES)) + "."
    others = {name: why for name, why in UNAVAILABLE.items() if name not in files.NAMES}
    for name, why in sorted(others.items()):
        yield f"- `{name}`: {why}."


def _index() -> Iterator[str]:
    yield "| page | about |"
    yield "|---|---|"
    for page in sorted(PAGES.glob("*.md")):
        if page.name == "README.md":
            continue
        _, title, _, about, *_ = ["", *page.read_text().splitlines(), "", "", ""]
        yield f"| [{title.removeprefix('# ')}]({page.name}) | {about} |"


# --- planted bugs -------------------------------------------------------------------------


def _planted_bugs() -> Iterator[str]:
    found = json.loads((mutants.ROOT / mutants.FOUND).read_text(encoding="utf-8"))
    bugs: dict[str, list[str]] = {}
    for patch in sorted((mutants.ROOT / mutants.FOLDER).glob("*.patch")):
        lines = patch.read_text(encoding="utf-8").splitlines()
        said = " ".join(line.removeprefix("#").strip() for line in takewhile(_is_said, lines))
        paths = [line.split("/", 1)[1] for line in lines if line.startswith("+++ b/")]
        programs = mutants.covering(paths)
        checker, median = "", ""
        if patch.stem in found:
            program, checker, takes = found[patch.stem]
            programs, median = [program], str(statistics.median_low(takes))
        judges = ", ".join(programs)
        row = f"| `{patch.stem}` | {said} | {', '.join(paths)} | {judges} | {checker} | {median} |"
        bugs.setdefault(paths[0].rpartition("/")[0], []).append(row)
    total = sum(map(len, bugs.values()))
    yield f"{total} planted bugs in {len(bugs)} folders of the machines."
    yield f"The checker and the median seed of {len(found)} are recorded."
    for folder, rows in sorted(bugs.items()):
        yield f"\n## {folder}: {len(rows)}\n"
        yield "| patch | what it breaks | where | judged by | checker | median seed |"
        yield "|---|---|---|---|---|---|"
        yield from rows


def _is_said(line: str) -> bool:
    return not line.startswith(("--- ", "diff "))


_SECTIONS: Final = {
    "not carried out": _not_carried_out,
    "functions": _functions,
    "pages": _index,
    "planted bugs": _planted_bugs,
}


def main(arguments: list[str]) -> int:
    changed = [page for page in all_pages() if generated(page.read_text()) != page.read_text()]
    for page in changed:
        print(page.relative_to(DOCS.parent))
        if "-check" not in arguments:
            page.write_text(generated(page.read_text()))
    return 1 if changed and "-check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
