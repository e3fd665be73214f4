"""Names of what belongs to a run: the same for the same run, so nothing is made twice."""

from rlhf_operator.api import AttemptKey, RLHFRun

UID_CHARACTERS = 8
"""So much of a run's UID tells it from earlier runs of its name."""


def job_name(run: RLHFRun, key: AttemptKey) -> str:
    """Return the name of an attempt's job, and of its ConfigMap."""
    return key.job_name(run.metadata.name)


def run_root(run: RLHFRun) -> str:
    """Return the run's folder on its volume."""
    return f"{run.metadata.name}-{run.metadata.uid[:UID_CHARACTERS]}"
