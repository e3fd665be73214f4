"""kube-proxy: makes cluster IPs work, from pods and from this machine.

It writes nftables rules into the sandbox's network, with which they go.
"""

import json

from rlhf_harness.context import Context
from rlhf_harness.processes import Command
from rlhf_harness.waiting import answers

_HEALTH_PORT, _METRICS_PORT = 10256, 10249


def kube_proxy(context: Context) -> Command:
    """The proxy's process."""
    address = context.placement.address
    configuration = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": "nftables",
        "clientConnection": {"kubeconfig": context.client("proxy", "/CN=system:kube-proxy")},
        "hostnameOverride": "node1",
        "bindAddress": address,
        "healthzBindAddress": f"{address}:{_HEALTH_PORT}",
        "metricsBindAddress": f"{address}:{_METRICS_PORT}",
        # Pods are neighbours of each other: without it answers would bypass the translation.
        "nftables": {"masqueradeAll": True},
        # Zero leaves the kernel's settings alone.
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "0s",
            "tcpCloseWaitTimeout": "0s",
        },
        "oomScoreAdj": 0,
    }
    path = context.state.write("proxy.json", json.dumps(configuration))
    healthy = context.url(_HEALTH_PORT, "/healthz", scheme="http")
    return Command(
        name="kube-proxy",
        argv=context.argv("kube-proxy", f"--config={path}"),
        ready=lambda: answers(healthy),
    )
