"""A real node: containerd and a kubelet, several of them beside each other on one machine.

Each has its own address, container root and control group. Sockets lie under /run, which is the
sandbox's own. This module makes files and command lines; `Cluster` starts them.
"""

import json
from collections.abc import Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from rlhf_harness import cgroups, host_runtime, images
from rlhf_harness.commands import run, succeeds
from rlhf_harness.containerd import configuration, network
from rlhf_harness.context import Context
from rlhf_harness.errors import CommandError
from rlhf_harness.kubernetes import Kubernetes
from rlhf_harness.options import IMAGE, NodeOptions
from rlhf_harness.pki import Pair
from rlhf_harness.processes import Command

GPU = "nvidia.com/gpu"


class Node:
    """One node of a cluster."""

    def __init__(
        self,
        context: Context,
        kubernetes: Kubernetes,
        pods: IPv4Network,
        index: int,
        options: NodeOptions,
    ) -> None:
        self.name = f"node{index}"
        self.address = str(pods[index])
        self._context = context
        self._kubernetes = kubernetes
        self._pods = pods
        self._options = options
        self._socket = f"/run/{self.name}/containerd.sock"

    def containerd(self) -> Command:
        """The container runtime."""
        context = self._context
        specification = host_runtime.base_specification(context)
        network(context.state, self._pods)
        text = configuration(
            folder=context.state.folder / self.name,
            socket=self._socket,
            shim=context.tools.path("containerd-shim-runc-v2"),
            base_specification=specification,
            network_folder=context.state.folder / "cni",
            default_runtime=self._options.default_runtime,
        )
        path = context.state.write(f"{self.name}/containerd.toml", text)
        name = f"containerd-{self.name}"
        return Command(
            name=name,
            argv=context.argv("containerd", "--config", str(path), name=name),
            ready=lambda: succeeds(self._ctr("version")),
        )

    def import_images(self, archives: Sequence[Path]) -> None:
        """Give the node images that no registry has."""
        for archive in archives:
            run(
                self._ctr("-n", "k8s.io", "images", "import", "--local", str(archive)),
                timeout_seconds=600,
            )

    def kubelet(self) -> Command:
        """The kubelet."""
        context, authority = self._context, self._context.authority
        self._make_cgroup()
        subject = f"/O=system:nodes/CN=system:node:{self.name}"
        client = context.client(self.name, subject)
        serving = authority.server(
            f"{self.name}-serving", subject, [f"DNS:{self.name}", f"IP:{self.address}"]
        )
        path = context.state.write(
            f"{self.name}/kubelet.json", json.dumps(self._kubelet_configuration(serving))
        )
        name = f"kubelet-{self.name}"
        return Command(
            name=name,
            argv=context.argv(
                "kubelet",
                f"--config={path}",
                f"--kubeconfig={client}",
                f"--hostname-override={self.name}",
                f"--node-ip={self.address}",
                f"--root-dir={context.state.folder / self.name / 'kubelet'}",
                name=name,
            ),
            ready=self._ready,
        )

    def declare(self) -> None:
        """Tell the scheduler about labels and about GPUs that are not there.

        A kubelet that starts sets resources that no device plugin knows to zero: not before.
        """
        if self._options.labels:
            labels = [f"{key}={value}" for key, value in self._options.labels.items()]
            self._kubernetes.kubectl("label", "node", self.name, "--overwrite", *labels)
        if self._options.gpus:
            patch = json.dumps({"status": {"capacity": {GPU: str(self._options.gpus)}}})
            self._kubernetes.kubectl(
                "patch", "node", self.name, "--subresource=status", "--patch", patch
            )

    def heartbeat(self) -> str:
        """When the kubelet last said that it is there."""
        status = self._kubernetes.get("node", self.name)["status"]
        return next(
            (one["lastHeartbeatTime"] for one in status["conditions"] if one["type"] == "Ready"), ""
        )

    def kill_pods(self) -> None:
        """Kill every process in the node's pods, as a loss of power would."""
        cgroups.kill(self._cgroup)

    def _ctr(self, *arguments: str) -> list[str]:
        argv = [self._context.tools.path("ctr"), "--address", self._socket, *arguments]
        return self._context.placement.command(argv)

    def _ready(self) -> bool:
        try:
            node = self._kubernetes.get("node", self.name)
        except CommandError:
            return False
        conditions = node["status"].get("conditions", [])
        return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)

    @property
    def _cgroup(self) -> str:
        return f"rlhf-{self._context.options.name}-{self.name}"

    def _make_cgroup(self) -> None:
        state = self._context.state
        if self._cgroup not in state.cgroups:
            state.cgroups.append(self._cgroup)
            state.save()
        cgroups.make(self._cgroup)

    def _kubelet_configuration(self, serving: Pair) -> dict[str, Any]:
        folder = self._context.state.folder / self.name
        return {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": self.address,
            "authentication": {
                "anonymous": {"enabled": False},
                "webhook": {"enabled": True},
                "x509": {"clientCAFile": str(self._context.authority.root)},
            },
            "authorization": {"mode": "Webhook"},
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._cgroup}",
            "clusterDNS": [self._context.placement.address],
            "clusterDomain": "cluster.local",
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "enforceNodeAllocatable": [],
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "1%",
                "imagefs.available": "1%",
            },
            "failCgroupV1": False,
            "failSwapOn": False,
            "healthzPort": 0,
            "imageGCHighThresholdPercent": 100,
            "makeIPTablesUtilChains": False,
            "maxOpenFiles": 20000,
            "nodeStatusUpdateFrequency": "5s",
            "oomScoreAdj": 0,
            "podLogsDir": str(folder / "podlogs"),
            "resolvConf": "/dev/null",
            "tlsCertFile": str(serving.certificate),
            "tlsPrivateKeyFile": str(serving.key),
        }


def archives(context: Context) -> list[Path]:
    """The images that every node is given; made once per cluster."""
    folder = context.state.folder / "images"
    pause, host = folder / "pause.tar", folder / "host.tar"
    if not host.exists():
        images.pause(Path(context.tools.path("pause")), pause)
        images.host(IMAGE, host_runtime.variables(), host)
    return [pause, host]
