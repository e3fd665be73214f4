"""Speed of decoding on one GPU: about 1 B random weights in bfloat16.

`torchrun benchmarks/gpu_decoding.py --attention SDPA --results FILE` prints a table and writes the
numbers as JSON: the trainer's sampler; beside it transformers' continuous batching with
FlashAttention 2, and a loop of one CUDA graph per token with SDPA. Run it alone on the card.
"""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import GenerationConfig, LlamaForCausalLM, StaticCache

from gpu_measuring import (
    REPETITIONS,
    Row,
    Size,
    make_model,
    peak_memory,
    run,
    sequences,
    synchronise,
)
from rlhf_trainer.config.model import Attention
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.rollout.protocol import row_uniforms
from rlhf_trainer.rollout.sampler import TransformersSampler

NO_TOKEN = -1
"""As end of sequence: nothing ends early, so that all decode as many tokens."""


def measure_decoding(size: Size, attention: Attention, ranks: Ranks) -> Iterator[Row]:
    """Yield the sampler's decoding, continuous batching, and one CUDA graph per token."""
    device = ranks.device
    lm = make_model(size, attention, device)
    ways: list[tuple[str, Callable[..., float]]] = [("sampler", sampler)]
    if attention is Attention.SDPA:  # the other kernel would attend to the whole static cache
        ways.append(("graph", graph))
    elif device.type == "cuda":  # it takes this kernel itself where it can
        ways.append(("continuous batching", continuous_batching))
    for count in size.prompts:
        prompts = [row[: size.prompt_tokens] for row in sequences(size, ragged=False)]
        prompts = (prompts * -(-count // len(prompts)))[:count]
        for what, decode in ways:
            with peak_memory(device) as peak:
                try:
                    times = [decode(lm, prompts, size) for _ in range(REPETITIONS + 1)][1:]
                except (RuntimeError, ValueError, TypeError) as error:
                    print(f"{what}, {attention}: not measured: {str(error)[:300]}", flush=True)
                    continue
                seconds, tokens = median(times), count * size.new_tokens
                spread = max(times) / min(times)
                yield Row(
                    f"decode: {what}",
                    attention,
                    f"{count} rows",
                    seconds,
                    spread,
                    tokens / seconds,
                    None,
                    peak(),
                )


def sampler(lm: LlamaForCausalLM, prompts: list[NDArray[np.int64]], size: Size) -> float:
    """Return the seconds that the trainer's sampler takes."""
    ours = TransformersSampler(
        lm,
        eos_token=NO_TOKEN,
        temperature=1.0,
        maximum_tokens=size.new_tokens,
        budget_tokens=len(prompts) * (size.prompt_tokens + size.new_tokens),
    )
    uniforms = row_uniforms(0, 0, range(len(prompts)), size.new_tokens)
    started = time.perf_counter()
    responses = ours.sample(prompts, uniforms)
    seconds = time.perf_counter() - started
    require_all([len(response.tokens) for response in responses], size)
    return seconds


def continuous_batching(
    lm: LlamaForCausalLM, prompts: list[NDArray[np.int64]], size: Size
) -> float:
    """Return the seconds from the first request taken up to the last one's end."""
    config = GenerationConfig(
        max_new_tokens=size.new_tokens, do_sample=True, eos_token_id=NO_TOKEN, pad_token_id=0
    )
    outputs = lm.generate_batch(
        [prompt.tolist() for prompt in prompts], generation_config=config
    ).values()
    require_all([len(output.generated_tokens) for output in outputs], size)
    begun, ended = zip(*(output.lifespan for output in outputs), strict=True)
    return float(max(ended) - min(begun))


def require_all(lengths: Sequence[int], size: Size) -> None:
    """Refuse a time that was not taken of all tokens."""
    if not lengths or set(lengths) != {size.new_tokens}:
        msg = f"{sorted(set(lengths))} tokens were decoded per row, not {size.new_tokens}"
        raise RuntimeError(msg)


@torch.no_grad()
def graph(lm: LlamaForCausalLM, prompts: list[NDArray[np.int64]], size: Size) -> float:
    """Return the seconds of a loop that replays one CUDA graph per token; capturing is not timed.

    What a sampler of ours could reach without kernels of its own: a cache of fixed size, to all of
    which SDPA attends, and sampling by inversion inside the graph.
    """
    device = lm.device
    prompt = torch.from_numpy(np.stack(prompts)).to(device)
    longest = size.prompt_tokens + size.new_tokens
    cache = StaticCache(config=lm.config, max_cache_len=longest)
    places = torch.arange(size.prompt_tokens, device=device)[None]
    place = torch.full((1, 1), size.prompt_tokens, device=device)
    columns = torch.arange(longest, device=device)

    def forward(tokens: Tensor, positions: Tensor) -> Tensor:
        mask = (columns[None, :] <= positions[0][:, None])[None, None].expand(
            len(tokens), -1, -1, -1
        )
        output = lm(
            input_ids=tokens,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return draw(output.logits[:, -1])

    current = forward(prompt, places)

    def step() -> None:
        current.copy_(forward(current, place))
        place.add_(1)

    replay = step if device.type != "cuda" else captured(step, cache, place, size)
    synchronise(device)
    started = time.perf_counter()
    drawn = [current.clone()]
    for _ in range(size.new_tokens - 1):
        replay()
        drawn.append(current.clone())
    tokens = torch.cat(drawn, 1).cpu()
    seconds = time.perf_counter() - started
    require_all([tokens.shape[1]], size)
    return seconds


def draw(logits: Tensor) -> Tensor:
    """Return a token per row, drawn by inverting the cumulative distribution."""
    cumulative = logits.float().softmax(-1).double().cumsum(-1)
    point = torch.rand_like(cumulative[:, :1]) * cumulative[:, -1:]
    token = torch.searchsorted(cumulative, point, right=True)
    return token.clamp_(max=logits.shape[-1] - 1)


def captured(
    step: Callable[[], None], cache: StaticCache, place: Tensor, size: Size
) -> Callable[[], None]:
    """Return a replay of `step`, with the cache as it was before trying it out."""

    def rewind() -> None:
        place.fill_(size.prompt_tokens)
        layers: list[Any] = cache.layers  # all are static
        for layer in layers:
            layer.cumulative_length.fill_(size.prompt_tokens)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    rewind()
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        step()
    rewind()
    replay: Callable[[], None] = recorded.replay
    return replay


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:], __doc__, measure_decoding))
