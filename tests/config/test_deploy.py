"""The files for Prometheus and Grafana name what `/metrics` has, and each alert has its runbook."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.conf import settings
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(settings.BASE_DIR)
ALERTS = ROOT / "deploy/prometheus/alerts.yml"
BOARD = ROOT / "deploy/grafana/board.json"
RUNBOOKS = "docs/runbooks.md"
OPERATING = ROOT / "docs/operating.md"

_METRIC = re.compile(r"\bdca_\w+")


def alerts() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    return list(group["rules"])


def queries(of: Any) -> Iterator[str]:
    """Return each expression of a board, at any depth."""
    if isinstance(of, dict):
        yield from (value for name, value in of.items() if name == "expr")
    for one in of.values() if isinstance(of, dict) else of if isinstance(of, list) else ():
        yield from queries(one)


@pytest.fixture
def metrics(db: None, settings: Any) -> dict[str, set[str]]:
    """The names and labels in `/metrics`."""
    settings.METRICS_TOKEN = "a-token-of-the-tests"
    text = Client(headers={"authorization": "Bearer a-token-of-the-tests"}).get("/metrics").content.decode()
    return {family.name: set(family.samples[0].labels) for family in text_string_to_metric_families(text)}


@pytest.mark.parametrize("alert", alerts(), ids=lambda alert: alert["alert"])
def test_an_alert_has_a_cause_a_severity_and_instructions(alert: dict[str, Any]) -> None:
    assert set(alert) == {"alert", "expr", "for", "labels", "annotations"}
    assert alert["labels"]["severity"] in {"critical", "warning"}
    assert re.fullmatch(r"\d+[mh]", alert["for"])
    assert set(alert["annotations"]) == {"summary", "runbook_url"}
    assert alert["annotations"]["runbook_url"] == f"{RUNBOOKS}#{alert['alert'].lower()}"


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    titles = re.findall(r"^## (\w+)$", (ROOT / RUNBOOKS).read_text(), re.MULTILINE)

    assert titles == [alert["alert"] for alert in alerts()]


def test_a_runbook_has_all_its_sections() -> None:
    for section in (ROOT / RUNBOOKS).read_text().split("\n## ")[1:]:
        heads = re.findall(r"^\*\*(.+?)\*\*", section, re.MULTILINE)
        assert heads == ["Means.", "See.", "Do.", "Over."], section.splitlines()[0]


def test_rules_and_board_use_existing_metrics(metrics: dict[str, set[str]]) -> None:
    asked = [alert["expr"] for alert in alerts()] + list(queries(json.loads(BOARD.read_text())))

    assert len(asked) > 30
    for query in asked:
        names = _METRIC.findall(query)
        assert names, query
        assert set(names) <= metrics.keys(), query
        labels = {label.strip() for group in re.findall(r"by \(([^)]*)\)", query) for label in group.split(",")}
        labels |= set(re.findall(r"(\w+)=", query))
        assert labels <= set.union(*(metrics[name] for name in names)), query


def test_the_board_shows_each_metric(metrics: dict[str, set[str]]) -> None:
    shown = {name for query in queries(json.loads(BOARD.read_text())) for name in _METRIC.findall(query)}

    assert shown == metrics.keys()


def test_grafana_can_read_the_board() -> None:
    board = json.loads(BOARD.read_text())
    panels = board["panels"]

    assert {"uid", "title", "schemaVersion", "templating", "time"} <= board.keys()
    assert len({panel["id"] for panel in panels}) == len(panels)
    places: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & places, f"{panel['title']} lies on another one"
        places |= cells
        assert all(one["datasource"]["uid"] == "${datasource}" for one in panel.get("targets", ()))


def test_operating_explains_each_metric(metrics: dict[str, set[str]]) -> None:
    section = OPERATING.read_text().split("\n## Metrics and alerts\n", 1)[1].split("\n## ", 1)[0]
    rows = re.findall(r"^\| `(dca_\w+)` \| ([^|]*)\|", section, re.MULTILINE)

    assert {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == metrics


@pytest.mark.long(reason="promtool takes ten seconds")
@pytest.mark.skipif(shutil.which("promtool") is None, reason="there is no promtool here")
def test_the_alert_rules_fire_as_described() -> None:
    argv = ["promtool", "test", "rules", "alerts_test.yml"]

    done = subprocess.run(argv, check=False, cwd=ALERTS.parent, capture_output=True, text=True)

    assert done.returncode == 0, done.stdout + done.stderr
