"""What an attempt begins with, where the operator has changed since its phase began."""

import asyncio
import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from typing_extensions import override

from rlhf_operator.api import AttemptKey, PhaseStatus, Pool, RLHFRun, RunStatus
from rlhf_operator.cluster import Cache
from rlhf_operator.cluster.starting import Starter
from rlhf_operator.decide import StartAttempt
from rlhf_operator.errors import ClusterError
from rlhf_operator.render import config_digest, job_name
from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import Hardware, Phase

Build = Callable[..., RLHFRun]
POOLS: Mapping[str, Pool] = {"cpu": Pool(name="cpu")}
CLAIM = "demo-workspace"
UID = "4c440fa5-afd9-4fa2-96c5-c8ca1757eab0"
OF_ANOTHER_RUN = {"kind": "RLHFRun", "name": "demo", "uid": "another"}


class Objects:
    """Stands for an API server: it creates what is not there, and hands it out again."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, str], dict[str, Any]] = {}
        self.takes_jobs = True
        self._numbers = itertools.count()

    async def create(self, kind: Any, manifest: dict[str, Any]) -> dict[str, Any]:
        key = kind.plural, manifest["metadata"]["name"]
        if key in self.stored:
            raise ClusterError("it is there", status=409, reason="AlreadyExists")
        if kind.plural == "pytorchjobs" and not self.takes_jobs:
            raise ClusterError("exceeded quota", status=403, reason="Forbidden")
        uid = f"uid-{next(self._numbers)}"
        self.stored[key] = manifest | {"metadata": manifest["metadata"] | {"uid": uid}}
        return self.stored[key]

    async def delete(self, kind: Any, namespace: str, name: str, uid: str) -> None:
        del namespace
        if self.stored[kind.plural, name]["metadata"]["uid"] != uid:
            raise ClusterError("it is another one", status=409, reason="Conflict")
        del self.stored[kind.plural, name]

    async def get(self, kind: Any, namespace: str, name: str) -> dict[str, Any] | None:
        del namespace
        return self.stored.get((kind.plural, name))

    def claim(self, **metadata: Any) -> None:
        """Let there be a claim of the run's name already."""
        metadata |= {"name": CLAIM, "namespace": "a"}
        self.stored["persistentvolumeclaims", CLAIM] = {"metadata": metadata}

    def rewrite(self, name: str, **fields: Any) -> None:
        """Let another version have written a configuration: None takes a field away."""
        tree = self.config(name) | fields
        tree = {field: value for field, value in tree.items() if value is not None}
        self.stored["configmaps", name]["data"]["config.json"] = json.dumps(tree)

    def take_job(self, name: str) -> dict[str, Any]:
        """Return a job, which is gone then."""
        return self.stored.pop(("pytorchjobs", name))

    def config(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.stored["configmaps", name]["data"]["config.json"])
        return found


def begun(run: RLHFRun, **phase: Any) -> RLHFRun:
    """Return a run, as an API server tells it, whose PPO has begun."""
    status = RunStatus(phases=(PhaseStatus(iteration=1, phase=Phase.PPO, **phase),))
    identity = run.metadata.evolve(namespace="a", uid=UID)
    return run.model_copy(update={"metadata": identity, "status": status})


def start(objects: Any, run: RLHFRun, attempt: int, image: str, phase: Phase = Phase.PPO) -> str:
    """Let an operator with this image start an attempt; return its job's name."""
    key = AttemptKey(1, phase, attempt)
    action = StartAttempt(key=key, config=run.spec.training())
    asyncio.run(Starter(objects, Cache(), image).start(run, action, POOLS))
    return job_name(run, key)


def image_of(job: dict[str, Any]) -> str:
    (container,) = job["spec"]["pytorchReplicaSpecs"]["Master"]["template"]["spec"]["containers"]
    image: str = container["image"]
    return image


def digest_of(obj: dict[str, Any]) -> str:
    digest: str = obj["metadata"]["annotations"]["rlhf.dev/config-digest"]
    return digest


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


def test_attempt_whose_job_was_refused_takes_the_image_that_was_corrected(
    build_run: Build,
) -> None:
    objects = Objects()
    run = begun(build_run("spec.placement.pool=cpu"))
    objects.take_job(start(objects, run, 1, "refused"))
    assert image_of(objects.take_job(start(objects, run, 1, "corrected"))) == "corrected"
    # Where there is a checkpoint, the attempt before says which one, and not this one's first try.
    objects.take_job(start(objects, begun(run, checkpoint_step=4), 2, "new"))
    name = start(objects, begun(run, checkpoint_step=4), 2, "newest")
    assert image_of(objects.take_job(name)) == "corrected"


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


def test_retry_of_a_phase_that_another_version_began_has_its_fields(build_run: Build) -> None:
    objects = Objects()
    run = begun(build_run("spec.placement.pool=cpu"), checkpoint_step=4)
    objects.rewrite(start(objects, run, 1, "old"), seed=None, later=1)
    for attempt in (2, 3):
        config = objects.config(start(objects, run, attempt, "new"))
        assert "seed" not in config
        assert config["later"] == 1


def test_retry_that_begins_anew_with_todays_image_has_what_it_reads(build_run: Build) -> None:
    objects = Objects()
    run = begun(build_run("spec.placement.pool=cpu", "spec.seed=7"))
    objects.rewrite(start(objects, run, 1, "newer"), later=1)
    config = objects.config(start(objects, run, 2, "older"))
    assert TrainingConfig.model_validate(config) == run.spec.training()
    named = begun(build_run("spec.placement.pool=cpu", "spec.image=own"))
    assert objects.config(start(objects, named, 3, "older")) == config
    objects.rewrite("demo-i1-ppo-a3", later=1)
    assert objects.config(start(objects, named, 4, "older"))["later"] == 1


def test_next_phase_of_a_named_image_has_the_fields_that_the_image_knew(build_run: Build) -> None:
    objects = Objects()
    named = begun(build_run("spec.placement.pool=cpu", "spec.image=own"))
    done = PhaseStatus(iteration=1, phase=Phase.REWARD_MODEL, attempts=2)
    phases = (done, *named.status.phases)
    named = named.model_copy(update={"status": RunStatus(phases=phases)})
    earlier = start(objects, named, 2, "older", Phase.REWARD_MODEL)
    objects.rewrite(earlier, checkpoint=None)
    own, guard = objects.config(earlier), named.spec.guard.kl.model_copy(update={"limit_nats": 9})
    spec = named.spec.model_copy(
        update={"guard": named.spec.guard.model_copy(update={"kl": guard})}
    )
    again = named.model_copy(update={"spec": spec})
    name = start(objects, again, 1, "newer")
    config = objects.config(name)
    assert config["guard"]["kl"]["limitNats"] == 9
    assert config | {"guard": None} == own | {"guard": None}
    del objects.stored["configmaps", name], objects.stored["pytorchjobs", name]
    other = again.model_copy(update={"spec": spec.model_copy(update={"image": "other"})})
    assert "checkpoint" in objects.config(start(objects, other, 1, "newer"))


def test_retry_follows_the_newest_attempt_that_got_as_far_as_a_config(build_run: Build) -> None:
    objects = Objects()
    run = begun(build_run("spec.placement.pool=cpu"), checkpoint_step=4)
    objects.rewrite(start(objects, run, 1, "old"), later=1)
    name = start(objects, run, 4, "new")
    assert image_of(objects.take_job(name)) == "old"
    assert objects.config(name)["later"] == 1


def test_config_of_an_earlier_run_of_the_name_is_not_followed(build_run: Build) -> None:
    objects = Objects()
    run = begun(build_run("spec.placement.pool=cpu"), checkpoint_step=4)
    first = start(objects, run, 1, "old")
    objects.rewrite(first, later=1)
    objects.stored["configmaps", first]["metadata"]["ownerReferences"][0]["uid"] = "another"
    name = start(objects, run, 2, "new")
    assert image_of(objects.take_job(name)) == "new"
    assert "later" not in objects.config(name)


def test_digest_of_both_objects_tells_what_the_config_holds(build_run: Build) -> None:
    objects = Objects()
    run = begun(build_run("spec.placement.pool=cpu"), checkpoint_step=4)
    objects.rewrite(start(objects, run, 1, "x"), later=1)
    name = start(objects, run, 2, "x")
    digest = config_digest(objects.stored["configmaps", name]["data"]["config.json"])
    for kind in ("configmaps", "pytorchjobs"):
        assert digest_of(objects.stored[kind, name]) == digest


def refused(objects: Objects, run: RLHFRun, phase: Phase = Phase.PPO) -> None:
    """Let the first attempt get as far as its job, which is refused."""
    objects.takes_jobs = False
    with pytest.raises(ClusterError):
        start(objects, run, 1, "x", phase)
    objects.takes_jobs = True


def test_edit_while_the_job_is_refused_reaches_what_it_reads(build_run: Build) -> None:
    objects = Objects()
    refused(objects, begun(build_run("spec.placement.pool=cpu")))
    edited = begun(build_run("spec.placement.pool=cpu", "spec.guard.kl.limitNats=9"))
    name = start(objects, edited, 1, "x")
    assert objects.config(name)["guard"]["kl"]["limitNats"] == 9
    digest = config_digest(objects.stored["configmaps", name]["data"]["config.json"])
    for kind in ("configmaps", "pytorchjobs"):
        assert digest_of(objects.stored[kind, name]) == digest


def test_placement_that_is_edited_while_the_job_is_refused_is_told(build_run: Build) -> None:
    objects = Objects()
    refused(objects, begun(build_run("spec.placement.pool=cpu")), Phase.PREPARATION)
    edited = begun(build_run("spec.placement={pool: cpu, processesPerNode: 4}"))
    name = start(objects, edited, 1, "x", Phase.PREPARATION)
    told = objects.stored["configmaps", name]["data"]["hardware.json"]
    assert Hardware.from_json(told).places[Phase.PPO].processes == 4


def test_config_stays_while_its_job_is_refused_and_nothing_edited(build_run: Build) -> None:
    objects = Objects()
    run = begun(build_run("spec.placement.pool=cpu"))
    refused(objects, run)
    before = objects.stored["configmaps", "demo-i1-ppo-a1"]
    refused(objects, run)
    assert objects.stored["configmaps", "demo-i1-ppo-a1"] is before


def test_config_of_a_job_that_the_watch_has_not_shown_yet_stays(build_run: Build) -> None:
    objects = Objects()
    name = start(objects, begun(build_run("spec.placement.pool=cpu")), 1, "x")
    before = dict(objects.stored)
    edited = begun(build_run("spec.placement.pool=cpu", "spec.guard.kl.limitNats=9"))
    assert start(objects, edited, 1, "x") == name
    assert objects.stored == before


def test_edit_reaches_what_is_read_although_the_name_of_its_job_is_taken(build_run: Build) -> None:
    objects = Objects()
    objects.stored["pytorchjobs", "demo-i1-ppo-a1"] = {"metadata": {"uid": "somebodys"}}
    for limit in (8, 9):
        run = begun(build_run("spec.placement.pool=cpu", f"spec.guard.kl.limitNats={limit}"))
        with pytest.raises(ClusterError, match="belongs to somebody else"):
            start(objects, run, 1, "x")
        assert objects.config("demo-i1-ppo-a1")["guard"]["kl"]["limitNats"] == limit


def test_config_that_another_operator_made_anew_meanwhile_is_left_alone(build_run: Build) -> None:
    class Shared(Objects):
        @override
        async def delete(self, kind: Any, namespace: str, name: str, uid: str) -> None:
            self.stored[kind.plural, name]["metadata"]["uid"] = "of-another-one"
            await super().delete(kind, namespace, name, uid)

    objects = Shared()
    refused(objects, begun(build_run("spec.placement.pool=cpu")))
    edited = begun(build_run("spec.placement.pool=cpu", "spec.guard.kl.limitNats=9"))
    with pytest.raises(ClusterError, match="another one"):
        start(objects, edited, 1, "x")
    assert list(objects.stored) == [
        ("configmaps", "demo-i1-ppo-a1"),
        ("persistentvolumeclaims", CLAIM),
    ]


def test_job_that_goes_just_now_is_followed_by_one_that_tells_of_what_it_reads(
    build_run: Build,
) -> None:
    class Going(Objects):
        @override
        async def get(self, kind: Any, namespace: str, name: str) -> dict[str, Any] | None:
            found = await super().get(kind, namespace, name)
            if kind.plural == "pytorchjobs":
                self.take_job(name)
            return found

    objects = Going()
    start(objects, begun(build_run("spec.placement.pool=cpu")), 1, "x")
    edited = begun(build_run("spec.placement.pool=cpu", "spec.guard.kl.limitNats=9"))
    name = start(objects, edited, 1, "x")
    digest = config_digest(objects.stored["configmaps", name]["data"]["config.json"])
    assert digest_of(objects.take_job(name)) == digest


@pytest.mark.parametrize(
    "metadata",
    [
        {"deletionTimestamp": "2026-11-24T12:00:00Z"},
        {"ownerReferences": [OF_ANOTHER_RUN]},
        {"deletionTimestamp": "2026-11-24T12:00:00Z", "ownerReferences": [OF_ANOTHER_RUN]},
    ],
    ids=["going", "of-a-run-that-went", "both"],
)
def test_claim_of_an_earlier_run_that_goes_is_not_taken_up(
    build_run: Build, metadata: dict[str, Any]
) -> None:
    objects = Objects()
    run = begun(build_run("spec.placement.pool=cpu", "spec.workspace.retention=Delete"))
    objects.claim(**metadata)
    with pytest.raises(ClusterError, match=r"claims demo-workspace: .* being deleted") as told:
        start(objects, run, 1, "x")
    assert told.value.is_refusal
    assert not [name for kind, name in objects.stored if kind == "pytorchjobs"]
    del objects.stored["persistentvolumeclaims", CLAIM]
    objects.take_job(start(objects, run, 1, "x"))
    (owner,) = objects.stored["persistentvolumeclaims", CLAIM]["metadata"]["ownerReferences"]
    assert owner["uid"] == UID


@pytest.mark.parametrize(
    "owners",
    [[], [OF_ANOTHER_RUN | {"uid": UID}], [OF_ANOTHER_RUN | {"kind": "Team"}]],
    ids=["nobodys", "own", "of-something-else"],
)
def test_claim_that_stays_is_taken_up(build_run: Build, owners: list[dict[str, Any]]) -> None:
    objects = Objects()
    objects.claim(ownerReferences=owners)
    objects.take_job(start(objects, begun(build_run("spec.placement.pool=cpu")), 1, "x"))
