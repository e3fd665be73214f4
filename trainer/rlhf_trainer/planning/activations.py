"""Bytes of activations: the one place where they are counted, as a table by family of models.

Legend: H = hidden size, A = all heads' size together, K = all key and value heads' size together,
F = intermediate size, V = vocabulary, w = bytes of a weight (4 or 2).

What autograd keeps of one token in one layer, under SDPA or FlashAttention without attention mask:
normalisations compute in float32, so with w = 2 they keep more than one format.
"""

from dataclasses import dataclass

from rlhf_trainer.contract.limits import CHUNK_BYTES
from rlhf_trainer.planning.architecture import Architecture

FLOAT32 = 4

DRAWN_FORMATS = 2
"""float32 copies of logits while a token is drawn: shifted logits and weights. See
`rollout.drawing`."""

PICKED = frozenset({"gemma", "gpt2", "llama", "mistral", "mixtral", "phi3", "qwen2", "qwen3"})
"""Families whose last layer is computed only where it is read: as in `models.last_layer`."""


@dataclass(frozen=True)
class Kept:
    """What autograd keeps of a token in one layer, in units of the legend."""

    norm: float
    """Hidden sizes of one normalisation."""
    norm_float32: float
    """Hidden sizes of one normalisation in float32, whatever w is."""
    attention: float
    """Sizes of all heads: queries, output."""
    keys_values: float
    """Sizes of all key and value heads."""
    intermediate: float
    """Intermediate sizes."""
    norm_trained: float
    """Hidden sizes of one normalisation that only its own weight's gradient needs."""


LLAMA_LIKE = Kept(
    norm=1, norm_float32=1, attention=2, keys_values=2, intermediate=4, norm_trained=1
)
"""RMSNorm keeps its input, in float32, the normalised input and its output; a gated MLP its gate,
the gate's activation, the other branch and their product."""

KEPT = {
    "llama": LLAMA_LIKE,
    "mistral": LLAMA_LIKE,
    "qwen2": LLAMA_LIKE,
    "gpt2": Kept(
        norm=2, norm_float32=0, attention=2, keys_values=2, intermediate=5, norm_trained=0
    ),
}
"""By `model_type`. GPT-2's LayerNorm keeps input and output; its GELU four results, and what it
gives."""

NORMS = 2
"""Normalisations of a layer."""


def is_known(architecture: Architecture) -> bool:
    """Return whether activations are counted for this family, and not taken to be Llama's."""
    return architecture.family in KEPT


@dataclass(frozen=True)
class Held:
    """How a network is held when it is trained."""

    width: int
    """Bytes of a weight."""
    recomputed: bool = False
    """With gradient checkpointing each layer keeps its input, and one at a time the rest."""
    is_frozen: bool = False
    """Whether only adapters learn."""
    adapter_elements: int = 0
    """What adapters keep of one token, in all layers."""


def _norm_bytes(of: Architecture, held: Held) -> float:
    """Return what autograd keeps of one token in one normalisation."""
    kept = KEPT.get(of.family, LLAMA_LIKE)
    sizes = kept.norm + (0 if held.is_frozen else kept.norm_trained)
    return of.hidden * (sizes * held.width + kept.norm_float32 * FLOAT32) + FLOAT32


def layer_bytes(of: Architecture, held: Held) -> float:
    """Return what autograd keeps of one token in one layer."""
    kept = KEPT.get(of.family, LLAMA_LIKE)
    elements = (
        kept.attention * of.heads * of.head_size
        + kept.keys_values * of.key_value_heads * of.head_size
        + kept.intermediate * of.intermediate
        + held.adapter_elements / of.layers
    )
    log_sums = FLOAT32 * of.heads
    return NORMS * _norm_bytes(of, held) + held.width * elements + log_sums


def apart_bytes(of: Architecture, tokens: int, places: int, held: Held) -> float:
    """Return what autograd keeps besides where attention pads a packed row: see `models.apart`.

    places: tokens and pads. Pads are kept of what attention takes and gives, and all that it gives
    once more as the packed row's.
    """
    kept = KEPT.get(of.family, LLAMA_LIKE)
    attention = kept.attention * of.heads + kept.keys_values * of.key_value_heads
    pads = (places - tokens) * (held.width * attention * of.head_size + FLOAT32 * of.heads)
    again = 0 if held.is_frozen else tokens * held.width * of.heads * of.head_size
    if held.recomputed:
        return pads + again
    # What the last layer's attention gives is picked out before it is kept.
    return of.layers * (pads + again) - (again if of.family in PICKED else 0)


def _unread_bytes(of: Architecture, held: Held) -> float:
    """Return what autograd does not keep of a token that nobody reads, in the last layer.

    After attention nothing is computed there. What is read is picked out before.
    """
    kept = KEPT.get(of.family, LLAMA_LIKE)
    return _norm_bytes(of, held) + held.width * kept.intermediate * of.intermediate


def _picked_bytes(of: Architecture, held: Held) -> float:
    """Return what autograd keeps of a token that is read, picked out of all before the head."""
    return 0 if held.is_frozen else held.width * of.hidden


def inputs_bytes(of: Architecture, tokens: int, read: int, held: Held) -> float:
    """Return what a forward pass keeps of recomputed layers: inputs, and the last normalisation."""
    every = of.layers * of.hidden * held.width + _norm_bytes(of, held)
    return tokens * every + read * _picked_bytes(of, held)


def trunk_bytes(of: Architecture, tokens: int, read: int, held: Held) -> float:
    """Return the most that one forward pass over `tokens` keeps, up to the last hidden states.

    read: how many of those are read.
    """
    layer = layer_bytes(of, held)
    if held.recomputed:
        return inputs_bytes(of, tokens, read, held) + tokens * layer
    every = tokens * (of.layers * layer + _norm_bytes(of, held)) + read * _picked_bytes(of, held)
    if of.family not in PICKED:
        return every
    picked = read * held.width * of.heads * of.head_size
    return every + picked - (tokens - read) * _unread_bytes(of, held)


def backward_bytes(architecture: Architecture, tokens: int, width: int) -> float:
    """Return what the backward pass of a layer holds besides: gradients of its widest part."""
    return tokens * width * (2 * architecture.intermediate + 2 * architecture.hidden)


def forward_bytes(architecture: Architecture, tokens: int, width: int) -> float:
    """Return what a forward pass without gradient holds at once."""
    return tokens * width * (3 * architecture.intermediate + 2 * architecture.hidden)


def chunk_tokens(architecture: Architecture) -> int:
    """Return the tokens whose logits exist at a time: see `models.log_probs`."""
    return max(1, CHUNK_BYTES // (FLOAT32 * architecture.vocabulary))


def logits_bytes(architecture: Architecture, read: int, width: int, *, is_scaled: bool) -> float:
    """Return the most that log-probabilities of so many tokens hold: logits and probabilities.

    In bfloat16, or divided by a temperature, logits are there twice.
    """
    formats = 2 if is_scaled or width < FLOAT32 else 1
    tokens = min(read, chunk_tokens(architecture))
    return tokens * architecture.vocabulary * (width + formats * FLOAT32)


def probabilities_bytes(architecture: Architecture, read: int) -> float:
    """Return what autograd keeps of log-probabilities; of several chunks nothing."""
    is_kept = read <= chunk_tokens(architecture)
    return read * architecture.vocabulary * FLOAT32 if is_kept else 0


def decoding_bytes(architecture: Architecture, rows: int, width: int) -> float:
    """Return what drawing a token for so many rows holds."""
    return rows * architecture.vocabulary * (DRAWN_FORMATS * FLOAT32 + width)
