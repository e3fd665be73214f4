"""What a PPO step must compute and move at the least, counted: FLOPs and bytes by stage.

Counted is what the algorithm needs, not what an implementation does: no padding, no second pass
over what is known, and of the last layer only the positions that are read. A multiplication and an
addition are two FLOPs. Normalisation, rotation, activation and softmax are left out: they are few
FLOPs and, fused, no traffic of their own. Weights and caches are float32.

Legend: p and r are tokens of a prompt and its response; the last token of a sequence is fed to the
reward model only, as nothing follows it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

BYTES = 4
"""Of a float32."""
FORWARD, BACKWARD = 1, 2
"""Products per weight: the output; the gradients of input and weight."""
ADAMW_MOVES = 7
"""Floats that AdamW reads and writes per parameter: weight, gradient, two moments; all but the
gradient are written back."""


@dataclass(frozen=True)
class Work:
    """What one stage asks for."""

    flops: float = 0.0
    read_bytes: float = 0.0
    copied_bytes: float = 0.0
    """Read and written back."""

    def __add__(self, other: "Work") -> "Work":
        return Work(
            self.flops + other.flops,
            self.read_bytes + other.read_bytes,
            self.copied_bytes + other.copied_bytes,
        )


@dataclass(frozen=True)
class Rates:
    """What the machine can do, per CPU second of one thread."""

    flops: float
    """Of a forward pass: matrix products in the shapes of the model."""
    training_flops: float
    """Of forward and backward passes: the gradients' products, too, each at its fastest."""
    read_bytes: float
    copied_bytes: float
    """Read plus written."""
    torch_training_flops: float = 0.0
    """Of forward and backward passes, as torch multiplies."""

    def seconds(self, work: Work) -> float:
        """Return the least time of a forward pass, in which computing and moving overlap."""
        return max(work.flops / self.flops, work.read_bytes / self.read_bytes)

    def training_seconds(self, work: Work) -> float:
        """Return the least time of updates: the optimiser's moves come after its gradients."""
        return work.flops / self.training_flops + work.copied_bytes / self.copied_bytes


@dataclass(frozen=True)
class Decoder:
    """A decoder-only model: its matrices."""

    hidden: int
    intermediate: int
    layers: int
    vocabulary: int
    lora_rank: int = 0
    """Of adapters beside the query's and the value's projection; 0 for none."""

    @property
    def attention_weights(self) -> int:
        """Weights of query, key, value and output in one layer."""
        return 4 * self.hidden**2

    @property
    def layer_weights(self) -> int:
        """Weights of the matrices of one layer."""
        return self.attention_weights + 3 * self.hidden * self.intermediate

    @property
    def head_weights(self) -> int:
        """Weights of the output layer."""
        return self.hidden * self.vocabulary

    @property
    def adapter_weights(self) -> int:
        """Weights of the adapters of one layer."""
        return 4 * self.hidden * self.lora_rank

    @property
    def trunk_weights(self) -> int:
        """Weights of all layers; embeddings are looked up, not multiplied."""
        return self.layers * (self.layer_weights + self.adapter_weights)


Lengths = Sequence[tuple[int, int]]
"""(p, r) of each row."""


def generation(model: Decoder, lengths: Lengths) -> list[Work]:
    """Return the work of each decoding step, the prompts first; rows leave once they are done.

    Each step computes for the rows that are live, and reads all weights and the rows' keys and
    values once.
    """
    weights = BYTES * (model.trunk_weights + model.head_weights)
    prompts = trunk_forward(model, [(p, 1) for p, _ in lengths])
    steps = [prompts + head(model, len(lengths)) + Work(read_bytes=weights)]
    for done in range(1, max(r for _, r in lengths)):
        live = [p for p, r in lengths if r > done]
        seen = sum(p + done for p in live)
        per_token = 2 * (model.trunk_weights + model.head_weights)
        attention = model.layers * 4 * model.hidden * seen
        cache = model.layers * 2 * model.hidden * BYTES * seen
        steps.append(Work(len(live) * per_token + attention, weights + cache))
    return steps


def trunk_forward(model: Decoder, rows: Lengths) -> Work:
    """Return the work of one pass over rows of (tokens, tokens whose output is read, the last)."""
    return Work(_trunk_flops(model, rows, matrix=FORWARD, adapter=FORWARD, attention=FORWARD))


def trunk_training(model: Decoder, rows: Lengths) -> Work:
    """Return the work of a forward and a backward pass over the same rows.

    Under LoRA the model's own matrices get no gradient, and below the first layer nothing needs
    one.
    """
    full = FORWARD + BACKWARD
    if not model.lora_rank:
        return Work(_trunk_flops(model, rows, matrix=full, adapter=full, attention=full))
    flops = _trunk_flops(model, rows, matrix=2 * FORWARD, adapter=full, attention=full)
    into_first = 2 * 3 * model.hidden**2 * sum(tokens for tokens, _ in rows)
    return Work(flops - into_first)


def _trunk_flops(
    model: Decoder, rows: Lengths, *, matrix: int, adapter: int, attention: int
) -> float:
    """Return FLOPs of all layers; arguments are products per matrix, adapter and attention.

    Of the last layer all tokens need keys and values, only tokens that are read the rest.
    """
    tokens, read = sum(length for length, _ in rows), sum(last for _, last in rows)
    keys_values = 2 * model.hidden**2
    whole = model.layers - 1
    matrices = whole * model.layer_weights * tokens + keys_values * tokens
    matrices += (model.layer_weights - keys_values) * read
    # Of an adapted layer half of the adapters' weights are the value's, half the query's.
    adapters = model.adapter_weights * (whole * tokens + (tokens + read) / 2)
    pairs = whole * sum(_pairs(length, length) for length, _ in rows)
    pairs += sum(_pairs(length, last) for length, last in rows)
    return 2 * (matrix * matrices + adapter * adapters) + attention * 4 * model.hidden * pairs


def _pairs(tokens: int, last: int) -> int:
    """Return how many (query, key) pairs causal attention has for the last of so many tokens."""
    first = tokens - last
    return tokens * (tokens + 1) // 2 - first * (first + 1) // 2


def head(model: Decoder, read: int, *, products: int = FORWARD) -> Work:
    """Return the work of the output layer at so many positions."""
    return Work(2 * products * model.head_weights * read)


def scoring(model: Decoder, lengths: Lengths, longest: int) -> Work:
    """Return the work of the reward model, which reads cut responses with an EOS appended."""
    rows = [(p + r + (r == longest), 1) for p, r in lengths]
    return trunk_forward(model, rows)


def predicting(lengths: Lengths) -> list[tuple[int, int]]:
    """Return rows of which the positions that predict response tokens are read."""
    return [(p + r - 1, r) for p, r in lengths]


def update(model: Decoder, lengths: Lengths, epochs: int, *, separate_critic: bool) -> Work:
    """Return the work of all updates of a step, one to an epoch, optimisers included."""
    rows, read = predicting(lengths), sum(r for _, r in lengths)
    products = FORWARD + (FORWARD if model.lora_rank else BACKWARD)
    once = trunk_training(model, rows) + head(model, read, products=products)
    trained = trained_weights(model)
    if separate_critic:
        once += trunk_training(model, rows)
        trained += trained_weights(model, policy=False)
    once += Work(copied_bytes=ADAMW_MOVES * BYTES * trained)
    return reduce(Work.__add__, [once] * epochs)


def trained_weights(model: Decoder, *, policy: bool = True) -> int:
    """Return how many weights are trained: embeddings too, heads of critics and norms aside."""
    if model.lora_rank:
        return model.layers * model.adapter_weights
    embeddings = model.hidden * model.vocabulary
    return model.trunk_weights + embeddings + (model.head_weights if policy else 0)


@dataclass(frozen=True)
class StepFloor:
    """The least seconds of a PPO step, by stage."""

    generation: float
    reference: float
    value: float
    score: float
    update: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.generation + self.reference + self.value + self.score + self.update


def step_floor(
    model: Decoder, lengths: Lengths, epochs: int, rates: Rates, *, separate_critic: bool
) -> StepFloor:
    """Return the least seconds of a step at the machine's rates."""
    rows, read = predicting(lengths), sum(r for _, r in lengths)
    base = Decoder(model.hidden, model.intermediate, model.layers, model.vocabulary)
    policy = trunk_forward(base, rows)
    return StepFloor(
        generation=sum(rates.seconds(work) for work in generation(model, lengths)),
        reference=rates.seconds(policy + head(base, read)),
        value=rates.seconds(trunk_forward(model, rows)),
        score=rates.seconds(scoring(base, lengths, max(r for _, r in lengths))),
        update=rates.training_seconds(
            update(model, lengths, epochs, separate_critic=separate_critic)
        ),
    )
