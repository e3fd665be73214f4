"""Train the base model that the example starts from: `python -m movie_reviews.base_model`.

A small Llama, from random weights, on the training split of the movie snippets and on the three
other corpora; snippets of the judge, validation and test splits are never read by the optimiser.
It decides the architecture and the training; the run's own phases only load the result.
"""

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from movie_reviews import EXAMPLE_ROOT
from movie_reviews.build import in_splits, usable
from movie_reviews.corpus import MOVIES, OTHER_CORPORA, Split, read_corpus, without_copies
from movie_reviews.corpus import comparison_key as key_of
from movie_reviews.errors import ExampleError, report
from movie_reviews.fetch import fetch
from movie_reviews.profanity import is_profane
from movie_reviews.tokenizer import BOS, EOS, PAD, VOCABULARY_SIZE, as_pretrained, train_tokenizer

LONGEST_OTHER_TEXT = 400
"""Characters; longer texts of the other corpora are mostly lists."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides the base model, with the values that made the shipped one."""

    vocabulary_size: int = VOCABULARY_SIZE
    hidden_size: int = 128
    layers: int = 3
    heads: int = 4
    intermediate_size: int = 352
    steps: int = 5500
    windows_per_step: int = 8
    window: int = 128
    """Tokens that one row predicts; texts follow one another, each between BOS and EOS."""
    longest_sequence: int = 64
    """Tokens, with BOS and EOS."""
    learning_rate: float = 5e-3
    weight_decay: float = 0.1
    warmup_steps: int = 50
    dropout: float = 0.1
    """On embeddings and on what every block adds to the residual stream: the data is small."""
    movie_copies: int = 2
    """How often an epoch repeats the movie snippets, which later phases are about."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Texts:
    """Texts to train on, and held-out movie snippets to measure with."""

    movies: list[str]
    others: list[str]
    held_out: list[str]


def read_texts(source: Path) -> Texts:
    """Select the training texts: no text of a held-out or judge snippet is among them."""
    everything = read_corpus(source, MOVIES)
    movies = usable(everything)
    held_out = in_splits(movies, Split.VALIDATION, Split.TEST)
    seen = {key_of(snippet.text) for snippet in everything}
    others = [
        snippet.text
        for stem in OTHER_CORPORA
        for snippet in without_copies(read_corpus(source, stem), seen)
        if len(snippet.text) <= LONGEST_OTHER_TEXT and not is_profane(snippet.text)
    ]
    train = in_splits(movies, Split.TRAIN)
    return Texts([s.text for s in train], others, [s.text for s in held_out])


def new_model(recipe: Recipe) -> LlamaForCausalLM:
    """Make the model with random weights and tied embeddings, in float32."""
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=recipe.vocabulary_size,
            hidden_size=recipe.hidden_size,
            intermediate_size=recipe.intermediate_size,
            num_hidden_layers=recipe.layers,
            num_attention_heads=recipe.heads,
            num_key_value_heads=recipe.heads,
            max_position_embeddings=256,
            tie_word_embeddings=True,
            pad_token_id=PAD,
            bos_token_id=BOS,
            eos_token_id=EOS,
        )
    )


def add_dropout(model: LlamaForCausalLM, rate: float) -> None:
    """Drop embeddings and block outputs in train mode; Llama itself has no such dropout."""

    def drop(module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return functional.dropout(output, rate, training=module.training)

    model.model.embed_tokens.register_forward_hook(drop)
    for layer in model.model.layers:
        layer.self_attn.o_proj.register_forward_hook(drop)
        layer.mlp.register_forward_hook(drop)


def windows(sequences: list[list[int]], recipe: Recipe, rng: np.random.Generator) -> Tensor:
    """Shuffle, join and cut the sequences into int64 [windows, window + 1]; the rest is dropped.

    Neighbouring windows share one token, so that every token is a target once. Windows mix texts
    of all lengths: batches of like lengths need no padding either, but train worse.
    """
    order = rng.permutation(len(sequences))
    stream = torch.tensor([token for index in order for token in sequences[index]])
    return stream.unfold(0, recipe.window + 1, recipe.window)


def endless(
    sequences: list[list[int]], recipe: Recipe, rng: np.random.Generator
) -> Iterator[Tensor]:
    """Yield batches of windows epoch after epoch, shuffled anew in each."""
    while True:
        rows = windows(sequences, recipe, rng)
        for batch in rows.split(recipe.windows_per_step):
            if len(batch) == recipe.windows_per_step:
                yield batch


def pad_right(sequences: Sequence[list[int]]) -> Tensor:
    """Stack into int64 [sequences, longest]; attention is causal, so no mask is needed."""
    longest = max(map(len, sequences))
    return torch.tensor([ids + [PAD] * (longest - len(ids)) for ids in sequences])


def token_loss(model: LlamaForCausalLM, ids: Tensor, reduction: str = "mean") -> Tensor:
    """Cross-entropy in nats over the tokens after BOS, padding left out; ids is [batch, time]."""
    logits = model(input_ids=ids[:, :-1]).logits
    return functional.cross_entropy(
        logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=PAD, reduction=reduction
    )


@torch.no_grad()
def bits_per_byte(model: LlamaForCausalLM, sequences: list[list[int]], texts: list[str]) -> float:
    """Measure the code length of `texts`, EOS included, per UTF-8 byte of text."""
    model.eval()
    ordered = sorted(sequences, key=len)
    batches = [pad_right(ordered[start : start + 64]) for start in range(0, len(ordered), 64)]
    nats = sum(token_loss(model, batch, "sum").item() for batch in batches)
    model.train()
    return nats / math.log(2) / sum(len(text.encode()) for text in texts)


def new_optimizer(model: LlamaForCausalLM, recipe: Recipe) -> torch.optim.AdamW:
    """Make AdamW that decays matrices and leaves norms alone."""
    matrices = [weight for weight in model.parameters() if weight.dim() > 1]
    vectors = [weight for weight in model.parameters() if weight.dim() == 1]
    groups = [
        {"params": matrices, "weight_decay": recipe.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.95))


def rate_factor(step: int, recipe: Recipe) -> float:
    """Linear warm-up, then a cosine to 2 % of the learning rate."""
    warm = min(1.0, (step + 1) / recipe.warmup_steps)
    return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / recipe.steps)))


def train(
    model: LlamaForCausalLM, sequences: list[list[int]], recipe: Recipe, console: Console
) -> None:
    """Train in place, with a progress bar on a terminal."""
    optimizer = new_optimizer(model, recipe)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: rate_factor(step, recipe))
    batches = endless(sequences, recipe, np.random.default_rng(recipe.seed))
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("Training", total=recipe.steps)
        for step in range(recipe.steps):
            loss = token_loss(model, next(batches))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            if step % 20 == 0:
                text = f"Training: step {step}/{recipe.steps}, loss {loss.item():.3f} nats/token"
                progress.update(task, completed=step, description=text)
                if not console.is_terminal and step % 200 == 0:
                    console.print(text)


def make_base_model(source: Path, out: Path, recipe: Recipe, console: Console) -> float:
    """Train tokenizer and model, write both to `out`, and return held-out bits per byte."""
    torch.manual_seed(recipe.seed)
    texts = read_texts(source)
    tokenizer = train_tokenizer(texts.movies + texts.others, recipe.vocabulary_size)

    def encode(batch: list[str]) -> list[list[int]]:
        kept = recipe.longest_sequence - 2
        return [[BOS, *coded.ids[:kept], EOS] for coded in tokenizer.encode_batch(batch)]

    model = new_model(recipe)
    add_dropout(model, recipe.dropout)
    model.train()
    sequences = encode(texts.movies) * recipe.movie_copies + encode(texts.others)
    num_weights = sum(weight.numel() for weight in model.parameters())
    console.print(f"{num_weights:,} weights, {sum(map(len, sequences)):,} tokens an epoch")
    train(model, sequences, recipe, console)
    model.bfloat16().save_pretrained(out)
    as_pretrained(tokenizer, max_length=model.config.max_position_embeddings).save_pretrained(out)
    (out / "recipe.json").write_text(json.dumps(asdict(recipe), indent=1) + "\n", encoding="utf-8")
    saved = LlamaForCausalLM.from_pretrained(out, dtype=torch.float32)
    return bits_per_byte(saved, encode(texts.held_out), texts.held_out)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m movie_reviews.base_model", description=__doc__)
    parser.add_argument("--out", type=Path, default=EXAMPLE_ROOT / "base-model")
    parser.add_argument("--source", type=Path, default=EXAMPLE_ROOT / "data" / "source")
    parser.add_argument("--steps", type=int, default=Recipe().steps, help="fewer for a quick trial")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)  # sums in another order would give other weights
    console = Console(stderr=True)
    started = time.process_time()
    try:
        source = fetch(options.source, console)
        held_out = make_base_model(source, options.out, Recipe(steps=options.steps), console)
    except ExampleError as error:
        report(error)
        return 1
    seconds = time.process_time() - started
    console.print(
        f"{options.out}: {held_out:.3f} bits/byte on held-out snippets, {seconds:.0f} CPU seconds"
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
