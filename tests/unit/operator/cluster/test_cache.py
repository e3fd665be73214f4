"""Stores against the orders in which watches, lists and our own writes can tell things."""

from typing import Any

from rlhf_operator.api import RunKey
from rlhf_operator.cluster.cache import (
    Cache,
    Store,
    labelled_key,
    run_over,
    trimmed,
    trimmed_job,
    trimmed_pod,
)
from rlhf_operator.cluster.edits import edit
from rlhf_trainer.config.deepspeed import is_too_large

KEY = RunKey("a", "demo")


def obj(version: int, uid: str = "u", name: str = "j", **more: Any) -> dict[str, Any]:
    labels = {"rlhf.dev/run": "demo"}
    metadata = {
        "namespace": "a",
        "name": name,
        "uid": uid,
        "resourceVersion": str(version),
        "labels": labels,
        "managedFields": ["x"],
    }
    return {"metadata": metadata, **more}


def versions(store: Store) -> list[str]:
    return [one["metadata"]["resourceVersion"] for one in store.of(KEY)]


def listed(store: Store, objects: list[dict[str, Any]], at: int) -> set[RunKey]:
    """Take in a list that comes in pages of one object."""
    changed, seen = set(), set()
    for one in objects:
        news, places = store.news([one])
        changed |= {key for obj in news if (key := store.put(obj))}
        seen |= places
    return changed | store.drop_unlisted(seen, at)


def test_put_older_state_after_a_newer_one_changes_nothing() -> None:
    store = Store(labelled_key)
    store.put(obj(5))
    store.put(obj(4))
    assert versions(store) == ["5"]


def test_put_after_deletion_does_not_bring_the_object_back() -> None:
    store = Store(labelled_key)
    store.put(obj(5))
    store.remove(obj(7))
    store.put(obj(6))
    assert versions(store) == []
    store.put(obj(8, uid="v"))
    assert versions(store) == ["8"]


def test_remove_of_an_earlier_object_leaves_its_successor() -> None:
    store = Store(labelled_key)
    store.put(obj(9, uid="v"))
    store.remove(obj(5, uid="u"))
    assert versions(store) == ["9"]
    assert [one["metadata"]["uid"] for one in store.remains(KEY)] == ["u"]


def test_replaced_object_is_kept_as_it_was_last_seen() -> None:
    store = Store(labelled_key)
    store.put(obj(5, uid="u"))
    store.put(obj(6, uid="v"))
    assert [one["metadata"]["uid"] for one in store.remains(KEY)] == ["u"]
    store.forget(KEY)
    assert store.remains(KEY) == []


def test_list_removes_what_is_gone_and_keeps_what_came_since() -> None:
    store = Store(labelled_key)
    store.put(obj(3, name="gone"))
    store.put(obj(4, name="stays"))
    store.put(obj(12, name="new"))
    assert listed(store, [obj(4, name="stays")], at=10) == {KEY}
    assert sorted(versions(store)) == ["12", "4"]


def test_list_with_nothing_new_changes_nothing() -> None:
    store = Store(labelled_key)
    store.put(obj(4))
    assert listed(store, [obj(4)], at=10) == set()


def test_put_strips_what_nobody_reads() -> None:
    store = Store(labelled_key, trimmed_pod)
    store.put(obj(1, spec={"nodeName": "n", "containers": []}, status={}))
    kept = store.of(KEY)[0]
    assert "managedFields" not in kept["metadata"]
    assert kept["spec"] == {"nodeName": "n"}


def test_overrides_that_are_refused_anyway_are_not_kept() -> None:
    cache = Cache()
    for version, overrides in enumerate(({"zero_optimization": {"x": 1}}, {"x": [[]] * 100_000})):
        spec = {"deepspeed": {"zeroStage": 2, "overrides": overrides}, "seed": 1}
        cache.runs.put({**obj(version + 1, name="demo"), "spec": spec})
        kept = (cache.run(KEY) or {})["spec"]
        assert (kept["seed"], kept["deepspeed"]["zeroStage"]) == (1, 2)
        assert (kept["deepspeed"]["overrides"] == overrides) is (version == 0)
    assert is_too_large(kept["deepspeed"]["overrides"])


def test_put_of_an_unlabelled_object_is_ignored() -> None:
    store = Store(labelled_key)
    assert store.put({"metadata": {"name": "x", "labels": None}}) is None


def test_list_of_one_run_tells_nothing_about_others() -> None:
    store = Store(labelled_key)
    store.put(obj(5, name="j"))
    other = obj(5, name="other")
    other["metadata"]["labels"] = {"rlhf.dev/run": "other"}
    store.put(other)
    store.drop_unlisted(set(), 9, only=KEY)
    assert versions(store) == []
    assert len(store.of(RunKey("a", "other"))) == 1


def ended(obj: dict[str, Any]) -> bool:
    return bool(obj.get("ended"))


def test_object_that_changes_no_more_is_given_back_as_it_was() -> None:
    store = Store(labelled_key, settled=ended)
    store.put(obj(4, ended=True, status={"phases": [{"metrics": {"klNats": 0.1}}], "text": "é"}))
    assert store.is_settled(KEY)
    assert list(store.unsettled()) == []
    status = {"phases": [{"metrics": {"klNats": 0.1}}], "text": "é"}
    assert store.of(KEY) == [trimmed(obj(4, ended=True, status=status))]


def test_object_that_changes_after_all_is_seen_to() -> None:
    store = Store(labelled_key, settled=ended)
    store.put(obj(4, ended=True))
    store.put(obj(3))
    assert store.is_settled(KEY)
    store.put(obj(5, deleting=True))
    assert [one["deleting"] for _, one in store.unsettled()] == [True]


def test_packed_object_replaced_or_removed_is_kept_as_it_was_last_seen() -> None:
    store = Store(labelled_key, settled=ended)
    store.put(obj(4, uid="u", ended=True))
    store.put(obj(6, uid="v", ended=True))
    assert [one["metadata"]["uid"] for one in store.remains(KEY)] == ["u"]
    assert listed(store, [], at=10) == {KEY}
    assert [one["metadata"]["uid"] for one in store.remains(KEY)] == ["u", "v"]
    assert list(store.keys()) == []


def test_knows_tells_whether_a_list_brings_news() -> None:
    store = Store(labelled_key, settled=ended)
    assert not store.knows(obj(4))
    store.put(obj(4, ended=True))
    assert store.knows(obj(4))
    assert store.knows(obj(3))
    assert not store.knows(obj(5))
    assert not store.knows({"metadata": {"name": "unlabelled"}})


def test_run_that_is_being_deleted_is_not_over() -> None:
    run: dict[str, Any] = {"metadata": {}, "status": {"outcome": "Completed"}}
    assert run_over(run)
    assert not run_over({"metadata": {}, "status": {}})
    assert not run_over({**run, "metadata": {"deletionTimestamp": "2026-11-24T12:00:00Z"}})


def test_cache_tells_the_newest_state_of_a_run_and_that_it_is_gone() -> None:
    told: list[tuple[RunKey, Any]] = []
    cache = Cache(lambda key, run: told.append((key, run and run["metadata"]["resourceVersion"])))
    for state in (obj(4), obj(4), obj(3), obj(5)):
        cache.runs.put(state)
    cache.runs.remove(obj(6))
    key = RunKey("a", "j")
    assert told == [(key, "4"), (key, "4"), (key, "5"), (key, None)]


def test_trimmed_job_tells_of_edits_and_of_pods_as_the_whole_one_does() -> None:
    whole = obj(4, spec={"pytorchReplicaSpecs": {"Worker": {"replicas": 3, "template": {"a": 1}}}})
    whole["metadata"]["managedFields"] = [
        {"manager": "rlhf-operator", "time": "1", "fieldsV1": {"f:spec": {"f:runPolicy": {}}}},
        {"manager": "somebody", "time": "2", "fieldsV1": {"f:spec": {"f:runPolicy": {}}}},
        {"manager": "labeller", "time": "3", "fieldsV1": {"f:metadata": {}}},
        {"manager": "to", "time": "4", "subresource": "status", "fieldsV1": {"f:status": {}}},
    ]
    kept = trimmed_job(whole)
    assert edit(kept) == edit(whole)
    assert "somebody at 2" in str(edit(kept))
    assert kept["spec"] == {"pytorchReplicaSpecs": {"Worker": {"replicas": 3}}}
