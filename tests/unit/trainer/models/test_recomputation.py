import pytest
import torch
from transformers import (
    FalconConfig,
    FalconForCausalLM,
    GPT2Config,
    GPT2ForSequenceClassification,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from rlhf_trainer.models.batch import SequenceBatch, collate, response_mask
from rlhf_trainer.models.loading import recomputed_activations
from rlhf_trainer.models.policy import Policy
from rlhf_trainer.models.scalar_head import ScalarHead

TOKENS = torch.arange(1, 9)
GPT2 = {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5}
GPT2_SHAPE = {"vocab_size": 16, "n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 16}
SHAPE = {
    "vocab_size": 16,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
}


def gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(GPT2Config(**GPT2_SHAPE, **GPT2, bos_token_id=1, eos_token_id=2))


def llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**SHAPE, intermediate_size=32, attention_dropout=0.5))


def opt() -> PreTrainedModel:
    """Drops out by the flag of the layer that recomputes."""
    config = OPTConfig(
        **SHAPE, ffn_dim=32, word_embed_proj_dim=16, max_position_embeddings=16, dropout=0.5
    )
    return OPTForCausalLM(config)


def falcon() -> PreTrainedModel:
    """Does too."""
    config = FalconConfig(**SHAPE, hidden_dropout=0.5, attention_dropout=0.5)
    return FalconForCausalLM(config)


def evaluated(model: PreTrainedModel, *, checkpointing: bool) -> PreTrainedModel:
    """Return a model as it is loaded for a phase."""
    if checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model.eval()


def batch() -> SequenceBatch:
    return collate([TOKENS.numpy()], [response_mask(3, len(TOKENS))], torch.device("cpu"))


def policy_gradients(policy: Policy) -> tuple[list[float], list[torch.Tensor]]:
    """Return log-probabilities and gradients of an update's forward and backward pass."""
    policy.zero_grad()
    with recomputed_activations(policy):
        item = batch()
        (logp,) = policy(item.tokens_BT, item.predict_N, item.target_N)
        logp.sum().backward()
    gradients = [p.grad.clone() for p in policy.parameters() if p.grad is not None]
    return logp.tolist(), gradients


def count_saved_tensors(model: PreTrainedModel) -> int:
    saved = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal saved
        saved += 1
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=TOKENS.unsqueeze(0), use_cache=False)
    return saved


@pytest.mark.parametrize("make", [gpt2, llama, opt, falcon])
def test_activations_are_recomputed_inside_the_block_alone(make: type) -> None:
    model = evaluated(make(), checkpointing=True)
    outside = count_saved_tensors(model)
    with recomputed_activations(model):
        inside = count_saved_tensors(model)
    assert inside < outside / 2
    assert count_saved_tensors(model) == outside
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("checkpointing", [True, False], ids=["recomputed", "kept"])
@pytest.mark.parametrize("make", [gpt2, llama, opt, falcon])
def test_dropout_is_off_in_a_policys_update(make: type, checkpointing: bool) -> None:  # noqa: FBT001 - a case
    """Huang et al. 2023, "The N implementation details of RLHF with PPO", detail 2."""
    torch.manual_seed(0)
    policy = Policy(evaluated(make(), checkpointing=checkpointing), temperature=0.7)
    item = batch()
    with torch.no_grad():
        expected = policy(item.tokens_BT, item.predict_N, item.target_N)[0]
    first, first_gradients = policy_gradients(policy)
    second, second_gradients = policy_gradients(policy)
    assert first == second == expected.tolist()
    for one, other in zip(first_gradients, second_gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@pytest.mark.parametrize("checkpointing", [True, False], ids=["recomputed", "kept"])
def test_dropout_is_off_in_a_critics_update(checkpointing: bool) -> None:  # noqa: FBT001 - a case
    torch.manual_seed(0)
    config = GPT2Config(**GPT2_SHAPE, **GPT2, num_labels=1, pad_token_id=0)
    model = evaluated(GPT2ForSequenceClassification(config), checkpointing=checkpointing)
    critic, item = ScalarHead(model), batch()
    critic.eval()
    with recomputed_activations(critic):
        first, second = (critic(item.tokens_BT, item.predict_N) for _ in range(2))
    assert first.tolist() == second.tolist()


def test_recomputed_gradients_are_those_of_kept_activations() -> None:
    torch.manual_seed(0)
    policy = Policy(evaluated(opt(), checkpointing=False), temperature=0.7)
    kept = policy_gradients(policy)[1]
    evaluated(policy.lm, checkpointing=True)
    for gradient, expected in zip(policy_gradients(policy)[1], kept, strict=True):
        torch.testing.assert_close(gradient, expected)
