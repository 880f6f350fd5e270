"""The pages about job files: a page for every block, tables as the code has them, examples."""

import importlib.util
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from core.jobspec import canonicalize, parse_job, validate
from core.jobspec.hcl.format import format_text
from core.jobspec.nomad_schema import JOB
from core.jobspec.schema import BlockSchema
from core.jobspec.unsupported import NOT_CARRIED_OUT

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted((DOCS / "jobspec").glob("*.md"))
FENCE = re.compile(r"^```hcl( runnable)?\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def _load(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"loaded_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


GENERATE = _load(DOCS / "generate.py")
COMMANDS = _load(Path(__file__).with_name("test_docs.py"))


def test_the_tables_are_what_the_code_says() -> None:
    stale = [
        page.name for page in GENERATE.pages()
        if GENERATE.generated(page.read_text()) != page.read_text()
    ]  # fmt: skip
    assert stale == [], "run: make pages"


def test_a_table_that_lies_is_found() -> None:
    page = DOCS / "jobspec" / "restart.md"
    lie = page.read_text().replace("| attempts | number | `2` | yes |", "| attempts | | | no |")
    assert lie != page.read_text() and GENERATE.generated(lie) == page.read_text()


def test_all_that_is_not_carried_out_is_listed() -> None:
    text = (DOCS / "coming-from-nomad.md").read_text()
    for (block, name), missing in NOT_CARRIED_OUT.items():
        assert f"| {block} | {name} | {missing} |" in text


def _blocks(schema: BlockSchema, seen: set[str]) -> set[str]:
    for name, child in schema.blocks.items():
        if name not in seen:
            _blocks(child.schema, seen | {name})
            seen.add(name)
            _blocks(child.schema, seen)
    return seen


def test_every_block_has_a_page_or_a_table_on_one() -> None:
    text = "".join(page.read_text() for page in PAGES)
    tables = {path.split("/")[-1] for path in re.findall(r"<!-- table ([^ ]+) -->", text)}
    # What only gateways hold is listed by name on the page of connect.
    mesh = {
        "envoy_gateway_bind_addresses", "expose", "ingress", "listener", "logs", "mesh",
        "mesh_gateway", "path", "request_headers", "reserved_ports", "response_headers", "sds",
        "terminating", "tls", "transparent_proxy", "add", "remove", "set",
    }  # fmt: skip
    assert _blocks(JOB, {"job"}) - tables - mesh == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_example_parses_and_those_marked_runnable_run(page: Path) -> None:
    examples = FENCE.findall(page.read_text())
    assert examples or page.name == "README.md"
    for runnable, text in examples:
        parsed = parse_job(text, filename=page.name)
        assert validate(canonicalize(parsed.job, region="eu")) == []
        assert format_text(text, page.name) == text
        if runnable:
            assert parsed.warnings == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        name, _, anchor = target.partition("#")
        assert not name or (page.parent / name).exists(), target
        assert not anchor or f"## {anchor}\n" in page.read_text(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_command_exists_with_its_flags(page: Path) -> None:
    for command in COMMANDS._commands(FENCE.sub("", page.read_text())):
        assert COMMANDS._problem(command) == "", command
