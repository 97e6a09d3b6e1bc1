"""Publish a request as a binary CloudEvent with kafka-python: the attributes are headers, the value is the request.

python publish_binary.py HOST:PORT REQUEST.json [ID]      (ID: the same one again is the same run)
"""

import sys
import uuid
from pathlib import Path

from kafka import KafkaProducer

TOPIC = "trainyard.runs.requested"

bootstrap, request = sys.argv[1], Path(sys.argv[2]).read_bytes()
event_id = sys.argv[3] if len(sys.argv) > 3 else str(uuid.uuid4())
producer = KafkaProducer(bootstrap_servers=bootstrap.split(","))  # acks=all and idempotent by default
sent = producer.send(
    TOPIC,
    value=request,
    headers=[
        ("ce_specversion", b"1.0"),
        ("ce_id", event_id.encode()),
        ("ce_source", b"urn:example:nightly-training"),
        ("ce_type", b"trainyard.run.requested"),
        ("content-type", b"application/json"),
    ],
)
place = sent.get(timeout=10)
producer.close()
print(f"{place.topic} {place.partition} {place.offset}")
