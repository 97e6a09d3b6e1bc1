"""`trainyard stats top`: what the statistics service knows, in a terminal. Reads `/metrics`, as Prometheus does."""
