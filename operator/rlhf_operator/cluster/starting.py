"""Bringing an attempt to life: its configuration, the run's claim if need be, its job.

Each is created and never changed, and one that exists already is fine if it is ours: a crash
between any two of them converges.
"""

import json
from collections.abc import Mapping

from rlhf_operator.api import AttemptKey, PhaseState, Pool, RLHFRun, RunStatus, placed
from rlhf_operator.api.changes import MUTABLE
from rlhf_operator.cluster.api import CONFLICT, Api
from rlhf_operator.cluster.cache import Cache
from rlhf_operator.cluster.kinds import CLAIMS, CONFIG_MAPS, JOBS, Json, Kind
from rlhf_operator.decide import StartAttempt
from rlhf_operator.errors import ClusterError
from rlhf_operator.render import (
    TRAINER_IMAGE,
    attempt_config,
    config_digest,
    hardware_of,
    job_name,
    pytorch_job,
    workspace_claim,
)
from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import Phase

CONFIG_FILE = "config.json"

FIRST = 1
"""The attempt whose hyper-parameters later ones of its phase keep."""


class Starter:
    """Starts attempts."""

    def __init__(self, api: Api, cache: Cache, image: str) -> None:
        self._api, self._cache, self._image = api, cache, image

    async def start(self, run: RLHFRun, action: StartAttempt, pools: Mapping[str, Pool]) -> None:
        """Create what an attempt needs, for a run with the status decided upon; twice is once."""
        key = action.key
        config = await self._config(run, key, action.config)
        hardware = hardware_of(run.spec, pools) if key.phase is Phase.PREPARATION else None
        image = await self._image_for(run, key)
        manifest = attempt_config(run, key, config, image=image, hardware=hardware)
        # One that was made before a crash may be of an operator with another image.
        image = _image(await self._create(run, CONFIG_MAPS, manifest)) or image
        claim = workspace_claim(run)
        if claim is not None and _is_first(run.status):
            await self._create(run, CLAIMS, claim, shared=True)
        pool = pools[placed(run.spec.placement, key.phase).pool]
        digest = config_digest(config)
        job = pytorch_job(run, key, pool, image=image, config_digest=digest)
        stored = await self._create(run, JOBS, job)
        self._cache.jobs.put(stored)

    async def _config(
        self, run: RLHFRun, key: AttemptKey, config: TrainingConfig
    ) -> TrainingConfig:
        """Return an attempt's configuration: hyper-parameters of the phase's first, guard of today.

        An operator of another version in mid-phase must not change what a phase trains with.
        """
        if key.attempt == FIRST:
            return config
        first = await self._config_map(run, key._replace(attempt=FIRST))
        if first is None:
            return config
        tree = json.loads((first.get("data") or {}).get(CONFIG_FILE, "{}"))
        today = config.model_dump(mode="json", by_alias=True, exclude_none=True)
        tree |= {field: today[field] for field in MUTABLE if field in today}
        return TrainingConfig.model_validate(tree)

    async def _image_for(self, run: RLHFRun, key: AttemptKey) -> str:
        """Return the trainer's image: what has a checkpoint goes on with the image that wrote it.

        Without one an attempt begins anew, and takes today's: the last one may not even have come.
        """
        checkpoints = (one.checkpoint_step for one in run.status.phases if one.key == key[:2])
        if key.attempt == FIRST or next(checkpoints, None) is None:
            return self._image
        before = await self._config_map(run, key._replace(attempt=key.attempt - 1))
        return _image(before) or self._image

    async def _config_map(self, run: RLHFRun, key: AttemptKey) -> Json | None:
        return await self._api.get(CONFIG_MAPS, run.metadata.namespace, job_name(run, key))

    async def _create(
        self, run: RLHFRun, kind: Kind, manifest: Json, *, shared: bool = False
    ) -> Json:
        """Create an object, or return the one that is there if it is ours.

        Raises:
            ClusterError: somebody else's has its name, or it is refused.
        """
        metadata = manifest["metadata"]
        try:
            return await self._api.create(kind, manifest)
        except ClusterError as error:
            if error.status != CONFLICT or error.reason != "AlreadyExists":
                raise
        if shared:
            # A claim that a run left behind is taken up again by the next one of its name.
            return manifest
        found = await self._api.get(kind, metadata["namespace"], metadata["name"])
        if found is None:
            raise ClusterError(f"{kind.plural} {metadata['name']}: came and went; trying again")
        owners = found["metadata"].get("ownerReferences") or ()
        if all(owner.get("uid") != run.metadata.uid for owner in owners):
            raise ClusterError(
                f"{kind.plural} {metadata['name']}: exists and belongs to somebody else; "
                f"delete it: kubectl -n {metadata['namespace']} delete {kind.plural} "
                f"{metadata['name']}",
                status=403,
                reason="NameTaken",
            )
        return found


def _image(config_map: Json | None) -> str | None:
    """Return the image that an attempt began with, if it was noted."""
    annotations = ((config_map or {}).get("metadata") or {}).get("annotations") or {}
    image: str | None = annotations.get(TRAINER_IMAGE)
    return image


def _is_first(status: RunStatus) -> bool:
    """Return whether nothing of the run can have needed its workspace before."""
    return all(phase.state is not PhaseState.SUCCEEDED for phase in status.phases)
