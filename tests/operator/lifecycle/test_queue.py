"""Runs in a queue: what the operator stops, the queue does not start again."""

import json
import threading
from collections.abc import Callable, Iterator

import pytest
from rlhf_harness import Cluster
from rlhf_harness.errors import CommandError
from rlhf_harness.kubernetes import Kubernetes
from rlhf_harness.waiting import until
from runs import Run

Apply = Callable[..., Run]

NAMESPACE = "queues"
QUEUED = "kueue.x-k8s.io/queue-name=research"


class Queue:
    """Does what Kueue does, for as long as it is there: lets go of every job that waits."""

    def __init__(self, kubernetes: Kubernetes) -> None:
        self._kubernetes, self._over = kubernetes, threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self.admitted: list[str] = []
        self.open = True
        self.looks = 0
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join()

    def look_again(self) -> None:
        """Return when it has looked at everything once more."""
        seen = self.looks
        until(lambda: self.looks >= seen + 2, "the queue to look")

    def _work(self) -> None:
        while not self._over.wait(0.2):
            jobs = self._kubernetes.get("pytorchjobs", "-n", NAMESPACE, "-l", QUEUED)["items"]
            for job in jobs:
                if self.open and job["spec"]["runPolicy"].get("suspend"):
                    self._admit(job["metadata"]["name"])
            self.looks += 1

    def _admit(self, name: str) -> None:
        try:
            self._set(name, suspend=False)
        except CommandError:
            return  # it was stopped meanwhile
        self.admitted.append(name)

    def evict(self, name: str) -> None:
        """Take back what a job holds, for one that goes ahead of it; let go of no other."""
        self.open = False
        self.look_again()
        self._set(name, suspend=True)

    def _set(self, name: str, *, suspend: bool) -> None:
        patch = json.dumps({"spec": {"runPolicy": {"suspend": suspend}}})
        what = ("pytorchjob", name, "-n", NAMESPACE, "--field-manager=kueue")
        self._kubernetes.kubectl("patch", *what, "--type=merge", "-p", patch)


@pytest.fixture
def queue(own_cluster: Cluster) -> Iterator[Queue]:
    own_cluster.kubernetes.namespace(NAMESPACE)
    playing = Queue(own_cluster.kubernetes)
    yield playing
    playing.end()


def test_paused_run_stays_so_whatever_the_queue_lets_go(apply: Apply, queue: Queue) -> None:
    run = apply(NAMESPACE, "pauses", placement={"queueName": "research"})
    until(lambda: len(run.pods()) == 1, "its pod")
    run.patch(runPolicy={"suspend": True})
    run.wait("Progressing", "False", "Suspended")
    until(lambda: not run.jobs() and not run.pods(), "its pods to be gone")
    queue.look_again()
    assert (run.jobs(), run.pods()) == ([], [])
    run.patch(runPolicy={"suspend": False})
    until(lambda: len(run.pods()) == 1, "its next pod")
    assert queue.admitted == [f"pauses-i1-preparation-a{attempt}" for attempt in (1, 2)]
    assert "JobEdited" not in run.events()
    run.delete()


def test_run_that_was_stopped_is_not_started_again_by_the_queue(apply: Apply, queue: Queue) -> None:
    policy = {"phaseDeadlineSeconds": 3}
    run = apply(NAMESPACE, "late", placement={"queueName": "research"}, runPolicy=policy)
    run.wait("Finished", reason="PhaseDeadlineExceeded")
    assert run.status["stop"]["by"] == "Operator"
    until(lambda: not run.pods(), "its pods to be gone")
    queue.look_again()
    assert run.pods() == []
    assert queue.admitted == ["late-i1-preparation-a1"]


def test_job_that_gives_way_comes_back_and_no_retry_is_counted(apply: Apply, queue: Queue) -> None:
    run = apply(NAMESPACE, "yields", placement={"queueName": "research"})
    until(lambda: run.phase("Preparation").get("state") == "Running", "its pod to run")
    queue.evict(*run.jobs())
    until(lambda: not run.pods(), "its pods to be gone")
    waits = run.wait("Progressing", "False", "Queued")
    assert "waits in queue research" in waits["message"]
    queue.open = True
    until(lambda: len(run.pods()) == 1, "its pod to be back")
    run.wait("Progressing", "True", "AttemptRunning")
    assert run.phase("Preparation")["failures"] == 0
    assert "JobEdited" not in run.events()
    run.delete()
