"""`python -m rlhf_trainer.phases.plan_command`: how much memory a run will need. No data is read.

Decided here: how a plan is shown. `rlhf plan` runs it, and tells where the phases run.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import Hardware, Outcome
from rlhf_trainer.errors import InvalidError, PhaseError
from rlhf_trainer.phases.memory import fix_of, models_of
from rlhf_trainer.phases.named_models import named_models
from rlhf_trainer.planning.changes import smallest_change
from rlhf_trainer.planning.plan import make_plan
from rlhf_trainer.planning.table import refusal, table, to_json

NO_WEIGHTS_NEEDED = "; a folder with the model's config.json is enough to plan with"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the memory plan of a run."""
    parser = argparse.ArgumentParser(
        prog="rlhf_trainer.phases.plan_command", description=main.__doc__
    )
    parser.add_argument("--config", type=Path, required=True, help="configuration, JSON")
    parser.add_argument("--hardware", type=Path, required=True, help="where phases run, JSON")
    parser.add_argument("--data-root", type=Path, required=True, help="folder of models")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    config = TrainingConfig.model_validate_json(options.config.read_text(encoding="utf-8"))
    hardware = Hardware.from_json(options.hardware.read_text(encoding="utf-8"))
    try:
        return _plan(config, hardware, options.data_root, as_json=options.json)
    except PhaseError as error:
        needed = NO_WEIGHTS_NEEDED if error.reason == "HubUnreachable" else ""
        sys.stderr.write(f"{error.message}{needed}\n")
        return error.outcome.exit_code


def _plan(config: TrainingConfig, hardware: Hardware, data_root: Path, *, as_json: bool) -> int:
    models = models_of(config, data_root, named_models(config, data_root))
    if models is None:
        sys.stderr.write(
            f"spec.model.source={config.model.source}: the sizes of this architecture, or of the "
            "reward model's, cannot be told from its configuration; plan with a model of a known "
            "architecture and the same size\n"
        )
        return Outcome.INVALID.exit_code
    plan = make_plan(config, models, hardware.places)
    edits = smallest_change(config, models, hardware.places) if plan.refused else None
    if as_json:
        sys.stdout.write(json.dumps(to_json(plan, edits), indent=2) + "\n")
    else:
        sys.stdout.write(table(plan))
    if plan.refused is None:
        return Outcome.COMPLETED.exit_code
    fix = fix_of(edits, config, models, hardware.places)
    sys.stderr.write(f"{InvalidError(*refusal(plan.refused), fix).message}\n")
    return Outcome.INVALID.exit_code


if __name__ == "__main__":
    sys.exit(main())
