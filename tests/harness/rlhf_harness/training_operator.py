"""The training operator, with its own manifests and exactly the rights that they give it."""

from importlib.resources import files
from pathlib import Path

from rlhf_harness import assets
from rlhf_harness.context import Context
from rlhf_harness.errors import CommandError, UnavailableError
from rlhf_harness.kubernetes import Kubernetes, secret
from rlhf_harness.options import IMAGE
from rlhf_harness.processes import Command
from rlhf_harness.waiting import answers, until

NAMESPACE = "kubeflow"

FIXED_FOLDER = "/tmp/k8s-webhook-server"  # noqa: S108  compiled into the program
"""Where it looks for its certificates."""

_OWN_TMP = """
layers=/run/training-operator
mkdir -p $layers/upper $layers/work
mount -t overlay -o lowerdir=/tmp,upperdir=$layers/upper,workdir=$layers/work overlay /tmp
mkdir -p {target} && cp {source}/* {target}/ && exec "$@"
"""
"""In a sandbox: a /tmp of its own, since the place of its certificates is compiled in."""

_SHARED_TMP = 'mkdir -p {target} && cp {source}/* {target}/ && exec "$@"'


def install(context: Context, kubernetes: Kubernetes) -> None:
    """The CRD, its rights, its webhook, and certificates that it need not make first."""
    known = context.tools.assets
    kubernetes.namespace(NAMESPACE, pod_security="privileged")
    kubernetes.apply(known / assets.TRAINING_OPERATOR_CRD, known / assets.TRAINING_OPERATOR)
    authority, server = context.authority.webhook()
    contents = {
        "ca.crt": authority.certificate,
        "ca.key": authority.key,
        "tls.crt": server.certificate,
        "tls.key": server.key,
    }
    kubernetes.apply(secret(NAMESPACE, "training-operator-webhook-cert", contents))
    for name, path in contents.items():
        context.state.write(f"webhook/{name}", path.read_text(encoding="utf-8"))
    kubernetes.apply(*_endpoint(context))
    template = files("rlhf_harness").joinpath("manifests/init-container.yaml")
    text = template.read_text(encoding="utf-8").replace("IMAGE", IMAGE)
    context.state.write("init-container.yaml", text)
    until(lambda: _served(kubernetes), "the API server to serve PyTorchJobs")


def command(
    context: Context, kubernetes: Kubernetes, *, restricted_init_container: bool = True
) -> Command:
    """The training operator's process.

    Args:
        context: the cluster.
        kubernetes: the administrator.
        restricted_init_container: give it the template by which its init container meets Pod
            Security `restricted`. Without it a worker pod is forbidden there.
    """
    ports, folder = context.placement.ports, context.state.folder
    account = kubernetes.service_account(NAMESPACE, "training-operator")
    template = f"--pytorch-init-container-template-file={folder / 'init-container.yaml'}"
    argv = context.argv(
        "training-operator",
        "--enable-scheme=pytorchjob",
        f"--webhook-server-port={ports.webhook}",
        f"--health-probe-bind-address={context.placement.address}:{ports.operator_health}",
        f"--metrics-bind-address={context.placement.address}:{ports.operator_metrics}",
        f"--kube-api-qps={context.options.api_qps}",
        f"--kube-api-burst={context.options.api_burst}",
        f"--controller-threads={context.options.controller_threads}",
        f"--pytorch-init-container-image={IMAGE}",
        "--pytorch-init-container-max-tries=1000",
        *([template] if restricted_init_container else []),
    )
    own = context.placement.isolated
    if not own:
        _reserve(context)
    script = (_OWN_TMP if own else _SHARED_TMP).format(
        target=f"{FIXED_FOLDER}/serving-certs", source=folder / "webhook"
    )
    ready = context.url(ports.operator_health, "/readyz", scheme="http")
    return Command(
        name="training-operator",
        argv=[*(["unshare", "--mount"] if own else []), "sh", "-ec", script, "sh", *argv],
        environment={"KUBECONFIG": str(account.kubeconfig), "MY_POD_NAMESPACE": NAMESPACE},
        ready=lambda: answers(ready),
    )


def wait_accepting(kubernetes: Kubernetes) -> None:
    """Return when the API server gets a PyTorchJob past the webhook."""
    container = {"name": "pytorch", "image": IMAGE}
    replica = {"replicas": 1, "template": {"spec": {"containers": [container]}}}
    job = {
        "apiVersion": "kubeflow.org/v1",
        "kind": "PyTorchJob",
        "metadata": {"name": "probe", "namespace": "default"},
        "spec": {"pytorchReplicaSpecs": {"Master": replica}},
    }
    last = ""

    def accepted() -> bool:
        nonlocal last
        try:
            kubernetes.check(job)
        except CommandError as refused:
            last = refused.output
            return False
        return True

    until(accepted, lambda: f"the training operator's webhook; last answer: {last}")


def _reserve(context: Context) -> None:
    """Without a /tmp of its own only one training operator can run on a machine."""
    if FIXED_FOLDER in context.state.leftovers:
        return
    if Path(FIXED_FOLDER).exists():
        raise UnavailableError(
            f"{FIXED_FOLDER} belongs to another training operator", "end that one, or remove it"
        )
    context.state.leftovers.append(FIXED_FOLDER)
    context.state.save()


def _served(kubernetes: Kubernetes) -> bool:
    try:
        return "pytorchjobs" in kubernetes.kubectl("get", "--raw", "/apis/kubeflow.org/v1")
    except CommandError:
        return False


def _endpoint(context: Context) -> list[dict[str, object]]:
    """A Service without pods: the webhook is a process at the cluster's own address."""
    port = {"name": "webhook-server", "protocol": "TCP"}
    metadata = {"name": "training-operator", "namespace": NAMESPACE}
    labels = {"kubernetes.io/service-name": "training-operator"}
    number = context.placement.ports.webhook
    return [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": metadata,
            "spec": {"ports": [{**port, "port": 443, "targetPort": number}]},
        },
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {**metadata, "labels": labels},
            "addressType": "IPv4",
            "ports": [{**port, "port": number}],
            "endpoints": [
                {"addresses": [context.placement.address], "conditions": {"ready": True}}
            ],
        },
    ]
