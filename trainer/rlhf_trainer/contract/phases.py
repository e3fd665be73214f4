"""The phases of a run: CamelCase in the API, a slug in paths, job names and commands."""

from enum import StrEnum


class Phase(StrEnum):
    """One phase of an RLHF run; members stand in the order in which they run."""

    PREPARATION = "Preparation"
    SFT = "SFT"
    REWARD_MODEL = "RewardModel"
    PPO = "PPO"
    EVALUATION = "Evaluation"

    @property
    def slug(self) -> str:
        """Spelling in paths, job names, labels and on the command line."""
        return _SLUGS[self]

    @classmethod
    def from_slug(cls, slug: str) -> "Phase":
        """Return the phase that `slug` names.

        Raises:
            ValueError: no phase is spelled so.
        """
        for phase, known in _SLUGS.items():
            if known == slug:
                return phase
        msg = f"phase={slug!r}: unknown; use one of {', '.join(_SLUGS.values())}"
        raise ValueError(msg)


_SLUGS = {
    Phase.PREPARATION: "preparation",
    Phase.SFT: "sft",
    Phase.REWARD_MODEL: "reward-model",
    Phase.PPO: "ppo",
    Phase.EVALUATION: "evaluation",
}
