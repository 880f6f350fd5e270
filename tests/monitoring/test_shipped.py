"""The files of monitoring/ and docs/monitoring.md: right for Prometheus, and true."""

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
from metric_table import DOCUMENT, with_table
from promtool import MONITORING, promtool

from core.agent.metrics import every_family, series_names
from core.cli.main import build_root

SERIES = {name for family in every_family() for name in series_names(family)}
ALERTS = (MONITORING / "alerts.yml").read_text()
DASHBOARD = json.loads((MONITORING / "grafana-dashboard.json").read_text())


def dashboard_queries() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]


def metric_names(text: str) -> set[str]:
    return set(re.findall(r"\bserai_\w+", text))


def test_the_scrape_configuration_holds() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")


def test_the_alert_rules_hold() -> None:
    assert "SUCCESS" in promtool("check", "rules", "alerts.yml")


def test_each_alert_fires_and_stays_silent() -> None:
    assert "SUCCESS" in promtool("test", "rules", "alerts_test.yml")


def test_each_alert_is_tested_both_ways() -> None:
    tests = (MONITORING / "alerts_test.yml").read_text()
    for alert in re.findall(r"- alert: (\w+)", ALERTS):
        cases = re.findall(rf"alertname: {alert}\n.*\n +exp_alerts:(.*)\n", tests)
        assert sorted(case.strip() for case in cases) == ["", "[]"], alert


def test_each_alert_says_what_and_what_to_do() -> None:
    for rule in ALERTS.split("- alert: ")[1:]:
        name = rule.split("\n", 1)[0]
        for key in ("summary: ", "action: ", "severity: "):
            assert key in rule, f"{name} has no {key}"


@pytest.mark.parametrize("text", [ALERTS, "\n".join(dashboard_queries())], ids=["alerts", "board"])
def test_only_metrics_that_exist_are_queried(text: str) -> None:
    families = {family[0] for family in every_family()}
    # Annotations speak of families, queries of series.
    assert metric_names(text) <= SERIES | families
    queried = "\n".join(re.findall(r"expr:((?:.*\n)(?: {10,}.*\n)*)", text)) or text
    assert metric_names(queried) and metric_names(queried) <= SERIES


def test_the_dashboard_shows_every_family() -> None:
    shown = metric_names("\n".join(dashboard_queries()))
    missing = [family[0] for family in every_family() if not shown & set(series_names(family))]
    assert missing == []


def test_the_dashboards_queries_are_promql(tmp_path: Path) -> None:
    values = {"$__rate_interval": "5m", "$region": ".*", "$datacenter": ".*", "$agent": ".*"}
    rules: list[dict[str, Any]] = []
    for number, query in enumerate(dashboard_queries()):
        for variable, value in values.items():
            query = query.replace(variable, value)
        assert "$" not in query
        rules.append({"record": f"dashboard:query:{number}", "expr": query})
    path = tmp_path / "queries.json"  # JSON is YAML
    path.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert "SUCCESS" in promtool("check", "rules", str(path))


def test_the_dashboard_has_its_variables_and_rows() -> None:
    variables = [one["name"] for one in DASHBOARD["templating"]["list"]]
    assert variables == ["source", "region", "datacenter", "agent"]
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Federation", "Raft", "Scheduler", "Gossip", "Clients", "API", "Host"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_every_command_that_is_recommended_exists() -> None:
    text = ALERTS + DOCUMENT.read_text()
    for words in re.findall(r"`serai ([a-z][a-z -]*[a-z])", text):
        command: click.Command = build_root()
        for word in words.split(" -")[0].split():
            assert isinstance(command, click.Group), f"serai {words}"
            found = command.get_command(click.Context(command), word)
            if found is None:
                break
            command = found
        assert not isinstance(command, click.Group) or command.invoke_without_command, words


def test_the_table_of_metrics_is_that_of_the_program() -> None:
    text = DOCUMENT.read_text()
    assert text == with_table(text), "write it anew: python tests/monitoring/metric_table.py"
