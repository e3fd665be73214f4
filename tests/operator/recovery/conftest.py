"""An operator that the tests start and end as they like."""

from collections.abc import Callable, Iterator

import pytest
from operating import OperatorProcess


@pytest.fixture(scope="module")
def mortal(
    unattended: OperatorProcess, prepare: Callable[[str], None]
) -> Iterator[OperatorProcess]:
    """An operator that is started by the tests, the usual one being away."""
    prepare("recovery")
    process = unattended.beside("mortal")
    yield process
    process.kill()
