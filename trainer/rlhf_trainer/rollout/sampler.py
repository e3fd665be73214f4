"""Sampling with a transformers model: one decode loop with a KV cache that finished rows leave.

Log-probabilities and entropies are kept as they are drawn, so nothing [batch, time, vocabulary]
exists and no second pass is needed. Legend: B = live rows, T = tokens.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache, PreTrainedModel

from rlhf_trainer.data.micro_batches import token_budget_micro_batches
from rlhf_trainer.models.adapters import Role, active
from rlhf_trainer.models.batch import PAD_FILLER
from rlhf_trainer.models.packed_linear import packed
from rlhf_trainer.rollout.drawing import Drawn, draw
from rlhf_trainer.rollout.protocol import Response

COMPACT_BELOW = 0.8
"""Share of live rows below which finished ones leave the cache: copying it costs a little."""

NOT_DRAWN = -1
"""Stands where a finished row has no token."""


class TransformersSampler:
    """A rollout backend that decodes with the model it is given, on the model's device."""

    def __init__(
        self,
        lm: PreTrainedModel,
        *,
        role: Role = Role.POLICY,
        eos_token: int,
        temperature: float,
        maximum_tokens: int,
        budget_tokens: int,
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        self._lm = lm
        self._role = role
        self._eos_token = eos_token
        self._temperature = temperature
        self._maximum_tokens = maximum_tokens
        self._budget_tokens = budget_tokens
        self._heartbeat = heartbeat

    @torch.no_grad()
    def sample(
        self, prompts: Sequence[NDArray[np.integer]], uniforms: NDArray[np.float64]
    ) -> list[Response]:
        """Return one response per prompt; see `RolloutBackend.sample`."""
        responses: dict[int, Response] = {}
        lengths = [len(prompt) + self._maximum_tokens for prompt in prompts]
        with active(self._lm, self._role), packed(self._lm):
            for rows in token_budget_micro_batches(lengths, self._budget_tokens):
                batch = _Decoding([prompts[row] for row in rows], uniforms[rows], self._lm.device)
                self._decode(batch)
                responses.update(zip(rows, batch.responses(self._eos_token), strict=True))
        return [responses[row] for row in range(len(prompts))]

    def _decode(self, batch: "_Decoding") -> None:
        cache = DynamicCache(config=self._lm.config)
        tokens_BT = batch.prompts_BT
        for position in range(self._maximum_tokens):
            output = self._lm(
                **batch.inputs(tokens_BT),
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            uniform_B = batch.uniforms(position)
            drawn = draw(output.logits[:, -1], uniform_B, temperature=self._temperature)
            batch.note(drawn, position)
            token_B = drawn.token_B
            self._heartbeat()
            kept = batch.retire(token_B == self._eos_token)
            if batch.done:
                return
            if kept is not None:
                cache.batch_select_indices(kept)
                token_B = token_B[kept]
            tokens_BT = token_B.unsqueeze(1)


class _Decoding:
    """The rows of one decode loop: what has been drawn, and which rows are still live."""

    def __init__(
        self,
        prompts: Sequence[NDArray[np.integer]],
        uniforms: NDArray[np.float64],
        device: torch.device,
    ) -> None:
        count, width = len(prompts), max(len(prompt) for prompt in prompts)
        maximum_tokens = uniforms.shape[1]
        padded = np.full((count, width), PAD_FILLER, np.int64)
        for row, prompt in enumerate(prompts):
            padded[row, width - len(prompt) :] = prompt
        self.prompts_BT = torch.from_numpy(padded).to(device)
        self._pads_B = torch.tensor([width - len(prompt) for prompt in prompts], device=device)
        self._ragged = bool((self._pads_B > 0).any())
        self._seen = 0
        self._uniforms = torch.from_numpy(uniforms).to(device)
        self._rows_B = torch.arange(count, device=device)
        self._live_B = torch.ones(count, dtype=torch.bool, device=device)
        self._tokens = torch.full(
            (count, maximum_tokens), NOT_DRAWN, dtype=torch.long, device=device
        )
        self._log_probs = torch.zeros((count, maximum_tokens), device=device)
        self._entropies = torch.zeros((count, maximum_tokens), device=device)

    @property
    def done(self) -> bool:
        return len(self._rows_B) == 0

    def inputs(self, tokens_BT: Tensor) -> dict[str, Tensor | None]:
        """Return the model's inputs for tokens that follow those already in the cache.

        Positions count from each row's first real token; without pads no mask is needed.
        """
        start, self._seen = self._seen, self._seen + tokens_BT.shape[1]
        columns = torch.arange(self._seen, device=self._pads_B.device).unsqueeze(0)
        pads_B1 = self._pads_B.unsqueeze(1)
        return {
            "input_ids": tokens_BT,
            "attention_mask": (columns >= pads_B1).long() if self._ragged else None,
            "position_ids": (columns[:, start:] - pads_B1).clamp(min=0),
        }

    def uniforms(self, position: int) -> Tensor:
        """Return the draws of the rows still here, at a position of the response."""
        return self._uniforms[self._rows_B, position]

    def note(self, drawn: Drawn, position: int) -> None:
        """Keep what was drawn for live rows."""
        # Picking the live rows out by a mask would make the host wait for a GPU, three times.
        rows_B, live_B = self._rows_B, self._live_B
        self._tokens[rows_B, position] = drawn.token_B.where(live_B, NOT_DRAWN)
        self._log_probs[rows_B, position] = drawn.logp_B.where(live_B, 0.0)
        self._entropies[rows_B, position] = drawn.entropy_B.where(live_B, 0.0)

    def retire(self, ended_B: Tensor) -> Tensor | None:
        """Note which rows have ended; return those to keep when dropping others pays."""
        self._live_B = self._live_B & ~ended_B
        num_live = int(self._live_B.sum())
        if num_live > COMPACT_BELOW * len(self._rows_B):
            return None
        kept = self._live_B.nonzero().squeeze(1)
        self._rows_B = self._rows_B[kept]
        self._pads_B = self._pads_B[kept]
        self._live_B = self._live_B[kept]
        return kept

    def responses(self, eos_token: int) -> list[Response]:
        """Return what was drawn, row by row."""
        tokens, log_probs, entropies = (
            tensor.cpu().numpy() for tensor in (self._tokens, self._log_probs, self._entropies)
        )
        responses = []
        for row, length in enumerate((tokens >= 0).sum(1)):
            drawn = tokens[row, :length].copy()
            responses.append(
                Response(
                    drawn,
                    log_probs[row, :length].copy(),
                    entropies[row, :length].copy(),
                    bool(length and drawn[-1] == eos_token),
                )
            )
        return responses
