"""A real Prometheus that finds its targets by the API, and what it is asked for."""

import json
import re
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_harness.context import Context
from rlhf_harness.errors import HarnessError
from rlhf_harness.host_runtime import REPOSITORY
from rlhf_harness.kubernetes import Kubernetes, account_subject
from rlhf_harness.processes import Command
from rlhf_harness.waiting import answers

NAME = "prometheus"
NAMESPACE = "monitoring"
PORT = 9090

SCRAPES = REPOSITORY / "examples" / "prometheus.yaml"
"""What users are told to configure."""

RULES = REPOSITORY / "charts" / "rlhf-operator" / "alerts.yaml"

INTERVAL_SECONDS = 1
"""Phases of the examples take seconds: at the usual quarter of a minute there were no curves."""

_RIGHTS = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}]


def command(context: Context, kubernetes: Kubernetes) -> Command:
    """The process, with a service account of its own; it keeps what it has read until the end."""
    kubernetes.namespace(NAMESPACE)
    account = kubernetes.service_account(NAMESPACE, NAME)
    kubernetes.grant(account_subject(NAMESPACE, NAME), _RIGHTS, name=NAME)
    path = context.state.write(f"{NAME}/prometheus.yaml", _configuration(account.kubeconfig))
    return Command(
        name=NAME,
        argv=context.argv(
            NAME,
            f"--config.file={path}",
            f"--storage.tsdb.path={path.parent / 'data'}",
            f"--web.listen-address={context.placement.address}:{PORT}",
        ),
        ready=lambda: answers(f"{url(context.placement.address)}/-/ready"),
    )


def url(address: str) -> str:
    """Where it answers, in a cluster with this address."""
    return f"http://{address}:{PORT}"


def _configuration(kubeconfig: Path) -> str:
    """Return what users are told, with the way to this API, short intervals and the alerts."""
    scrapes = SCRAPES.read_text(encoding="utf-8")
    by_api = scrapes.replace("- role: pod\n", f"- role: pod\n    kubeconfig_file: {kubeconfig}\n")
    interval = f"{INTERVAL_SECONDS}s"
    shortened = re.sub(r"scrape_interval: \w+", f"scrape_interval: {interval}", by_api)
    settings = {
        "global": {"evaluation_interval": interval},
        "rule_files": [str(RULES)],
    }
    own = "".join(f"{key}: {json.dumps(value)}\n" for key, value in settings.items())
    return own + shortened


@dataclass(frozen=True)
class Series:
    """One series of an answer: its labels, and its values by time in seconds."""

    labels: Mapping[str, str]
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Prometheus:
    """A Prometheus by its address."""

    url: str

    def query(self, expr: str, *, at: float | None = None) -> list[Series]:
        """What an expression is, now or at a time in seconds since 1970."""
        moment = {} if at is None else {"time": f"{at:.3f}"}
        found = self._ask("query", {"query": expr, **moment})["result"]
        return [Series(one["metric"], (_point(one["value"]),)) for one in found]

    def range(
        self, expr: str, *, start: float, end: float, step_seconds: float = 1
    ) -> list[Series]:
        """What an expression was between two times, both in seconds since 1970."""
        times = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step_seconds:g}"}
        found = self._ask("query_range", {"query": expr, **times})["result"]
        return [Series(one["metric"], tuple(map(_point, one["values"]))) for one in found]

    def get(self, path: str) -> Any:
        """What another page of its API says, such as `rules`."""
        return self._ask(path, {})

    def _ask(self, path: str, parameters: Mapping[str, str]) -> Any:
        body = urllib.parse.urlencode(parameters).encode() if parameters else None
        address = f"{self.url}/api/v1/{path}"
        try:
            with urllib.request.urlopen(address, body, timeout=30) as answer:  # noqa: S310 - ours
                return json.load(answer)["data"]
        except urllib.error.HTTPError as refused:
            told = refused.read().decode(errors="replace")
            raise HarnessError(f"Prometheus refused {parameters}: {told}") from refused


def _point(pair: tuple[float, str]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])
