"""Whatever may be set renders to manifests that Kubernetes takes; what may not is refused."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import kubernetes_validate
import pytest
from charting import IMAGES, Helm
from operating import CHART, ROOT
from rlhf_harness.errors import CommandError
from ruamel.yaml import YAML

from rlhf_operator.render import parse_pools
from rlhf_operator.settings import Settings

Json = dict[str, Any]

SCHEMAS = ("1.29", "1.36")
"""Of Kubernetes: the oldest that Chart.yaml takes, and the one that the harness runs."""

POOLS = YAML(typ="safe", pure=True).load((ROOT / "examples" / "pools.yaml").read_text("utf-8"))
MONITORING = ("PodMonitor", "PrometheusRule")

PEER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
TEAMS = ["team-a", "team-b"]

DNS = {
    "ports": [
        {"port": port, "protocol": protocol} for port in (53, 5353) for protocol in ("UDP", "TCP")
    ]
}
"""The rule by which names can be looked up, on OpenShift, too."""

NO_CRDS = {"enabled": False}

NAMES = ["2024", "no"]
"""Names of namespaces that YAML takes for something else unless they are quoted."""

AGGREGATE_TO_VIEW = "rbac.authorization.k8s.io/aggregate-to-view"
NEAREST = {"team": "nearest", "grafana_dashboard": "nearest"}
WATCHING = ("podMonitors", "dashboards", "alerts")

MATRIX: dict[str, Json] = {
    "defaults": {},
    "namespaces": {"namespaces": TEAMS, "crds": NO_CRDS},
    "pools": {**POOLS, "networkPolicy": {"enabled": True}},
    "nodes-network": {"pools": {"rdma": {"hostNetwork": True, "gpusPerNode": 8}}},
    "one-replica": {"replicas": 1, "userRoles": {"enabled": False}},
    "no-policy": {"networkPolicy": {"enabled": False, "trainers": {"namespaces": TEAMS}}},
    "guarded": {
        "namespaces": TEAMS,
        "networkPolicy": {
            "apiServerPorts": [16443],
            "metricsFrom": [PEER],
            "trainers": {"namespaces": TEAMS, "egress": [{"ports": [{"port": 443}]}]},
        },
    },
    "closed-trainers": {"networkPolicy": {"trainers": {"namespaces": TEAMS, "egress": []}}},
    "watched": {
        "podMonitors": {"enabled": True, "labels": {"release": "stack"}, "interval": "30s"},
        "dashboards": {"enabled": True, "labels": {"a": "b"}, "annotations": {"folder": "RLHF"}},
        "alerts": {"enabled": True, "labels": {"release": "stack"}, "runbooks": "https://x/y/"},
    },
    "watched-namespaces": {"namespaces": TEAMS, "podMonitors": {"enabled": True}},
    "placed": {
        "imagePullSecrets": [{"name": "registry"}],
        "imagePullPolicy": "Always",
        "nodeSelector": {"kubernetes.io/arch": "amd64"},
        "tolerations": [{"key": "infra", "operator": "Exists"}],
        "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
        "priorityClassName": "system-cluster-critical",
        "resources": {"requests": {"cpu": "1"}, "limits": {"memory": "1Gi"}},
        "podSecurityContext": {"runAsUser": None, "runAsGroup": None},
        "env": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    },
    "labelled": {
        "commonLabels": {"team": "platform"},
        "podLabels": {"istio": "off"},
        "podAnnotations": {"sidecar.istio.io/inject": "false"},
        "serviceAccount": {"annotations": {"a": "b"}},
    },
    "emptied": {
        **dict.fromkeys(("commonLabels", "podLabels", "podAnnotations")),
        **{value: {"enabled": True, "labels": None} for value in WATCHING},
    },
    "tuned": {
        "workers": 2,
        "resyncSeconds": 86400,
        "leaseSeconds": 7.5,
        "host": "::",
        "port": 9000,
    },
}


def pod(manifests: list[Json]) -> Json:
    (deployment,) = (one for one in manifests if one["kind"] == "Deployment")
    template: Json = deployment["spec"]["template"]
    return template


def validate(manifest: Json) -> None:
    """Hold a manifest against the schema of its kind, if it is one of Kubernetes' own."""
    if manifest["kind"] not in MONITORING:
        for version in SCHEMAS:
            kubernetes_validate.validate(manifest, version, strict=True)


def kinds(manifests: list[Json]) -> Counter[str]:
    return Counter(one["kind"] for one in manifests)


@pytest.fixture(scope="session")
def rendered(helm: Helm) -> Callable[[str], list[Json]]:
    """Render a row of the matrix, once."""
    known: dict[str, list[Json]] = {}

    def render(name: str) -> list[Json]:
        if name not in known:
            # The definition is the largest of all, and the same in every row.
            smaller = {} if name == "defaults" else {"crds": NO_CRDS}
            known[name] = helm.template({**smaller, **MATRIX[name]})
        return known[name]

    return render


def test_lint_finds_nothing(helm: Helm) -> None:
    said = helm("lint", "--strict", str(CHART), helm.values({}))
    assert "0 chart(s) failed" in said
    assert "[WARNING]" not in said


@pytest.mark.parametrize("name", MATRIX)
def test_manifests_meet_the_schemas_of_kubernetes(
    rendered: Callable[[str], list[Json]], name: str
) -> None:
    manifests = rendered(name)
    for manifest in manifests:
        validate(manifest)
    identities = [
        (m["kind"], m["metadata"].get("namespace"), m["metadata"]["name"]) for m in manifests
    ]
    assert len(set(identities)) == len(identities)


@pytest.mark.parametrize("name", MATRIX)
def test_everything_is_labelled_and_the_process_reads_its_arguments(
    rendered: Callable[[str], list[Json]], name: str
) -> None:
    manifests, values = rendered(name), MATRIX[name]
    wanted = {"app.kubernetes.io/instance": "rlhf", **(values.get("commonLabels") or {})}
    for manifest in manifests:
        if manifest["kind"] != "CustomResourceDefinition":
            assert wanted.items() <= manifest["metadata"]["labels"].items()
    (container,) = pod(manifests)["spec"]["containers"]
    settings = Settings.parse(container["args"])
    assert settings.image == IMAGES["trainerImage"]
    assert list(settings.namespaces) == values.get("namespaces", [])
    assert (settings.lease_namespace, settings.lease_name) == ("rlhf-system", "rlhf")
    for field in ("workers", "resync_seconds", "lease_seconds", "host", "port"):
        camel = field.replace("_s", "S")
        assert getattr(settings, field) == values.get(camel, getattr(settings, field))
    assert container["ports"] == [{"name": "http", "containerPort": settings.port}]


@pytest.mark.parametrize("name", MATRIX)
def test_pods_meet_the_restricted_standard(
    rendered: Callable[[str], list[Json]], name: str
) -> None:
    spec = pod(rendered(name))["spec"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_pools_arrive_as_they_were_declared(rendered: Callable[[str], list[Json]]) -> None:
    (arrived,) = (one for one in rendered("pools") if one["kind"] == "ConfigMap")
    read = parse_pools(arrived["data"])
    assert read.keys() == POOLS["pools"].keys()
    assert read["gke-a100-80gb"].gpu_memory_bytes == 80 * 2**30
    assert read["eks-a100-80gb"].extra_resources["vpc.amazonaws.com/efa"] == "4"


@pytest.mark.parametrize(
    ("name", "kind", "count"),
    [
        ("defaults", "PodDisruptionBudget", 1),
        ("defaults", "CustomResourceDefinition", 1),
        ("defaults", "ClusterRole", 3),
        ("defaults", "NetworkPolicy", 1),
        ("defaults", "PodMonitor", 0),
        ("defaults", "PrometheusRule", 0),
        ("defaults", "ConfigMap", 1),
        ("namespaces", "CustomResourceDefinition", 0),
        ("namespaces", "Role", 3),
        ("namespaces", "ClusterRole", 2),
        ("one-replica", "PodDisruptionBudget", 0),
        ("one-replica", "ClusterRole", 1),
        ("no-policy", "NetworkPolicy", 2),
        ("guarded", "NetworkPolicy", 3),
        ("watched", "PodMonitor", 2),
        ("watched", "PrometheusRule", 1),
        ("watched", "ConfigMap", 2),
    ],
)
def test_what_is_made_follows_the_values(
    rendered: Callable[[str], list[Json]], name: str, kind: str, count: int
) -> None:
    assert kinds(rendered(name))[kind] == count


def test_scraping_is_told_by_annotations_or_by_monitors(
    rendered: Callable[[str], list[Json]],
) -> None:
    annotations = pod(rendered("tuned"))["metadata"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "true"
    assert annotations["prometheus.io/port"] == "9000"
    assert "prometheus.io/scrape" not in pod(rendered("watched"))["metadata"]["annotations"]


def test_label_that_is_set_in_several_places_stands_once_with_the_nearest_value(helm: Helm) -> None:
    common = {"team": "common", "grafana_dashboard": "common", AGGREGATE_TO_VIEW: "common"}
    manifests = helm.template(
        {
            "crds": NO_CRDS,
            "commonLabels": common,
            "podLabels": {"team": "nearest"},
            **{value: {"enabled": True, "labels": NEAREST} for value in WATCHING},
        }
    )
    for manifest in manifests:
        validate(manifest)
        wanted = dict(common)
        if manifest["kind"] in MONITORING or manifest["metadata"]["name"] == "rlhf-dashboards":
            wanted |= NEAREST
        if manifest["metadata"]["name"] == "rlhf-viewer":
            wanted[AGGREGATE_TO_VIEW] = "true"
        assert wanted.items() <= manifest["metadata"]["labels"].items()
    assert pod(manifests)["metadata"]["labels"]["team"] == "nearest"


def test_annotation_of_the_operators_pods_that_is_set_again_stands_once(helm: Helm) -> None:
    own = {"prometheus.io/scrape": "false", "prometheus.io/path": ""}
    manifests = helm.template({"crds": NO_CRDS, "podAnnotations": own})
    assert pod(manifests)["metadata"]["annotations"] == {
        "kubectl.kubernetes.io/default-container": "operator",
        "prometheus.io/port": "8080",
        **own,
    }


def test_names_that_look_like_numbers_or_booleans_stay_names(helm: Helm) -> None:
    manifests = helm.template(
        {
            "crds": NO_CRDS,
            "namespaces": NAMES,
            "pools": {"on": {}, "7": {"gpusPerNode": 8}},
            "networkPolicy": {"metricsFrom": [PEER], "trainers": {"namespaces": NAMES}},
            "runtimeClassName": "1",
            "priorityClassName": "2",
            **{value: {"enabled": True} for value in WATCHING},
        },
        name="2025",
        namespace="2026",
    )
    for manifest in manifests:
        validate(manifest)
        assert manifest["metadata"]["name"].partition("-")[0] == "2025"
        assert manifest["metadata"].get("namespace", "2026") in ("2026", *NAMES)
        assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == "2025"
    (pools,) = (one for one in manifests if one["metadata"]["name"] == "2025-pools")
    assert parse_pools(pools["data"]).keys() == {"on", "7"}


def test_definition_outlives_its_release(rendered: Callable[[str], list[Json]]) -> None:
    (definition,) = (m for m in rendered("defaults") if m["kind"] == "CustomResourceDefinition")
    assert definition["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}


def test_egress_to_trainers_is_theirs_alone_unless_they_are_on_the_nodes_network(
    rendered: Callable[[str], list[Json]],
) -> None:
    def rule(name: str) -> Json:
        (policy,) = (m for m in rendered(name) if m["kind"] == "NetworkPolicy")
        assert policy["spec"]["egress"][0] == DNS
        found: Json = policy["spec"]["egress"][-1]
        assert found["ports"] == [{"port": 8000, "protocol": "TCP"}]
        return found

    labels = {"app.kubernetes.io/managed-by": "rlhf-operator"}
    (trainers,) = rule("pools")["to"]
    assert trainers["podSelector"] == {"matchLabels": labels}
    assert "to" not in rule("nodes-network")


def test_trainers_go_nowhere_else_where_no_egress_is_named(
    rendered: Callable[[str], list[Json]],
) -> None:
    policies = [m for m in rendered("closed-trainers") if m["kind"] == "NetworkPolicy"]
    closed = [one["spec"] for one in policies if one["metadata"]["namespace"] in TEAMS]
    assert len(closed) == len(TEAMS)
    for spec in closed:
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        to_ranks, dns = spec["egress"]
        assert to_ranks["to"][0]["podSelector"] == spec["podSelector"]
        assert dns == DNS


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"image": ""}, "image: the operator's image is missing; set it"),
        ({"trainerImage": ""}, "trainerImage: the trainer's image is missing; set it"),
        ({"image": "two words"}, "/image"),
        ({"replica": 2}, "additional properties 'replica' not allowed"),
        ({"alerts": {"enable": True}}, "additional properties 'enable' not allowed"),
        ({"workers": 0}, "at '/workers': minimum: got 0, want 1"),
        ({"port": 80}, "at '/port': minimum: got 80, want 1,024"),
        ({"namespaces": ["Team A"]}, "at '/namespaces/0'"),
        ({"namespaces": "team-a"}, "at '/namespaces': got string, want array"),
        ({"pools": {"a": {"gpuPerNode": 8}}}, "additional properties 'gpuPerNode' not allowed"),
        ({"pools": {"a": {"name": "a"}}}, "additional properties 'name' not allowed"),
        ({"pools": {"A100": {}}}, "additional properties 'A100' not allowed"),
        ({"imagePullPolicy": "Sometimes"}, "at '/imagePullPolicy'"),
        ({"podMonitors": {"interval": "often"}}, "at '/podMonitors/interval'"),
        ({"networkPolicy": {"apiServerPorts": []}}, "at '/networkPolicy/apiServerPorts'"),
        ({"namespaces": ["a", "a"]}, "at '/namespaces'"),
        (
            {"commonLabels": {"app.kubernetes.io/name": "x"}},
            "invalid propertyName 'app.kubernetes.io/name'",
        ),
        (
            {"podLabels": {"app.kubernetes.io/instance": "x"}},
            "invalid propertyName 'app.kubernetes.io/instance'",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, Mapping) else "",
)
def test_wrong_values_are_refused_with_a_message(helm: Helm, values: Json, told: str) -> None:
    with pytest.raises(CommandError) as refused:
        helm.template(values)
    assert told in str(refused.value)


def test_values_of_a_chart_around_this_one_are_put_up_with(helm: Helm) -> None:
    assert helm.template({"global": {"imageRegistry": "registry"}})
