"""What tests of models share."""

import pytest
import torch


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of oneDNN's products, as its only item."""
    count = [0]
    real = torch.ops.mkldnn._linear_pointwise

    class Counted:
        def __call__(self, *args: object) -> torch.Tensor:
            count[0] += 1
            return real(*args)

    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", Counted())
    return count
