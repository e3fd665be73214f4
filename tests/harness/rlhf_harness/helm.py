"""The project's chart on a cluster, by helm, as people install it."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlhf_harness.binaries import Tools
from rlhf_harness.building import ensure_built
from rlhf_harness.commands import run
from rlhf_harness.host_runtime import REPOSITORY
from rlhf_harness.kubernetes import Kubernetes

CHART = REPOSITORY / "charts" / "rlhf-operator"

_TIMEOUT_SECONDS = 180
"""Longest wait for the operator's pods."""


@dataclass(frozen=True)
class Release:
    """One release of the chart, named and placed."""

    kubernetes: Kubernetes
    tools: Tools
    name: str = "rlhf"
    namespace: str = "rlhf-system"

    def install(self, values: Mapping[str, Any], *, files: Sequence[Path] = ()) -> None:
        """Install it, or upgrade it to these values; returns when its pods are ready."""
        ensure_built(self.tools, "helm")
        self.kubernetes.namespace(self.namespace)
        own = self.kubernetes.scratch / f"{self.name}-values.json"
        own.write_text(json.dumps(values), encoding="utf-8")
        chosen = [part for path in (*files, own) for part in ("-f", str(path))]
        wait = ("--wait", f"--timeout={_TIMEOUT_SECONDS}s")
        self.helm("upgrade", "--install", self.name, str(CHART), *wait, *chosen)

    def helm(self, *arguments: str) -> str:
        """Run helm on the release's namespace and return what it printed."""
        scratch = self.kubernetes.scratch
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(scratch),
            "KUBECONFIG": str(self.kubernetes.kubeconfig),
        }
        argv = [self.tools.path("helm"), *arguments, "--namespace", self.namespace]
        return run(argv, env=environment, timeout_seconds=_TIMEOUT_SECONDS + 30)
