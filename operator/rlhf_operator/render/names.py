"""Names of what belongs to a run: the same for the same run, so nothing is made twice."""

from rlhf_operator.api import AttemptKey, RLHFRun


def job_name(run: RLHFRun, key: AttemptKey) -> str:
    """Return the name of an attempt's job, and of its ConfigMap."""
    return key.job_name(run.metadata.name)
