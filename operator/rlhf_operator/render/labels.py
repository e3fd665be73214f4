"""Labels and the owner of everything that is made for a run."""

from typing import Any

from rlhf_operator.api import AttemptKey, RLHFRun
from rlhf_operator.api.run import API_VERSION, KIND
from rlhf_operator.render.names import job_name

RUN = "rlhf.dev/run"
PHASE = "rlhf.dev/phase"
ITERATION = "rlhf.dev/iteration"
ATTEMPT = "rlhf.dev/attempt"

MANAGED_BY = {"app.kubernetes.io/managed-by": "rlhf-operator"}

CONFIG_DIGEST = "rlhf.dev/config-digest"
"""Annotation: which configuration a job was started with."""

TRAINER_IMAGE = "rlhf.dev/trainer-image"
"""Annotation of an attempt's ConfigMap: the trainer's image."""


def run_labels(run: RLHFRun) -> dict[str, str]:
    """Return the labels of what a run has once."""
    return {**MANAGED_BY, RUN: run.metadata.name}


def attempt_labels(run: RLHFRun, key: AttemptKey) -> dict[str, str]:
    """Return the labels of what an attempt has, its pods included."""
    return {
        **run_labels(run),
        PHASE: key.phase.slug,
        ITERATION: str(key.iteration),
        ATTEMPT: str(key.attempt),
    }


def owner_reference(run: RLHFRun) -> dict[str, Any]:
    """Return the reference by which Kubernetes removes what belongs to a deleted run."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": run.metadata.name,
        "uid": run.metadata.uid,
        "controller": True,
        # True would need the right to change finalizers of runs, and the run has one already.
        "blockOwnerDeletion": False,
    }


def attempt_metadata(run: RLHFRun, key: AttemptKey, digest: str) -> dict[str, Any]:
    """Return the metadata of an attempt's objects."""
    return {
        "name": job_name(run, key),
        "namespace": run.metadata.namespace,
        "labels": attempt_labels(run, key),
        "annotations": {CONFIG_DIGEST: digest},
        "ownerReferences": [owner_reference(run)],
    }
