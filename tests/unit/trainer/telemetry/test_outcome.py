from pathlib import Path

import pytest

from rlhf_trainer.contract import AttemptPaths, Outcome, Phase, Result
from rlhf_trainer.telemetry.outcome import (
    write_rank_outcome,
    write_result,
    write_termination_message,
)

RESULT = Result(phase=Phase.PPO, outcome=Outcome.STOPPED, message="KL was 12 nats — too much")


def test_rank_outcome_and_result_can_be_read_back(paths: AttemptPaths) -> None:
    write_rank_outcome(paths, 3, RESULT)
    write_result(paths, RESULT)
    for name in ("outcome-3.json", "result.json"):
        text = (paths.root / name).read_text(encoding="utf-8")
        assert Result.from_json(text) == RESULT
    assert sorted(path.name for path in paths.root.iterdir()) == ["outcome-3.json", "result.json"]


def test_long_message_fits_4096_bytes(paths: AttemptPaths) -> None:
    write_result(paths, RESULT.model_copy(update={"message": "ü" * 10_000}))
    assert paths.result.stat().st_size <= 4096


def test_termination_message_is_written_where_the_kubelet_left_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "termination-log"
    monkeypatch.setenv("RLHF_TERMINATION_LOG", str(log))
    write_termination_message(RESULT)
    assert not log.exists()
    log.touch()
    write_termination_message(RESULT)
    assert Result.from_json(log.read_text(encoding="utf-8")) == RESULT
