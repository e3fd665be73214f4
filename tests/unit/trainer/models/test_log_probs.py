"""How often the head computes: once for a chunk that is kept, twice for each of several."""

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from rlhf_trainer.models import log_probs as log_probs_module
from rlhf_trainer.models.log_probs import selected_log_probs

VOCABULARY = 24


class Counting(nn.Linear):
    """A head that counts its calls."""

    calls = 0

    @override
    def forward(self, input: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(input)


@pytest.mark.parametrize(
    ("tokens", "forward", "backward"),
    [pytest.param(4, 1, 0, id="one-chunk"), pytest.param(11, 3, 3, id="several-chunks")],
)
def test_probabilities_of_several_chunks_are_not_kept_but_computed_again(
    monkeypatch: pytest.MonkeyPatch, tokens: int, forward: int, backward: int
) -> None:
    monkeypatch.setattr(log_probs_module, "CHUNK_BYTES", 4 * VOCABULARY * 4)
    head = Counting(8, VOCABULARY)
    target = torch.zeros(tokens, dtype=torch.long)
    logp = selected_log_probs(torch.randn(tokens, 8), head, target, temperature=1.0)
    assert head.calls == forward
    logp.sum().backward()
    assert head.calls == forward + backward
