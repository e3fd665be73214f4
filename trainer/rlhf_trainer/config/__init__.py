"""Every hyper-parameter, declared once. Imports no torch: the operator and the CLI read it too."""

from rlhf_trainer.config.training import TrainingConfig

__all__ = ["TrainingConfig"]
