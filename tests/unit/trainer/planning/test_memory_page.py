"""The plans that docs/memory.md shows are those of today's formulas."""

import os
import re
from collections.abc import Callable
from pathlib import Path

from rlhf_operator.api.manifest import load_manifest
from rlhf_operator.cli.plan import BUILT_IN_POOLS
from rlhf_operator.render import hardware_of
from rlhf_trainer.planning.architecture import Architecture
from rlhf_trainer.planning.networks import Models
from rlhf_trainer.planning.plan import make_plan
from rlhf_trainer.planning.table import table

ROOT = Path(__file__).resolve().parents[4]
PAGE = ROOT / "docs" / "memory.md"
BLOCK = re.compile(r"(<!-- plan: (?P<asked>[^\n]*) -->\n```text\n)(?P<shown>.*?)(```)", re.DOTALL)
"""Begins with the manifest's name below examples/plans, and overrides."""

UPDATE = "RLHF_TEST_UPDATE_GOLDEN"


def test_memory_page_shows_the_plans_of_today(llama: Callable[[str], Architecture]) -> None:
    def planned(match: re.Match[str]) -> str:
        name, *overrides = match["asked"].split()
        run = load_manifest(ROOT / "examples" / "plans" / f"{name}.yaml", overrides)
        architecture = llama(run.spec.model.source)
        places = hardware_of(run.spec, BUILT_IN_POOLS).places
        plan = make_plan(run.spec.training(), Models(architecture, architecture), places)
        return f"{match[1]}{table(plan).rstrip()}\n{match[4]}"

    text = PAGE.read_text(encoding="utf-8")
    today = BLOCK.sub(planned, text)
    assert len(BLOCK.findall(text)) == 3
    if os.environ.get(UPDATE):
        PAGE.write_text(today, encoding="utf-8")
    assert today == PAGE.read_text(encoding="utf-8"), f"set {UPDATE}=1 to write it anew"
