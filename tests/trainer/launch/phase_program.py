"""A phase small enough for tests: every rank does what PHASE_PROGRAM tells it.

PHASE_PROGRAM maps rank to a verb and its argument, such as {"0": "say Completed", "1": "exit 7"}.
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Event

from rlhf_trainer.contract import AttemptPaths, Outcome, Phase, Result
from rlhf_trainer.launch.allocator import KEEPING
from rlhf_trainer.launch.arguments import Arguments
from rlhf_trainer.launch.orphan import die_with_parent
from rlhf_trainer.telemetry.outcome import write_rank_outcome

FOREVER_SECONDS = 600.0


def say(paths: AttemptPaths, rank: int, outcome: Outcome) -> int:
    result = Result(phase=Phase.PPO, outcome=outcome, message=f"said by rank {rank}", step=3)
    write_rank_outcome(paths, rank, result)
    return outcome.exit_code


def until_said(paths: AttemptPaths, rank: int) -> None:
    while not paths.rank_outcome(rank).exists():
        Event().wait(0.01)


def wait_for_sigterm() -> None:
    asked = Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    Path(f"waiting-{os.environ['RANK']}").write_text(str(os.getpid()), encoding="utf-8")
    asked.wait(FOREVER_SECONDS)


def act(verb: str, argument: str, paths: AttemptPaths, rank: int) -> int:
    if verb == "say":
        return say(paths, rank, Outcome(argument))
    if verb == "say-second":
        # Whoever fails first has torchrun end the others, which may still be starting.
        until_said(paths, rank=0)
        return say(paths, rank, Outcome(argument))
    if verb == "exit":
        return int(argument)
    if verb == "kill":
        os.kill(os.getpid(), signal.Signals[argument])
    if verb == "leave-behind":
        child = subprocess.Popen(["sleep", argument], start_new_session=True)
        Path("left-behind").write_text(str(child.pid), encoding="utf-8")
        return say(paths, rank, Outcome.COMPLETED)
    if verb == "ignore-sigterm":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        Path(f"waiting-{rank}").write_text(str(os.getpid()), encoding="utf-8")
        Event().wait(FOREVER_SECONDS)
    wait_for_sigterm()
    return say(paths, rank, Outcome(argument))


def run() -> int:
    die_with_parent()
    rank = int(os.environ["RANK"])
    arguments = Arguments.parse(sys.argv[1:])
    verb, _, argument = json.loads(os.environ["PHASE_PROGRAM"])[str(rank)].partition(" ")
    assert os.environ["OMP_NUM_THREADS"] == "1"
    assert os.environ.items() >= KEEPING.items()
    return act(verb, argument, arguments.paths, rank)


if __name__ == "__main__":
    sys.exit(run())
