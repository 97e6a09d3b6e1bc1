"""Publish a request as a structured CloudEvent with kafka-python: the record's value is the whole event.

python publish_structured.py HOST:PORT REQUEST.json [ID]      (ID: the same one again is the same run)
"""

import json
import sys
import uuid
from pathlib import Path

from kafka import KafkaProducer

TOPIC = "trainyard.runs.requested"

bootstrap, request = sys.argv[1], json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
event = {
    "specversion": "1.0",
    "id": sys.argv[3] if len(sys.argv) > 3 else str(uuid.uuid4()),
    "source": "urn:example:nightly-training",
    "type": "trainyard.run.requested",
    "datacontenttype": "application/json",
    "data": request,
}
producer = KafkaProducer(bootstrap_servers=bootstrap.split(","))  # acks=all and idempotent by default
sent = producer.send(
    TOPIC,
    value=json.dumps(event).encode(),
    headers=[("content-type", b"application/cloudevents+json; charset=utf-8")],
)
place = sent.get(timeout=10)
producer.close()
print(f"{place.topic} {place.partition} {place.offset}")
