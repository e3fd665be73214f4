"""Which networks keep packed sequences apart, and the trunk's pass that relies on it.

Without attention mask and cache, transformers takes a row whose position ids restart for several
sequences: SDPA gets a block-diagonal causal mask, FlashAttention 2 the sequences' lengths. What
goes its own way (ALiBi, recurrence, learned positions counted from a mask) is found by trying.
Legend: B = rows, T = tokens, H = hidden size.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from rlhf_trainer.errors import InvalidError
from rlhf_trainer.models.apart import kept_apart

FIRST_TOKENS, SECOND_TOKENS = 24, 8
"""Lengths of the two sequences tried: much to leak from, few tokens to drown it in."""

LEAK_TOLERANCE = 1e-3
"""Largest relative change, in the Euclidean norm, of a second sequence's hidden states when the
first is another. Masked attention gives 0; experts that share their matrix products may round
otherwise. A toy BLOOM, untrained, leaks 0.006."""

ROUNDING_TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""Largest relative difference to the hidden states that a sequence has alone: sums are taken in
another order. Toy models of four architectures that pack well differ by 1e-7 and 2e-3."""


def hidden_states(trunk: nn.Module, tokens_BT: Tensor, positions_BT: Tensor | None) -> Tensor:
    """Return the last hidden states of padded rows, or of a packed one, [B, T, H]."""
    # Not every trunk takes position ids, and padded rows need none.
    if positions_BT is None:
        return _last(trunk(input_ids=tokens_BT, use_cache=False))
    with kept_apart(positions_BT):
        return _last(trunk(input_ids=tokens_BT, position_ids=positions_BT, use_cache=False))


def _last(output: Any) -> Tensor:  # noqa: ANN401 - transformers' outputs share no type
    hidden_BTH: Tensor = output.last_hidden_state
    return hidden_BTH


def packs(model: PreTrainedModel, asked: bool | None, place: str) -> bool:  # noqa: FBT001 - the knob's value
    """Return whether a model's sequences are packed: as `asked`, or where it pays.

    The trunk is tried on two packed sequences; the model is whole and in evaluation mode.

    place: of the knob that asks for packing.

    Raises:
        InvalidError: packing is asked for, and a second sequence is not computed as it is alone.
    """
    if asked is False or (asked is None and model.device.type != "cpu"):
        return False
    leak, difference = _packing_errors(model)
    tolerance = ROUNDING_TOLERANCES.get(model.dtype, ROUNDING_TOLERANCES[torch.bfloat16])
    is_apart = leak <= LEAK_TOLERANCE and difference <= tolerance
    if asked and not is_apart:
        raise InvalidError(
            place,
            "true",
            f"{type(model).__name__} does not keep packed sequences apart: a second one's hidden "
            f"states differ by {difference:.2g} from its own, by {leak:.2g} with another first",
            "set it to false, or choose a model of another architecture",
        )
    return is_apart


@torch.no_grad()
def _packing_errors(model: PreTrainedModel) -> tuple[float, float]:
    """Return relative differences of a second sequence: to itself behind another one, and alone."""
    vocabulary = model.config.get_text_config().vocab_size
    generator = torch.Generator().manual_seed(0)
    shape = (1, FIRST_TOKENS + SECOND_TOKENS)
    tokens_BT = torch.randint(vocabulary, shape, generator=generator).to(model.device)
    other_BT = tokens_BT.clone()
    other_BT[:, :FIRST_TOKENS] = (tokens_BT[:, :FIRST_TOKENS] + 1) % vocabulary
    positions_BT = torch.cat([torch.arange(FIRST_TOKENS), torch.arange(SECOND_TOKENS)])[None]

    def second(tokens_BT: Tensor) -> Tensor:
        hidden_BTH = hidden_states(model.base_model, tokens_BT, positions_BT.to(model.device))
        return hidden_BTH[:, FIRST_TOKENS:].float()

    alone_BTH = hidden_states(model.base_model, tokens_BT[:, FIRST_TOKENS:], None).float()
    try:
        packed_BTH, behind_other_BTH = second(tokens_BT), second(other_BT)
    except (TypeError, RuntimeError):  # it takes no position ids, or counts on a mask
        return float("inf"), float("inf")
    norm = alone_BTH.norm()
    leak, difference = behind_other_BTH - packed_BTH, packed_BTH - alone_BTH
    return float(leak.norm() / norm), float(difference.norm() / norm)
