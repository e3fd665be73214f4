"""What the benchmarks on a GPU share: a model of random weights, what it is given, and the tables.

Each time is the median of a few repetitions after a warm-up, with the slowest over the fastest
beside it. They decide nothing.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

from rlhf_trainer.config.model import Attention, Device
from rlhf_trainer.engine import ranks as process_group
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.models.attention import attention_implementation

PACKAGES = ("torch", "transformers", "deepspeed", "flash-attn")
REPETITIONS = 3


@dataclass(frozen=True)
class Size:
    """A model and how much it is given."""

    model: dict[str, int]
    rows: int
    """Sequences per update."""
    shortest: int
    longest: int
    budget_tokens: int
    """Per micro-batch."""
    prompts: tuple[int, ...]
    """Responses decoded at a time."""
    prompt_tokens: int
    new_tokens: int


SIZES = {
    "1b": Size(
        model={
            "vocab_size": 32_000,
            "hidden_size": 2048,
            "intermediate_size": 8192,
            "num_hidden_layers": 16,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "max_position_embeddings": 2048,
        },
        rows=64,
        shortest=128,
        longest=1024,
        budget_tokens=8192,
        prompts=(64, 256),
        prompt_tokens=64,
        new_tokens=128,
    ),
    "toy": Size(
        model={
            "vocab_size": 64,
            "hidden_size": 128,
            "intermediate_size": 256,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 256,
        },
        rows=8,
        shortest=8,
        longest=64,
        budget_tokens=128,
        prompts=(4,),
        prompt_tokens=4,
        new_tokens=8,
    ),
}


@dataclass(frozen=True)
class Row:
    """One measurement."""

    what: str
    attention: str
    layout: str
    seconds: float
    slowest_over_fastest: float
    tokens_per_second: float
    mfu: float | None
    peak_gib: float


def make_model(size: Size, attention: Attention, device: torch.device) -> LlamaForCausalLM:
    """Return random weights in bfloat16 on the device."""
    torch.manual_seed(0)
    config = LlamaConfig(**size.model)  # type: ignore[arg-type] # all are integers
    kernel = attention_implementation(attention, torch.bfloat16, device, LlamaForCausalLM)
    with torch.device(device):
        lm = LlamaForCausalLM._from_config(  # noqa: SLF001 - the way to choose a kernel without a file
            config, dtype=torch.bfloat16, attn_implementation=kernel
        )
    model: LlamaForCausalLM = lm.eval()
    return model


def sequences(size: Size, *, ragged: bool) -> list[NDArray[np.int64]]:
    """Return random tokens, uniform in length if ragged, else all of the longest."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(size.shortest, size.longest + 1, size.rows)
    if not ragged:
        lengths = np.full(size.rows, size.longest)
    return [rng.integers(size.model["vocab_size"], size=length) for length in lengths]


def timed(run: Callable[[], object], device: torch.device) -> tuple[float, float]:
    """Return the median time and the slowest over the fastest, after a warm-up."""
    synchronise(device)
    times = []
    for repetition in range(REPETITIONS + 1):
        started = time.perf_counter()
        run()
        synchronise(device)
        if repetition:
            times.append(time.perf_counter() - started)
    return median(times), max(times) / min(times)


def synchronise(device: torch.device) -> None:
    """Wait for the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Callable[[], float]]:
    """Lend what tells the most memory that was taken within, in GiB; 0 on a CPU."""
    if device.type != "cuda":
        yield lambda: 0.0
        return
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    yield lambda: torch.cuda.max_memory_allocated(device) / 2**30


def versions(device: torch.device) -> dict[str, str]:
    """Return the card and the versions of what ran on it."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {"card": card, "cuda": str(torch.version.cuda)} | found


def table(rows: Sequence[Row]) -> str:
    """Return the measurements as a table in Markdown."""
    lines = [
        "| what | attention | rows | seconds (spread) | tokens/s | MFU | peak GiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        mfu = "" if row.mfu is None else f"{row.mfu:.1%}"
        lines.append(
            f"| {row.what} | {row.attention} | {row.layout} | {row.seconds:.3f} "
            f"({row.slowest_over_fastest:.2f}x) | {row.tokens_per_second:,.0f} | {mfu} "
            f"| {row.peak_gib:.1f} |"
        )
    return "\n".join(lines)


def run(
    argv: Sequence[str],
    text: str | None,
    measure: Callable[[Size, Attention, Ranks], Iterator[Row]],
) -> int:
    """Measure with one attention kernel, print it, and write it.

    One to a process: an engine is not wholly given back, and memory is measured.
    """
    parser = argparse.ArgumentParser(description=text)
    parser.add_argument("--size", choices=SIZES, default="1b")
    parser.add_argument("--attention", type=Attention, required=True)
    parser.add_argument("--device", type=Device, default=Device.CUDA)
    parser.add_argument("--results", type=Path, required=True)
    arguments = parser.parse_args(argv)
    transformers_logging.disable_progress_bar()
    ranks = process_group.start(arguments.device)
    size, rows = SIZES[arguments.size], list[Row]()
    told: dict[str, Any] = {"versions": versions(ranks.device), "size": asdict(size)}
    for row in measure(size, arguments.attention, ranks):
        rows.append(row)
        print(table([row]).splitlines()[-1], flush=True)
        told["rows"] = [asdict(row) for row in rows]
        arguments.results.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print("\n" + ", ".join(f"{name} {value}" for name, value in told["versions"].items()))
    print(table(rows))
    process_group.stop()
    return 0
