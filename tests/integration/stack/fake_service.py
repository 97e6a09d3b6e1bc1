"""A stand-in for a service: listens where it is told, is ready when asked, ends on SIGTERM and SIGUSR1. Only stdlib."""

import http.server
import json
import os
import signal
import sys


class Pages(http.server.BaseHTTPRequestHandler):
    """/readyz, and / with the environment that the stack gave."""

    def do_GET(self) -> None:
        given = {k: v for k, v in os.environ.items() if k.startswith(("TRAINYARD_", "CLEARML_"))}
        body = json.dumps({"environment": given, "pid": os.getpid()}).encode()
        self.send_response(503 if "--never-ready" in sys.argv else 200)
        self.end_headers()
        self.wfile.write(body)


if "--broken" in sys.argv:
    sys.exit("this service cannot work: its setting X is wrong")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0))  # as a worker that drains and has nothing to finish
address = ("127.0.0.1", int(os.environ["TRAINYARD_HTTP_PORT"]))
http.server.HTTPServer(address, Pages).serve_forever()
