"""Prometheus' configuration and rules, and Grafana's dashboards: checked by promtool, complete, and not drifted."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from infra.grafana.generate import DATASOURCE, FOLDER, files
from infra.grafana.panels import DASHBOARDS, RANGE, RATE

from tests.architecture.sources import ROOT
from tests.deployment.compose import Deployment
from tests.deployment.promtool import check
from tests.deployment.replicas import misused, with_replicas

PROMETHEUS = ROOT / "infra" / "prometheus"
RULES = sorted((PROMETHEUS / "rules").glob("*.yml"))
RULE_TESTS = sorted((PROMETHEUS / "tests").glob("*.yml"))
OF_PROMETHEUS = {"up"}
_NAME = re.compile(r"\btrainyard_[a-z0-9_]+\b")
_SUFFIX = re.compile(r"_(total|bucket|sum|count)$")


def alerts() -> list[dict[str, Any]]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def expressions() -> list[str]:
    """Every expression of the rules and the panels."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    found = [str(rule["expr"]) for group in groups for rule in group["rules"]]
    return found + [query.expr for dashboard in DASHBOARDS for panel in dashboard.panels for query in panel.queries]


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


@pytest.mark.parametrize("replicas", [2, 3])
@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_the_rules_do_the_same_with_more_replicas_of_the_statistics_service(
    promtool: str, path: Path, replicas: int, tmp_path: Path
) -> None:
    document = yaml.safe_load(path.read_text())
    document["rule_files"] = [str(path.parent / rules) for rules in document["rule_files"]]
    document["tests"] = [with_replicas(test, replicas) for test in document["tests"]]
    (tmp_path / "tests.yml").write_text(yaml.safe_dump(document))
    done = check(promtool, "test", "rules", tmp_path / "tests.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_what_every_replica_tells_is_taken_once_and_what_they_share_out_is_summed() -> None:
    texts = expressions()
    assert sum("trainyard_" in text for text in texts) > 40
    assert [wrong for text in texts for wrong in misused(text)] == []


@pytest.mark.parametrize(
    "wrong",
    [
        "trainyard_runs",
        "sum(trainyard_stats_lag_records)",
        "max(sum(trainyard_stats_lag_records))",
        "sum by (queue) (trainyard_queue_waiting_runs)",
        "sum by (queue, why) (trainyard_queue_waiting_runs)",
        "max by (queue) (trainyard_queue_waiting_runs)",
        "sum(max by (queue, why) (trainyard_queue_workers))",
        "sum by (state) (trainyard_runs_ended_total) - (sum by (state) (trainyard_runs_ended_total offset 1h))",
        "sum by (topic) (min_over_time(trainyard_dead_letters_total[15m]))",
        "max by (phase, trainer) (rate(trainyard_run_phase_seconds_bucket[5m]))",
        "increase(trainyard_lifecycle_records_total[15m]) > 0",
        "max by (deployment) (trainyard_serving_lag_messages)",
        "max(rate(trainyard_serving_requests_total[5m]))",
    ],
)
def test_a_query_that_is_wrong_with_two_replicas_is_found(wrong: str) -> None:
    assert misused(wrong) != []


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("runs", 'why="no_worker"})) > 0', 'why="no_worker"})) > 5'),
        ("runs", "and on () max(trainyard_stats_log_up offset 1h)", ""),
        ("runs", "sum by (queue) (max by (queue, why) ", "sum by (queue) (sum by (queue, why) "),
        ("runs", "(max by (state, trainer, reason) (", "(sum by (state, trainer, reason) ("),
        ("runs", 'attempts_ended:difference1h{state="attempt_lost"}', 'runs_ended:difference1h{reason="worker_lost"}'),
        ("health", "max(trainyard_stats_lag_records)", "sum(trainyard_stats_lag_records)"),
        ("health", "sum by (deployment) (trainyard_serving_lag", "max by (deployment) (trainyard_serving_lag"),
        ("health", "max by (topic) (", "sum by (topic) ("),
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
    texts = expressions()
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
