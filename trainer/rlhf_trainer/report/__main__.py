"""`python -m rlhf_trainer.report WORKSPACE`: writes the report and says where it is."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rlhf_trainer.contract import Outcome, Workspace
from rlhf_trainer.report.page import write_report


def main(argv: Sequence[str]) -> int:
    """Write the report that the command line asks for."""
    parser = argparse.ArgumentParser(
        prog="python -m rlhf_trainer.report", description="Write the HTML report on a run."
    )
    parser.add_argument("workspace", type=Path, metavar="WORKSPACE", help="the run's root folder")
    parser.add_argument("--output", type=Path, help="default: report.html in the workspace")
    arguments = parser.parse_args(argv)
    workspace: Path = arguments.workspace
    try:
        if not workspace.is_dir():
            sys.stderr.write(f"workspace={workspace}: no such folder; name the folder of a run\n")
            return Outcome.INVALID.exit_code
        if not Workspace(workspace).run.is_file() and not any(workspace.glob("iteration-*/")):
            problem = "holds no run (run.json, iteration-1)"
            sys.stderr.write(f"workspace={workspace}: {problem}; name the folder of a run\n")
            return Outcome.INVALID.exit_code
        sys.stdout.write(f"{write_report(workspace, arguments.output)}\n")
    except OSError as error:
        place = error.filename or arguments.output or workspace
        sys.stderr.write(
            f"{place}: the report cannot be made ({error.strerror}); set the rights of the folder "
            "or make room, or name another place with --output=FILE\n"
        )
        return Outcome.INVALID.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
