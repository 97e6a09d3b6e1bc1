"""The table of metrics in the documentation is what the code declares."""

from __future__ import annotations

import pytest

from tests.contracts.files import ROOT
from trainyard_stats.metric_table import table, with_table


def test_the_committed_page_holds_the_table_as_it_is() -> None:
    page = (ROOT / "docs" / "statistics.md").read_text(encoding="utf-8")
    assert with_table(page) == page, "run python -m trainyard_stats.metric_table docs/statistics.md"


def test_every_metric_has_a_sentence_and_a_name_in_base_units() -> None:
    rows = [row.split(" | ") for row in table().splitlines()[2:]]
    assert len(rows) > 25
    for name, _, _, over_replicas, sentence in rows:
        assert over_replicas in ("max", "min", "sum")
        assert name.startswith("| `trainyard_")
        assert not name.endswith(("_ms`", "_minutes`", "_mb`"))
        assert sentence.rstrip(" |").endswith(".")


def test_a_page_without_its_marks_is_refused() -> None:
    with pytest.raises(ValueError, match="holds no"):
        with_table("# Statistics\n")
