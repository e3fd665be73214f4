"""Two processes of one release, of which one leads."""

import signal
from collections.abc import Callable, Iterator

import pytest
from operating import OperatorProcess

Replicas = tuple[OperatorProcess, OperatorProcess]


@pytest.fixture
def replicas(
    unattended: OperatorProcess, prepare: Callable[[str], None]
) -> Iterator[Callable[..., Replicas]]:
    """Make two processes, not started yet; whatever becomes of them, they are gone afterwards."""
    prepare("led")
    made: list[OperatorProcess] = []

    def replicas(*options: str) -> Replicas:
        pair = unattended.beside("0", options=options), unattended.beside("1", options=options)
        made.extend(pair)
        return pair

    yield replicas
    for one in made:
        if one.process is not None:
            one.process.send_signal(signal.SIGCONT)
        one.kill()
