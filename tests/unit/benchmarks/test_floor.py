"""What is counted, against torch's own count, PEFT's, slow loops and numbers done by hand."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

import rates as rates_of_machine
from floor import (
    ADAMW_MOVES,
    BYTES,
    Decoder,
    Rates,
    Work,
    generation,
    head,
    predicting,
    scoring,
    step_floor,
    trained_weights,
    trunk_forward,
    trunk_training,
    update,
)
from ppo_against_trl import floor_of
from ppo_start import CASES

MODEL = Decoder(hidden=8, intermediate=24, layers=3, vocabulary=40)
LORA = replace(MODEL, lora_rank=2)
LENGTHS = [(5, 4), (3, 1), (6, 2)]


def llama(model: Decoder) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=model.vocabulary,
        hidden_size=model.hidden,
        intermediate_size=model.intermediate,
        num_hidden_layers=model.layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    return LlamaForCausalLM(config)


def adapted(model: Decoder) -> torch.nn.Module:
    adapters = LoraConfig(r=model.lora_rank, target_modules=["q_proj", "v_proj"])
    return inject_adapter_in_model(adapters, llama(model))


def matrix_flops(lm: torch.nn.Module, tokens: int, *, backward: bool) -> int:
    counter = FlopCounterMode(display=False)
    with counter:
        logits = lm(torch.zeros(1, tokens, dtype=torch.long), use_cache=False).logits
        if backward:
            logits.sum().backward()
    counts = counter.get_flop_counts()["Global"]
    return sum(flops for name, flops in counts.items() if name == torch.ops.aten.mm)


def attention_of(model: Decoder, tokens: int, products: int) -> int:
    return products * 4 * model.hidden * model.layers * tokens * (tokens + 1) // 2


@pytest.mark.parametrize(("backward", "products"), [(False, 1), (True, 3)])
def test_matrices_where_all_is_read_are_those_that_torch_counts(
    *, backward: bool, products: int
) -> None:
    tokens = 7
    trunk = trunk_training if backward else trunk_forward
    counted = trunk(MODEL, [(tokens, tokens)]) + head(MODEL, tokens, products=products)
    expected = matrix_flops(llama(MODEL), tokens, backward=backward)
    assert counted.flops - attention_of(MODEL, tokens, products) == expected


def test_lora_counts_what_torch_does_less_what_is_below_the_first_adapters() -> None:
    tokens = 7
    lm = adapted(LORA)
    counted = trunk_training(LORA, [(tokens, tokens)]) + head(LORA, tokens, products=2)
    # torch computes no gradient of the first layer's input, to which its adapters lead, either.
    into_adapters = 2 * tokens * 2 * LORA.hidden * LORA.lora_rank
    expected = matrix_flops(lm, tokens, backward=True) + into_adapters
    assert counted.flops - attention_of(LORA, tokens, 3) == expected


def test_trained_weights_are_those_of_the_models_less_norms() -> None:
    lm = llama(MODEL)
    norms = sum(value.numel() for value in lm.parameters() if value.dim() == 1)
    everything = sum(value.numel() for value in lm.parameters())
    assert trained_weights(MODEL) == everything - norms
    assert trained_weights(MODEL, policy=False) == everything - norms - MODEL.head_weights
    trained = sum(value.numel() for value in adapted(LORA).parameters() if value.requires_grad)
    assert trained_weights(LORA) == trained


def test_the_last_layer_is_counted_where_it_is_read() -> None:
    tokens, read = 9, 2
    layer, keys_values = MODEL.layer_weights, 2 * MODEL.hidden**2
    flops = 0
    for number in range(MODEL.layers):
        for place in range(1, tokens + 1):
            if number < MODEL.layers - 1 or place > tokens - read:
                flops += 2 * layer + 4 * MODEL.hidden * place
            else:
                flops += 2 * keys_values
    assert trunk_forward(MODEL, [(tokens, read)]).flops == flops


def test_generation_computes_for_live_rows_and_reads_all_weights_each_step() -> None:
    weights = MODEL.layers * MODEL.layer_weights + MODEL.head_weights
    steps = generation(MODEL, LENGTHS)
    assert len(steps) == 4
    for done, step in enumerate(steps[1:], start=1):
        flops = cache = 0
        for prompt, response in LENGTHS:
            if response > done:
                # the token drawn last is fed, and sees the prompt and itself among what was drawn
                flops += 2 * weights + MODEL.layers * 4 * MODEL.hidden * (prompt + done)
                cache += MODEL.layers * 2 * MODEL.hidden * (prompt + done)
        assert (step.flops, step.read_bytes) == (flops, BYTES * (weights + cache))
    prompts = trunk_forward(MODEL, [(prompt, 1) for prompt, _ in LENGTHS])
    assert steps[0].flops == prompts.flops + 2 * 3 * MODEL.head_weights


def test_only_a_cut_response_is_scored_with_a_token_more() -> None:
    rows = [(9 + 1, 1), (4, 1), (8, 1)]
    assert scoring(MODEL, LENGTHS, longest=4) == trunk_forward(MODEL, rows)


def test_an_update_is_training_at_predicting_positions_and_the_optimiser() -> None:
    rows = predicting(LENGTHS)
    assert rows == [(8, 4), (3, 1), (7, 2)]
    policy = trunk_training(MODEL, rows).flops + 3 * 2 * 7 * MODEL.head_weights
    critic = trunk_training(MODEL, rows).flops
    shared = update(MODEL, LENGTHS, 2, separate_critic=False)
    separate = update(MODEL, LENGTHS, 2, separate_critic=True)
    assert shared.flops == 2 * policy
    assert separate.flops == 2 * (policy + critic)
    per_weight = 2 * BYTES * ADAMW_MOVES
    assert shared.copied_bytes == per_weight * trained_weights(MODEL)
    assert separate.copied_bytes - shared.copied_bytes == per_weight * trained_weights(
        MODEL, policy=False
    )


def test_a_forward_pass_overlaps_moving_and_an_update_does_not() -> None:
    rates = Rates(flops=10.0, training_flops=5.0, read_bytes=2.0, copied_bytes=4.0)
    assert rates.seconds(Work(flops=30, read_bytes=4)) == 3
    assert rates.seconds(Work(flops=30, read_bytes=8)) == 4
    assert rates.training_seconds(Work(flops=30, copied_bytes=8)) == 8


def test_a_step_is_the_sum_of_its_stages() -> None:
    rates = Rates(1e9, 1e9, 1e9, 1e9)
    floor = step_floor(MODEL, LENGTHS, 2, rates, separate_critic=True)
    expected = sum(rates.seconds(work) for work in generation(MODEL, LENGTHS))
    assert floor.generation == pytest.approx(expected)
    assert floor.total == pytest.approx(
        floor.generation + floor.reference + floor.value + floor.score + floor.update
    )
    assert floor.reference > floor.value > 0


def test_adamw_reads_four_numbers_and_writes_three() -> None:
    read = ("weight", "gradient", "first moment", "second moment")
    written = ("weight", "first moment", "second moment")
    assert len(read) + len(written) == ADAMW_MOVES


def test_adapters_are_in_what_learns_and_gives_values_and_not_in_what_is_frozen() -> None:
    in_flops = Rates(1, 1, 1, 1e12)
    floor = step_floor(LORA, LENGTHS, 1, in_flops, separate_critic=True)
    rows, tokens, read = predicting(LENGTHS), 8 + 3 + 7, 7
    frozen = trunk_forward(MODEL, rows).flops
    assert floor.reference == frozen + 2 * read * LORA.head_weights
    assert floor.score == scoring(MODEL, LENGTHS, longest=4).flops
    one = 2 * LORA.hidden * LORA.lora_rank  # of query or value: both its matrices
    # In the last layer values are computed everywhere, queries where something is read.
    adapters = (LORA.layers - 1) * 2 * one * tokens + one * tokens + one * read
    assert floor.value == frozen + 2 * adapters
    learned = 2 * trunk_training(LORA, rows).flops + 2 * 2 * read * LORA.head_weights
    assert update(LORA, LENGTHS, 1, separate_critic=True).flops == learned


def test_a_case_with_adapters_has_them_in_its_floor() -> None:
    rates = Rates(1, 1, 1, 1)
    whole, adapted = (floor_of(CASES[name], rates, separate_critic=True) for name in ("a", "d"))
    assert adapted.reference == whole.reference
    assert adapted.value > whole.value
    assert adapted.update < whole.update


def test_rates_of_training_count_what_torch_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def counted(work: Callable[[], object], _amount: float) -> float:
        counter = FlopCounterMode(display=False)
        with counter:
            work()
        return counter.get_total_flops()

    def asked(_work: Callable[[], object], amount: float) -> float:
        return amount

    found = []
    for rate in (counted, asked):
        monkeypatch.setattr(rates_of_machine, "rate", rate)
        found.append(rates_of_machine.training(torch.randn(5, 8), torch.randn(16, 8)))
    assert found[0] == found[1] > 0
