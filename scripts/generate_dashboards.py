"""Writes the chart's Grafana dashboards: `python scripts/generate_dashboards.py`.

The files are never edited by hand. `make verify` fails when they are out of date.
"""

import json
import sys
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import fleet_dashboard, run_dashboard

FOLDER = Path(__file__).resolve().parents[1] / "charts" / "rlhf-operator" / "dashboards"


def texts() -> dict[str, str]:
    """Return the dashboards' JSON, by file name."""
    boards = {"rlhf-run": run_dashboard(), "rlhf-fleet": fleet_dashboard()}
    return {
        f"{name}.json": json.dumps(board.build(), cls=JSONEncoder, indent=2, sort_keys=True) + "\n"
        for name, board in boards.items()
    }


def main() -> int:
    """Write the dashboards."""
    FOLDER.mkdir(exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
