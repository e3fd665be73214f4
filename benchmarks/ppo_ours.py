"""Our PPO, step by step, through the phase itself: stages, CPU and wall seconds, peak memory.

`python benchmarks/ppo_ours.py --case a --critic Separate --threads 1 --steps 3` prints a line of
JSON per step and a summary. The phase runs as a rank of the launcher does, in a process group of
one; telemetry is replaced by a stopwatch, and the draws of its sampler by such that give responses
of the prescribed lengths: a draw of 0 is the first token, EOS; other draws stay clear of it.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from floor import Decoder, Rates
from ppo_start import (
    CASES,
    KL_COEFFICIENT,
    LEARNING_RATE,
    LORA_ALPHA,
    LORA_RANK,
    LORA_TARGETS,
    TOLD,
    Case,
    start_config,
)
from rlhf_trainer.telemetry.telemetry import SilentTelemetry
from stopwatch import EnoughError, Pace, Stopwatch, allocator_settings, peak_memory, summary

Config = dict[str, Any]
CLEAR_OF_EOS = 0.02
"""Least draw that is no EOS: random weights give each token about 1 / vocabulary."""


class Timed(SilentTelemetry):
    """Telemetry of a phase that takes its steps when it is told to."""

    def __init__(
        self,
        pace: Pace,
        response_tokens: int | None = None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._watch, self._pace, self._before = Stopwatch(), pace, before
        self._expected, self._sampled = response_tokens, 0.0
        self._began = False

    @override
    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        if not self._began:
            self._began = True
            self._before()
            self._end_unless(more=self._pace.ready())
        with self._watch.stage(name):
            yield

    @override
    def increment(self, name: str, amount: float = 1.0, /, **labels: str) -> None:
        if name == "tokens" and labels.get("kind") == "response":
            self._sampled += amount

    @override
    def finish_step(self, step: int, event: str = "") -> None:
        if not self._began:  # SFT measures once before its first step
            return
        if self._expected is not None and self._sampled != self._expected:
            msg = f"{self._sampled:g} response tokens were sampled, not {self._expected}"
            raise RuntimeError(msg)
        more = self._pace.finish(self._watch.end(), {"tokens": self._sampled})
        self._sampled = 0.0
        self._end_unless(more=more)

    def _end_unless(self, *, more: bool) -> None:
        if not more:
            raise EnoughError
        self._watch.begin()


def ppo_config(case: Case, critic: str, settings: Config, model: Config | None = None) -> Config:
    """Return the trainer's configuration of a case, with further fields of spec.ppo and .model."""
    ppo = {
        "rolloutBatchSize": case.prompts,
        "minibatchSize": case.prompts,
        "epochs": case.epochs,
        "totalEpisodes": 1_000_000 * case.prompts,
        "maximumResponseTokens": case.response_tokens,
        "learningRate": LEARNING_RATE,
        "warmupSteps": 0,
        "critic": critic,
        "kl": {"coefficient": KL_COEFFICIENT, "controller": "Fixed"},
        "maximumGradientNorm": 1e6,  # TRL's PPO clips none
    }
    lora = {"rank": LORA_RANK, "alpha": LORA_ALPHA, "targetModules": LORA_TARGETS}
    return start_config(
        model={"source": "sft"} | ({"lora": lora} if case.lora else {}) | (model or {}),
        ppo=ppo | settings,
        guard={"kl": {"limitNats": 1e4, "action": "Warn"}},
    )


def prescribe_lengths(lengths: Sequence[int]) -> None:
    """Let the sampler's draws give responses of these lengths, one for each row of a step."""
    from rlhf_trainer.rollout import experience  # noqa: PLC0415 - with torch, for seconds

    drawn = experience.row_uniforms  # type: ignore[attr-defined] # what `sample` calls

    def draws(
        seed: int, step: int, rows: Sequence[int], maximum_tokens: int
    ) -> NDArray[np.float64]:
        uniforms = CLEAR_OF_EOS + (1 - CLEAR_OF_EOS) * drawn(seed, step, rows, maximum_tokens)
        for index, row in enumerate(rows):
            if lengths[row] < maximum_tokens:
                uniforms[index, lengths[row] - 1] = 0.0
        return uniforms

    experience.row_uniforms = draws  # type: ignore[attr-defined] # what `sample` calls


@contextmanager
def alone(threads: int) -> Iterator[Any]:
    """Lend a process group of one, joined as the launcher's ranks join theirs."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    os.environ |= {
        "RANK": "0",
        "LOCAL_RANK": "0",
        "WORLD_SIZE": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "OMP_NUM_THREADS": str(threads),
    }
    import torch  # noqa: PLC0415 - after the environment

    from rlhf_trainer.config.model import Device  # noqa: PLC0415
    from rlhf_trainer.engine import ranks as process_group  # noqa: PLC0415

    ranks = process_group.start(Device.CPU)
    torch.manual_seed(0)
    try:
        yield ranks
    finally:
        process_group.stop()


def run_ppo(
    case: Case, start: Path, config: Config, pace: Pace, *, threads: int, rates: bool
) -> None:
    """Run the PPO phase until the pace has had enough.

    rates: measure what the machine can do, just before the first step and after the last.
    """
    told = json.loads((start / TOLD).read_text(encoding="utf-8"))
    if Case(**told["case"]) != replace(case, lora=Case(**told["case"]).lora):
        msg = f"{start} was made for another case"
        raise ValueError(msg)
    prescribe_lengths(told["responseLengths"])
    measured = rate_meter(case, pace) if rates else lambda: None
    telemetry = Timed(pace, sum(told["responseLengths"]), measured)
    with alone(threads) as ranks, suppress(EnoughError):
        from ppo_workspace import context_of  # noqa: PLC0415 - DeepSpeed asks for a device at once
        from rlhf_trainer.contract import Phase  # noqa: PLC0415
        from rlhf_trainer.phases import ppo  # noqa: PLC0415

        # Several may run from one start at a time, and none is to go on from another.
        context = context_of(start, Phase.PPO, config, telemetry, attempt=os.getpid())
        ppo.run(context, ranks)
    measured()


def rate_meter(case: Case, pace: Pace) -> Callable[[], None]:
    """Return what measures the machine's rates in this process, now, and says the best so far."""
    found: list[Rates] = []

    def measure() -> None:
        from rates import measure_rates  # noqa: PLC0415 - with torch, for seconds

        model = Decoder(case.hidden, case.intermediate, case.layers, case.vocabulary)
        found.append(measure_rates(model))
        best = {name: max(vars(one)[name] for one in found) for name in vars(found[0])}
        pace.say({"what": "rates", "rates": best})

    return measure


@contextmanager
def start_of(case_name: str, folder: Path | None) -> Iterator[Path]:
    """Lend the folder of a start; it is made, by a process of its own, if it is not there."""
    with tempfile.TemporaryDirectory(prefix="rlhf-bench-") as temporary:
        start = folder or Path(temporary)
        if not (start / TOLD).exists():
            program = Path(__file__).with_name("ppo_start.py")
            command = [sys.executable, str(program), "--case", case_name, str(start)]
            subprocess.run(command, check=True, stdout=sys.stderr)  # noqa: S603 - our own program
        yield start


def arguments_of(argv: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--case", choices=CASES, required=True)
    parser.add_argument("--critic", choices=("Separate", "SharedTrunk"), default="Separate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3, help="the first is not counted")
    parser.add_argument("--start", type=Path, help="folder of a start, made there if missing")
    parser.add_argument("--ppo", type=json.loads, default={}, help="JSON: fields of spec.ppo")
    parser.add_argument("--model", type=json.loads, default={}, help="JSON: fields of spec.model")
    parser.add_argument("--rates", action="store_true", help="measure the machine's rates, too")
    parser.add_argument("--paced", action="store_true", help="step when a line on stdin says so")
    return parser.parse_args(argv)


def main(argv: Sequence[str]) -> None:
    """Run a case and print what it took."""
    arguments = arguments_of(argv)
    case, pace = CASES[arguments.case], Pace(arguments.steps, paced=arguments.paced)
    with start_of(arguments.case, arguments.start) as start:
        config = ppo_config(case, arguments.critic, arguments.ppo, arguments.model)
        run_ppo(case, start, config, pace, threads=arguments.threads, rates=arguments.rates)
    if not pace.done:
        return
    told = summary(pace.done)
    wall = told["median"]["total"]["wall"]
    facts = {
        "case": arguments.case,
        "critic": arguments.critic,
        "threads": arguments.threads,
        "peakMiB": round(peak_memory() / 2**20),
        "samplesPerSecond": round(case.prompts / wall, 2),
        "load": os.getloadavg()[0],
        "allocator": allocator_settings(),
    }
    print(json.dumps(facts | told))


if __name__ == "__main__":
    main(sys.argv[1:])
