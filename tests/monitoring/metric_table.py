"""Writes the table of all metrics in docs/monitoring.md anew: python metric_table.py"""

from pathlib import Path

from core.agent.metrics import HOST_FAMILIES, Family, every_family, series_names
from core.client.measures import FAMILIES as CLIENT_FAMILIES
from core.server.measures import FAMILIES as SERVER_FAMILIES

DOCUMENT = Path(__file__).parents[2] / "docs" / "monitoring.md"
BEGIN = "<!-- metrics: written by tests/monitoring/metric_table.py -->\n"
END = "<!-- end of metrics -->\n"


def table() -> str:
    lines = ["| series | kind | labels | from | meaning |", "|---|---|---|---|---|"]
    for family in every_family():
        name, kind, text, _, labels = family
        shown = name if kind == "histogram" else series_names(family)[0]
        label_text = ", ".join(filter(None, labels.split("/"))) or "-"
        lines.append(f"| `{shown}` | {kind} | {label_text} | {_source(name)} | {text} |")
    return "\n".join(lines) + "\n"


def with_table(text: str) -> str:
    """Return the document with the table of now between its marks."""
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return head + BEGIN + table() + END + tail


def _source(name: str) -> str:
    def has(families: tuple[Family, ...]) -> bool:
        return any(family[0] == name for family in families)

    roles = [role for role, has_it in (
        ("server", has(SERVER_FAMILIES)), ("client", has(CLIENT_FAMILIES)),
    ) if has_it]  # fmt: skip
    return "every agent" if has(HOST_FAMILIES) or len(roles) > 1 else roles[0]


if __name__ == "__main__":
    DOCUMENT.write_text(with_table(DOCUMENT.read_text()))
