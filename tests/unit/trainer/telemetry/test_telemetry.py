import io
import json
import math
from typing import Any

import pytest

from rlhf_trainer.contract import AttemptPaths, HistoryRecord, Phase, Progress
from rlhf_trainer.telemetry import RunInfo, Telemetry
from rlhf_trainer.telemetry.telemetry import RecordingTelemetry

INFO = RunInfo(run_name="helpful-7b", phase=Phase.PPO, iteration=1, attempt=2)


def records(paths: AttemptPaths) -> list[HistoryRecord]:
    return [
        HistoryRecord.model_validate_json(line)
        for line in paths.history.read_text(encoding="utf-8").splitlines()
    ]


def test_finish_step_writes_gauges_and_stage_times_of_that_step(
    open_telemetry: Any, paths: AttemptPaths, held_clock: Any
) -> None:
    telemetry = open_telemetry()
    telemetry.set("kl_nats", 4.5)
    telemetry.set("loss", 0.25, name="policy")
    telemetry.increment("tokens", 100.0, kind="response")
    with telemetry.stage("rollout"):
        held_clock.advance(2.0)
    with telemetry.stage("update"):
        held_clock.advance(1.0)
    with telemetry.stage("rollout"):
        held_clock.advance(0.5)
    telemetry.finish_step(1, event="KL above target")
    telemetry.set("kl_nats", 5.0)
    telemetry.finish_step(2)

    first, second = records(paths)
    assert first == HistoryRecord(
        step=1,
        time=1_790_000_003.5,
        values={"kl_nats": 4.5, 'loss{name="policy"}': 0.25},
        stage_seconds={"rollout": 2.5, "update": 1.0},
        event="KL above target",
    )
    assert second.values == {"kl_nats": 5.0}
    assert second.stage_seconds == {}


def test_history_record_is_on_disk_when_finish_step_returns(
    open_telemetry: Any, paths: AttemptPaths
) -> None:
    telemetry = open_telemetry()
    telemetry.finish_step(1)
    assert len(records(paths)) == 1


def test_history_leaves_out_what_two_equal_runs_do_not_share(
    open_telemetry: Any, paths: AttemptPaths
) -> None:
    telemetry = open_telemetry()
    telemetry.set("total_steps", 10)
    telemetry.finish_step(1)
    telemetry.finish_step(2)
    assert [record.values for record in records(paths)] == [{}, {}]


def test_non_finite_value_is_valid_json_and_survives_the_round_trip(
    open_telemetry: Any, paths: AttemptPaths
) -> None:
    telemetry = open_telemetry()
    telemetry.set("kl_nats", math.nan)
    telemetry.set("reward_score", -math.inf)
    telemetry.set("gradient_norm", math.inf)
    telemetry.finish_step(1)

    def refuse(constant: str) -> float:
        raise AssertionError(constant)

    line = json.loads(paths.history.read_text(encoding="utf-8"), parse_constant=refuse)
    assert line["values"] == {
        "kl_nats": "NaN",
        "reward_score": "-Infinity",
        "gradient_norm": "Infinity",
    }
    (record,) = records(paths)
    assert math.isnan(record.values["kl_nats"])
    assert record.values["reward_score"] == -math.inf
    assert record.values["gradient_norm"] == math.inf


@pytest.mark.parametrize(
    ("name", "value", "labels", "error"),
    [
        pytest.param("kl", 1.0, {}, "metric='kl': no such gauge", id="unknown name"),
        pytest.param("heartbeat", 1.0, {}, "no such gauge", id="a counter"),
        pytest.param("loss", 1.0, {}, r"labels=\[\]: loss has \['name'\]", id="missing label"),
        pytest.param("kl_nats", 1.0, {"name": "x"}, "labels=", id="unknown label"),
        pytest.param("kl_nats", True, {}, "not a Python number", id="bool"),
        pytest.param("kl_nats", "1", {}, "not a Python number", id="text"),
    ],
)
def test_set_wrong_call_is_refused(
    open_telemetry: Any, name: str, value: Any, labels: dict[str, str], error: str
) -> None:
    with pytest.raises((ValueError, TypeError), match=error):
        open_telemetry().set(name, value, **labels)


def test_set_tensor_is_refused(open_telemetry: Any) -> None:
    class Tensor:
        def __float__(self) -> float:
            raise AssertionError("a wait for the device")

    with pytest.raises(TypeError, match="not a Python number"):
        open_telemetry().set("kl_nats", Tensor())


@pytest.mark.parametrize("amount", [-1.0, math.nan])
def test_increment_amount_that_is_no_increase_is_refused(
    open_telemetry: Any, amount: float
) -> None:
    with pytest.raises(ValueError, match="never falls"):
        open_telemetry().increment("tokens", amount, kind="prompt")


def test_stage_nested_is_refused(open_telemetry: Any) -> None:
    telemetry = open_telemetry()
    with (
        telemetry.stage("rollout"),
        pytest.raises(RuntimeError, match="'rollout' is not finished"),
        telemetry.stage("update"),
    ):
        pass


def test_finish_step_inside_a_stage_is_refused(open_telemetry: Any) -> None:
    telemetry = open_telemetry()
    with telemetry.stage("rollout"), pytest.raises(RuntimeError, match="is not finished"):
        telemetry.finish_step(1)


def test_stage_name_that_is_no_label_is_refused(open_telemetry: Any) -> None:
    with pytest.raises(ValueError, match="not a name"), open_telemetry().stage("Roll out"):
        pass


def test_stage_that_failed_can_be_entered_again(open_telemetry: Any) -> None:
    telemetry = open_telemetry()
    with pytest.raises(KeyError), telemetry.stage("rollout"):
        raise KeyError
    with telemetry.stage("rollout"):
        pass


def test_finish_step_going_back_is_refused(open_telemetry: Any) -> None:
    telemetry = open_telemetry()
    telemetry.finish_step(3)
    telemetry.finish_step(3)
    with pytest.raises(ValueError, match="step=2: below the last one, 3"):
        telemetry.finish_step(2)


def test_progress_file_holds_step_total_and_headline(
    open_telemetry: Any, paths: AttemptPaths
) -> None:
    telemetry = open_telemetry()
    telemetry.set("total_steps", 40)
    telemetry.set("kl_limit_nats", 15.0)
    telemetry.set("kl_nats", 4.312)
    telemetry.set("reward_score", 0.5)
    telemetry.finish_step(7)
    progress = Progress.model_validate_json(paths.progress.read_text(encoding="utf-8"))
    assert progress == Progress(step=7, total_steps=40, text="KL 4.31 of 15 · reward 0.5")


def test_progress_file_is_written_four_times_a_second_at_most_and_at_the_end(
    open_telemetry: Any, paths: AttemptPaths, held_clock: Any
) -> None:
    def step_on_disk() -> int:
        return Progress.model_validate_json(paths.progress.read_text(encoding="utf-8")).step

    telemetry = open_telemetry()
    telemetry.progress(1, 100, "tokenising")
    telemetry.progress(2, 100, "tokenising")
    assert step_on_disk() == 1
    held_clock.advance(0.25)
    telemetry.progress(3, 100, "tokenising")
    telemetry.progress(4, 100, "tokenising")
    assert step_on_disk() == 3
    telemetry.close()
    assert step_on_disk() == 4
    assert [path.name for path in paths.root.iterdir() if path.name.startswith(".")] == []


def test_step_prints_one_bounded_line(
    open_telemetry: Any, stream: io.StringIO, held_clock: Any
) -> None:
    telemetry = open_telemetry()
    telemetry.set("total_steps", 40)
    for name in ("policy", "value", "sft", "validation", "reward", "x" * 200):
        telemetry.set("loss", 0.123456, name=name)
    telemetry.set("kl_nats", 4.31234)
    held_clock.advance(1.5)
    telemetry.finish_step(7, event='KL is "high"\nlower the learning rate ' + "x" * 500)
    (line,) = stream.getvalue().splitlines()
    assert line.startswith("time=2026-09-21T14:13:21Z phase=ppo step=7/40 seconds=1.50")
    assert "event=\"KL is 'high' lower the learning rate xxx" in line
    assert len(line) <= 240


def test_step_line_puts_the_telling_numbers_first(open_telemetry: Any, stream: io.StringIO) -> None:
    telemetry = open_telemetry()
    telemetry.set("loss", 0.5, name="policy")
    telemetry.set("kl_nats", 4.31234)
    telemetry.finish_step(7)
    assert stream.getvalue().endswith("step=7 seconds=0.00 kl_nats=4.312 loss.policy=0.5\n")


def test_note_is_printed_whole(open_telemetry: Any, stream: io.StringIO) -> None:
    text = "KL was 12.1 nats, above guard.kl.limitNats=10; " * 20
    open_telemetry().note(text)
    assert text.strip() in stream.getvalue()


def test_activity_prints_a_line_every_ten_seconds_and_at_the_end(
    open_telemetry: Any, stream: io.StringIO, held_clock: Any
) -> None:
    telemetry = open_telemetry()
    for step in range(1, 101):
        telemetry.progress(step, 100, "tokenising")
        held_clock.advance(0.25)
    steps = [line.split("step=")[1].split()[0] for line in stream.getvalue().splitlines()]
    assert steps == ["1/100", "41/100", "81/100", "100/100"]


def test_terminal_gets_a_bar_with_step_numbers_and_notes(
    paths: AttemptPaths, held_clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    terminal = Terminal()
    telemetry = RecordingTelemetry(
        paths, INFO, port=None, clock=held_clock.clock(), stream=terminal
    )
    telemetry.set("total_steps", 40)
    telemetry.set("kl_nats", 4.31234)
    telemetry.set("reward_score", 0.5)
    telemetry.finish_step(7, event="KL [above] target")
    telemetry.close()
    text = terminal.getvalue()
    assert "KL [above] target" in text
    assert "7/40" in text
    assert "KL 4.31 · reward 0.5" in text
    assert "step=7" not in text


def test_other_ranks_write_and_print_nothing(
    paths: AttemptPaths, capsys: pytest.CaptureFixture[str]
) -> None:
    with Telemetry.open(paths, INFO, port=0, is_main=False) as telemetry:
        telemetry.set("no_such_metric", 1.0)
        telemetry.increment("no_such_metric")
        telemetry.heartbeat()
        with telemetry.stage("rollout"):
            telemetry.progress(1, 2, "tokenising")
        telemetry.finish_step(1, event="x")
        telemetry.note("x")
    assert list(paths.root.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_close_twice_is_harmless(open_telemetry: Any) -> None:
    telemetry = open_telemetry(port=0)
    telemetry.close()
    telemetry.close()
