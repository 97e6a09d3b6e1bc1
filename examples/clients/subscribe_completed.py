"""Print one line per finished run, each exactly once for as long as the group's offsets live.

python subscribe_completed.py HOST:PORT GROUP [SECONDS]      (SECONDS: end after so long without a record)
"""

import json
import sys

from kafka import KafkaConsumer

bootstrap, group = sys.argv[1], sys.argv[2]
silence_ms = float(sys.argv[3]) * 1000 if len(sys.argv) > 3 else float("inf")
consumer = KafkaConsumer(
    "trainyard.runs.completed",
    bootstrap_servers=bootstrap.split(","),
    group_id=group,
    auto_offset_reset="earliest",
    enable_auto_commit=False,
    consumer_timeout_ms=silence_ms,
)
seen = set()  # a crash of Trainyard may repeat a record, with the same id; keep the ids where your own state is
for record in consumer:
    event = json.loads(record.value)
    if event["id"] not in seen:
        seen.add(event["id"])
        end = event["data"]
        print(json.dumps({key: end.get(key) for key in ("run_id", "run_name", "state", "reason")}), flush=True)
    consumer.commit()
consumer.close()
