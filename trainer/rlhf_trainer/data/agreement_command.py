"""`python -m rlhf_trainer.data.agreement_command FILE [--json]`: how far annotators agree.

Decided here: how the statistics are shown. `rlhf agreement` runs it. Imports neither torch nor
transformers.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from rlhf_trainer.config.data import DatasetSource
from rlhf_trainer.contract.outcomes import Outcome
from rlhf_trainer.data.agreement import Agreement, measure_agreement
from rlhf_trainer.data.loading import COMPARISONS, load
from rlhf_trainer.data.problems import Problem
from rlhf_trainer.data.sources import DEFAULT_SPLIT


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the agreement of the annotators of a file of comparisons."""
    parser = argparse.ArgumentParser(
        prog="rlhf_trainer.data.agreement_command", description=main.__doc__
    )
    parser.add_argument("file", help="comparisons with annotations: .jsonl, .parquet or a folder")
    parser.add_argument("--split", default=DEFAULT_SPLIT, help="split of a folder")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(arguments)
    source = DatasetSource(path=options.file, split=options.split)
    loaded = load(COMPARISONS, source, "comparisons", Path())
    agreement = measure_agreement(loaded.records)
    problems = loaded.problems or _without_annotators(options.file, agreement)
    if problems:
        sys.stderr.writelines(f"{problem}\n" for problem in problems)
        return Outcome.INVALID.exit_code
    report = {"comparisons": len(loaded.records), **agreement.to_json()}
    sys.stdout.write(json.dumps(report) + "\n" if options.json else _table(report))
    return Outcome.COMPLETED.exit_code


def _without_annotators(file: str, agreement: Agreement) -> list[Problem]:
    if agreement.items:
        return []
    problem = "no comparison has choices of two annotators or more"
    fix = 'add `annotations`: [{"annotator": "a", "choice": "chosen"}, ...]'
    return [Problem("file", file, problem, fix)]


def _table(report: dict[str, float | None]) -> str:
    rows = {
        "comparisons": _count(report["comparisons"]),
        "with two raters or more": _count(report["items"]),
        "raters": _count(report["raters"]),
        "ratings": _count(report["ratings"]),
        "percent agreement": _share(report["percentAgreement"]),
        "Cohen's kappa": f"{_kappa(report['cohenKappa'])}  "
        f"(mean over {report['cohenRaterPairs']} pairs of raters)",
        "Fleiss' kappa": _kappa(report["fleissKappa"]),
        "ties": _share(report["tieShare"]),
        "majority against chosen": _share(report["overruledShare"]),
    }
    width = max(map(len, rows))
    return "".join(f"{name:<{width}}  {value}\n" for name, value in rows.items())


def _count(value: float | None) -> str:
    return f"{value:,}"


def _share(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.1%}"


def _kappa(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
