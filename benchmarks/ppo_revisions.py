"""Our PPO of two revisions, in turns: `ppo_revisions.py --before TREE` says what a change brought.

TREE is a checkout of the older revision, such as `git worktree add` makes. The programs that
measure are this tree's on both sides; only the trainer differs.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ppo_variants import Variant, compare, parser_of
from recording import Result, Section, conditions, load, record
from turns import ALLOCATOR


def main(argv: Sequence[str]) -> None:
    """Measure what is asked for and leave the result."""
    parser = parser_of(__doc__)
    parser.add_argument("--before", type=Path, required=True, help="tree of the older revision")
    parser.add_argument("--ppo-before", type=json.loads, default={}, help="JSON: its spec.ppo")
    parser.add_argument("--ppo-after", type=json.loads, default={}, help="JSON: spec.ppo of this")
    asked = parser.parse_args(argv)
    before, tree = load(), asked.before.resolve()
    variants = (Variant("before", tree, asked.ppo_before), Variant("after", ppo=asked.ppo_after))
    result = Result(
        name="ppo-before-after",
        section=Section.TRAINING,
        title="PPO before and after",
        measured=(
            f"Our PPO of revision {_revision(tree)} (before) and of this tree (after), on the "
            "cases above. Steps are taken in turns; a number is the median of "
            f"{asked.rounds} after a warm-up."
        ),
        command="python benchmarks/ppo_revisions.py --before TREE",
        tables=(compare(asked, "revision", variants),),
        conditions=conditions(before, settings=ALLOCATOR),
    )
    print(f"left {record(result, asked.results)}", flush=True)


def _revision(tree: Path) -> str:
    done = subprocess.run(  # noqa: S603 - all arguments are written here
        ["git", "-C", str(tree), "rev-parse", "--short=10", "HEAD"],  # noqa: S607 - the installed git
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


if __name__ == "__main__":
    main(sys.argv[1:])
