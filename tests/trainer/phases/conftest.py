from pathlib import Path

import pytest
from preparing import Prepare, prepare_in


@pytest.fixture
def prepare(tmp_path: Path) -> Prepare:
    """Return a function that lays out sound data and returns the context of a Preparation on it."""
    return prepare_in(tmp_path)
