"""Who has changed a job: what the API server notes beside every field."""

from typing import Any

from rlhf_operator.cluster.edits import edit

QUEUED = {"kueue.x-k8s.io/queue-name": "team"}


def entry(manager: str, *, at: str = "2026-11-24T12:00:00Z", **more: Any) -> dict[str, Any]:
    fields = {"f:spec": {"f:runPolicy": {}}}
    return {"manager": manager, "operation": "Update", "time": at, "fieldsV1": fields, **more}


def job(*entries: dict[str, Any], labels: dict[str, str] | None = None) -> dict[str, Any]:
    metadata = {"name": "j", "namespace": "a", "labels": labels or {}, "managedFields": entries}
    return {"metadata": metadata}


def test_edit_of_an_untouched_job_is_none() -> None:
    assert edit(job(entry("rlhf-operator"))) is None
    assert edit({"metadata": {"name": "j", "namespace": "a"}}) is None


def test_edit_by_somebody_else_names_the_last_of_them_and_what_to_do() -> None:
    told = edit(
        job(
            entry("rlhf-operator"),
            entry("kubectl-edit", at="2026-11-24T12:05:00Z"),
            entry("kubectl-patch", at="2026-11-24T12:01:00Z"),
        )
    )
    assert told is not None
    assert told.startswith("PyTorchJob j was edited by kubectl-edit at 2026-11-24T12:05:00Z: ")
    assert told.endswith("kubectl -n a delete pytorchjob j")


def test_edit_of_status_or_of_labels_alone_is_none() -> None:
    status = entry("training-operator", subresource="status")
    labels = entry("kubectl-label", fieldsV1={"f:metadata": {"f:labels": {}}})
    assert edit(job(status, labels)) is None


def test_edit_by_the_queue_is_its_right_where_the_job_is_queued() -> None:
    assert edit(job(entry("kueue"), labels=QUEUED)) is None
    assert edit(job(entry("kueue"))) is not None
    assert edit(job(entry("kueue"), entry("kubectl-edit"), labels=QUEUED)) is not None


def test_edit_that_only_takes_a_field_away_is_seen_by_the_generation() -> None:
    edited = job(entry("rlhf-operator"))
    edited["metadata"]["generation"] = 2
    assert str(edit(edited)).startswith("PyTorchJob j was edited: ")
    queued = job(entry("rlhf-operator"), labels=QUEUED)
    queued["metadata"]["generation"] = 2
    assert edit(queued) is None
