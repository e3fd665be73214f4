"""Grafana dashboards as code: what they show is said in `run` and `fleet`, how in `panels`."""

from dashboards.fleet import fleet_dashboard
from dashboards.run import run_dashboard

__all__ = ["fleet_dashboard", "run_dashboard"]
