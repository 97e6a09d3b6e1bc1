"""Submit with Trainyard's own library, wait, and print the result.

python submit_with_library.py HOST:PORT REQUEST.json IDEMPOTENCY-KEY
"""

import json
import sys
from pathlib import Path

from trainyard_submitter import Client

bootstrap, file, key = sys.argv[1:4]
with Client(bootstrap) as client:
    submission = client.submit(json.loads(Path(file).read_text(encoding="utf-8")), idempotency_key=key)
    for followed in client.follow(submission, timeout_s=600):
        print(followed.event.type.short, file=sys.stderr)
    run = client.wait(submission, timeout_s=10)
print(json.dumps({"run_id": run.run_id, "state": run.phase.value, "results": dict(run.results or {})}))
