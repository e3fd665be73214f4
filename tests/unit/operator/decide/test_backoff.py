import pytest

from rlhf_operator.decide.backoff import backoff


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(0, 10), (1, 10), (2, 20), (3, 40), (4, 80), (5, 160), (6, 300), (7, 300), (10_000, 300)],
)
def test_backoff_doubles_up_to_its_cap(failures: int, seconds: int) -> None:
    assert backoff(failures).total_seconds() == seconds
