"""Log-probabilities and values of a padded batch against one row at a time, in plain loops."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, PreTrainedModel

from rlhf_trainer.models import log_probs as log_probs_module
from rlhf_trainer.models.batch import SequenceBatch, collate, response_mask
from rlhf_trainer.models.log_probs import selected_log_probs
from rlhf_trainer.models.policy import Policy, log_probs

VOCABULARY, CPU = 24, torch.device("cpu")
ROWS = [(3, 7), (1, 2), (4, 10), (2, 2)]
"""Tokens of prompt, and of prompt and response: the last response is empty."""


def llama() -> PreTrainedModel:
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            initializer_range=0.3,
        )
    ).eval()


def gpt2() -> PreTrainedModel:
    """Has a position embedding for each place."""
    torch.manual_seed(0)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=VOCABULARY,
            n_embd=16,
            n_layer=2,
            n_head=2,
            n_positions=16,
            initializer_range=0.3,
            bos_token_id=1,
            eos_token_id=2,
        )
    ).eval()


def batch_of(sequences: list[np.ndarray]) -> SequenceBatch:
    pairs = zip(ROWS, sequences, strict=True)
    return collate(sequences, [response_mask(p, len(s)) for (p, _), s in pairs], CPU)


def random_sequences() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(1, VOCABULARY, total) for _, total in ROWS]


def slow_log_softmax(logits: list[float], temperature: float) -> list[float]:
    largest = max(logits)
    weights = [math.exp((logit - largest) / temperature) for logit in logits]
    return [math.log(weight / sum(weights)) for weight in weights]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 1.7])
@pytest.mark.parametrize("make", [llama, gpt2])
def test_log_probs_equal_slow_loop_over_rows_alone(make: type, temperature: float) -> None:
    """Huang et al. 2023, "The N implementation details of RLHF with PPO": logits / temperature."""
    lm, sequences, expected = make(), random_sequences(), []
    for (prompt, total), sequence in zip(ROWS, sequences, strict=True):
        with torch.no_grad():
            logits = lm(input_ids=torch.from_numpy(sequence).unsqueeze(0)).logits[0].tolist()
        expected += [
            slow_log_softmax(logits[t - 1], temperature)[sequence[t]] for t in range(prompt, total)
        ]
    found = log_probs(Policy(lm, temperature=temperature), batch_of(sequences))
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_tokens_at_padded_positions_never_matter(make: type) -> None:
    policy, batch = Policy(make(), temperature=0.7, value_head=True), batch_of(random_sequences())
    torch.nn.init.normal_(policy.value_head.weight)
    is_pad = torch.ones_like(batch.tokens_BT, dtype=torch.bool)
    for row, (_, total) in enumerate(ROWS):
        is_pad[row, :total] = False
    assert is_pad.any()
    filled = [torch.where(is_pad, token, batch.tokens_BT) for token in (0, VOCABULARY - 1)]
    one, other = (policy(tokens, batch.predict_N, batch.target_N) for tokens in filled)
    for measured, expected in zip(one, other, strict=True):
        assert measured.tolist() == expected.tolist()


def test_values_are_read_where_the_next_token_is_predicted() -> None:
    policy, sequences = Policy(llama(), temperature=1.0, value_head=True), random_sequences()
    torch.nn.init.normal_(policy.value_head.weight)
    batch, expected = batch_of(sequences), []
    for (prompt, total), sequence in zip(ROWS, sequences, strict=True):
        hidden = policy.lm.base_model(input_ids=torch.from_numpy(sequence).unsqueeze(0))
        for t in range(prompt, total):
            state = hidden.last_hidden_state[0, t - 1].tolist()
            weights = policy.value_head.weight[0].tolist()
            expected.append(sum(w * x for w, x in zip(weights, state, strict=True)))
    values = policy(batch.tokens_BT, batch.predict_N, batch.target_N)[1]
    assert values.tolist() == pytest.approx(expected, abs=1e-5)


@given(st.integers(0, 9), st.integers(2, 9), st.floats(0.3, 3.0), st.integers(0, 2**31))
@settings(deadline=None)
def test_selected_log_probs_equal_slow_loop(
    count: int, vocabulary: int, temperature: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(count, 3, generator=generator)
    target = torch.randint(0, vocabulary, (count,), generator=generator)
    head = torch.nn.Linear(3, vocabulary)
    expected = []
    for state, token in zip(hidden.tolist(), target.tolist(), strict=True):
        logits = [
            sum(w * x for w, x in zip(row, state, strict=True)) + bias
            for row, bias in zip(head.weight.tolist(), head.bias.tolist(), strict=True)
        ]
        expected.append(slow_log_softmax(logits, temperature)[token])
    found = selected_log_probs(hidden, head, target, temperature=temperature)
    assert found.tolist() == pytest.approx(expected, abs=1e-4)


def test_chunks_change_neither_log_probs_nor_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    head, target = torch.nn.Linear(8, VOCABULARY), torch.randint(0, VOCABULARY, (11,))
    hidden = torch.randn(11, 8, requires_grad=True)
    results = []
    for chunk in (1024, 4):
        monkeypatch.setattr(log_probs_module, "CHUNK_BYTES", chunk * VOCABULARY * 4)
        logp = selected_log_probs(hidden, head, target, temperature=0.7)
        gradients = torch.autograd.grad((logp**2).sum(), [hidden, head.weight, head.bias])
        results.append([logp.detach(), *gradients])
    for chunked, whole in zip(*results, strict=True):
        torch.testing.assert_close(chunked, whole)


def plain_log_probs(
    hidden: torch.Tensor, head: torch.nn.Module, target: torch.Tensor, *, temperature: float
) -> torch.Tensor:
    logits = head(hidden).float() / temperature
    return logits.gather(-1, target.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("temperature", [0.7, 1.0])
@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_selected_log_probs_and_gradients_equal_those_taken_part_by_part(
    dtype: torch.dtype, temperature: float, scale: float
) -> None:
    """At the larger scale most probabilities are too small for a float32."""
    torch.manual_seed(0)
    head = torch.nn.Linear(8, VOCABULARY, dtype=dtype)
    hidden = (scale * torch.randn(11, 8)).to(dtype).requires_grad_()
    target = torch.randint(0, VOCABULARY, (11,))
    found = selected_log_probs(hidden, head, target, temperature=temperature)
    expected = plain_log_probs(hidden, head, target, temperature=temperature)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert found.dtype is torch.float32
    leaves = [hidden, head.weight, head.bias]
    weights = torch.randn(11)
    gradients = torch.autograd.grad((weights * found).sum(), leaves)
    wanted = torch.autograd.grad((weights * expected).sum(), leaves)
    for one, other in zip(gradients, wanted, strict=True):
        assert (one - other).norm() <= 1e-5 * other.norm()


def test_gradients_of_selected_log_probs_equal_differences_in_double_precision() -> None:
    torch.manual_seed(0)
    logits = torch.randn(5, 6, dtype=torch.float64, requires_grad=True)
    target, weights = torch.tensor([0, 5, 5, 2, 1]), torch.randn(5, dtype=torch.float64)

    def value(logits: torch.Tensor) -> torch.Tensor:
        logp = selected_log_probs(logits, torch.nn.Identity(), target, temperature=0.7)
        return (weights * logp).sum()

    value(logits).backward()
    assert logits.grad is not None
    for index in range(logits.numel()):
        step = torch.zeros(logits.numel(), dtype=torch.float64)
        step[index] = 1e-5
        with torch.no_grad():
            ahead, behind = (value(logits + sign * step.view(5, 6)) for sign in (1, -1))
        difference = (ahead - behind) / 2e-5
        assert float(logits.grad.flatten()[index]) == pytest.approx(float(difference), abs=1e-8)


def test_a_second_backward_pass_through_log_probs_is_refused() -> None:
    """The first has made the gradient in the memory of the probabilities."""
    head = torch.nn.Linear(4, VOCABULARY)
    logp = selected_log_probs(torch.randn(3, 4), head, torch.tensor([1, 2, 3]), temperature=1.0)
    logp.sum().backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        logp.sum().backward()


def test_log_probs_of_a_head_that_is_the_embedding_have_its_whole_gradient() -> None:
    gradients = []
    for answer in (selected_log_probs, plain_log_probs):
        lm = llama()
        lm.config.tie_word_embeddings = True
        lm.tie_weights()
        batch = batch_of(random_sequences())
        hidden = lm.base_model(input_ids=batch.tokens_BT).last_hidden_state.flatten(0, 1)
        head = lm.get_output_embeddings()
        picked = hidden.index_select(0, batch.predict_N)
        answer(picked, head, batch.target_N, temperature=0.7).sum().backward()
        assert head.weight is lm.get_input_embeddings().weight
        gradients.append(head.weight.grad)
    torch.testing.assert_close(*gradients)


def test_a_policy_asked_for_no_targets_returns_values_alone() -> None:
    policy, batch = Policy(llama(), temperature=1.0, value_head=True), batch_of(random_sequences())
    torch.nn.init.normal_(policy.value_head.weight)
    (values,) = policy(batch.tokens_BT, batch.predict_N, None)
    assert torch.equal(values, policy(batch.tokens_BT, batch.predict_N, batch.target_N)[1])
