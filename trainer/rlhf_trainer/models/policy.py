"""The policy: a causal language model that answers with log-probabilities of given tokens.

The reference is the same class, frozen. With a shared trunk it carries the value head too.
"""

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from typing_extensions import override

from rlhf_trainer.models.batch import SequenceBatch
from rlhf_trainer.models.last_layer import hidden_at
from rlhf_trainer.models.log_probs import selected_log_probs


class Policy(nn.Module):
    """A language model's log-probabilities, and values if it has a value head."""

    def __init__(
        self, lm: PreTrainedModel, *, temperature: float, value_head: bool = False
    ) -> None:
        super().__init__()
        self.lm = lm
        self.temperature = temperature
        self.value_head = new_value_head(lm) if value_head else None

    @override
    def forward(
        self,
        tokens_BT: Tensor,
        predict_N: Tensor,
        target_N: Tensor | None,
        positions_BT: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return (logp_N,), or (logp_N, value_N) with a value head: float32, nats, score units.

        Arguments are those of a `SequenceBatch`. Values are read where the next token is predicted;
        without targets they are all that is returned.
        """
        hidden_NH = hidden_at(self.lm.base_model, tokens_BT, predict_N, positions_BT)
        answers: list[Tensor] = []
        if target_N is not None:
            head = self.lm.get_output_embeddings()
            answers.append(
                selected_log_probs(hidden_NH, head, target_N, temperature=self.temperature)
            )
        if self.value_head is not None:
            answers.append(self.value_head(hidden_NH).squeeze(-1).float())
        return tuple(answers)


def new_value_head(lm: PreTrainedModel) -> nn.Linear:
    """Return a head that gives every hidden state the value 0 (OpenAI's lm-human-preferences)."""
    like = next(lm.parameters())
    size = lm.config.get_text_config().hidden_size
    head = nn.Linear(size, 1, device=like.device, dtype=like.dtype)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head


@torch.no_grad()
def log_probs(policy: nn.Module, batch: SequenceBatch) -> Tensor:
    """Return the detached log-probabilities of a batch's response tokens, [N] float32, in nats."""
    logp_N: Tensor = policy(batch.tokens_BT, batch.predict_N, batch.target_N, batch.positions_BT)[0]
    return logp_N
