"""Writes crds/ from the models: `python scripts/generate_crds.py`.

The file is never edited by hand. `make verify` fails when it is out of date.
"""

import sys
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML

from rlhf_operator.api.crd import definition

FOLDER = Path(__file__).resolve().parents[1] / "crds"

HEAD = "# DO NOT EDIT: written by `make generate` from operator/rlhf_operator/api.\n"

WIDTH = 10_000
"""Descriptions stand in one line each: their readers wrap for themselves."""


def text() -> str:
    """Return the definition as YAML."""
    yaml = YAML(typ="rt", pure=True)
    yaml.width = WIDTH
    output = StringIO()
    yaml.dump(definition(), output)
    return HEAD + output.getvalue()


def main() -> int:
    """Write the definition."""
    FOLDER.mkdir(exist_ok=True)
    name = definition()["metadata"]["name"].partition(".")
    (FOLDER / f"{name[2]}_{name[0]}.yaml").write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
