"""`rlhf run` with the stand-in launcher, for tests that need a process of its own."""

import signal
import sys
from pathlib import Path

from rlhf_operator.api.manifest import load_manifest
from rlhf_operator.cli.exit_codes import exit_code_of
from rlhf_operator.cli.run import run_manifest
from rlhf_operator.errors import OperatorError

LAUNCHER = (sys.executable, str(Path(__file__).with_name("fake_launcher.py")))


def main(file: Path, workspace: Path) -> int:
    try:
        wanted = load_manifest(file)
        return run_manifest(wanted, file.parent, workspace, fresh=False, launcher=LAUNCHER)
    except OperatorError as error:
        sys.stderr.write(f"{error}\n")
        return exit_code_of(error)


if __name__ == "__main__":
    # A shell's background job ignores the first, nohup the second.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
