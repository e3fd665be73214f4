"""Every phase under every ZeRO stage, with and without LoRA, both critics, 1 and 2 ranks.

A cell agrees with the one of one rank without ZeRO in all that it records and exports. By default a
subset runs in which every pair of settings occurs; RLHF_TEST_MATRIX=all runs all of them.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from cells import (
    JUDGED,
    LOW_PRECISION,
    MATRIX,
    MIXED,
    REFERENCES,
    VARIANTS,
    cells_of,
)
from counting_judge import CALLS
from launching import Launching
from safetensors.torch import load_file
from toy import training_config

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.config.model import ModelConfig
from rlhf_trainer.contract import Phase, Workspace
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.models.adapters import Role, active
from rlhf_trainer.models.loading import load_causal_lm, load_classifier
from rlhf_trainer.phases.context import PhaseContext
from rlhf_trainer.phases.shared_base import load_shared_base
from rlhf_trainer.rollout.scoring import Scorer
from rlhf_trainer.telemetry.telemetry import SilentTelemetry

PROGRAM = Path(__file__).with_name("matrix_cells.py")

RELATIVE_TOLERANCE, ABSOLUTE_TOLERANCE = 2e-3, 1e-5
"""On everything recorded. Sums are taken in another order, 1e-7 of them each time, and Adam divides
by the root of squares that are nearly 0: measured are up to 5e-4 after 18 updates, on one kind of
CPU; another one rounds otherwise.
"""
WEIGHT_TOLERANCE = 1e-3
"""On exported weights, whose updates were 1e-2 each at the most: measured are up to 2e-4."""
BF16_LOSS_TOLERANCE = 2e-3
"""On the SFT loss: bfloat16 holds 3 significant digits, and errors of many tokens cancel. Measured
are 2e-4; without float32 copies of the weights it was 3e-3.
"""

ADAPTERS = "zero-0-lora-Separate"
TOKENS = torch.arange(3, 15).reshape(2, 6)

pytestmark = [
    pytest.mark.filterwarnings("ignore:Already found a `peft_config`"),
    # PEFT 0.21 asks transformers 5 by the old name.
    pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated"),
]

NOT_COMPARED = ("memory", "seconds")

Records = dict[Phase, list[dict[str, float]]]


@pytest.fixture(scope="module")
def prepared(toy_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Launching:
    launching = Launching(toy_data, tmp_path_factory.mktemp("prepared"))
    end = launching.run(Phase.PREPARATION, training_config())
    assert end.code == 0, end.output[-3000:]
    return launching


@pytest.fixture(scope="module")
def workspaces(
    prepared: Launching, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int, str], Workspace]:
    """Return the workspace of a cell; all cells of so many ranks are run at the first request."""
    roots: dict[int, Path] = {}

    def workspace(ranks: int, cell: str) -> Workspace:
        if ranks not in roots:
            roots[ranks] = tmp_path_factory.mktemp(f"{ranks}-ranks")
            run_cells(ranks, prepared, roots[ranks])
        return Workspace(roots[ranks] / cell)

    return workspace


def run_cells(ranks: int, prepared: Launching, root: Path) -> None:
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
        *(f"--nproc-per-node={ranks}", str(PROGRAM), str(prepared.data_root)),
        *(str(prepared.workspace), str(root), json.dumps(cells_of(ranks))),
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-6000:]


def records(workspace: Workspace) -> Records:
    """Return what each phase recorded, step by step."""
    result: Records = {}
    for phase in (Phase.SFT, Phase.REWARD_MODEL, Phase.PPO, Phase.EVALUATION):
        if not workspace.phase(1, phase).exists():
            continue  # an existing model has taken its place
        lines = workspace.attempt(1, phase, 1).history.read_text("utf-8").splitlines()
        result[phase] = [
            {
                name: value
                for name, value in json.loads(line)["values"].items()
                if not any(part in name for part in NOT_COMPARED)
            }
            for line in lines
        ]
    return result


def weights(workspace: Workspace, phase: Phase) -> dict[str, torch.Tensor]:
    (file,) = workspace.attempt(1, phase, 1).model.glob("*.safetensors")
    return load_file(file)


def assert_agree(measured: Workspace, expected: Workspace) -> None:
    ours, theirs = records(measured), records(expected)
    for phase, steps in theirs.items():
        assert len(ours[phase]) == len(steps), phase
        for got, wanted in zip(ours[phase], steps, strict=True):
            assert got == pytest.approx(wanted, rel=RELATIVE_TOLERANCE, abs=ABSOLUTE_TOLERANCE)
    for phase in theirs.keys() - {Phase.EVALUATION}:
        got_weights, wanted_weights = weights(measured, phase), weights(expected, phase)
        assert got_weights.keys() == wanted_weights.keys()
        for name, value in wanted_weights.items():
            torch.testing.assert_close(got_weights[name], value, rtol=0, atol=WEIGHT_TOLERANCE)


def cases() -> list[Any]:
    pairs = [(1, name) for name in MATRIX]
    pairs += [(2, name) for name in cells_of(2) if name in MATRIX]
    return [
        pytest.param(ranks, name, id=f"{name}-{ranks}")
        for ranks, name in pairs
        if (ranks, REFERENCES[name]) != (1, name)
    ]


@pytest.mark.parametrize(("ranks", "cell"), cases())
def test_cell_agrees_with_one_rank_without_zero(
    workspaces: Callable[[int, str], Workspace], ranks: int, cell: str
) -> None:
    assert_agree(workspaces(ranks, cell), workspaces(1, REFERENCES[cell]))


@pytest.mark.parametrize("cell", ["zero-0-full-Separate", "zero-2-full-Separate"])
def test_scores_are_normalised_without_what_training_held(
    workspaces: Callable[[int, str], Workspace], cell: str
) -> None:
    """The exported model is loaded anew then: beside weights, gradients and moments it may not fit.

    What hooks or one name too many hold is as large as the weights, or several times that.
    """
    paths = workspaces(1, cell).attempt(1, Phase.REWARD_MODEL, 1)
    left = json.loads((paths.root / "bytes-after-training.json").read_text("utf-8"))
    (model,) = paths.model.glob("*.safetensors")
    assert left < 0.2 * model.stat().st_size


def test_judge_of_ones_own_is_asked_once_for_all_ranks(
    workspaces: Callable[[int, str], Workspace], prepared: Launching
) -> None:
    workspaces(2, JUDGED)
    calls = (prepared.data_root / CALLS).read_text("utf-8").splitlines()
    assert len(calls) == 2, "the SFT policy's responses, and the trained one's"


@pytest.mark.parametrize("variant", VARIANTS)
def test_offload_recomputation_and_padding_change_no_result(
    workspaces: Callable[[int, str], Workspace], variant: str
) -> None:
    cell = VARIANTS[variant][0]
    assert_agree(workspaces(1, variant), workspaces(1, REFERENCES[cell]))


@pytest.mark.parametrize("name", MIXED)
def test_mixed_models_train_alike_under_zero(
    workspaces: Callable[[int, str], Workspace], name: str
) -> None:
    ours, theirs = workspaces(1, f"zero-3-{name}"), workspaces(1, f"zero-0-{name}")
    assert_agree(ours, theirs)
    kl = [step["kl_nats"] for step in records(ours)[Phase.PPO]]
    assert abs(kl[0]) < 1e-5
    assert abs(kl[-1]) > 1e-5


@pytest.mark.parametrize("stage", ["zero-0", "zero-3"])
def test_ppo_with_adapters_starts_from_ratio_one_and_drops_nothing(
    workspaces: Callable[[int, str], Workspace], stage: str
) -> None:
    """One minibatch in one epoch: its policy is the one that sampled, adapters' dropout or not."""
    first = records(workspaces(1, f"{stage}-lora-with-dropout"))[Phase.PPO][0]
    assert first["clip_fraction"] == 0
    assert first["policy_kl_nats_per_token"] == pytest.approx(0.0, abs=1e-9)


def test_only_named_layers_get_adapters(workspaces: Callable[[int, str], Workspace]) -> None:
    exported = weights(workspaces(1, "zero-0-lora-of-two-layers"), Phase.PPO)
    layers = {name.rpartition(".lora_")[0].rpartition(".")[2] for name in exported}
    assert layers == {"q_proj", "down_proj"}


@pytest.mark.parametrize("cell", sorted(set(REFERENCES.values())))
def test_reference_cell_has_learned(workspaces: Callable[[int, str], Workspace], cell: str) -> None:
    """Cells that all stayed where they began would agree too."""
    recorded = records(workspaces(1, cell))
    name = 'loss{name="validation"}'
    losses = [step[name] for step in recorded[Phase.SFT] if name in step]
    assert losses[-1] < losses[0]
    assert recorded[Phase.REWARD_MODEL][-1]["preference_accuracy"] > 0.9
    assert abs(recorded[Phase.PPO][0]["kl_nats"]) < 1e-5
    assert abs(recorded[Phase.PPO][-1]["kl_nats"]) > 1e-3


@pytest.mark.parametrize("low", LOW_PRECISION)
def test_bfloat16_trains_like_float32(
    workspaces: Callable[[int, str], Workspace], low: str
) -> None:
    """The first phases, before small differences have had their say in what is sampled."""
    ours = records(workspaces(1, low))
    theirs = records(workspaces(1, REFERENCES[LOW_PRECISION[low]]))
    for got, wanted in zip(ours[Phase.SFT], theirs[Phase.SFT], strict=True):
        for name in wanted:
            if name.startswith("loss"):
                assert got[name] == pytest.approx(wanted[name], rel=BF16_LOSS_TOLERANCE)
    assert ours[Phase.REWARD_MODEL][-1]["preference_accuracy"] > 0.9
    assert len(ours[Phase.PPO]) == len(theirs[Phase.PPO])
    exported = weights(workspaces(1, low), Phase.PPO)
    assert {value.dtype for value in exported.values()} == {torch.bfloat16}


def weight_bytes(workspace: Workspace) -> dict[str, int]:
    file = workspace.attempt(1, Phase.PPO, 1).root / "weight-bytes.json"
    sizes: dict[str, int] = json.loads(file.read_text("utf-8"))
    return sizes


def test_adapters_share_one_copy_of_the_base(workspaces: Callable[[int, str], Workspace]) -> None:
    """All storages that PPO's networks brought to life, optimisers' states not yet among them."""
    full = weight_bytes(workspaces(1, "zero-0-full-Separate"))
    assert full["all"] > 3.9 * full["base"]
    lora = weight_bytes(workspaces(1, ADAPTERS))
    assert lora["base"] == pytest.approx(full["base"])
    assert lora["all"] - lora["adapters"] < 1.1 * lora["base"]


def model_of(workspaces: Callable[[int, str], Workspace], phase: Phase) -> Path:
    return workspaces(1, ADAPTERS).attempt(1, phase, 1).model


def test_reference_is_the_exported_sft_model(
    workspaces: Callable[[int, str], Workspace], prepared: Launching
) -> None:
    config = TrainingConfig.model_validate(training_config(**MATRIX[ADAPTERS]))
    workspace = workspaces(1, ADAPTERS)
    context = PhaseContext(
        config, workspace, prepared.data_root, Phase.PPO, 1, 1, SilentTelemetry()
    )
    base = load_shared_base(context, torch.device("cpu"))
    exported = peft.AutoPeftModelForCausalLM.from_pretrained(model_of(workspaces, Phase.SFT))
    with torch.no_grad(), active(base.lm, Role.REFERENCE):
        ours, theirs = base.lm(input_ids=TOKENS).logits, exported(input_ids=TOKENS).logits
    assert torch.equal(ours, theirs)


def test_exported_policies_are_what_peft_loads(
    workspaces: Callable[[int, str], Workspace],
) -> None:
    """The final policy, and the one in its checkpoint, which a stop from outside leaves to use."""
    paths = workspaces(1, ADAPTERS).attempt(1, Phase.PPO, 1)
    merged = load_causal_lm(paths.model, ModelConfig(source="base"), torch.device("cpu"))
    for folder in (paths.model, paths.checkpoint(2)):
        exported = peft.AutoPeftModelForCausalLM.from_pretrained(folder)
        with torch.no_grad():
            ours, theirs = merged(input_ids=TOKENS).logits, exported(input_ids=TOKENS).logits
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_exported_reward_model_scores_the_same_up_to_its_affine_map(
    workspaces: Callable[[int, str], Workspace],
) -> None:
    folder = model_of(workspaces, Phase.REWARD_MODEL)
    exported = peft.AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    values = json.loads((folder / "rlhf_score.json").read_text("utf-8"))
    ours = Scorer.of(
        load_classifier(folder, ModelConfig(source="base"), torch.device("cpu")),
        budget_tokens=64,
        ranks=Ranks(0, 1, torch.device("cpu")),
        heartbeat=lambda: None,
    )
    with torch.no_grad():
        raw = torch.cat([exported(input_ids=row[None]).logits[:, 0] for row in TOKENS])
    expected = (raw - values["rlhf_score_mean"]) / values["rlhf_score_std"]
    assert ours.normalised([row.numpy() for row in TOKENS]) == pytest.approx(expected, abs=1e-4)
