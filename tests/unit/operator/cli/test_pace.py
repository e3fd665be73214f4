from datetime import datetime, timedelta

import pytest

from rlhf_operator.cli.pace import Pace, in_words


@pytest.mark.parametrize(
    ("seconds", "step", "total", "remaining"),
    [
        pytest.param(30, 13, 20, 70, id="resumed at ten"),
        pytest.param(30, 10, 20, None, id="no step yet"),
        pytest.param(30, 12, 0, None, id="end unknown"),
        pytest.param(30, 20, 20, 0, id="at the end"),
        pytest.param(30, 22, 20, 0, id="beyond the end"),
    ],
)
def test_remaining_seconds_go_by_the_steps_seen(
    noon: datetime, seconds: int, step: int, total: int, remaining: float | None
) -> None:
    pace = Pace(noon, step=10)
    assert pace.remaining_seconds(noon + timedelta(seconds=seconds), step, total) == remaining


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (185, "3 min 05 s"), (3720, "1 h 02 min")],
)
def test_in_words_reads_as_people_write(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
