"""Statistics of runs and of model serving, as Prometheus metrics."""
