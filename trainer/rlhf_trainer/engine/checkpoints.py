"""Checkpoints of one attempt: written whole by all ranks, certified later, pruned by rule."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

from rlhf_trainer.contract import AttemptPaths
from rlhf_trainer.engine.manifest import Beat
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.engine.saving import write_together
from rlhf_trainer.files import remove_folder, write_text


class Checkpoints:
    """The `step-N` folders of one attempt. All ranks keep count, one prunes."""

    def __init__(
        self, paths: AttemptPaths, keep_last: int, ranks: Ranks, *, adopted: Iterable[int] = ()
    ) -> None:
        """Begin with the checkpoints that the attempt took over from its predecessor."""
        self._paths = paths
        self._keep_last = keep_last
        self._ranks = ranks
        self._steps = sorted(adopted)
        self._certified_step = 0

    @property
    def certified_step(self) -> int:
        """Newest checkpoint measured inside the KL limit; 0 is the SFT model, which needs none."""
        return self._certified_step

    @property
    def newest_step(self) -> int:
        """Newest complete checkpoint; 0 if there is none."""
        return self._steps[-1] if self._steps else 0

    def write(self, step: int, write: Callable[[Path], object], beat: Beat = lambda: None) -> None:
        """Let all ranks make the checkpoint of `step`; drop those that the rule does not keep."""
        write_together(self._paths.checkpoint(step), self._ranks, write, beat)
        self._steps.append(step)
        self._prune()

    def certify(self, step: int) -> None:
        """Note that the policy after `step` updates is inside the KL limit, if it is saved."""
        if step not in self._steps:
            return
        self._certified_step = step
        if self._ranks.is_main:
            note = json.dumps({"certifiedStep": step, "checkpoint": f"step-{step}"})
            write_text(self._paths.certified, note + "\n")
        self._prune()

    def _prune(self) -> None:
        kept = {*self._steps[-self._keep_last :], self._certified_step}
        for step in [step for step in self._steps if step not in kept]:
            self._steps.remove(step)
            if self._ranks.is_main:
                remove_folder(self._paths.checkpoint(step))
