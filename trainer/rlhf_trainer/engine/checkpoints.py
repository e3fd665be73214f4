"""Checkpoints of a phase's policy: written whole, certified later, pruned by rule.

Recovery from them is decided elsewhere; here stands which ones exist and which are kept.
"""

import json
from collections.abc import Callable
from pathlib import Path

from rlhf_trainer.contract import AttemptPaths
from rlhf_trainer.engine.saving import MANIFEST
from rlhf_trainer.files import remove_folder, write_text


class Checkpoints:
    """The `step-N` folders of one attempt. All ranks keep count, one writes."""

    def __init__(self, paths: AttemptPaths, keep_last: int) -> None:
        self._paths = paths
        self._keep_last = keep_last
        self._steps: list[int] = []
        self._certified_step = 0

    @property
    def certified_step(self) -> int:
        """Newest checkpoint measured inside the KL limit; 0 is the SFT model, which needs none."""
        return self._certified_step

    def write(self, step: int, write: Callable[[Path], object], *, writes: bool) -> None:
        """Let `write` make the checkpoint of `step`; drop those that the rule does not keep."""
        self._steps.append(step)
        if writes:
            write(self._paths.checkpoint(step))
        self._prune(writes=writes)

    def certify(self, step: int, *, writes: bool) -> None:
        """Note that the policy after `step` updates is inside the KL limit, if it is saved."""
        if step not in self._steps:
            return
        self._certified_step = step
        if writes:
            note = json.dumps({"certifiedStep": step, "checkpoint": f"step-{step}"})
            write_text(self._paths.certified, note + "\n")
        self._prune(writes=writes)

    def _prune(self, *, writes: bool) -> None:
        kept = {*self._steps[-self._keep_last :], self._certified_step}
        for step in [step for step in self._steps if step not in kept]:
            self._steps.remove(step)
            if writes:
                remove_folder(self._paths.checkpoint(step))


def complete_steps(paths: AttemptPaths) -> list[int]:
    """Return the steps of which an attempt has a complete checkpoint, oldest first."""
    folders = paths.checkpoints.glob(f"step-*/{MANIFEST}")
    return sorted(int(path.parent.name.removeprefix("step-")) for path in folders)
