"""Writes crds/ from the models: `python scripts/generate_crds.py`.

The file is never edited by hand. `make verify` fails when it is out of date.
"""

import sys
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from ruamel.yaml import YAML

from rlhf_operator.api.crd import definition

FOLDER = Path(__file__).resolve().parents[1] / "crds"

HEAD = "# DO NOT EDIT: written by `make generate` from operator/rlhf_operator/api.\n"

WIDTH = 10_000
"""Descriptions stand in one line each: their readers wrap for themselves."""


def text(annotations: Mapping[str, str] | None = None) -> str:
    """Return the definition as YAML."""
    tree = definition()
    if annotations:
        tree["metadata"]["annotations"] = dict(annotations)
    yaml = YAML(typ="rt", pure=True)
    yaml.width = WIDTH
    output = StringIO()
    yaml.dump(tree, output)
    return HEAD + output.getvalue()


def file_name() -> str:
    """Return what the definition's file is called, as controller-gen calls it."""
    plural, _, group = definition()["metadata"]["name"].partition(".")
    return f"{group}_{plural}.yaml"


def main() -> int:
    """Write the definition."""
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / file_name()).write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
