"""Manifests that the pinned Go modules ship: the training operator's, and KWOK's stages.

They are taken out of the modules when the programs are built, so that a start needs no `go`.
"""

import os
import shutil
import tempfile
from pathlib import Path

from rlhf_harness.binaries import Tools
from rlhf_harness.commands import run

TRAINING_OPERATOR_CRD = "pytorchjobs.yaml"
TRAINING_OPERATOR = "training-operator.yaml"
KWOK_STAGES = "kwok-stages.yaml"

_WANTED_KINDS = (
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "ValidatingWebhookConfiguration",
)
"""Of the training operator's manifests; its Deployment and Service are ours: it is a process."""

_WANTED_STAGES = (
    "node/fast/node-initialize",
    "node/heartbeat-with-lease/node-heartbeat-with-lease",
    "pod/fast/pod-ready",
    "pod/fast/pod-delete",
)


def extract(tools: Tools, name: str) -> None:
    """Put the manifests that belong to a set of programs into the cache."""
    tools.assets.mkdir(exist_ok=True)
    if name == "core":
        _training_operator(tools)
    if name == "kwok":
        stages = _module(tools, "sigs.k8s.io/kwok") / "kustomize/stage"
        texts = [(stages / f"{one}.yaml").read_text(encoding="utf-8") for one in _WANTED_STAGES]
        (tools.assets / KWOK_STAGES).write_text("\n---\n".join(texts), encoding="utf-8")


def _module(tools: Tools, module: str) -> Path:
    environment = {**os.environ, "GOFLAGS": "-mod=readonly", "GOWORK": "off"}
    listed = run(["go", "list", "-m", "-f", "{{.Dir}}", module], cwd=tools.module, env=environment)
    return Path(listed.strip())


def _training_operator(tools: Tools) -> None:
    base = _module(tools, "github.com/kubeflow/training-operator") / "manifests/base"
    crd = base / "crds/kubeflow.org_pytorchjobs.yaml"
    (tools.assets / TRAINING_OPERATOR_CRD).write_bytes(crd.read_bytes())
    with tempfile.TemporaryDirectory() as scratch:
        # Files of the module cache are read-only: copied without their modes.
        copied = shutil.copytree(base, Path(scratch) / "base", copy_function=shutil.copyfile)
        for folder in (copied, *copied.rglob("*/")):
            folder.chmod(0o755)
        # The base alone names no namespace, which leaves its objects in `default`.
        (Path(scratch) / "kustomization.yaml").write_text(
            "namespace: kubeflow\nresources: [base]\n", encoding="utf-8"
        )
        rendered = run([tools.path("kubectl"), "kustomize", scratch])
    wanted = [
        document
        for document in rendered.split("\n---\n")
        if any(f"\nkind: {kind}\n" in f"\n{document}" for kind in _WANTED_KINDS)
    ]
    (tools.assets / TRAINING_OPERATOR).write_text("\n---\n".join(wanted), encoding="utf-8")
