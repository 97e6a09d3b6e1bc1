"""The text of `/metrics` as samples."""

from __future__ import annotations

from collections import defaultdict

from prometheus_client.parser import text_string_to_metric_families

from trainyard_stats.top.view import Sample, Samples

PREFIX = "trainyard_"


class NotMetrics(ValueError):
    """The text is not what a statistics service answers."""


def parsed(text: str) -> Samples:
    """Our samples by name. Raises NotMetrics."""
    found: dict[str, list[Sample]] = defaultdict(list)
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                if sample.name.startswith(PREFIX):
                    found[sample.name].append(Sample(dict(sample.labels), float(sample.value)))
    except (ValueError, KeyError, IndexError) as error:
        raise NotMetrics(f"the answer is no text of metrics: {error}") from error
    if not any(name.startswith("trainyard_stats_") for name in found):
        raise NotMetrics("the answer has no metrics of a Trainyard statistics service")
    return dict(found)
