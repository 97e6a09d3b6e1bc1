"""Messages of clearml-serving that went wrong, and an oracle of its own on what is wrong with them.

The oracle is Python's JSON and the schema's pydantic models; it shares no code with the counting.
`python -m tests.unit.stats.mutations --messages 1000000` prints one line; exit 1 where the counts differ.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import Counter
from dataclasses import dataclass
from random import Random
from typing import Any

from pydantic import ValidationError

from trainyard_schemas.serving import ServingRow
from trainyard_stats.serving.counters import Counters, Fold
from trainyard_stats.serving.fold import apply

_WORDS = (
    b'"abc"',
    b"-1",
    b"NaN",
    b"1e308",
    b"[0.1]",
    b"null",
    b"true",
    b"0",
    b"-5",
    b"1000000000000000000",
    b"{}",
    b'""',
)
_FIELDS = {"_url": "url_invalid", "_count": "count_invalid", "_status": "status_invalid", "_error": "error_invalid"}


@dataclass(frozen=True, slots=True)
class Comparison:
    """Good messages sent and counted, and bad ones by kind: by the oracle, and as they were counted."""

    good: int
    good_counted: float
    bad: dict[str, int]
    bad_counted: dict[str, int]

    @property
    def is_exact(self) -> bool:
        return self.good == self.good_counted and self.bad == self.bad_counted


def between_good_ones(messages: int, seed: int) -> Comparison:
    """Count mutated messages with a good one after every second of them."""
    random, fold = Random(seed), Fold(Counters())
    good, wrong = 0, Counter[str]()
    for number in range(messages):
        message = mutated(random)
        kind = expected(message)
        if kind is not None:
            wrong[kind] += 1
        apply(fold, message)
        if number % 2:
            apply(fold, b'[{"_latency": 0.0136, "_count": 1, "_url": "good/1"}]')
            good += 1
    counted = {kind.value: n for kind, n in fold.counters.rejected.items()}
    return Comparison(good, sum(fold.counters.endpoints["good/1"].latency), dict(wrong), counted)


def mutated(random: Random) -> bytes:
    """A message of one row, with one to three things done to it; some survive as good ones."""
    message = b'[{"_latency": 0.0%d, "_count": 1, "_url": "mut/%d"}]' % (random.randrange(1, 999), random.randrange(9))
    for _ in range(random.randint(1, 3)):
        message = random.choice((_flip, _cut, _doubled, _replaced, _encoded))(random, message)
    return message


def expected(message: bytes) -> str | None:
    """What a message of one row is rejected for; None where its row is a good one."""
    if not message:
        return "message_empty"
    try:
        rows = json.loads(message.decode("utf-8"))
    except (ValueError, RecursionError):
        return "message_not_json"
    if not isinstance(rows, list):
        return "message_not_a_list"
    kinds = [kind for row in rows if (kind := _row(row)) is not None]
    assert len(rows) <= 1
    return kinds[0] if kinds else None


def _row(row: Any) -> str | None:
    if not isinstance(row, dict):
        return "row_not_an_object"
    if row.get("_url") is None:
        return "url_missing"
    try:
        read = ServingRow.model_validate(row)
    except ValidationError as error:
        wrong = {str(problem["loc"][0]) for problem in error.errors()}
    else:
        wrong = set()
        is_failure = read.error is not None or (read.status or 0) >= 400
        if read.latency is None and not is_failure:
            wrong.add("_latency")
    if isinstance(row["_url"], str) and not row["_url"].isprintable():
        wrong.add("_url")
    if isinstance(row.get("_error"), str) and not row["_error"].isprintable():
        wrong.add("_error")
    if "_count" in row and row["_count"] is None:
        wrong.add("_count")
    latency = row.get("_latency")
    if isinstance(latency, float) and not math.isfinite(latency):
        wrong.add("_latency")
    for field, kind in _FIELDS.items():
        if field in wrong:
            return kind
    return "latency_invalid" if "_latency" in wrong else None


def _flip(random: Random, message: bytes) -> bytes:
    changed = bytearray(message)
    if changed:
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
    return bytes(changed)


def _cut(random: Random, message: bytes) -> bytes:
    start = random.randrange(len(message) + 1)
    return message[:start] + message[start + random.randrange(4) :] if random.random() < 0.7 else message[:start]


def _doubled(random: Random, message: bytes) -> bytes:
    start = random.randrange(len(message) + 1)
    return message[:start] + message[start : start + random.randrange(9)] + message[start:]


def _replaced(random: Random, message: bytes) -> bytes:
    field = random.choice((b'"_latency": ', b'"_count": ', b'"_url": '))
    start = message.find(field)
    if start < 0:
        return message
    start += len(field)
    ends = [end for end in (message.find(b", ", start), message.find(b"}", start)) if end >= 0]
    return message[:start] + random.choice(_WORDS) + message[min(ends, default=len(message)) :]


def _encoded(random: Random, message: bytes) -> bytes:
    choices = (b"\xef\xbb\xbf" + message, message.decode("latin-1").encode("utf-16"), message + b" ", b"")
    return random.choice(choices)


def main() -> int:
    """Print one line; exit 1 where the counts differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    found = between_good_ones(options.messages, options.seed)
    figures = {
        "mutated": options.messages,
        "good": found.good,
        "good_counted": found.good_counted,
        "bad": sum(found.bad.values()),
        "bad_counted": sum(found.bad_counted.values()),
        "by_kind": dict(sorted(found.bad_counted.items())),
        "ok": found.is_exact,
    }
    print(json.dumps(figures))
    return 0 if found.is_exact else 1


if __name__ == "__main__":
    sys.exit(main())
