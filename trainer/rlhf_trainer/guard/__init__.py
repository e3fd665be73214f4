"""When training stops by itself: one pure state machine, used by the trainer and by the operator.

Opens no file, reads no clock, imports no torch. What to do about a verdict is its caller's affair.
"""

from rlhf_trainer.guard.machine import Measurement, observe
from rlhf_trainer.guard.rules import EntropyRule, GuardRules, KLRule, LengthRule
from rlhf_trainer.guard.state import GuardState
from rlhf_trainer.guard.verdict import Action, Breach, NonFinite, Reason, Signal, Verdict

__all__ = [
    "Action",
    "Breach",
    "EntropyRule",
    "GuardRules",
    "GuardState",
    "KLRule",
    "LengthRule",
    "Measurement",
    "NonFinite",
    "Reason",
    "Signal",
    "Verdict",
    "observe",
]
