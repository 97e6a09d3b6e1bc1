#!/bin/sh
# Starts the agent; without keys it says so, and with SHUTDOWN_IF_NO_ACCESS_KEY=1 it ends well instead of trying for ever.
set -eu
if [ -z "${CLEARML_API_ACCESS_KEY:-}" ]; then
  echo "clearml-agent: CLEARML_API_ACCESS_KEY is not set; set it and CLEARML_API_SECRET_KEY in .env" >&2
  if [ "${SHUTDOWN_IF_NO_ACCESS_KEY:-}" = 1 ]; then exit 0; fi
  exit 78
fi
exec clearml-agent daemon --foreground "$@"
