"""Pure builders of manifests: the job of an attempt, its configuration, a run's claim.

Nothing here reads a file, a clock or a cluster.
"""

from rlhf_operator.render.claim import workspace_claim
from rlhf_operator.render.config_map import (
    CONFIG_FILE,
    attempt_config,
    carried_text,
    config_digest,
    config_text,
    is_readable,
)
from rlhf_operator.render.hardware import hardware_of
from rlhf_operator.render.job import pytorch_job
from rlhf_operator.render.labels import TRAINER_IMAGE, attempt_labels, run_labels
from rlhf_operator.render.names import job_name
from rlhf_operator.render.pools import parse_pools, read_pools

__all__ = [
    "CONFIG_FILE",
    "TRAINER_IMAGE",
    "attempt_config",
    "attempt_labels",
    "carried_text",
    "config_digest",
    "config_text",
    "hardware_of",
    "is_readable",
    "job_name",
    "parse_pools",
    "pytorch_job",
    "read_pools",
    "run_labels",
    "workspace_claim",
]
