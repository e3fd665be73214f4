"""What an attempt begins with, where the operator has changed since its phase began."""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from rlhf_operator.api import AttemptKey, PhaseStatus, Pool, RLHFRun, RunStatus
from rlhf_operator.cluster import Cache
from rlhf_operator.cluster.starting import Starter
from rlhf_operator.decide import StartAttempt
from rlhf_operator.errors import ClusterError
from rlhf_trainer.contract import Phase

Build = Callable[..., RLHFRun]
POOLS: Mapping[str, Pool] = {"cpu": Pool(name="cpu")}


class Objects:
    """Stands for an API server: it creates what is not there, and hands it out again."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], dict[str, Any]] = {}

    async def create(self, kind: Any, manifest: dict[str, Any]) -> dict[str, Any]:
        key = kind.plural, manifest["metadata"]["name"]
        if key in self.stored:
            raise ClusterError("it is there", status=409, reason="AlreadyExists")
        self.stored[key] = manifest
        return manifest

    async def get(self, kind: Any, namespace: str, name: str) -> dict[str, Any] | None:
        del namespace
        return self.stored.get((kind.plural, name))

    def take_job(self, name: str) -> dict[str, Any]:
        """Return a job, which is gone then."""
        return self.stored.pop(("pytorchjobs", name))

    def config(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stored["configmaps", name]["data"]["config.json"])
        return found


def begun(run: RLHFRun, **phase: Any) -> RLHFRun:
    """Return a run, as an API server tells it, whose PPO has begun."""
    status = RunStatus(phases=(PhaseStatus(iteration=1, phase=Phase.PPO, **phase),))
    identity = run.metadata.evolve(namespace="a", uid="4c440fa5-afd9-4fa2-96c5-c8ca1757eab0")
    return run.model_copy(update={"metadata": identity, "status": status})


def start(objects: Any, run: RLHFRun, attempt: int, image: str) -> str:
    """Let an operator with this image start an attempt; return its job's name."""
    key = AttemptKey(1, Phase.PPO, attempt)
    action = StartAttempt(key=key, config=run.spec.training())
    asyncio.run(Starter(objects, Cache(), image).start(run, action, POOLS))
    return f"demo-i1-ppo-a{attempt}"


def image_of(job: dict[str, Any]) -> str:
    (container,) = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"]
    image: str = container["image"]
    return image


@pytest.mark.parametrize(
    ("checkpoint_step", "images"),
    [(None, ["old", "new", "newest"]), (4, ["old", "old", "old"])],
    ids=["without-checkpoint", "with-checkpoint"],
)
def test_only_a_phase_with_a_checkpoint_keeps_its_image(
    build_run: Build, checkpoint_step: int | None, images: list[str]
) -> None:
    objects = Objects()
    run = begun(build_run("spec.placement.pool=cpu"))
    names = [start(objects, run, 1, "old")]
    run = begun(run, checkpoint_step=checkpoint_step)
    names += [start(objects, run, 2, "new"), start(objects, run, 3, "newest")]
    assert [image_of(objects.take_job(name)) for name in names] == images


def test_the_first_checkpoint_decides_which_image_is_kept(build_run: Build) -> None:
    objects = Objects()
    run = begun(build_run("spec.placement.pool=cpu"))
    start(objects, run, 1, "broken")
    start(objects, run, 2, "mended")
    name = start(objects, begun(run, checkpoint_step=4), 3, "new")
    assert image_of(objects.take_job(name)) == "mended"


def test_image_of_the_run_goes_before_all_others(build_run: Build) -> None:
    objects = Objects()
    run = begun(build_run("spec.placement.pool=cpu"))
    start(objects, run, 1, "old")
    named = begun(build_run("spec.placement.pool=cpu", "spec.image=own"), checkpoint_step=4)
    name = start(objects, named, 2, "new")
    assert image_of(objects.take_job(name)) == "own"


def test_attempt_whose_operator_died_before_it_made_the_job_keeps_its_image(
    build_run: Build,
) -> None:
    objects = Objects()
    run = begun(build_run("spec.placement.pool=cpu"))
    objects.take_job(start(objects, run, 1, "old"))
    assert image_of(objects.take_job(start(objects, run, 1, "new"))) == "old"


def test_attempt_of_an_operator_that_noted_no_image_takes_todays(build_run: Build) -> None:
    objects = Objects()
    run = begun(build_run("spec.placement.pool=cpu"))
    first = start(objects, run, 1, "old")
    objects.stored["configmaps", first]["metadata"]["annotations"].clear()
    name = start(objects, begun(run, checkpoint_step=4), 2, "new")
    assert image_of(objects.take_job(name)) == "new"


def test_later_attempts_keep_hyper_parameters_and_take_todays_guard(build_run: Build) -> None:
    objects = Objects()
    first = build_run("spec.placement.pool=cpu", "spec.ppo.learningRate=1e-5")
    start(objects, begun(first), 1, "x")
    changed = build_run(
        "spec.placement.pool=cpu", "spec.ppo.learningRate=1e-6", "spec.guard.kl.limitNats=9"
    )
    name = start(objects, begun(changed), 2, "x")
    config = objects.config(name)
    assert config["ppo"]["learningRate"] == 1e-5
    assert config["guard"]["kl"]["limitNats"] == 9
