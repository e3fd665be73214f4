"""Bringing an attempt to life: its configuration, the run's claim if need be, its job.

Each is created and never changed, and one that exists already is fine if it is ours: a crash
between any two of them converges. Only a configuration that no job has is made anew.
"""

from collections.abc import Mapping
from itertools import takewhile

from rlhf_operator.api import AttemptKey, PhaseState, Pool, RLHFRun, RunStatus, placed
from rlhf_operator.cluster.api import CONFLICT, Api
from rlhf_operator.cluster.cache import Cache
from rlhf_operator.cluster.kinds import CLAIMS, CONFIG_MAPS, JOBS, RUNS, Json, Kind
from rlhf_operator.decide import StartAttempt
from rlhf_operator.errors import ClusterError
from rlhf_operator.render import (
    CONFIG_FILE,
    TRAINER_IMAGE,
    attempt_config,
    carried_text,
    config_digest,
    config_text,
    hardware_of,
    is_readable,
    job_name,
    pytorch_job,
    workspace_claim,
)
from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import Phase

FIRST = 1
"""The attempt with which a phase begins."""


class Starter:
    """Starts attempts."""

    def __init__(self, api: Api, cache: Cache, image: str) -> None:
        self._api, self._cache, self._image = api, cache, image

    async def start(self, run: RLHFRun, action: StartAttempt, pools: Mapping[str, Pool]) -> None:
        """Create what an attempt needs, for a run with the status decided upon; twice is once."""
        key = action.key
        before = await self._config_before(run, key)
        image = self._image_after(run, key, before)
        text = self._text_after(run, before, image, action.config)
        hardware = hardware_of(run.spec, pools) if key.phase is Phase.PREPARATION else None
        named = run.spec.image or image
        manifest = attempt_config(run, key, text, image=named, hardware=hardware)
        stored = await self._configured(run, key, manifest)
        # One that was made before a crash may be of an operator with another image.
        image, text = _image(stored) or image, _text(stored) or text
        claim = workspace_claim(run)
        if claim is not None and _is_first(run.status):
            await self._create_claim(run, claim)
        pool = pools[placed(run.spec.placement, key.phase).pool]
        job = pytorch_job(run, key, pool, image=image, config_digest=config_digest(text))
        self._cache.jobs.put(await self._create(run, JOBS, job))

    async def _config_before(self, run: RLHFRun, key: AttemptKey) -> Json | None:
        """Return the ConfigMap of the newest earlier attempt of a phase that has one.

        An attempt may have been given up before its own was made. Where the run names its image,
        that may know fewer fields than ours: what it was told in the phases before counts, too.
        """
        for attempt in range(key.attempt - 1, FIRST - 1, -1):
            found = await self._config_of(run, key._replace(attempt=attempt))
            if found is not None:
                return found
        for before in _last_attempts_before(run.status, key) if run.spec.image else ():
            found = await self._config_of(run, before)
            if found is not None:
                return found if _image(found) == run.spec.image else None
        return None

    async def _config_of(self, run: RLHFRun, key: AttemptKey) -> Json | None:
        name = job_name(run, key)
        found = await self._api.get(CONFIG_MAPS, run.metadata.namespace, name)
        # One of an earlier run of the name may not be gone yet.
        return found if found is not None and _is_owned(found, run) else None

    def _image_after(self, run: RLHFRun, key: AttemptKey, before: Json | None) -> str:
        """Return the trainer's image: what has a checkpoint goes on with the image that wrote it.

        Without one an attempt begins anew, and takes today's: the last one may not even have come.
        """
        checkpoints = (one.checkpoint_step for one in run.status.phases if one.key == key[:2])
        if next(checkpoints, None) is None:
            return self._image
        return _image(before) or self._image

    def _text_after(
        self, run: RLHFRun, before: Json | None, image: str, config: TrainingConfig
    ) -> str:
        """Return an attempt's configuration: what the phase began with, and today's guard.

        An operator of another version in mid-phase must not change what a phase trains with, nor
        tell an image that the run names what it may not know.
        """
        earlier = _text(before)
        if earlier is None:
            return config_text(config)
        text = carried_text(earlier, config)
        is_ours = run.spec.image is None and image == self._image
        # After a rollback: our trainer would end the run over a field that a newer one has written.
        return config_text(config) if is_ours and not is_readable(text) else text

    async def _configured(self, run: RLHFRun, key: AttemptKey, manifest: Json) -> Json:
        """Create an attempt's ConfigMap, or return the one that it has, made anew if outdated.

        While a job is refused, its run may be edited: the job is rendered anew then, and what it
        reads has to be, too, but cannot be changed. Beside a job it stays: pods may have read it.
        """
        found = await self._create(run, CONFIG_MAPS, manifest)
        metadata = found["metadata"]
        is_current = found.get("data") == manifest["data"] and _image(found) == _image(manifest)
        if is_current or await self._has_job(run, key):
            return found
        # A job that another operator makes just now will read newer values than its digest tells:
        # those that the user wants by now.
        await self._api.delete(
            CONFIG_MAPS, metadata["namespace"], metadata["name"], metadata["uid"]
        )
        return await self._api.create(CONFIG_MAPS, manifest)

    async def _has_job(self, run: RLHFRun, key: AttemptKey) -> bool:
        """Ask the API server for an attempt's job, as watches may be late."""
        job = await self._api.get(JOBS, run.metadata.namespace, job_name(run, key))
        return job is not None and _is_owned(job, run)

    async def _create_claim(self, run: RLHFRun, manifest: Json) -> None:
        """Create a run's claim, or take up the one that is there: an earlier run may have left it.

        Raises:
            ClusterError: it is about to go, with all that would be written to it.
        """
        if await self._created(CLAIMS, manifest) is not None:
            return
        found = await self._there(CLAIMS, manifest)
        owners = found["metadata"].get("ownerReferences") or ()
        runs = {owner.get("uid") for owner in owners if owner.get("kind") == RUNS.kind}
        if found["metadata"].get("deletionTimestamp") or runs - {run.metadata.uid}:
            name = found["metadata"]["name"]
            raise ClusterError(
                f"{CLAIMS.plural} {name}: is being deleted, or goes with an earlier run; if it "
                f"stays, see which pod uses it: kubectl -n {run.metadata.namespace} describe pvc "
                f"{name}",
                status=403,
                reason="ClaimBeingDeleted",
            )

    async def _create(self, run: RLHFRun, kind: Kind, manifest: Json) -> Json:
        """Create an object, or return the one that is there if it is ours.

        Raises:
            ClusterError: somebody else's has its name, or it is refused.
        """
        created = await self._created(kind, manifest)
        if created is not None:
            return created
        found = await self._there(kind, manifest)
        if not _is_owned(found, run):
            metadata = manifest["metadata"]
            raise ClusterError(
                f"{kind.plural} {metadata['name']}: exists and belongs to somebody else; "
                f"delete it: kubectl -n {metadata['namespace']} delete {kind.plural} "
                f"{metadata['name']}",
                status=403,
                reason="NameTaken",
            )
        return found

    async def _created(self, kind: Kind, manifest: Json) -> Json | None:
        """Create an object and return it, or None if there is one of its name."""
        try:
            return await self._api.create(kind, manifest)
        except ClusterError as error:
            if error.status != CONFLICT or error.reason != "AlreadyExists":
                raise
        return None

    async def _there(self, kind: Kind, manifest: Json) -> Json:
        """Return the object whose name a manifest has."""
        metadata = manifest["metadata"]
        found = await self._api.get(kind, metadata["namespace"], metadata["name"])
        if found is None:
            raise ClusterError(f"{kind.plural} {metadata['name']}: came and went; trying again")
        return found


def _last_attempts_before(status: RunStatus, key: AttemptKey) -> list[AttemptKey]:
    """Return the last attempts at the phases before one, newest first."""
    before = takewhile(lambda phase: phase.key != key[:2], status.phases)
    found = [AttemptKey(*phase.key, phase.attempts) for phase in before if phase.attempts]
    return found[::-1]


def _image(config_map: Json | None) -> str | None:
    """Return the image that an attempt began with, if it was noted."""
    annotations = ((config_map or {}).get("metadata") or {}).get("annotations") or {}
    image: str | None = annotations.get(TRAINER_IMAGE)
    return image


def _text(config_map: Json | None) -> str | None:
    """Return the configuration that a ConfigMap holds."""
    text: str | None = ((config_map or {}).get("data") or {}).get(CONFIG_FILE)
    return text


def _is_owned(obj: Json, run: RLHFRun) -> bool:
    owners = obj["metadata"].get("ownerReferences") or ()
    return any(owner.get("uid") == run.metadata.uid for owner in owners)


def _is_first(status: RunStatus) -> bool:
    """Return whether nothing of the run can have needed its workspace before."""
    return all(phase.state is not PhaseState.SUCCEEDED for phase in status.phases)
