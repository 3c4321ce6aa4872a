"""Numbers that somebody else measures. ``PrometheusServers`` is the real one; ``MemoryTelemetry`` the fake."""

from interlock.edges.telemetry.memory import MemoryTelemetry
from interlock.edges.telemetry.prometheus import PrometheusServer, PrometheusServers

__all__ = ["MemoryTelemetry", "PrometheusServer", "PrometheusServers"]
