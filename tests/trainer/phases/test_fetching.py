"""Which models of a hub Preparation fetches, and what it leaves on the volume."""

from collections.abc import Callable
from pathlib import Path

import pytest
from peft import LoraConfig
from preparing import Prepare, Recording

from rlhf_trainer.data.hub import HubModel
from rlhf_trainer.errors import PreemptedError
from rlhf_trainer.phases import fetching, preparation
from rlhf_trainer.phases.context import PhaseContext
from rlhf_trainer.phases.named_models import NamedModels, named_models

HUB = {"source": "org/base", "revision": "v2"}
BASE = HubModel("org/base", "v2")
LORA = {"model": HUB | {"lora": {}}}

Fetched = list[HubModel]


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fetched:
    """Return the list of what is fetched; nothing really is."""
    models: Fetched = []

    def fetch(model: HubModel, _place: str, between: Callable[[], object]) -> None:
        models.append(model)
        between()

    monkeypatch.setattr(fetching, "fetch_weights", fetch)
    monkeypatch.setattr(fetching, "HF_HUB_CACHE", str(tmp_path / "workspace" / "hub" / "hub"))
    return models


def adapter(context: PhaseContext, name: str, base: str) -> None:
    LoraConfig(base_model_name_or_path=base).save_pretrained(str(context.data_root / name))


def fetch(context: PhaseContext) -> None:
    fetching.fetch_models(context, named_models(context.config, context.data_root))


def test_every_model_of_a_hub_is_fetched_once(prepare: Prepare, fetched: Fetched) -> None:
    fetch(prepare(model=HUB))
    assert fetched == [BASE]
    fetched.clear()
    fetch(prepare(model=HUB, rewardModel={"model": {"source": "org/reward"}}))
    assert set(fetched) == {BASE, HubModel("org/reward", "main")}


def test_folders_are_there_already(prepare: Prepare, fetched: Fetched) -> None:
    fetch(prepare())
    assert fetched == []


def test_base_of_a_whole_sft_model_is_not_loaded(prepare: Prepare, fetched: Fetched) -> None:
    context = prepare(model=HUB, sft={"from": {"path": "base"}})
    fetch(context)
    assert fetched == []


def test_adapters_need_their_base(prepare: Prepare, fetched: Fetched) -> None:
    context = prepare(sft={"from": {"path": "adapter"}}, **LORA)
    adapter(context, "adapter", "org/base")
    fetch(context)
    assert fetched == [BASE]
    fetched.clear()
    context = prepare(rewardModel={"from": {"path": "reward"}})
    adapter(context, "reward", "org/other")
    fetch(context)
    assert fetched == [HubModel("org/other", "main")]


def test_what_was_broken_off_is_removed_from_the_runs_own_volume(
    prepare: Prepare, fetched: Fetched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = tmp_path / "workspace" / "hub" / "hub", tmp_path / "shared"
    for cache in caches:
        monkeypatch.setattr(fetching, "HF_HUB_CACHE", str(cache))
        blobs = cache / "models--org--base" / "blobs"
        blobs.mkdir(parents=True)
        (blobs / "abc").write_bytes(b"whole")
        (blobs / "def.123.incomplete").write_bytes(b"half")
        fetch(prepare(model=HUB))
    assert fetched == [BASE, BASE]
    left = [sorted(path.name for path in cache.rglob("*") if path.is_file()) for cache in caches]
    assert left == [["abc"], ["abc", "def.123.incomplete"]]


def test_preemption_is_heeded_between_files(prepare: Prepare, fetched: Fetched) -> None:
    context = prepare(model=HUB)
    context.preemption.request()
    with pytest.raises(PreemptedError):
        fetch(context)
    assert fetched == [BASE]


def test_preparation_fetches_before_it_writes(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[NamedModels, bool]] = []

    def fetch_models(context: PhaseContext, named: NamedModels) -> None:
        seen.append((named, context.paths.data.exists()))

    monkeypatch.setattr(preparation, "fetch_models", fetch_models)
    context = prepare()
    preparation.run(context)
    assert seen == [(named_models(context.config, context.data_root), False)]
    assert isinstance(context.telemetry, Recording)
    assert context.telemetry.activities[7][2] == "fetching models"
