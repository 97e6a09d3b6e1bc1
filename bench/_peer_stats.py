"""clearml-serving's own statistics code on a topic: run by the peer's Python, told how many rows to wait for.

Its `start` is what its service runs; only the control plane, which needs a ClearML server, is left out of it: without
it every endpoint gets latency and count. Prints one line: processor seconds and the metrics as it exports them.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any


def main() -> int:
    """Count the rows that come; exit 1 where they do not come in time."""
    import clearml_serving.statistics.metrics as peer
    from prometheus_client import generate_latest

    bootstrap, topic, rows = sys.argv[1], sys.argv[2], int(sys.argv[3])

    class ControlPlane:
        _kafka_topic = topic
        _config_key_kafka_stats = "kafka_service_server"

        def __init__(self, **_: Any) -> None:
            pass

        def get_configuration(self) -> dict[str, str]:
            return {}

        def reload(self) -> None:
            pass

        def list_endpoint_logging(self) -> dict[str, Any]:
            return {}

    class Task:
        id = "bench"

    peer.ModelRequestProcessor = ControlPlane
    controller = peer.StatisticsController(Task(), bootstrap, None, poll_frequency_min=1_000)
    threading.Thread(target=controller.start, daemon=True).start()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    counted, began, give_up_at = 0.0, 0.0, time.monotonic() + 300
    while counted < rows and time.monotonic() < give_up_at:
        metrics = list(controller._prometheus_metrics.items())
        now = sum(m["_count"]._value.get() for _, m in metrics if "_count" in m)
        if counted == 0 < now:
            began = time.process_time()
            first = now
        counted = now
        time.sleep(0.05)
    took = time.process_time() - began
    print(json.dumps({"cpu_s": took, "rows": counted - first, "counted": counted, "text": generate_latest().decode()}))
    return 0 if counted >= rows else 1


if __name__ == "__main__":
    sys.exit(main())
