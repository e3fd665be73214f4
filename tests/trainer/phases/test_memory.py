"""Plans of models that are known by their configurations, in Preparation and by `rlhf plan`."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from preparing import Prepare, make_model, refused
from transformers import AutoConfig, BertConfig, BertForSequenceClassification, LlamaConfig

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import HARDWARE_FILE, Hardware, Phase, Place
from rlhf_trainer.data.prepared import PreparedData
from rlhf_trainer.models.counting import architecture_of
from rlhf_trainer.phases import plan_command, preparation
from rlhf_trainer.phases.memory import models_of
from rlhf_trainer.phases.named_models import named_models

GIB = 2**30
PLANS = Path(__file__).resolve().parents[3] / "examples" / "plans"


def hardware(gib: float, *, is_gpu: bool = True, processes: int = 1) -> Hardware:
    place = Place(pool="small", processes=processes, is_gpu=is_gpu, memory_bytes=int(gib * GIB))
    return Hardware(places={phase: place for phase in Phase if phase is not Phase.PREPARATION})


def test_preparation_refuses_what_cannot_fit_and_names_a_change(prepare: Prepare) -> None:
    # The model is tiny: what needs memory is DeepSpeed's bucket, which each engine has.
    context = replace(prepare(deepspeed={"zeroStage": 3}), hardware=hardware(3))
    message = refused(context)
    assert message.startswith("spec.placement.pool=small: PPO needs 3.3")
    assert message.endswith("; set spec.ppo.critic=SharedTrunk")


def test_preparation_says_so_where_no_change_is_enough(prepare: Prepare) -> None:
    message = refused(replace(prepare(), hardware=hardware(1)))
    assert (
        "none of the changes known here is enough: take GPUs with more memory (2.43 GiB" in message
    )


@pytest.mark.parametrize(
    "place",
    [
        pytest.param(hardware(80), id="large-gpu"),
        pytest.param(hardware(0.001, is_gpu=False), id="machine-of-any-size"),
    ],
)
def test_preparation_writes_the_plan_of_what_it_lets_through(
    prepare: Prepare, place: Hardware
) -> None:
    context = replace(prepare(), hardware=place)
    preparation.run(context)
    summary = json.loads(PreparedData(context.paths.data).summary.read_text("utf-8"))
    assert summary["memory"]["predicted"]
    assert [phase["phase"] for phase in summary["memory"]["phases"]] == list(Phase)[1:]


def test_preparation_plans_with_the_datas_own_lengths(prepare: Prepare) -> None:
    context = replace(prepare(), hardware=hardware(80))
    preparation.run(context)
    summary = json.loads(PreparedData(context.paths.data).summary.read_text("utf-8"))
    moments = {m["moment"]: m["bytes"] for m in summary["memory"]["phases"][2]["moments"]}
    prompt = int(PreparedData(context.paths.data).prompts().lengths.max())
    rows, layers, width = 512, 1, 2
    per_token = 2 * layers * 8 * width
    cache = rows * (prompt + 8 - 1) * per_token
    assert moments["last token of a rollout"]["kvCache"] == round(cache * 1.5)


def test_preparation_without_hardware_plans_nothing(prepare: Prepare) -> None:
    context = prepare()
    preparation.run(context)
    summary = json.loads(PreparedData(context.paths.data).summary.read_text("utf-8"))
    assert summary["memory"] is None


@pytest.mark.parametrize(
    ("name", "parameters"), [("llama-2-7b", 6_738_415_616), ("llama-2-70b", 68_976_648_192)]
)
def test_a_configuration_is_enough_to_count_parameters(name: str, parameters: int) -> None:
    architecture = architecture_of(AutoConfig.from_pretrained(PLANS / name))
    assert architecture is not None
    assert architecture.parameters == parameters
    unread = architecture.vocabulary * architecture.hidden
    assert architecture.classifier_parameters == parameters - unread + architecture.hidden
    per_layer = architecture.adapter_parameters(1, ("q_proj", "mlp.down_proj"))
    widths = 3 * architecture.hidden + architecture.intermediate
    assert per_layer == architecture.layers * widths


def test_tied_embeddings_are_counted_once() -> None:
    sizes: dict[str, Any] = {"vocab_size": 64, "hidden_size": 8, "num_hidden_layers": 1}
    sizes |= {"intermediate_size": 16, "num_attention_heads": 2}
    untied = architecture_of(LlamaConfig(**sizes, tie_word_embeddings=False))
    tied = architecture_of(LlamaConfig(**sizes, tie_word_embeddings=True))
    assert untied is not None
    assert tied is not None
    assert untied.parameters - tied.parameters == 64 * 8
    assert untied.classifier_parameters == tied.classifier_parameters


def config_of(**changes: Any) -> TrainingConfig:
    data = {name: {"path": name} for name in ("demonstrations", "comparisons", "prompts")}
    return TrainingConfig.model_validate({"model": {"source": "base"}, "data": data} | changes)


def test_reward_model_of_another_size_is_planned_with_its_own(tmp_path: Path) -> None:
    make_model(tmp_path / "base")
    make_model(tmp_path / "judge", words=("a", "b"), labels=1)
    config = config_of(
        rewardModel={"from": {"path": "judge"}}, model={"source": "base", "lora": {}}
    )
    models = models_of(config, tmp_path, named_models(config, tmp_path))
    assert models is not None
    assert models.has_own_reward
    assert models.reward.vocabulary < models.policy.vocabulary


def test_reward_model_that_is_no_language_model_is_counted_as_a_classifier() -> None:
    config = BertConfig(
        vocab_size=64,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_labels=1,
    )
    architecture = architecture_of(config)
    assert architecture is not None
    whole = BertForSequenceClassification(config)
    assert architecture.classifier_parameters == sum(p.numel() for p in whole.parameters())


def test_sizes_that_cannot_be_told_are_not_guessed() -> None:
    config = LlamaConfig()
    config.auto_map = {"AutoModelForCausalLM": "modeling.Model"}
    assert architecture_of(config) is None


def run_plan(folder: Path, config: TrainingConfig, place: Hardware, *options: str) -> int:
    (folder / "config.json").write_text(config.model_dump_json(by_alias=True), "utf-8")
    (folder / HARDWARE_FILE).write_text(place.to_json(), "utf-8")
    arguments = [
        f"--config={folder / 'config.json'}",
        f"--hardware={folder / HARDWARE_FILE}",
        f"--data-root={folder}",
    ]
    return plan_command.main([*arguments, *options])


def test_plan_of_a_hub_model_without_a_hub_says_what_is_enough(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    config = config_of(model={"source": "nobody/no-such-model"})
    assert run_plan(tmp_path, config, hardware(80)) != 0
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "a folder with the model's config.json is enough to plan with" in said


def test_plan_as_json_has_bytes_and_the_smallest_change(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_model(tmp_path / "base")
    code = run_plan(tmp_path, config_of(deepspeed={"zeroStage": 3}), hardware(3), "--json")
    plan = json.loads(capsys.readouterr().out)
    assert (code, plan["fits"]) == (20, False)
    assert plan["smallestChange"] == ["spec.ppo.critic=SharedTrunk"]
    for phase in plan["phases"]:
        parts = phase["peak"]["bytes"]
        rest = {name: value for name, value in parts.items() if name != "total"}
        assert parts["total"] == pytest.approx(sum(rest.values()), abs=len(rest))


def test_rlhf_plan_refuses_7b_as_the_page_shows_it() -> None:
    program = "from rlhf_operator.cli.app import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "plan", str(PLANS / "7b.yaml")],
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 20, done.stderr
    page = (PLANS.parents[1] / "docs" / "memory.md").read_text("utf-8")
    assert done.stdout.strip() in page
    assert done.stderr.strip().endswith("set spec.ppo.tokensPerMicroBatch=1024")
