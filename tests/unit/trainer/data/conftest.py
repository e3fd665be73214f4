"""Small data files."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# a deadline measures the load of the machine, not the code
settings.register_profile("data", deadline=None)
settings.load_profile("data")


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., Path]:
    """Write rows as a JSONL file below tmp_path, and return its path."""

    def write(name: str, *rows: object) -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write
