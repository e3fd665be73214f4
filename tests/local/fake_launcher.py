"""Stands in for the trainer's launcher where timing and crashes are the subject.

What an attempt does stands in `plan.json` of the data root: phase -> list of acts, one per attempt,
the last one for all further attempts; without a plan it completes. An act:

    {"exit": 0, "steps": 3, "checkpoint": 2, "wait": true, "deaf": true, "ranks": 1, "result": {}}
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from rlhf_trainer.contract import AttemptPaths, Outcome, Phase, Result, Workspace

RANK = "import signal; signal.pause()"


def main() -> None:
    arguments = parse()
    phase = Phase.from_slug(arguments.phase)
    paths = Workspace(arguments.workspace).attempt(arguments.iteration, phase, arguments.attempt)
    json.loads(arguments.config.read_text())
    sys.stdout.write(f"{phase} OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS')}\n")
    sys.stdout.flush()
    act = plan(arguments.data_root, arguments.phase, arguments.attempt)
    stopped = listen(deaf=act.get("deaf", False))
    for _ in range(act.get("ranks", 0)):
        # As torchrun does: each rank in a session of its own.
        subprocess.Popen([sys.executable, "-c", RANK], start_new_session=True)
    work(paths, act)
    if act.get("wait"):
        stopped.wait()
        act["exit"] = 143
    write_result(paths, phase, act)
    os._exit(act.get("exit", 0))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("phase")
    for name in ("config", "workspace", "data-root"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    for name in ("iteration", "attempt", "processes", "metrics-port", "grace-seconds"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--run-name", required=True)
    return parser.parse_args()


def plan(data_root: Path, phase: str, attempt: int) -> dict[str, Any]:
    file = data_root / "plan.json"
    acts = json.loads(file.read_text()).get(phase, [{}]) if file.exists() else [{}]
    return dict(acts[min(attempt, len(acts)) - 1])


def listen(*, deaf: bool) -> threading.Event:
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if deaf else lambda *_: stopped.set())
    return stopped


def work(paths: AttemptPaths, act: dict[str, Any]) -> None:
    steps = act.get("steps", 3)
    if "checkpoint" in act:
        paths.checkpoint(act["checkpoint"]).mkdir(parents=True)
    records = [
        {"step": step, "time": 0.0, "values": {"kl_nats": step / 2, 'loss{name="sft"}': 1.0}}
        for step in range(1, steps + 1)
    ]
    paths.history.write_text("".join(json.dumps(record) + "\n" for record in records))
    # Renamed into place, as the trainer does: whoever waits for it may act on it.
    new = paths.progress.with_suffix(".new")
    new.write_text(json.dumps({"step": steps, "totalSteps": 2 * steps, "text": "working"}))
    new.replace(paths.progress)


def write_result(paths: AttemptPaths, phase: Phase, act: dict[str, Any]) -> None:
    code = act.get("exit", 0)
    if act.get("result", {}) is None:
        return
    outcome = Outcome.from_exit_code(code)
    fields = {"step": act.get("steps", 3), "message": f"{phase} ended with {code}"}
    result = Result(phase=phase, outcome=outcome, **(fields | act.get("result", {})))
    paths.result.write_text(result.to_json())


if __name__ == "__main__":
    main()
