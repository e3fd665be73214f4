"""A real PPO phase, scraped while it trains."""

import json
import subprocess
import time
import urllib.request

import pytest
from launching import Ended, Launching
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from toy import training_config

from rlhf_trainer.contract import METRICS, AttemptPaths, Phase

OPENMETRICS = "application/openmetrics-text; version=1.0.0"
DEADLINE_SECONDS = 300


def fetch(url: str) -> str:
    request = urllib.request.Request(url, headers={"Accept": OPENMETRICS})  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - the same
        text: str = response.read().decode()
    return text


def wait_for_step(launcher: subprocess.Popen[str], paths: AttemptPaths, step: int) -> str:
    """Return the address of the metrics once `step` is in the history."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline:
        assert launcher.poll() is None, launcher.communicate()[0][-3000:]
        if paths.metrics_port.exists():
            address = f"http://127.0.0.1:{paths.metrics_port.read_text('utf-8').strip()}"
            if len(fetch(f"{address}/history?since=-1").splitlines()) > step:
                return address
        time.sleep(0.1)  # noqa: TID251 - waits for another process, which cannot call back
    raise AssertionError(f"step {step} not within {DEADLINE_SECONDS} s")


@pytest.mark.parametrize("trained", [2], ids=str, indirect=True)
def test_running_phase_serves_the_contracts_metrics_and_its_history(
    trained: tuple[Launching, dict[Phase, Ended]],
) -> None:
    config = training_config(ppo={"totalEpisodes": 16 * 10_000})
    launcher, paths = trained[0].beside(Phase.PPO).start(Phase.PPO, config)
    try:
        address = wait_for_step(launcher, paths, 3)
        families = list(text_string_to_metric_families(fetch(f"{address}/metrics")))
        history = [json.loads(line) for line in fetch(f"{address}/history?since=1").splitlines()]
    finally:
        launcher.terminate()
        launcher.communicate()
    named = {sample.name: sample for family in families for sample in family.samples}
    known = {metric.series for metric in METRICS}
    assert {name for name in named if not name.endswith("_created")} <= known
    assert {
        *("rlhf_kl_nats", "rlhf_reward_score", "rlhf_entropy_nats_per_token"),
        *("rlhf_response_length_tokens", "rlhf_kl_limit_nats", "rlhf_heartbeat_total"),
        *("rlhf_step", "rlhf_certified_step", "rlhf_kl_coefficient", "rlhf_loss"),
    } <= set(named)
    assert named["rlhf_run_info"].labels["run_name"] == "toy"
    assert named["rlhf_run_info"].labels["phase_name"] == "PPO"
    steps = [record["step"] for record in history]
    assert steps == list(range(2, 2 + len(steps)))
    assert launcher.returncode == 143


@pytest.mark.parametrize("trained", [2], ids=str, indirect=True)
@pytest.mark.parametrize(
    ("phase", "section"), [(Phase.SFT, "sft"), (Phase.REWARD_MODEL, "rewardModel")]
)
def test_supervised_phase_counts_the_tokens_that_it_trains_on(
    trained: tuple[Launching, dict[Phase, Ended]], phase: Phase, section: str
) -> None:
    long: dict[str, object] = {"maximumSteps": 100_000, "epochs": 1000}
    if phase is Phase.REWARD_MODEL:
        long["earlyStopping"] = {"patience": 1000}
    launcher, paths = trained[0].beside(phase).start(phase, training_config(**{section: long}))
    try:
        address = wait_for_step(launcher, paths, 3)
        families = list(text_string_to_metric_families(fetch(f"{address}/metrics")))
    finally:
        launcher.terminate()
        launcher.communicate()
    tokens = {
        sample.labels["kind"]: sample.value
        for family in families
        for sample in family.samples
        if sample.name == "rlhf_tokens_total"
    }
    assert tokens.keys() == {"prompt", "response", "trained"}
    assert tokens.pop("trained") > 0
    assert set(tokens.values()) == {0}
