"""Packed sequences are computed as they are alone, or the architecture is refused."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForSequenceClassification,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from rlhf_trainer.errors import InvalidError
from rlhf_trainer.models.batch import collate, pack, response_mask
from rlhf_trainer.models.loading import recomputed_activations
from rlhf_trainer.models.packing import packs
from rlhf_trainer.models.policy import Policy
from rlhf_trainer.models.scalar_head import ScalarHead

CPU = torch.device("cpu")
VOCABULARY = 50
SIZES = {"vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
LLAMA = SIZES | {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
}
# GPT-2 has fewer positions than a row has tokens: those of a packed row restart.
GPT2 = SIZES | {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 24}
OTHERS = SIZES | {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
PACKABLE: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**LLAMA)),
    "gpt2": lambda: GPT2LMHeadModel(GPT2Config(**GPT2)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**LLAMA)),
    "opt": lambda: OPTForCausalLM(OPTConfig(**OTHERS, ffn_dim=64, word_embed_proj_dim=32)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**LLAMA, sliding_window=4)),
}
REFUSED: dict[str, Callable[[], PreTrainedModel]] = {
    "bloom": lambda: BloomForCausalLM(BloomConfig(**OTHERS)),
}
CLASSIFIERS: dict[str, Callable[[], PreTrainedModel]] = {
    "llama": lambda: LlamaForSequenceClassification(LlamaConfig(**LLAMA, num_labels=1)),
    "gpt2": lambda: GPT2ForSequenceClassification(GPT2Config(**GPT2, num_labels=1)),
}
LENGTHS, PROMPT = (24, 7, 1, 12), 3

Sequences = list[np.ndarray]


def made(
    make: Callable[[], PreTrainedModel], dtype: torch.dtype = torch.float32
) -> PreTrainedModel:
    torch.manual_seed(0)
    return make().to(dtype).eval()


def sequences(seed: int = 0) -> Sequences:
    rng = np.random.default_rng(seed)
    return [rng.integers(3, VOCABULARY, length) for length in LENGTHS]


def masks() -> list[np.ndarray]:
    return [response_mask(PROMPT, length) for length in LENGTHS]


def log_probs(policy: Policy, rows: Sequences) -> torch.Tensor:
    batch = pack(rows, masks(), CPU)
    return policy(batch.tokens_BT, batch.predict_N, batch.target_N, batch.positions_BT)[0]


@pytest.mark.parametrize("recomputation", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("gradient", [False, True], ids=["no-grad", "grad"])
@pytest.mark.parametrize("name", PACKABLE)
def test_no_sequence_sees_another_of_its_row(
    *, name: str, gradient: bool, recomputation: bool
) -> None:
    policy = Policy(made(PACKABLE[name]), temperature=1.0)
    if recomputation:
        policy.lm.activation_checkpointing_enable({"use_reentrant": False})
    first, others = sequences(), sequences()
    others[0] = sequences(seed=1)[0]
    count = LENGTHS[0] - PROMPT
    with torch.set_grad_enabled(gradient), recomputed_activations(policy):
        before, after = log_probs(policy, first), log_probs(policy, others)
    assert not torch.equal(before[:count], after[:count])
    assert torch.equal(before[count:], after[count:])


@pytest.mark.parametrize("recomputation", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("name", PACKABLE)
def test_packed_log_probs_and_gradients_are_those_of_padded_rows(
    *, name: str, recomputation: bool
) -> None:
    """Tolerance: of float32 sums taken in another order; values and gradients are of order 1."""
    policy = Policy(made(PACKABLE[name]), temperature=1.0)
    if recomputation:
        policy.lm.activation_checkpointing_enable({"use_reentrant": False})
    gradients = []
    for batch in (pack(sequences(), masks(), CPU), collate(sequences(), masks(), CPU)):
        policy.zero_grad()
        with recomputed_activations(policy):
            outputs = policy(batch.tokens_BT, batch.predict_N, batch.target_N, batch.positions_BT)
            outputs[0].sum().backward()
        flat = [parameter.grad.flatten() for parameter in policy.parameters()]
        gradients.append((outputs[0].detach(), torch.cat(flat)))
    torch.testing.assert_close(gradients[0][0], gradients[1][0], rtol=1e-5, atol=1e-5)
    difference = (gradients[0][1] - gradients[1][1]).norm()
    assert difference < 1e-5 * gradients[1][1].norm()


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_packed_scores_are_those_of_padded_rows(name: str) -> None:
    network = ScalarHead(made(CLASSIFIERS[name]))
    network.reset_head(torch.Generator().manual_seed(0))
    packed, padded = pack(sequences(), masks(), CPU), collate(sequences(), masks(), CPU)
    scores = network(packed.tokens_BT, packed.last_B, packed.positions_BT)
    assert len(scores) == len(LENGTHS)
    expected = network(padded.tokens_BT, padded.last_B)
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", PACKABLE)
def test_an_architecture_that_packs_is_accepted(name: str, dtype: torch.dtype) -> None:
    model = made(PACKABLE[name], dtype)
    assert packs(model, None, "sft.packing")
    assert packs(model, True, "sft.packing")
    assert not packs(model, False, "sft.packing")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", REFUSED)
def test_an_architecture_that_does_not_pack_is_refused(name: str, dtype: torch.dtype) -> None:
    with pytest.raises(InvalidError, match=r"^ppo\.packing=true: .* keep packed sequences apart"):
        packs(made(REFUSED[name], dtype), True, "ppo.packing")


@pytest.mark.parametrize("name", REFUSED)
def test_an_architecture_that_does_not_pack_is_padded_where_nobody_asks(name: str) -> None:
    assert not packs(made(REFUSED[name]), None, "ppo.packing")
