"""Runs the programs beside this file with a release of TRL, each in a process of its own."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trl_release import Release

HERE = Path(__file__).parent
_TIMEOUT_SECONDS = 600


@dataclass(frozen=True)
class Peer(Release):
    """A release of TRL to compare with."""

    def run(self, program: str, task: dict[str, Any], folder: Path) -> str:
        """Run one of the programs beside this file on a task; return what it wrote."""
        file = folder / f"{Path(program).stem}.json"
        file.write_text(json.dumps(task), encoding="utf-8")
        done = subprocess.run(
            [sys.executable, str(HERE / program), str(file)],
            cwd=folder,
            env=self.environment | {"OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_TIMEOUT_SECONDS,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout
