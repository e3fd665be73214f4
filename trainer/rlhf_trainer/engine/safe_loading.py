"""Reading DeepSpeed's checkpoint files without running what may have been put into them."""

from typing import Any

import torch
from deepspeed.runtime.checkpoint_engine.torch_checkpoint_engine import TorchCheckpointEngine
from deepspeed.runtime.fp16.loss_scaler import LossScaler
from deepspeed.runtime.zero.config import ZeroStageEnum
from deepspeed.utils.tensor_fragment import fragment_address
from typing_extensions import override

KNOWN = (LossScaler, ZeroStageEnum, fragment_address)
"""Classes besides tensors and plain values that DeepSpeed writes."""


class SafeCheckpointEngine(TorchCheckpointEngine):  # type: ignore[misc] # DeepSpeed has no types
    """DeepSpeed's own files; others write to a workspace too, so no pickle in it is trusted."""

    @override
    def load(self, path: str, map_location: Any = None) -> Any:
        """Return what a file holds; torch refuses classes that are not known."""
        with torch.serialization.safe_globals(list(KNOWN)):
            return torch.load(path, map_location=map_location, weights_only=True)
