"""Policy, reference, critic and reward model on one base: an adapter and a head for each role."""

from collections.abc import Callable
from typing import assert_never

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from typing_extensions import override

from rlhf_trainer.models.adapters import Role, active, has_adapter, parameters_of
from rlhf_trainer.models.batch import SequenceBatch
from rlhf_trainer.models.last_layer import hidden_at
from rlhf_trainer.models.log_probs import selected_log_probs
from rlhf_trainer.models.policy import new_value_head


class RoleModel(nn.Module):
    """A language model that answers in the role it is asked to.

    Without an adapter for the critic, values are read from the policy's hidden states.
    """

    def __init__(
        self,
        lm: PreTrainedModel,
        *,
        temperature: float,
        value_head: bool = False,
        score_weight: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.lm = lm
        self.temperature = temperature
        self.value_head = new_value_head(lm) if value_head else None
        self.score_head: nn.Linear | None = None
        if score_weight is not None:
            self.score_head = _frozen_head(lm, score_weight)

    @override
    def forward(
        self,
        role: Role,
        tokens_BT: Tensor,
        position_N: Tensor,
        target_N: Tensor,
        positions_BT: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return what `role` answers at flat positions, each [N] float32.

        POLICY: log-probabilities of the targets in nats, and values if there is a value head.
        REFERENCE: log-probabilities. CRITIC: values. REWARD: raw scores. One backward pass trains
        policy and critic, which DeepSpeed's ZeRO needs: after two, it loses gradients.
        """

        def hidden(role: Role) -> Tensor:
            with active(self.lm, role):
                return hidden_at(self.lm.base_model, tokens_BT, position_N, positions_BT)

        match role:
            case Role.POLICY:
                hidden_NH = hidden(role)
                logp_N = self._log_probs(hidden_NH, target_N)
                if self.value_head is None:
                    return (logp_N,)
                if has_adapter(self.lm, Role.CRITIC):
                    hidden_NH = hidden(Role.CRITIC)
                return logp_N, _numbers(self.value_head, hidden_NH)
            case Role.REFERENCE:
                return (self._log_probs(hidden(role), target_N),)
            case Role.CRITIC:
                own = has_adapter(self.lm, role)
                hidden_NH = hidden(role if own else Role.POLICY)
                return (_numbers(self.value_head, hidden_NH),)
            case Role.REWARD:
                return (_numbers(self.score_head, hidden(role)),)
            case _:
                assert_never(role)

    def _log_probs(self, hidden_NH: Tensor, target_N: Tensor) -> Tensor:
        head = self.lm.get_output_embeddings()
        return selected_log_probs(hidden_NH, head, target_N, temperature=self.temperature)

    def train_roles(self) -> None:
        """Let policy, critic and value head learn; everything else stays as it is."""
        self.requires_grad_(requires_grad=False)
        for parameter in (*self.policy_parameters(), *self.critic_parameters()):
            parameter.requires_grad_()

    def policy_parameters(self) -> list[nn.Parameter]:
        """Return what the policy learns with."""
        return parameters_of(self.lm, Role.POLICY)

    def critic_parameters(self) -> list[nn.Parameter]:
        """Return what the critic learns with."""
        head = self.value_head.parameters() if self.value_head is not None else ()
        return [*parameters_of(self.lm, Role.CRITIC), *head]


@torch.no_grad()
def answer(model: Callable[..., tuple[Tensor, ...]], role: Role, batch: SequenceBatch) -> Tensor:
    """Return the one tensor that `role` answers about a batch's response tokens, detached."""
    return model(role, batch.tokens_BT, batch.predict_N, batch.target_N, batch.positions_BT)[0]


def _numbers(head: nn.Linear | None, hidden_NH: Tensor) -> Tensor:
    assert head is not None  # noqa: S101 - the role is only asked of a model that has its head
    numbers_N: Tensor = head(hidden_NH).squeeze(-1).float()
    return numbers_N


def _frozen_head(lm: PreTrainedModel, weight: Tensor) -> nn.Linear:
    like = next(lm.parameters())
    head = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    head.weight.data.copy_(weight)
    return head.to(device=like.device, dtype=like.dtype)
