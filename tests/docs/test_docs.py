"""What the documentation says exists: commands and flags, links, HCL, the test command."""

import re
import shlex
from pathlib import Path

import click
import pytest

from core.agent.config import load_config
from core.cli.main import LazyGroup
from core.cli.quota import quota_from_hcl
from core.jobspec import parse_job
from core.jobspec.hcl.body import parse_body
from sim.scenario import read_scenario

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CHANGELOG.md")]
    + list((ROOT / "docs").glob("*.md"))
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def _named(page: Path) -> str:
    return page.name


def _commands(text: str) -> list[str]:
    """Return each `serai ...` of an indented line, of a fence, and of inline code."""
    without_hcl = FENCE.sub(lambda m: "" if m[1] == "hcl" else m[0], text)
    lines = re.findall(r"^(?: {4})(.*\bserai .*)$", without_hcl, re.M)
    inline = re.findall(r"`(serai [^`]*)`", without_hcl)
    found = []
    for line in [*lines, *inline]:
        command = line.split("serai ", 1)
        prefix = command[0].replace(".venv/bin/", "").strip()
        if all("=" in word for word in prefix.split()):
            found.append(command[1])
    return found


def _problem(command: str) -> str:
    """Return what is wrong with the words behind `serai`, "" when nothing is."""
    words = shlex.split(command.replace("...", ""), comments=True)
    if words[:1] and words[0].startswith("-"):
        return ""
    path, rest = "", words
    node: click.Command = LazyGroup("", name="serai")
    while isinstance(node, click.Group) and rest and not rest[0].startswith("-"):
        name = rest[0]
        found = node.get_command(click.Context(node), name)
        if found is None:
            return f"there is no command {path} {name}"
        node, path, rest = found, f"{path} {name}", rest[1:]
    known = {flag for param in node.params for flag in (*param.opts, *param.secondary_opts)}
    for word in rest:
        if re.match(r"-[a-z]", word) and word.partition("=")[0] not in {*known, "-h", "-help"}:
            return f"{path} has no flag {word}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_each_command_of_a_page_exists_with_its_flags(page: Path) -> None:
    commands = _commands(page.read_text())
    wrong = {command: problem for command in commands if (problem := _problem(command))}
    assert wrong == {}
    if page.name == "README.md":
        assert len(commands) > 20


def test_a_command_or_a_flag_that_does_not_exist_is_found() -> None:
    assert _problem("job rum web.hcl") == "there is no command  job rum"
    assert "no flag" in _problem("job run -frob web.hcl")
    assert _problem("dev cut -one-way eu us") == ""


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_each_relative_link_leads_somewhere(page: Path) -> None:
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        linked = page.parent / name if name else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            titles = re.findall(r"^#+ (.*)$", linked.read_text(), re.M)
            slugs = {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
            assert anchor in slugs, f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_each_hcl_example_is_accepted(page: Path, tmp_path: Path) -> None:
    for language, text in FENCE.findall(page.read_text()):
        if language != "hcl":
            continue
        if re.search(r'^scenario "', text, re.M):
            scenario = read_scenario(text, page.name, str(page.parent))
            assert all((page.parent / job.file).exists() for job in scenario.jobs)
            continue
        blocks = {block.type for block in parse_body(text, page.name).blocks}
        if "job" in blocks:
            assert parse_job(text, filename=page.name).warnings == []
        elif "limit" in blocks:
            file = tmp_path / "spec.hcl"
            file.write_text(text)
            assert quota_from_hcl(str(file))["Name"]
        else:
            file = tmp_path / "agent.hcl"
            file.write_text(text)
            assert load_config([str(file)]).warnings == []


def test_the_test_command_of_the_readme_is_what_ci_calls() -> None:
    assert "\n    make test\n" in (ROOT / "README.md").read_text()
    assert "make test" in (ROOT / ".ci" / "run").read_text().splitlines()
    assert "\ntest:" in (ROOT / "Makefile").read_text()


def test_each_file_a_page_speaks_of_exists() -> None:
    for page in PAGES:
        for name in re.findall(r"examples/[\w.-]+\.(?:hcl|py)", page.read_text()):
            assert (ROOT / name).exists(), f"{page.name}: {name}"
