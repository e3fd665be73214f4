"""Run under torchrun: phases that nothing disturbs, and how many moments each of them has.

Arguments: the phases' command lines as JSON, and the file for the numbers.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from moments import Moments
from one_start import run_case, start_once

from rlhf_trainer.contract import Outcome
from rlhf_trainer.engine import ranks as process_group
from rlhf_trainer.launch.arguments import Arguments


def main(cases: Path, log: Path) -> None:
    stop, ranks = process_group.stop, start_once()
    moments, counts = Moments("", lambda _: None), []
    moments.watch()
    for argv in json.loads(cases.read_text("utf-8")):
        moments.folder, moments.count = str(Arguments.parse(argv).paths.root), 0
        result = run_case(argv, ranks)
        assert result.outcome is Outcome.COMPLETED, result.message
        counts.append(moments.count)
    if ranks.is_main:
        log.write_text(json.dumps(counts), "utf-8")
    stop()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
