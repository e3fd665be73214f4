"""The control plane: etcd, API server, controller manager and scheduler, each a process."""

import sys
from importlib.resources import files

from rlhf_harness.commands import run
from rlhf_harness.context import Context
from rlhf_harness.pki import Pair
from rlhf_harness.processes import Command
from rlhf_harness.waiting import answers

AUDIT_LOG = "audit.jsonl"


def prepare(context: Context) -> None:
    """Make the certificates and the administrator's kubeconfig."""
    context.authority.create()
    context.client("admin", "/O=system:masters/CN=admin")
    policy = files("rlhf_harness").joinpath("manifests/audit-policy.yaml")
    context.state.write("audit-policy.yaml", policy.read_text(encoding="utf-8"))


def etcd(context: Context) -> Command:
    """The store. It does not wait for the disk: a killed process loses nothing by that."""
    ports = context.placement.ports
    client, peer = f"http://127.0.0.1:{ports.etcd}", f"http://127.0.0.1:{ports.etcd_peer}"
    health = context.url(ports.etcd_health, "", scheme="http")
    return Command(
        name="etcd",
        argv=context.argv(
            "etcd",
            f"--data-dir={context.state.folder / 'etcd'}",
            "--unsafe-no-fsync",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            f"--listen-metrics-urls={health}",
            "--log-level=warn",
        ),
        ready=lambda: answers(f"{health}/health"),
    )


def apiserver(context: Context) -> Command:
    """The API server: RBAC, node restriction, an audit log, webhooks called without a proxy."""
    pki, placement = context.authority, context.placement
    ready = context.url(placement.ports.apiserver, "/readyz")
    return Command(
        name="kube-apiserver",
        argv=context.argv(
            "kube-apiserver",
            f"--etcd-servers=http://127.0.0.1:{placement.ports.etcd}",
            "--bind-address=0.0.0.0",
            f"--secure-port={placement.ports.apiserver}",
            f"--advertise-address={placement.address}",
            f"--service-cluster-ip-range={placement.services}",
            "--authorization-mode=Node,RBAC",
            "--enable-admission-plugins=NodeRestriction",
            "--allow-privileged=true",
            "--profiling=false",
            # Webhooks are reached at the addresses of their endpoints: no kube-proxy is needed.
            "--enable-aggregator-routing=true",
            f"--client-ca-file={pki.root}",
            *_serving(_server_pair(context)),
            f"--audit-log-path={context.state.logs / AUDIT_LOG}",
            f"--audit-policy-file={context.state.folder / 'audit-policy.yaml'}",
            "--audit-log-maxsize=100000",
            *_kubelet_client(context),
            *_service_accounts(context),
            *_front_proxy(context),
        ),
        ready=lambda: answers(ready, ca=pki.root),
    )


def controller_manager(context: Context) -> Command:
    """All controllers, each with its own service account."""
    pki, port = context.authority, context.placement.ports.controller_manager
    config = context.client("controller-manager", "/CN=system:kube-controller-manager")
    healthy = context.url(port, "/healthz")
    return Command(
        name="kube-controller-manager",
        argv=context.argv(
            "kube-controller-manager",
            *_delegated(config),
            f"--bind-address={context.placement.address}",
            f"--secure-port={port}",
            *_serving(_health_pair(context)),
            f"--service-account-private-key-file={pki.folder / 'sa.key'}",
            f"--root-ca-file={pki.root}",
            f"--cluster-signing-cert-file={pki.root}",
            f"--cluster-signing-key-file={pki.pair('ca').key}",
            "--use-service-account-credentials=true",
            "--leader-elect=false",
            "--allocate-node-cidrs=false",
            "--node-monitor-grace-period=40s",
        ),
        ready=lambda: answers(healthy, ca=pki.root),
    )


def scheduler(context: Context) -> Command:
    """The scheduler."""
    port, root = context.placement.ports.scheduler, context.authority.root
    config = context.client("scheduler", "/CN=system:kube-scheduler")
    healthy = context.url(port, "/healthz")
    return Command(
        name="kube-scheduler",
        argv=context.argv(
            "kube-scheduler",
            *_delegated(config),
            f"--bind-address={context.placement.address}",
            f"--secure-port={port}",
            *_serving(_health_pair(context)),
            "--leader-elect=false",
        ),
        ready=lambda: answers(healthy, ca=root),
    )


def _delegated(config: str) -> tuple[str, ...]:
    return (
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
    )


def _serving(pair: Pair) -> tuple[str, ...]:
    return f"--tls-cert-file={pair.certificate}", f"--tls-private-key-file={pair.key}"


def _server_pair(context: Context) -> Pair:
    service = "kubernetes.default.svc"
    names = ("localhost", "kubernetes", "kubernetes.default", service, f"{service}.cluster.local")
    addresses = ("127.0.0.1", context.placement.address, str(context.placement.services[1]))
    alternatives = [*(f"DNS:{name}" for name in names), *(f"IP:{one}" for one in addresses)]
    return context.authority.server("apiserver", "/CN=kube-apiserver", alternatives)


def _health_pair(context: Context) -> Pair:
    pair = context.authority.pair("health")
    if not pair.certificate.exists():
        context.authority.server("health", "/CN=health", [f"IP:{context.placement.address}"])
    return pair


def _kubelet_client(context: Context) -> tuple[str, ...]:
    pair = context.authority.client("kubelet-client", "/O=system:masters/CN=kubelet-client")
    return (
        f"--kubelet-certificate-authority={context.authority.root}",
        f"--kubelet-client-certificate={pair.certificate}",
        f"--kubelet-client-key={pair.key}",
        "--kubelet-preferred-address-types=InternalIP",
    )


def _service_accounts(context: Context) -> tuple[str, ...]:
    folder = context.authority.folder
    return (
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={folder / 'sa.pub'}",
        f"--service-account-signing-key-file={folder / 'sa.key'}",
    )


def _front_proxy(context: Context) -> tuple[str, ...]:
    pair = context.authority.client("front-client", "/CN=front-proxy-client", signer="front")
    return (
        f"--requestheader-client-ca-file={context.authority.pair('front').certificate}",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        f"--proxy-client-cert-file={pair.certificate}",
        f"--proxy-client-key-file={pair.key}",
    )


_COMPACT = """
import base64, json, sys, urllib.request
def ask(path, body):
    request = urllib.request.Request(sys.argv[1] + path, json.dumps(body).encode())
    return json.load(urllib.request.urlopen(request, timeout=10))
key = base64.b64encode(b"compact").decode()
revision = ask("/v3/kv/range", {"key": key})["header"]["revision"]
ask("/v3/kv/compaction", {"revision": revision, "physical": True})
print(revision)
"""


def compact(context: Context) -> int:
    """Have etcd forget all history; return up to which revision.

    The API server answers from a history of its own until it is restarted.
    """
    url = f"http://127.0.0.1:{context.placement.ports.etcd}"
    return int(run(context.placement.command([sys.executable, "-I", "-c", _COMPACT, url])))
