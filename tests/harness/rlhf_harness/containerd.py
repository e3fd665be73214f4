"""The container runtime's configuration: two runtimes, one pod network."""

import json
from ipaddress import IPv4Network
from pathlib import Path

from rlhf_harness import images, packages
from rlhf_harness.kubernetes import Manifest
from rlhf_harness.sandbox import BRIDGE
from rlhf_harness.state import State

RUNTIMES = ("host", "runc")
"""`host` mounts this machine's programs into a pod; `runc` runs an image as it is."""

_FIRST_POD, _LAST_POD = 16, 250

_TOML = """
version = 3
root = '{folder}/containerd/root'
state = '/run/{node}/state'
disabled_plugins = [
  'io.containerd.nri.v1.nri',
  'io.containerd.grpc.v1.tracing',
  'io.containerd.tracing.processor.v1.otlp',
]
[grpc]
  address = '{socket}'
[ttrpc]
  address = '{socket}.ttrpc'
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  # A machine without CAP_SYS_RESOURCE cannot lower a score.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['{plugins}']
    conf_dir = '{network}'
  [plugins.'io.containerd.cri.v1.runtime'.containerd]
    default_runtime_name = '{default}'
{runtimes}
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{pause}'
[plugins.'io.containerd.internal.v1.opt']
  path = '{folder}/containerd/opt'
"""

_RUNTIME = """
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{name}]
    runtime_type = 'io.containerd.runc.v2'
    runtime_path = '{shim}'
    base_runtime_spec = '{specification}'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.{name}.options]
      BinaryName = 'runc'
      SystemdCgroup = false
"""


def configuration(
    *,
    folder: Path,
    socket: str,
    shim: str,
    base_specification: Path,
    network_folder: Path,
    default_runtime: str,
) -> str:
    """The configuration file of one node's containerd."""
    specifications = {"host": str(base_specification), "runc": ""}
    runtimes = [
        _RUNTIME.format(name=name, shim=shim, specification=specifications[name])
        for name in RUNTIMES
    ]
    return _TOML.format(
        folder=folder,
        node=folder.name,
        socket=socket,
        plugins=packages.CNI,
        network=network_folder,
        default=default_runtime,
        runtimes="".join(runtimes),
        pause=images.PAUSE,
    )


def network(state: State, pods: IPv4Network) -> None:
    """Write the CNI configuration: one bridge, and one pool of addresses for all nodes."""
    addresses = {
        "type": "host-local",
        "dataDir": str(state.folder / "addresses"),
        "ranges": [
            [
                {
                    "subnet": str(pods),
                    "rangeStart": str(pods[_FIRST_POD]),
                    "rangeEnd": str(pods[_LAST_POD]),
                    "gateway": str(pods[1]),
                }
            ]
        ],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "ipam": addresses,
    }
    plugins = {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]}
    state.write("cni/10-pods.conflist", json.dumps(plugins))


def runtime_classes() -> list[Manifest]:
    """The names by which pods ask for a runtime."""
    return [
        {
            "apiVersion": "node.k8s.io/v1",
            "kind": "RuntimeClass",
            "metadata": {"name": name},
            "handler": name,
        }
        for name in RUNTIMES
    ]
