import math

from rlhf_operator.api import AttemptKey, RunKey
from rlhf_operator.watchdog import Readings
from rlhf_operator.watchdog.reader import Reading
from rlhf_trainer.contract import HistoryRecord, Phase

KEY = RunKey("a", "demo")
ATTEMPT = AttemptKey(1, Phase.PPO, 1)


def record(step: int, **values: float) -> HistoryRecord:
    return HistoryRecord(step=step, time=0, values=values)


def test_take_keeps_steps_until_the_status_knows_them() -> None:
    readings = Readings()
    first = Reading(1, (record(0, kl_nats=1.0), record(1, kl_nats=2.0, certified_step=0.0)))
    readings.take(KEY, ATTEMPT, first, 1.0)
    readings.take(KEY, ATTEMPT, Reading(2, (record(2, kl_nats=3.0),)), 2.0)
    seen = readings.progress(KEY, ATTEMPT, None)
    assert seen.kl_nats == ((0, 1.0), (1, 2.0), (2, 3.0))
    assert (seen.step, seen.certified_step, seen.heartbeat) == (2, 0, 2)
    assert readings.since(KEY, ATTEMPT, None) == 2
    assert readings.progress(KEY, ATTEMPT, 1).kl_nats == ((2, 3.0),)


def test_take_nothing_leaves_what_was_read_and_says_so() -> None:
    readings = Readings()
    readings.take(KEY, ATTEMPT, Reading(1, (record(4, kl_nats=1.0),)), 1.0)
    readings.take(KEY, ATTEMPT, None, 2.0)
    assert readings.progress(KEY, ATTEMPT, None).metrics_available is True
    readings.take(KEY, ATTEMPT, None, 32.0)
    seen = readings.progress(KEY, ATTEMPT, None)
    assert seen.metrics_available is False
    assert seen.heartbeat is None
    assert seen.step == 4
    assert seen.kl_nats == ((4, 1.0),)


def test_take_of_nan_is_no_measurement() -> None:
    readings = Readings()
    readings.take(
        KEY, ATTEMPT, Reading(1, (record(1, kl_nats=math.nan, certified_step=math.inf),)), 1.0
    )
    seen = readings.progress(KEY, ATTEMPT, None)
    assert seen.kl_nats == ()
    assert seen.metrics == {}
    assert seen.certified_step is None


def test_progress_of_another_attempt_is_unknown() -> None:
    readings = Readings()
    readings.take(KEY, ATTEMPT, Reading(1, (record(1, kl_nats=1.0),)), 1.0)
    other = ATTEMPT._replace(attempt=2)
    assert readings.progress(KEY, other, None).metrics_available is None
    assert readings.since(KEY, other, 7) == 7
    readings.forget(KEY)
    assert readings.since(KEY, ATTEMPT, None) == -1


def test_knows_an_attempt_that_somebody_tried_to_read() -> None:
    readings = Readings()
    assert not readings.knows(KEY, ATTEMPT)
    readings.take(KEY, ATTEMPT, None, 1.0)
    assert readings.knows(KEY, ATTEMPT)
    assert not readings.knows(KEY, ATTEMPT._replace(attempt=2))


def test_checkpoint_that_was_read_stays_known() -> None:
    readings = Readings()
    readings.take(KEY, ATTEMPT, Reading(1, (), checkpoint_step=20), 1.0)
    readings.take(KEY, ATTEMPT, Reading(2, ()), 2.0)
    assert readings.progress(KEY, ATTEMPT, None).checkpoint_step == 20
