"""The chart through the real helm, and definitions of others that its manifests must meet."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from operating import CHART, NAMESPACE, ROOT
from rlhf_harness.commands import run
from ruamel.yaml import YAML

Json = dict[str, Any]

Promtool = Callable[..., str]
"""Runs promtool and returns what it printed."""

IMAGES = {"image": "operator:1", "trainerImage": "trainer:1"}

MODULES = {
    "github.com/prometheus-operator/prometheus-operator": (
        "v0.85.0",
        "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        "example/prometheus-operator-crd/monitoring.coreos.com_*.yaml",
        ("podmonitors", "prometheusrules"),
    ),
    "sigs.k8s.io/kueue": (
        "v0.17.0",
        "h1:7hzb38M4eKGzYW+CFv2s1L+swzzacUCHOCXxZmAV90I=",
        "config/components/crd/bases/kueue.x-k8s.io_*.yaml",
        ("clusterqueues", "localqueues", "resourceflavors", "workloadpriorityclasses"),
    ),
}
"""Go modules with definitions: version, checksum, files, and those of them that are wanted.

They are data here, and no part of tests/tools: building nothing of them, they need not agree with
the versions of Kubernetes that are pinned there.
"""


@dataclass(frozen=True)
class Helm:
    """The real helm."""

    program: str
    kubernetes_version: str
    folder: Path

    def __call__(self, *arguments: str, kubeconfig: Path | None = None) -> str:
        """Run it and return what it printed; CommandError with its message if it fails."""
        own = {"HOME": str(self.folder), "KUBECONFIG": str(kubeconfig or "/dev/null")}
        return run([self.program, *arguments], env={**os.environ, **own}, timeout_seconds=120)

    def values(self, values: Mapping[str, Any]) -> str:
        """Return the option that hands over values, besides the images."""
        file = self.folder / f"values-{len(list(self.folder.glob('values-*')))}.json"
        file.write_text(json.dumps({**IMAGES, **values}), encoding="utf-8")
        return f"--values={file}"

    def template(
        self, values: Mapping[str, Any], *, name: str = "rlhf", namespace: str = NAMESPACE
    ) -> list[Json]:
        """Return the manifests of a release, read as Kubernetes reads them: by YAML 1.1.

        A key that stands twice in a map is an error.
        """
        version = f"--kube-version={self.kubernetes_version}"
        where = (name, str(CHART), "--namespace", namespace, version)
        text = self("template", *where, self.values(values))
        yaml = YAML(typ="safe", pure=True)
        yaml.version = (1, 1)
        return [one for one in yaml.load_all(text) if one]


def fetched(module: str, folder: Path | None = None) -> tuple[Path, str]:
    """Return where a Go module lies, fetched if need be, and its checksum.

    Args:
        module: with its version, unless `folder` pins it.
        folder: a module that has it among its requirements.
    """
    mode = "-mod=mod" if folder is None else "-mod=readonly"
    environment = {**os.environ, "GOFLAGS": mode, "GOWORK": "off"}
    argv = ["go", "mod", "download", "-json", module]
    found = json.loads(run(argv, cwd=folder, env=environment, timeout_seconds=300))
    return Path(found["Dir"]), found["Sum"]


def published() -> Iterator[Path]:
    """Yield the files with other projects' definitions, as they publish them."""
    for module, (version, checksum, pattern, names) in MODULES.items():
        folder, found = fetched(f"{module}@{version}")
        assert found == checksum, f"{module}: not the one that was pinned"
        files = {path.stem.rpartition("_")[2]: path for path in folder.glob(pattern)}
        yield from (files[name] for name in names)


def examples(folder: str) -> list[Json]:
    """Return the manifests of an example, file by file."""
    paths = sorted((ROOT / "examples" / folder).glob("*.yaml"))
    load = YAML(typ="safe", pure=True).load_all
    return [one for path in paths for one in load(path.read_text(encoding="utf-8")) if one]
