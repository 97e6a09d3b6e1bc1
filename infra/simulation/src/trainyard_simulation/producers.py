"""Those who ask for runs: with keys, without, twice, with another body under the same key, and with rubbish."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from random import Random

from trainyard_runtime.kafka.records import AppendUnknown, LogUnavailable
from trainyard_schemas.ids import Origin
from trainyard_schemas.topics import RUN_PARTITIONS
from trainyard_simulation.broker import REQUESTED, Broker
from trainyard_simulation.effects import Sleep
from trainyard_simulation.kernel import Kernel


class Kind(StrEnum):
    """What a request is, as its producer knows it."""

    KEYED = "keyed"
    BARE = "bare"
    EVENT = "cloud event"
    POISON = "poison"


@dataclass(frozen=True, slots=True)
class Intent:
    """One thing that somebody wants. Those with the same `identity` (not empty) mean the same run; if their `body`

    differs too, it is a conflict.
    """

    kind: Kind
    identity: str
    body: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The broker acknowledged a request: where it stands, and what it was meant to be."""

    intent: Intent
    origin: Origin


_POISON = (b"", b"not json", b'{"schema_version": 2, "trainer": 7}', b'{"schema_version": 99}', b"\xff\xfe")


def _body(variant: str, **more: object) -> bytes:
    request = {
        "schema_version": 2,
        "trainer": "sklearn",
        "task_type": "classification",
        "dataset": {"type": "tabular", "uri": "wine.csv", "label": "class"},
        "run_name": f"run {variant}",
        "retry": {"max_attempts": 3, "backoff_s": 1.0},
        **more,
    }
    return json.dumps(request).encode()


def drawn_intents(rng: Random) -> list[Intent]:
    """One to four requests, related as the seed wants it."""
    intents: list[Intent] = []
    for number in range(1 + int(rng.random() * 4)):
        luck = rng.random()
        keyed = [i for i in intents if i.kind is Kind.KEYED]
        if luck < 0.12:
            value = _POISON[int(rng.random() * len(_POISON))]
            intents.append(Intent(Kind.POISON, "", f"poison {number}", value))
        elif luck < 0.27 and keyed:
            intents.append(keyed[int(rng.random() * len(keyed))])
        elif luck < 0.40 and keyed:
            intents.append(_keyed(keyed[int(rng.random() * len(keyed))].identity, f"other {number}"))
        elif luck < 0.50:
            intents.append(Intent(Kind.BARE, "", f"bare {number}", _body(f"bare {number}")))
        elif luck < 0.62:
            intents.append(_cloud_event(f"e{number}"))
        elif luck < 0.68:
            value = _body(f"lost {number}", idempotency_key=f"k{number}", queue="nowhere")
            intents.append(Intent(Kind.KEYED, f"k{number}", f"lost {number}", value))
        else:
            intents.append(_keyed(f"k{number}", f"first {number}"))
    return intents


def one_intent() -> Intent:
    """The simplest thing to ask for."""
    return _keyed("k", "only")


def _keyed(key: str, variant: str) -> Intent:
    return Intent(Kind.KEYED, key, variant, _body(variant, idempotency_key=key))


def _cloud_event(event_id: str) -> Intent:
    document = {
        "specversion": "1.0",
        "id": event_id,
        "source": "somebody",
        "type": "trainyard.run.requested",
        "data": json.loads(_body(event_id)),
    }
    return Intent(Kind.EVENT, event_id, event_id, json.dumps(document).encode())


async def produce(kernel: Kernel, broker: Broker, intent: Intent, acknowledged: list[Acknowledged]) -> None:
    """Publish one request some time soon, and again until it is acknowledged."""
    rng = kernel.rng
    await Sleep(rng.random() ** 2 * 20.0)
    partition = int(rng.random() * RUN_PARTITIONS)
    while True:
        try:
            offset: int = await broker.append_request(partition, intent.value)
        except AppendUnknown:
            kernel.coverage["window S2"] += 1
            await Sleep(0.2)
        except LogUnavailable:
            await Sleep(0.2)
        else:
            stamp = broker.requested[partition][offset].timestamp_ms
            acknowledged.append(Acknowledged(intent, Origin(REQUESTED, partition, offset, stamp)))
            return
