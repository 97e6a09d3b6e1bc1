"""The gateway: what the system does, as read-only pages and JSON, folded from the log. Needs the extra `gateway`."""
