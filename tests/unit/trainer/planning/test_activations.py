"""Activations and copies beside them, counted by hand; and that the trainer keeps to the limits."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import Phase, Place
from rlhf_trainer.models.last_layer import KNOWN
from rlhf_trainer.models.log_probs import selected_log_probs
from rlhf_trainer.planning.activations import (
    PICKED,
    Held,
    apart_bytes,
    chunk_tokens,
    decoding_bytes,
    logits_bytes,
    probabilities_bytes,
    trunk_bytes,
)
from rlhf_trainer.planning.architecture import Architecture
from rlhf_trainer.planning.moments import Moment
from rlhf_trainer.planning.networks import Models
from rlhf_trainer.planning.plan import make_plan
from rlhf_trainer.planning.shapes import Lengths, Update, update_of
from rlhf_trainer.planning.sharding import Sharding

Sizes = Callable[[str], Architecture]
Configured = Callable[..., TrainingConfig]
Placed = Callable[..., dict[Phase, Place]]

LENGTHS = Lengths(demonstration=100, response_of_pair=50, prompt=30)


def test_families_whose_last_layer_is_read_at_positions_are_those_of_the_trainer() -> None:
    assert set(KNOWN) == PICKED


def test_chunks_of_logits_are_as_long_as_the_trainers(llama: Sizes) -> None:
    of = llama("llama-2-7b")
    seen: list[int] = []

    class Head(nn.Module):
        out_features = of.vocabulary

        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            seen.append(len(hidden))
            return hidden.expand(-1, of.vocabulary)

    count = chunk_tokens(of) + 1
    meta = torch.zeros(count, 1, device="meta")
    target = torch.zeros(count, dtype=torch.long, device="meta")
    selected_log_probs(meta, Head(), target, temperature=1.0)
    assert seen == [chunk_tokens(of), 1]


@pytest.mark.parametrize(
    ("width", "is_scaled", "bytes_each"),
    [
        pytest.param(4, False, 4 + 4, id="logits-and-probabilities"),
        pytest.param(4, True, 4 + 4 + 4, id="divided-by-a-temperature"),
        pytest.param(2, False, 2 + 4 + 4, id="bfloat16"),
    ],
)
def test_logits_are_those_of_a_chunk_at_most(
    llama: Sizes, *, width: int, is_scaled: bool, bytes_each: int
) -> None:
    of = llama("llama-2-7b")
    found = [logits_bytes(of, read, width, is_scaled=is_scaled) for read in (10, 10_000)]
    assert found == [10 * 32_000 * bytes_each, 1048 * 32_000 * bytes_each]


def test_probabilities_of_one_chunk_are_kept(llama: Sizes) -> None:
    of = llama("llama-2-7b")
    assert probabilities_bytes(of, 1048) == 1048 * 32_000 * 4
    assert probabilities_bytes(of, 1049) == 0


def test_a_drawn_token_takes_logits_and_two_formats_beside_them(llama: Sizes) -> None:
    assert decoding_bytes(llama("llama-2-7b"), 3, 2) == 3 * 32_000 * (2 + 4 + 4)


def test_last_layer_keeps_nothing_after_attention_of_tokens_that_nobody_reads(llama: Sizes) -> None:
    of, held = llama("llama-2-7b"), Held(width=2)
    every, none = (trunk_bytes(of, 100, read, held) for read in (100, 0))
    # A normalisation: two formats of w and one of float32. A gated MLP: four intermediate sizes.
    # Of a token that is read: what is picked before the output projection, and before the head.
    norm, mlp, picked = 4096 * (2 * 2 + 4) + 4, 4 * 2 * 11_008, 2 * 2 * 4096
    assert every - none == 100 * (norm + mlp + picked)
    other = replace(of, family="unheard-of")
    assert trunk_bytes(other, 100, 100, held) - trunk_bytes(other, 100, 0, held) == 100 * 2 * 4096


def test_attention_of_a_packed_row_keeps_its_pads_and_its_output_again(llama: Sizes) -> None:
    of, held = llama("llama-2-7b"), Held(width=4)
    # Queries, keys, values and output of 32 heads, and the logarithm of each head's sum.
    pad, again = 4 * 4 * 4096 + 4 * 32, 4 * 4096
    assert apart_bytes(of, 100, 112, held) == 32 * 12 * pad + 31 * 100 * again
    assert apart_bytes(replace(of, family="unheard-of"), 100, 100, held) == 32 * 100 * again
    assert apart_bytes(of, 100, 112, replace(held, is_frozen=True)) == 32 * 12 * pad
    assert apart_bytes(of, 100, 112, replace(held, recomputed=True)) == 12 * pad + 100 * again


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        pytest.param(Phase.SFT, 40.96 * 112, id="one-sequence"),
        pytest.param(Phase.REWARD_MODEL, 40.96 * 2 * 64, id="a-pair"),
        pytest.param(Phase.PPO, 4096 / 286 * 288, id="without-the-last-token"),
    ],
)
def test_attention_pads_packed_sequences_on_a_cpu(
    configured: Configured, phase: Phase, expected: float
) -> None:
    config = configured(sft={"batchSize": 64}, rewardModel={"batchSize": 64})
    assert update_of(phase, config, LENGTHS, 1, is_gpu=False).places == round(expected)
    assert update_of(phase, config, LENGTHS, 1, is_gpu=True).places is None
    padded = configured(**{name: {"packing": False} for name in ("sft", "rewardModel", "ppo")})
    assert update_of(phase, padded, LENGTHS, 1, is_gpu=False).places is None


@pytest.mark.parametrize(
    ("phase", "expected"),
    [
        pytest.param(Phase.SFT, (4096, 40.96 * 99), id="all-but-the-first-token"),
        pytest.param(Phase.REWARD_MODEL, (4096, 40.96 * 2), id="two-last-tokens-of-a-pair"),
        pytest.param(Phase.PPO, (4096 * 285 / 286, 4096 * 256 / 286), id="not-the-last-token"),
    ],
)
def test_tokens_of_a_micro_batch_that_are_computed_and_read(
    configured: Configured, phase: Phase, expected: tuple[float, float]
) -> None:
    config = configured(sft={"batchSize": 64}, rewardModel={"batchSize": 64})
    update = update_of(phase, config, LENGTHS, 1, is_gpu=True)
    assert (update.tokens, update.read) == tuple(round(number) for number in expected)


def moments_of(config: TrainingConfig, of: Architecture, placed: Placed) -> dict[str, Moment]:
    plan = make_plan(config, Models(of, of), placed())
    (ppo,) = (phase for phase in plan.phases if phase.phase is Phase.PPO)
    return {moment.name: moment for moment in ppo.moments}


@pytest.mark.parametrize(
    ("minibatch", "stage", "is_kept"),
    [
        pytest.param(64, 2, True, id="one-minibatch"),
        pytest.param(32, 2, False, id="two-minibatches"),
        pytest.param(64, 3, False, id="sharded-weights"),
    ],
)
def test_the_pass_that_measures_values_is_held_while_scores_are_measured(
    llama: Sizes,
    configured: Configured,
    placed: Placed,
    *,
    minibatch: int,
    stage: int,
    is_kept: bool,
) -> None:
    config = configured(
        model={"gradientCheckpointing": False},
        deepspeed={"zeroStage": stage},
        ppo={"rolloutBatchSize": 64, "minibatchSize": minibatch},
    )
    moments = moments_of(config, llama("llama-2-7b"), placed)
    reference, scoring = (
        moments[f"measuring with the {name}"].held.activations
        for name in ("reference", "reward model")
    )
    assert "measuring with the policy" not in moments
    update = moments["backward pass of the critic"].held.activations
    assert (scoring - reference > 0.9 * update) == is_kept
    assert (scoring == reference) == (not is_kept)


@pytest.mark.parametrize("is_gpu", [True, False])
def test_on_a_cpu_linear_weights_have_a_packed_copy(
    llama: Sizes, configured: Configured, placed: Placed, *, is_gpu: bool
) -> None:
    def places() -> dict[Phase, Place]:
        return {
            phase: place.model_copy(update={"is_gpu": is_gpu}) for phase, place in placed().items()
        }

    of = llama("llama-2-7b")
    config = configured(model={"dtype": "Float32"}, deepspeed={"zeroStage": 0})
    moments = moments_of(config, of, places)
    layer = 4 * 4096 * 4096 + 3 * 4096 * 11_008
    trunk, output = 4 * 32 * layer, 4 * 4096 * 32_000
    rollout, scoring = (
        moments[name].held.buffers
        for name in ("last token of a rollout", "measuring with the reward model")
    )
    assert (rollout, scoring) == ((0, 0) if is_gpu else (trunk + output, trunk))


@pytest.mark.parametrize(
    ("stage", "width", "is_gpu", "offload", "expected"),
    [
        pytest.param(0, 4, False, False, 0, id="cpu"),
        pytest.param(2, 4, False, False, 0, id="cpu-float32-shard"),
        pytest.param(2, 2, False, False, 2 * 50, id="cpu-flat-bfloat16-gradients"),
        pytest.param(0, 4, True, False, 4 * 100, id="gpu-all-at-once"),
        pytest.param(3, 2, True, False, 4 * 50, id="gpu-shard"),
        pytest.param(3, 2, True, True, 0, id="offloaded"),
    ],
)
def test_buffers_of_a_step(
    *, stage: int, width: int, is_gpu: bool, offload: bool, expected: float
) -> None:
    sharding = Sharding(
        stage=stage,
        ranks=2,
        offload=offload,
        width=width,
        bucket=1,
        live=1,
        persistent=0,
        is_gpu=is_gpu,
    )
    assert sharding.step_buffers(100) == expected


def test_a_temperature_makes_a_copy_of_ppos_logits(configured: Configured) -> None:
    def update(temperature: float) -> Update:
        config = configured(ppo={"temperature": temperature})
        return update_of(Phase.PPO, config, LENGTHS, 1, is_gpu=True)

    assert (update(1.0).is_scaled, update(0.7).is_scaled) == (False, True)
