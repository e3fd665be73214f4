"""RLHFRuns for tests, and waiting for what becomes of them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rlhf_harness import kwok
from rlhf_harness.errors import CommandError
from rlhf_harness.kubernetes import Kubernetes
from rlhf_harness.waiting import until

from rlhf_trainer.contract import Outcome, Phase, Result

Json = dict[str, Any]


def merged(base: Json, changes: Mapping[str, Any]) -> Json:
    """Merge nested maps; None takes a field away."""
    result = dict(base)
    for key, value in changes.items():
        if value is None:
            result.pop(key, None)
            continue
        old = result.get(key)
        both = isinstance(value, Mapping) and isinstance(old, dict)
        result[key] = merged(old or {}, value) if both else value
    return result


def manifest(namespace: str, name: str, **spec: Any) -> Json:
    """Return a run on played nodes; `spec` is merged in."""
    base: Json = {
        "model": {"source": "base"},
        "data": {
            "demonstrations": {"path": "demonstrations.jsonl"},
            "comparisons": {"path": "comparisons.jsonl"},
            "prompts": {"path": "prompts.jsonl"},
        },
        "placement": {"pool": "played"},
        "workspace": {"claimName": "workspace"},
        "runPolicy": {"terminationGracePeriodSeconds": 5},
    }
    return {
        "apiVersion": "rlhf.dev/v1alpha1",
        "kind": "RLHFRun",
        "metadata": {"name": name, "namespace": namespace},
        "spec": merged(base, spec),
    }


def ending(after: str, **how: Any) -> Json:
    """Return the part of a spec by which every pod ends so."""
    return {"podTemplate": {"annotations": kwok.ending(after, **how)}}


def said(
    outcome: Outcome,
    *,
    phase: Phase = Phase.PREPARATION,
    message: str = "it says so",
    step: int = 3,
    **rest: Any,
) -> str:
    """Return a termination message of the trainer."""
    result = Result(phase=phase, outcome=outcome, message=message, step=step, **rest)
    return json.dumps(json.loads(result.to_json()))


@dataclass(frozen=True)
class Run:
    """A run in the cluster."""

    kubernetes: Kubernetes
    namespace: str
    name: str

    @property
    def object(self) -> Json:
        return self.kubernetes.get("rlhfrun", self.name, "-n", self.namespace)

    @property
    def status(self) -> Json:
        found: Json = self.object.get("status", {})
        return found

    def condition(self, type_: str) -> Json:
        conditions = self.status.get("conditions", [])
        return next((one for one in conditions if one["type"] == type_), {})

    def phase(self, name: str) -> Json:
        phases = self.status.get("phases", [])
        return next((one for one in phases if one["phase"] == name), {})

    def wait(self, type_: str, status: str = "True", reason: str = "", seconds: float = 60) -> Json:
        """Return the condition once it is so."""

        def reached() -> bool:
            found = self.condition(type_)
            return found.get("status") == status and reason in ("", found.get("reason"))

        what = f"{self.namespace}/{self.name} to be {type_}={status} {reason}"
        until(
            reached,
            lambda: f"{what}; it is {self.status}",
            timeout_seconds=seconds,
            every_seconds=0.2,
        )
        return self.condition(type_)

    def patch(self, **spec: Any) -> None:
        """Change the spec."""
        patch = json.dumps({"spec": spec})
        self.kubernetes.kubectl(
            "patch", "rlhfrun", self.name, "-n", self.namespace, "--type=merge", "-p", patch
        )

    def delete(self, *, wait_seconds: float = 30) -> None:
        """Delete it and return when it is gone."""
        self.kubernetes.kubectl(
            *("delete", "rlhfrun", self.name, "-n", self.namespace),
            f"--timeout={wait_seconds:g}s",
            timeout_seconds=wait_seconds + 10,
        )

    def delete_unattended(self) -> None:
        """Delete it although no operator lets go of it."""
        where = ("rlhfrun", self.name, "-n", self.namespace)
        patch = '{"metadata": {"finalizers": null}}'
        self.kubernetes.kubectl("patch", *where, "--type=merge", "-p", patch)
        self.kubernetes.kubectl("delete", *where, "--wait=false")

    def exists(self) -> bool:
        try:
            self.kubernetes.get("rlhfrun", self.name, "-n", self.namespace)
        except CommandError:
            return False
        return True

    def jobs(self) -> list[str]:
        """Return the names of its jobs."""
        found = self.kubernetes.get(
            "pytorchjobs", "-n", self.namespace, "-l", f"rlhf.dev/run={self.name}"
        )
        return sorted(one["metadata"]["name"] for one in found["items"])

    def pods(self) -> list[Json]:
        found = self.kubernetes.get("pods", "-n", self.namespace, "-l", f"rlhf.dev/run={self.name}")
        pods: list[Json] = found["items"]
        return pods

    def seen(self) -> str:
        """Return what is there of it, for whoever wants to know what it waits for."""
        pods = [(pod["metadata"]["name"], pod["status"]) for pod in self.pods()]
        return f"{self.name}: jobs {self.jobs()}, pods {pods}, status {self.status}"

    def event_objects(self) -> list[Json]:
        """Return its events, oldest first."""
        found = self.kubernetes.get(
            *("events", "-n", self.namespace),
            "--field-selector",
            f"involvedObject.kind=RLHFRun,involvedObject.name={self.name}",
        )["items"]
        # They are written one after the other, many of them in the same second.
        return sorted(found, key=lambda one: int(one["metadata"]["resourceVersion"]))

    def events(self) -> list[str]:
        """Return the reasons of its events, oldest first."""
        return [one["reason"] for one in self.event_objects()]
