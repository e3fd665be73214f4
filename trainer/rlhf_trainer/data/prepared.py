"""What Preparation leaves for the phases after it: typed access to its folder.

`summary.json` is written last: where it is, everything is. What goes into it is decided elsewhere.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from rlhf_trainer.data.special_tokens import SpecialTokens
from rlhf_trainer.data.store import Demonstrations, Pairs, Prompts
from rlhf_trainer.data.tokenise import TokenisedSet
from rlhf_trainer.files import write_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class PreparedSet(StrEnum):
    """The tokenised sets, by the names of their folders."""

    DEMONSTRATIONS = "demonstrations"
    HELD_OUT_DEMONSTRATIONS = "demonstrations-heldout"
    COMPARISONS = "comparisons"
    HELD_OUT_COMPARISONS = "comparisons-heldout"
    PROMPTS = "prompts"
    HELD_OUT_PROMPTS = "prompts-heldout"


class Reads(StrEnum):
    """What a reward model is given of a prompt and its response."""

    TOKENS = "tokens"
    """Those of the policy: they mean the same to it."""
    TEXT = "text"
    """It has a tokenizer of its own, and perhaps a chat template."""


TokenisedSets = Mapping[PreparedSet, TokenisedSet]


@dataclass(frozen=True)
class PreparedData:
    """The tokenised data sets of a run, memory-mapped, and the tokenizer they were made with."""

    root: Path

    def folder(self, which: PreparedSet) -> Path:
        """Return the folder of one set."""
        return self.root / which

    @property
    def tokenizer(self) -> Path:
        """Folder of the tokenizer, its PAD chosen; transformers loads it."""
        return self.root / "tokenizer"

    @property
    def summary(self) -> Path:
        """Counts, token statistics, agreement and special tokens, as JSON."""
        return self.root / "summary.json"

    def special_tokens(self) -> SpecialTokens:
        """Return the tokens that begin, end and fill sequences."""
        return SpecialTokens(**json.loads(self.summary.read_text("utf-8"))["specialTokens"])

    @property
    def reward_model_reads_text(self) -> bool:
        """Whether the reward model has a tokenizer of its own, so that it is given text."""
        summary = json.loads(self.summary.read_text("utf-8"))
        return bool(summary["rewardModel"]["reads"] == Reads.TEXT)

    def write(
        self,
        sets: TokenisedSets,
        tokenizer: "PreTrainedTokenizerBase",
        special: SpecialTokens,
        facts: Mapping[str, object],
    ) -> None:
        """Write everything, the summary last; `facts` enter it."""
        self.root.mkdir(parents=True, exist_ok=True)
        for which, tokenised in sets.items():
            tokenised.data.write(self.folder(which))
        tokenizer.save_pretrained(self.tokenizer)
        summary = {
            **facts,
            "tokens": {which.value: tokenised.summary() for which, tokenised in sets.items()},
            "specialTokens": asdict(special),
        }
        write_text(self.summary, json.dumps(summary, indent=2) + "\n")

    def demonstrations(self) -> Demonstrations:
        """Return what SFT trains on."""
        return Demonstrations.read(self.folder(PreparedSet.DEMONSTRATIONS))

    def held_out_demonstrations(self) -> Demonstrations:
        """Return what SFT validates on."""
        return Demonstrations.read(self.folder(PreparedSet.HELD_OUT_DEMONSTRATIONS))

    def pairs(self) -> Pairs:
        """Return the comparisons that the reward model trains on."""
        return Pairs.read(self.folder(PreparedSet.COMPARISONS))

    def held_out_pairs(self) -> Pairs:
        """Return the comparisons that the reward model validates on."""
        return Pairs.read(self.folder(PreparedSet.HELD_OUT_COMPARISONS))

    def prompts(self) -> Prompts:
        """Return what PPO samples responses to."""
        return Prompts.read(self.folder(PreparedSet.PROMPTS))

    def held_out_prompts(self) -> Prompts:
        """Return the prompts of Evaluation, which takes the first ones: their order is a hash's.

        No two are the same.
        """
        return Prompts.read(self.folder(PreparedSet.HELD_OUT_PROMPTS))
