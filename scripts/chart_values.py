"""The values of the chart: names, types, bounds, defaults and what each of them does.

`generate_chart.py` makes the chart's values.yaml, its schema and the reference page from them.
"""

from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from rlhf_operator.api import Pool
from rlhf_operator.api.text import DNSLabel, LabelValue
from rlhf_operator.leader.timing import LEASE_SECONDS
from rlhf_operator.settings import DEFAULT_PORT, DEFAULT_RESYNC_SECONDS, DEFAULT_WORKERS
from rlhf_trainer.config.base import ConfigModel

Kubernetes = dict[str, Any]
"""A piece that Kubernetes checks by itself, spelt as in a pod."""

Labels = dict[str, LabelValue]
Annotations = dict[str, str]
Namespaces = Annotated[tuple[DNSLabel, ...], Field(json_schema_extra={"uniqueItems": True})]

CHARTS_LABELS = (
    *(f"app.kubernetes.io/{name}" for name in ("name", "instance", "version", "managed-by")),
    "helm.sh/chart",
)
"""Labels of the chart's own, some of which selectors go by."""

FurtherLabels = Annotated[
    Labels,
    Field(json_schema_extra={"propertyNames": {"not": {"enum": [*CHARTS_LABELS]}}}),
]
Image = Annotated[str, Field(max_length=512, pattern=r"^\S*$")]
Port = Annotated[int, Field(ge=1, le=65535)]

RESOURCES: Kubernetes = {
    "requests": {"cpu": "50m", "memory": "128Mi"},
    "limits": {"memory": "512Mi"},
}

NOBODY: Kubernetes = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""The user of the operator's image: nobody in particular."""


class PullPolicy(StrEnum):
    """When an image is pulled."""

    IF_NOT_PRESENT = "IfNotPresent"
    ALWAYS = "Always"
    NEVER = "Never"


class CRDs(ConfigModel):
    """The definition of RLHFRun."""

    enabled: bool = True
    """Whether this release brings it, and brings it up to date; it stays when the release goes.
    Of several releases in a cluster only one may.
    """


class UserRoles(ConfigModel):
    """What people may do with runs."""

    enabled: bool = True
    """Whether Kubernetes' own roles view, edit and admin take in runs, by aggregation."""


class ServiceAccount(ConfigModel):
    """The operator's service account."""

    annotations: Annotations = Field(default_factory=dict)
    """Annotations of it."""


class TrainersPolicy(ConfigModel):
    """The network of trainers' pods."""

    namespaces: Namespaces = ()
    """Namespaces of runs in which a NetworkPolicy keeps everybody else away from trainers, but for
    their metrics. Pods on the node's network are not held by it.
    """

    egress: tuple[Kubernetes, ...] = ({},)
    """Where trainers may go, besides to each other and to DNS: rules of a NetworkPolicy. One empty
    rule is anywhere, for models and data from a hub; an empty list is nowhere.
    """


class NetworkPolicy(ConfigModel):
    """Who may talk to whom, where the cluster's network enforces NetworkPolicies."""

    enabled: bool = True
    """Whether the operator is held to the API server, DNS and trainers' metrics."""

    api_server_ports: Annotated[tuple[Port, ...], Field(min_length=1)] = (443, 6443)
    """Ports of the API server: that of its service and the one behind it."""

    metrics_from: tuple[Kubernetes, ...] = ()
    """Who may read metrics: peers of a NetworkPolicy, such as Prometheus' namespace. None named:
    everybody.
    """

    trainers: TrainersPolicy = TrainersPolicy()
    """The network of trainers' pods."""


class PodMonitors(ConfigModel):
    """PodMonitors of the Prometheus operator, for the operator and for trainers."""

    enabled: bool = False
    """Whether there are any; its definitions must be installed. Without them, annotations tell
    Prometheus where to scrape.
    """

    labels: Labels = Field(default_factory=dict)
    """Labels by which your Prometheus chooses its monitors, such as release:
    kube-prometheus-stack.
    """

    interval: str = Field(default="15s", pattern=r"^([0-9]+(ms|s|m|h))+$")
    """Time between two scrapes."""


class Dashboards(ConfigModel):
    """Grafana dashboards."""

    enabled: bool = False
    """Whether it is made."""

    labels: Labels = Field(default_factory=dict)
    """Further labels, such as those that a sidecar of your own looks for."""

    annotations: Annotations = Field(default_factory=dict)
    """Annotations, such as the one that names a folder."""


class Alerts(ConfigModel):
    """Alerts, as a PrometheusRule of the Prometheus operator."""

    enabled: bool = False
    """Whether it is made; the Prometheus operator's definitions must be installed."""

    labels: Labels = Field(default_factory=dict)
    """Labels by which your Prometheus chooses its rules, such as release:
    kube-prometheus-stack.
    """

    runbooks: str = Field(default="docs/runbooks", min_length=1)
    """Address of the pages that alerts link, if you serve them; else a path in this repository."""


class Values(ConfigModel):
    """What an installation may set."""

    image: Image = ""
    """Image of the operator, with a tag or digest that does not move. Required."""

    trainer_image: Image = ""
    """Image of the trainer, for runs that set no spec.image. Required."""

    image_pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    """When the operator's image is pulled."""

    image_pull_secrets: tuple[Kubernetes, ...] = ()
    """Secrets of the release's namespace with credentials for the operator's image, such as
    [{name: registry}]. Those of the trainer's image are named in spec.podTemplate of a run, or in
    the service account default of its namespace.
    """

    namespaces: Namespaces = ()
    """Namespaces in which runs are looked after, by Roles. Empty: the whole cluster, by a
    ClusterRole.
    """

    pools: dict[DNSLabel, Pool] = Field(default_factory=dict)
    """Node pools, by the name that runs write in spec.placement.pool. A change is taken up without
    a restart.
    """

    replicas: int = Field(default=2, ge=0, le=10)
    """Processes, of which one works and the others wait to take over."""

    workers: int = Field(default=DEFAULT_WORKERS, ge=1, le=256)
    """Runs that are looked at at the same time."""

    resync_seconds: float = Field(default=DEFAULT_RESYNC_SECONDS, ge=10, le=86_400)
    """Time between two lists of everything, which find what watches may have missed."""

    lease_seconds: float = Field(default=LEASE_SECONDS, ge=5, le=300)
    """How long the others wait for a process that has gone silent before one of them works."""

    host: str = Field(default="0.0.0.0", pattern=r"^[0-9a-fA-F.:]+$")  # noqa: S104 - probes come from outside
    """Address on which metrics and probes are served; "::" where pods have IPv6 alone."""

    port: int = Field(default=DEFAULT_PORT, ge=1024, le=65535)
    """Port of metrics and probes."""

    env: tuple[Kubernetes, ...] = ()
    """Variables of the operator's container, as in a pod. A proxy in them leads calls to the API
    server astray unless NO_PROXY names it.
    """

    resources: Kubernetes = Field(default=RESOURCES)
    """What the operator's container asks for and may use."""

    crds: CRDs = CRDs()
    """The definition of RLHFRun."""

    user_roles: UserRoles = UserRoles()
    """What people may do with runs."""

    service_account: ServiceAccount = ServiceAccount()
    """The operator's service account."""

    network_policy: NetworkPolicy = NetworkPolicy()
    """Who may talk to whom, where the cluster's network enforces NetworkPolicies."""

    pod_monitors: PodMonitors = PodMonitors()
    """PodMonitors of the Prometheus operator, for the operator and for trainers."""

    dashboards: Dashboards = Dashboards()
    """Grafana dashboards, as a ConfigMap that Grafana's sidecar finds by its label
    grafana_dashboard.
    """

    alerts: Alerts = Alerts()
    """Alerts, as a PrometheusRule of the Prometheus operator."""

    common_labels: FurtherLabels = Field(default_factory=dict)
    """Further labels of everything that the chart makes."""

    pod_labels: FurtherLabels = Field(default_factory=dict)
    """Further labels of the operator's pods."""

    pod_annotations: Annotations = Field(default_factory=dict)
    """Further annotations of the operator's pods."""

    node_selector: Labels = Field(default_factory=dict)
    """Labels of nodes that the operator's pods may run on."""

    tolerations: tuple[Kubernetes, ...] = ()
    """Taints of nodes that the operator's pods put up with."""

    affinity: Kubernetes = Field(default_factory=dict)
    """Affinity of the operator's pods; they are spread over nodes anyway."""

    runtime_class_name: str = Field(default="", max_length=253)
    """Runtime class of the operator's pods, such as gvisor. Empty: that of the nodes."""

    priority_class_name: str = Field(default="", max_length=253)
    """Priority class of the operator's pods, such as system-cluster-critical in kube-system."""

    pod_security_context: Kubernetes = Field(default=NOBODY)
    """Security context of the operator's pods. Where the cluster gives out user numbers, as
    OpenShift does, set runAsUser and runAsGroup to null.
    """
