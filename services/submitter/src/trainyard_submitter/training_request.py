"""The request of `trainyard train`, from what a person said and what was found in the file: pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainyard_schemas.trainers import TRAINERS
from trainyard_submitter.inference import refuse

SCHEMA_VERSION = 2
# A name has 3 to 256 characters; room is left for what is added to the file's.
_STEM_CHARS = 120


@dataclass(frozen=True, slots=True)
class Wish:
    """What the command line was told; `time_budget_s` bounds the fit. None: the request leaves it to its default."""

    label: str
    trainer: str
    time_budget_s: float
    name: str | None = None
    project: str | None = None
    groups: Sequence[str] = ()
    test_size: float | None = None
    seed: int | None = None
    queue: str | None = None
    priority: int | None = None


def trainer_known(name: str) -> None:
    """Raises InvalidRequest where no trainer of this name trains on tables."""
    tabular = [trainer.name for trainer in TRAINERS.values() if "tabular" in trainer.dataset_types]
    if name not in tabular:
        refuse("trainer_unknown", "--trainer", f"'{name}' trains no tables; use one of {', '.join(tabular)}")


def numbers_known(wish: Wish) -> None:
    """Raises InvalidRequest for what a command line takes for a number and a request does not."""
    if wish.test_size is not None and not 0 < wish.test_size < 1:
        message = f"{wish.test_size:g} is no share of the rows; give a number between 0 and 1, such as 0.2"
        refuse("field_invalid", "--test-size", message)
    if not math.isfinite(wish.time_budget_s):
        refuse("field_invalid", "--time", f"{wish.time_budget_s:g} is no time; give a number of seconds, such as 60")


def run_name(stem: str, label: str, trainer: str) -> str:
    """`my-data.label.trainer`, of what a name may hold."""
    plain = re.sub(r"[^\w.-]+", "-", f"{stem[:_STEM_CHARS]}.{label[:60]}").strip("-.") or "table"
    return f"{plain}.{trainer}"


def training_request(wish: Wish, *, stem: str, uri: str, task_type: str, metric: str) -> Mapping[str, Any]:
    """The whole request, ready to publish; what was not said is left out, so that the request shows what matters."""
    request: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "trainer": wish.trainer,
        "run_name": wish.name or run_name(stem, wish.label, wish.trainer),
        "dataset": {"type": "tabular", "uri": uri, "label": wish.label},
        "task_type": task_type,
        "metric": metric,
        "time_budget_s": wish.time_budget_s,
    }
    split: dict[str, Any] = {}
    if wish.groups:
        request["group_key"] = list(wish.groups)
        split["method"] = "group_shuffle"
    if wish.test_size is not None:
        split["test_size"] = wish.test_size
    if wish.seed is not None:
        split["random_seed"] = wish.seed
    optional = {"split": split or None, "project": wish.project, "queue": wish.queue, "priority": wish.priority}
    return request | {name: value for name, value in optional.items() if value is not None}
