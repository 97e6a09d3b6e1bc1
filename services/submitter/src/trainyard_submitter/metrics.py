"""The gateway's metrics, declared once."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge, generate_latest


class GatewayMetrics:
    """One process's metrics, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.up = Gauge(
            "trainyard_gateway_log_up",
            "1 where Kafka answered the gateway's last question, else 0.",
            registry=self._registry,
        )
        self.lag = Gauge(
            "trainyard_gateway_lag_records",
            "Records of runs.lifecycle that the gateway has not folded yet.",
            registry=self._registry,
        )
        self.runs = Gauge("trainyard_gateway_runs", "Runs that the gateway holds to show.", registry=self._registry)
        self.unreadable = Gauge(
            "trainyard_gateway_unreadable_records",
            "Records of runs.lifecycle since the gateway began that are none of ours.",
            registry=self._registry,
        )
        self.followers = Gauge(
            "trainyard_gateway_followers", "Browsers that follow the live events now.", registry=self._registry
        )

    def text(self) -> bytes:
        """The page for Prometheus."""
        return generate_latest(self._registry)
