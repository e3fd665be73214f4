import torch
from transformers import LlamaConfig, LlamaForCausalLM

from rlhf_trainer.models.loading import recomputed_activations


def count_saved_tensors(model: LlamaForCausalLM) -> int:
    saved = 0

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal saved
        saved += 1
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        model(input_ids=torch.arange(1, 9).unsqueeze(0), use_cache=False)
    return saved


def test_activations_are_recomputed_inside_the_block_and_dropout_stays_off() -> None:
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=16,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=3,
            num_attention_heads=2,
            attention_dropout=0.5,
        )
    )
    model.activation_checkpointing_enable({"use_reentrant": False})
    model.eval()
    tokens = torch.arange(1, 9).unsqueeze(0)
    outside, plain = count_saved_tensors(model), model(input_ids=tokens).logits
    with recomputed_activations(model):
        inside, recomputed = count_saved_tensors(model), model(input_ids=tokens).logits
    assert inside < outside / 2
    torch.testing.assert_close(recomputed, plain)
    assert not any(module.training for module in model.modules())
