"""The files of `job init -template`: valid, in canonical layout."""

import pytest

from core.jobspec import canonicalize, parse_job, validate
from core.jobspec.hcl.format import format_text
from core.jobspec.templates import TEMPLATES


@pytest.mark.parametrize("name", sorted(TEMPLATES))
def test_a_template_may_be_registered(name: str) -> None:
    text = TEMPLATES[name].text
    parsed = parse_job(text, filename=name)
    assert validate(canonicalize(parsed.job, region="eu")) == []
    assert format_text(text, name) == text
    if name not in {"docker", "connect"}:
        assert parsed.warnings == []
