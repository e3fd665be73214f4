"""Which epochs of a rollout are left out."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from rlhf_trainer.config.ppo import PPOConfig, UpdateKLConfig
from rlhf_trainer.phases.ppo_minibatch import UpdateSums
from rlhf_trainer.phases.ppo_update import Updater

LIMIT = UpdateKLConfig(limit_nats_per_token=0.1)


def updates_of(
    kls: list[float], monkeypatch: pytest.MonkeyPatch, update_kl: UpdateKLConfig | None = LIMIT
) -> tuple[int, list[str]]:
    """Return how many updates three epochs of two minibatches take, and what is noted.

    kls: what the updates measure, in nats per token.
    """
    settings = PPOConfig(rollout_batch_size=4, minibatch_size=2, epochs=3, update_kl=update_kl)
    notes: list[str] = []
    measured = iter(kls)
    taken = 0

    def learn(*_: object) -> UpdateSums:
        nonlocal taken
        taken += 1
        return UpdateSums(tokens=10, approx_kl_nats=10 * next(measured), updates=1)

    parts: Any = SimpleNamespace(note=notes.append, forget=lambda: None)
    updater = Updater(parts, parts, settings, parts, parts, seed=0)
    monkeypatch.setattr(updater, "_learn", learn)
    monkeypatch.setattr(updater, "_report", lambda *_: None)
    experience: Any = SimpleNamespace(mask_BT=np.ones((4, 3), np.bool_))
    updater.update(0, experience, parts, kl_coefficient=0.1, learning_rate_factor=1.0)
    return taken, notes


@pytest.mark.parametrize(
    ("kls", "taken"),
    [
        pytest.param([0, 0.11, 9, 9, 9, 9], 2, id="last-above-and-mean-below"),
        pytest.param([0.5, 0.09, 0, 0.11, 9, 9], 4, id="mean-above-and-last-below"),
        pytest.param([0, 0.1, 0, 0.1, 0, 0.1], 6, id="at-the-limit"),
    ],
)
def test_epochs_end_when_the_last_minibatch_is_above_the_limit(
    kls: list[float], taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, notes = updates_of(kls, monkeypatch)
    assert count == taken
    assert len(notes) == (taken < 6)


def test_limit_exceeded_in_the_last_epoch_leaves_nothing_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert updates_of([0, 0, 0, 0, 0, 9], monkeypatch) == (6, [])


def test_without_a_limit_all_epochs_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert updates_of([9] * 6, monkeypatch, update_kl=None) == (6, [])
