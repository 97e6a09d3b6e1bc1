"""Prometheus' configuration and rules, and Grafana's dashboards: checked by promtool, complete, and not drifted."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from infra.grafana.generate import DATASOURCE, FOLDER, files
from infra.grafana.panels import DASHBOARDS, RANGE, RATE

from tests.architecture.sources import ROOT
from tests.deployment.compose import Deployment

PROMETHEUS = ROOT / "infra" / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
OF_PROMETHEUS = {"up"}
_NAME = re.compile(r"\btrainyard_[a-z0-9_]+\b")
_SUFFIX = re.compile(r"_(total|bucket|sum|count)$")


@pytest.fixture(scope="session")
def promtool() -> str:
    found = shutil.which("promtool")
    if found is None:
        pytest.skip("needs the program promtool (Debian: apt-get install prometheus)")
    return found


def check(promtool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([promtool, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)


def alerts() -> list[dict[str, Any]]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def declared() -> set[str]:
    """The metrics' names in our services' sources, as prometheus_client takes them: counters without `_total`."""
    sources = (path.read_text(encoding="utf-8") for path in ROOT.glob("services/*/src/**/*.py"))
    return {name for text in sources for name in re.findall(r'"(trainyard_[a-z0-9_]+)"', text)}


def unknown(expression: str, known: set[str]) -> set[str]:
    """The names in an expression that nobody declares."""
    return {name for name in _NAME.findall(expression) if name not in known and _SUFFIX.sub("", name) not in known}


def test_promtool_accepts_the_configuration_with_its_rules(promtool: str) -> None:
    done = check(promtool, "check", "config", PROMETHEUS / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(RULES)} rule files found" in done.stdout + done.stderr


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_the_rules_do_what_their_tests_say(promtool: str, path: Path) -> None:
    done = check(promtool, "test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("runs", 'why="no_worker"}) > 0', 'why="no_worker"}) > 5'),
        ("runs", "and on () (trainyard_stats_log_up offset 1h)", ""),
        ("health", "offset 15m)", "offset 1m)"),
        ("serving", 'status!="4xx"', 'status!="5xx"'),
        ("serving", "> 14.4 * 0.001", "> 144 * 0.001"),
    ],
)
def test_a_rule_that_is_wrong_fails_its_test(promtool: str, name: str, right: str, wrong: str, tmp_path: Path) -> None:
    for folder in ("rules", "tests"):
        (tmp_path / folder).mkdir()
        shutil.copy(PROMETHEUS / folder / f"{name}.yml", tmp_path / folder)
    rules = tmp_path / "rules" / f"{name}.yml"
    text = rules.read_text()
    assert right in text
    rules.write_text(text.replace(right, wrong))
    assert check(promtool, "test", "rules", tmp_path / "tests" / f"{name}.yml").returncode != 0


def test_every_alert_is_seen_firing_and_seen_silent() -> None:
    tried = [
        case
        for path in RULE_TESTS
        for test in yaml.safe_load(path.read_text())["tests"]
        for case in test.get("alert_rule_test", [])
    ]
    names = {alert["alert"] for alert in alerts()}
    assert len(names) == len(alerts()) > 15
    assert {case["alertname"] for case in tried if case["exp_alerts"]} == names
    assert {case["alertname"] for case in tried if not case["exp_alerts"]} == names


def test_every_alert_says_how_bad_it_is_and_what_it_is() -> None:
    for alert in alerts():
        assert alert["labels"]["severity"] in ("critical", "warning"), alert["alert"]
        assert alert["annotations"]["summary"].endswith("."), alert["alert"]


def test_rules_and_panels_use_only_metrics_that_a_service_declares() -> None:
    known = declared()
    texts = [
        str(rule["expr"]) for path in RULES for g in yaml.safe_load(path.read_text())["groups"] for rule in g["rules"]
    ]
    texts += [query.expr for dashboard in DASHBOARDS for panel in dashboard.panels for query in panel.queries]
    assert len(texts) > 40
    assert {name for text in texts for name in unknown(text, known)} == set()
    assert unknown("sum(trainyard_runs_endet_total)", known) == {"trainyard_runs_endet_total"}


def test_every_service_of_ours_with_pages_is_scraped_where_compose_starts_it() -> None:
    jobs = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
    targets = {target for job in jobs for config in job["static_configs"] for target in config["targets"]}
    services = Deployment.of().services()
    pages = {
        f"{name}:{service['environment']['TRAINYARD_HTTP_PORT']}"
        for name, service in services.items()
        if "TRAINYARD_HTTP_PORT" in service.get("environment", {})
    }
    assert targets == pages | {"localhost:9090"}


def test_the_committed_dashboards_are_what_the_module_says() -> None:
    committed = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert committed == files(), "run python -m infra.grafana.generate"


def test_dashboards_find_the_provisioned_datasource_and_the_folder_that_compose_mounts() -> None:
    provisioning = FOLDER.parent / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["uid"]) == (DATASOURCE["type"], DATASOURCE["uid"])
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "trainyard.yml").read_text())["providers"]
    grafana = Deployment.of().services()["grafana"]
    mounts = dict(mount.split(":")[:2] for mount in grafana["volumes"])
    assert mounts["./infra/grafana/dashboards"] == provider["options"]["path"]
    assert source["url"] == "${PROMETHEUS_URL}"
    assert grafana["environment"]["PROMETHEUS_URL"] == "http://prometheus:9090"


def test_titles_are_unique_and_variables_of_grafana_are_known_ones() -> None:
    titles = [(dashboard.uid, panel.title) for dashboard in DASHBOARDS for panel in dashboard.panels]
    assert len(set(titles)) == len(titles)
    for dashboard in DASHBOARDS:
        allowed = {RANGE, RATE, *(f"${name}" for name, _ in dashboard.variables)}
        for panel in dashboard.panels:
            for query in panel.queries:
                assert set(re.findall(r"\$\w+", query.expr)) <= allowed, panel.title
