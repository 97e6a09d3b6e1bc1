"""Every panel's query by promtool: it shows what was computed by hand, with any number of replicas of the statistics
service. What a running stack shows is `tests/e2e`'s matter; there much is 0, and here nothing is for want of events."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from infra.grafana.panels import DASHBOARDS, RANGE, RATE, Dashboard, Panel

from tests.deployment.panel_cases import AT, CASES, RANGE_IS, RATE_IS, Case
from tests.deployment.promtool import check
from tests.deployment.replicas import with_replicas

PANELS = [(dashboard, panel) for dashboard in DASHBOARDS for panel in dashboard.panels]


def asked(expression: str, dashboard: Dashboard) -> str:
    """The expression over the cases' range, with everything chosen in the dashboard's variables; to six decimals."""
    for name, _ in dashboard.variables:
        expression = expression.replace(f"${name}", ".*")
    expression = expression.replace(RANGE, RANGE_IS).replace(RATE, RATE_IS)
    assert "$" not in re.sub(r'"[^"]*"', "", expression)
    return f"round({expression}, 1e-6)"


def document(case: Case, expressions: list[str], replicas: int) -> str:
    """What promtool reads: the case's series, and what each expression makes of them."""
    test = {
        "interval": "1m",
        "input_series": [{"series": series, "values": samples} for series, samples in case.series],
        "promql_expr_test": [
            {
                "expr": expression,
                "eval_time": AT,
                "exp_samples": [{"labels": labels, "value": value} for labels, value in shown.items()],
            }
            for expression, shown in zip(expressions, case.shows, strict=True)
        ],
    }
    return yaml.safe_dump({"evaluation_interval": "1m", "tests": [with_replicas(test, replicas)]})


@pytest.mark.parametrize("replicas", [1, 3])
@pytest.mark.parametrize(("dashboard", "panel"), PANELS, ids=lambda one: getattr(one, "title", None))
def test_a_panel_shows_the_number_that_was_computed_by_hand(
    promtool: str, dashboard: Dashboard, panel: Panel, replicas: int, tmp_path: Path
) -> None:
    expressions = [asked(query.expr, dashboard) for query in panel.queries]
    file = tmp_path / "panel.yml"
    file.write_text(document(CASES[dashboard.uid][panel.title], expressions, replicas))
    done = check(promtool, "test", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_query_that_always_gives_zero_would_pass() -> None:
    assert {(d.uid, p.title) for d, p in PANELS} == {(uid, title) for uid, cases in CASES.items() for title in cases}
    for dashboard, panel in PANELS:
        for shown in CASES[dashboard.uid][panel.title].shows:
            assert any(shown.values()), panel.title
