"""Run under torchrun: PPO phases, each with the first pass kept and made anew; counts the passes.

Rank 0 leaves for each case how many forward passes either took, with and without gradient.
"""

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from one_start import run_case, start_once
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

from rlhf_trainer.engine import ranks as process_group
from rlhf_trainer.models.policy import Policy
from rlhf_trainer.models.role_model import RoleModel
from rlhf_trainer.models.scalar_head import ScalarHead
from rlhf_trainer.phases.first_pass import FirstPass


class Counter:
    """Counts forward passes of whole networks."""

    def __init__(self) -> None:
        self.passes = 0
        register_module_forward_pre_hook(self._count)

    def _count(self, module: nn.Module, _inputs: object) -> None:
        self.passes += isinstance(module, (Policy, RoleModel, ScalarHead))


def main(cases: Path, folder: Path) -> None:
    stop, ranks = process_group.stop, start_once()
    counter, begin = Counter(), FirstPass.begin
    counts: dict[str, int] = {}

    def begin_anew(first_pass: FirstPass, **_: Any) -> None:
        begin(first_pass, keep=False)

    for name, argv in json.loads(cases.read_text(encoding="utf-8")):
        FirstPass.begin = begin if name.endswith("kept") else begin_anew  # type: ignore[method-assign, assignment] # what is compared
        counter.passes = 0
        result = run_case(argv, ranks)
        assert result.outcome.exit_code == 0, f"{name}: {result.message}"
        counts[name] = counter.passes
    if ranks.is_main:
        (folder / "counts.json").write_text(json.dumps(counts), encoding="utf-8")
    stop()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
