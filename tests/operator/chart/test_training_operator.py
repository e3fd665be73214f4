"""The example of a training operator: its own manifests take it, and so does its program."""

import os
import re
import shutil
from typing import Any

import kubernetes_validate
import pytest
from charting import fetched
from operating import ROOT
from rlhf_harness import Cluster
from rlhf_harness.commands import run
from ruamel.yaml import YAML

Json = dict[str, Any]

EXAMPLE = ROOT / "examples" / "training-operator"
MODULE = "github.com/kubeflow/training-operator"


@pytest.fixture(scope="session")
def deployment(own_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Json:
    """Build the example on the pinned module's manifests, where people fetch the same by git."""
    tools, folder = own_cluster.tools, tmp_path_factory.mktemp("kustomize")
    source, _ = fetched(MODULE, tools.module)
    # Files of the module cache are read-only: copied without their modes.
    copied = {"copy_function": shutil.copyfile}
    upstream = shutil.copytree(source / "manifests", folder / "manifests", **copied)
    for path in (upstream, *upstream.rglob("*/")):
        path.chmod(0o755)
    example = shutil.copytree(EXAMPLE, folder / "example")
    kustomization = example / "kustomization.yaml"
    version = tools.version(MODULE)
    address = f"https://{MODULE}/manifests/overlays/standalone?ref={version}"
    text = kustomization.read_text("utf-8")
    assert address in text
    kustomization.write_text(text.replace(address, "../manifests/overlays/standalone"), "utf-8")
    built = run([tools.path("kubectl"), "kustomize", str(example)])
    manifests = list(YAML(typ="safe", pure=True).load_all(built))
    (found,) = (one for one in manifests if one["kind"] == "Deployment")
    (config,) = (one for one in manifests if one["metadata"]["name"].startswith("init-container-"))
    volumes = {volume["name"]: volume for volume in found["spec"]["template"]["spec"]["volumes"]}
    assert volumes["init-container"]["configMap"]["name"] == config["metadata"]["name"]
    assert set(config["data"]) == {"init-container.yaml"}
    kubernetes_validate.validate(found, "1.36", strict=True)
    deployed: Json = found
    return deployed


def test_training_operator_knows_the_flags_of_the_example(
    deployment: Json, own_cluster: Cluster
) -> None:
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    flags = {one.partition("=")[0].removeprefix("--") for one in container["args"]}
    program = own_cluster.tools.path("training-operator")
    said = run(["sh", "-c", '"$0" --help 2>&1', program], env=dict(os.environ))
    assert flags <= set(re.findall(r"^  -([\w-]+)", said, re.MULTILINE))
    assert len(flags) == len(container["args"])


def test_init_container_of_the_example_meets_the_restricted_standard(
    own_cluster: Cluster,
) -> None:
    text = (EXAMPLE / "init-container.yaml").read_text("utf-8")
    for name, value in {
        "InitContainerImage": "alpine:3",
        "MaxTries": "3",
        "MasterAddr": "a-master-0",
    }.items():
        text = text.replace(f"{{{{.{name}}}}}", value)
    (container,) = YAML(typ="safe", pure=True).load(text)
    kubernetes = own_cluster.kubernetes
    kubernetes.namespace("init-container")
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "worker", "namespace": "init-container"},
        "spec": {
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 65532,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "initContainers": [container],
            "containers": [{**container, "name": "pytorch"}],
        },
    }
    kubernetes.check(pod)
