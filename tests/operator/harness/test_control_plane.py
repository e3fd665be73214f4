"""The control plane: real admission, real controllers, rights, an audit log, and crashes."""

import json

import pytest
from rlhf_harness import Cluster, ExistingCluster, existing, kwok
from rlhf_harness.errors import CommandError
from rlhf_harness.jobs import job, replica, terminated, wait_condition
from rlhf_harness.kubernetes import account_subject, user_subject
from rlhf_harness.waiting import until

PLAYED = {"nodeSelector": kwok.SELECTOR, "tolerations": [kwok.TOLERATION]}


def test_pytorchjob_on_played_nodes_is_admitted_and_succeeds(
    control_plane: Cluster | ExistingCluster,
) -> None:
    kubernetes = control_plane.kubernetes
    if not kwok.present(kubernetes):
        pytest.skip("the cluster has no nodes on which KWOK plays pods")
    kubernetes.namespace("played")
    ends = kwok.ending("300ms", message='{"outcome": "Completed"}')
    one = replica(control_plane.image, ["true"], annotations=ends, placed=PLAYED)
    kubernetes.apply(job("played", "completes", one, one))
    wait_condition(kubernetes, "played", "completes", "Succeeded")
    assert terminated(kubernetes, "played", "completes-master-0") | {
        "exitCode": 0,
        "message": '{"outcome": "Completed"}',
        "reason": "Completed",
    } == terminated(kubernetes, "played", "completes-master-0")


def test_played_pod_told_to_fail_gives_its_exit_code_and_reason(own_cluster: Cluster) -> None:
    kubernetes = own_cluster.kubernetes
    kubernetes.namespace("failing")
    ends = kwok.ending("200ms", exit_code=137, reason="OOMKilled")
    one = replica(own_cluster.image, ["true"], annotations=ends, placed=PLAYED)
    kubernetes.apply(job("failing", "dies", one))
    wait_condition(kubernetes, "failing", "dies", "Failed")
    ended = terminated(kubernetes, "failing", "dies-master-0")
    assert (ended["exitCode"], ended["reason"]) == (137, "OOMKilled")


def test_webhook_refuses_a_container_by_another_name(
    control_plane: Cluster | ExistingCluster,
) -> None:
    one = replica(control_plane.image, ["true"])
    one["template"]["spec"]["containers"][0]["name"] = "trainer"
    with pytest.raises(CommandError, match="pytorch"):
        control_plane.kubernetes.check(job("default", "misnamed", one))


def test_account_with_given_rights_can_do_that_and_no_more(own_cluster: Cluster) -> None:
    kubernetes = own_cluster.kubernetes
    kubernetes.namespace("rights")
    rules = [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create", "get", "patch"]}]
    subject = account_subject("rights", "operator")
    kubernetes.grant(subject, rules, name="operator", namespace="rights")
    account = kubernetes.service_account("rights", "operator")
    mark = own_cluster.audit.mark()
    metadata = {"name": "made", "namespace": "rights"}
    account.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})
    with pytest.raises(CommandError, match="forbidden"):
        account.kubectl("delete", "configmap", "made", "-n", "rights")
    seen = own_cluster.audit.since(mark, user="system:serviceaccount:rights:operator")
    writes = [(one.verb, one.resource, one.name, one.code) for one in seen if one.writes]
    assert writes == [("patch", "configmaps", "made", 201), ("delete", "configmaps", "made", 403)]


def test_impersonated_user_has_only_what_was_granted(
    control_plane: Cluster | ExistingCluster,
) -> None:
    kubernetes = control_plane.kubernetes
    rules = [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list"]}]
    kubernetes.grant(user_subject("ada"), rules, name="harness-reads-namespaces")
    ada = kubernetes.impersonated("ada")
    assert "default" in ada.kubectl("get", "namespaces", "-o", "name")
    with pytest.raises(CommandError, match="forbidden"):
        ada.kubectl("get", "nodes")


def test_components_that_are_killed_come_back_with_what_was_stored(own_cluster: Cluster) -> None:
    own_cluster.kubernetes.namespace("kept")
    for name in ("etcd", "kube-apiserver", "training-operator"):
        own_cluster[name].kill()
        assert not own_cluster[name].running
        own_cluster[name].start()
    until(
        lambda: own_cluster.kubernetes.kubectl("get", "--raw", "/readyz") == "ok",
        "the API server to be ready again",
    )
    assert own_cluster.kubernetes.get("namespace", "kept")["metadata"]["name"] == "kept"


def test_api_server_that_is_paused_answers_nothing_until_resumed(own_cluster: Cluster) -> None:
    server = own_cluster["kube-apiserver"]
    server.pause()
    try:
        assert not server.command.ready()
    finally:
        server.resume()
    server.wait_ready()


def test_kubeconfig_of_the_environment_is_used_instead(
    own_cluster: Cluster, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv(existing.VARIABLE, str(own_cluster.kubernetes.kubeconfig))
    found = existing.find(tmp_path_factory.mktemp("existing"))
    assert found is not None
    version = json.loads(found.kubernetes.kubectl("version", "-o", "json"))
    assert version["serverVersion"]["gitVersion"] == own_cluster.tools.version("k8s.io/kubernetes")
