import os
from pathlib import Path

import pytest

from rlhf_operator.decide import AttemptProgress
from rlhf_operator.local.progress import (
    TAIL_BYTES,
    read_last_record,
    read_progress,
    read_result,
    read_shown_progress,
)
from rlhf_trainer.contract import AttemptPaths, HistoryRecord, Outcome, Phase, Result


@pytest.fixture
def paths(tmp_path: Path) -> AttemptPaths:
    return AttemptPaths(tmp_path)


def record(step: int, **values: float) -> str:
    return HistoryRecord(step=step, time=1.0, values=values).model_dump_json(by_alias=True) + "\n"


def test_read_progress_nothing_written_says_nothing(paths: AttemptPaths) -> None:
    assert read_progress(paths) == AttemptProgress()
    assert read_result(paths) is None


def test_read_progress_takes_each_file_s_part(paths: AttemptPaths) -> None:
    paths.history.write_text(
        record(6)
        + record(7, kl_nats=3.5, certified_step=6.0, reward_score=-99.0).replace("-99.0", "NaN")
    )
    paths.progress.write_text('{"step": 8, "totalSteps": 20, "text": "KL 3.5"}')
    for name in ("step-2", "step-10", "step-11.new", "other"):
        (paths.checkpoints / name).mkdir(parents=True)
    os.utime(paths.history, ns=(5, 5))
    os.utime(paths.progress, ns=(9, 9))
    assert read_progress(paths) == AttemptProgress(
        step=8,
        checkpoint_step=10,
        certified_step=6,
        metrics={"klNats": 3.5, "certifiedStep": 6.0},
        heartbeat=9,
    )


def test_read_progress_without_a_bar_goes_by_the_history(paths: AttemptPaths) -> None:
    paths.history.write_text(record(6))
    assert read_progress(paths).step == 6


def test_read_last_record_skips_what_is_half_written(paths: AttemptPaths) -> None:
    paths.history.write_text(record(1) + record(2) + record(3)[:10])
    last = read_last_record(paths)
    assert last is not None
    assert last.step == 2


def test_read_last_record_of_a_long_history_reads_its_end(paths: AttemptPaths) -> None:
    line = record(1, **{f"metric_{i}": 0.0 for i in range(50)})
    paths.history.write_text(line * (2 * TAIL_BYTES // len(line)) + record(9))
    last = read_last_record(paths)
    assert last is not None
    assert last.step == 9


@pytest.mark.parametrize("text", ["", "{", '{"step": "x"}'])
def test_read_shown_progress_nonsense_is_none(paths: AttemptPaths, text: str) -> None:
    paths.progress.write_text(text)
    assert read_shown_progress(paths) is None


def test_read_result_reads_what_the_trainer_wrote(paths: AttemptPaths) -> None:
    result = Result(phase=Phase.PPO, outcome=Outcome.STOPPED, message="KL", certified_step=3)
    paths.result.write_text(result.to_json())
    assert read_result(paths) == result
    paths.result.write_text(result.to_json()[:20])
    assert read_result(paths) is None
