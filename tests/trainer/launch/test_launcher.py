"""Real launchers around real processes; the mapping itself is tested in tests/unit."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import pytest

from rlhf_trainer.contract import Outcome, Result

HERE = Path(__file__).parent
LAUNCHER = (
    "import sys; from rlhf_trainer.launch.launcher import main; "
    "sys.exit(main(sys.argv[1:], module='phase_program'))"
)
CONFIG = {
    "model": {"source": "base", "device": "CPU"},
    "data": {
        "demonstrations": {"path": "demonstrations.jsonl"},
        "comparisons": {"path": "comparisons.jsonl"},
        "prompts": {"path": "prompts.jsonl"},
    },
}
START_SECONDS = 120.0


def until(condition: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        Event().wait(0.05)


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


@dataclass
class Launch:
    """A launcher that runs."""

    process: subprocess.Popen[str]
    folder: Path

    @property
    def attempt(self) -> Path:
        return self.folder / "run/iteration-1/ppo/attempt-1"

    def finish(self, seconds: float = START_SECONDS) -> tuple[int, str]:
        _, errors = self.process.communicate(timeout=seconds)
        return self.process.returncode, errors

    def result(self) -> Result:
        return Result.from_json((self.attempt / "result.json").read_text(encoding="utf-8"))

    def termination_message(self) -> Result:
        text = (self.folder / "termination-log").read_text(encoding="utf-8")
        return Result.from_json(text)

    def wait_for(self, name: str) -> int:
        path = self.folder / name
        until(lambda: path.exists() and path.read_text(encoding="utf-8") != "")
        return int(path.read_text(encoding="utf-8"))


Start = Callable[..., Launch]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Launch] = []

    def start_one(
        *ranks: str, options: tuple[str, ...] = (), environment: dict[str, str] | None = None
    ) -> Launch:
        (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
        (tmp_path / "termination-log").touch()
        command = [
            "ppo",
            "--config=config.json",
            "--workspace=run",
            f"--processes={len(ranks) or 1}",
        ]
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PET_", "OMP_", "RLHF_", "MALLOC_", "LD_PRELOAD"))
        }
        process = subprocess.Popen(
            [sys.executable, "-c", LAUNCHER, *command, *options],
            cwd=tmp_path,
            env={
                **inherited,
                "PYTHONPATH": str(HERE),
                "RLHF_TERMINATION_LOG": str(tmp_path / "termination-log"),
                "PHASE_PROGRAM": json.dumps(dict(enumerate(ranks))),
                **(environment or {}),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(Launch(process, tmp_path))
        return started[-1]

    yield start_one
    for launch in started:
        if launch.process.poll() is None:
            launch.process.kill()
        launch.process.communicate()


@pytest.mark.parametrize(
    ("ranks", "code", "outcome", "message"),
    [
        pytest.param(["say Completed"], 0, Outcome.COMPLETED, "said by rank 0", id="0"),
        pytest.param(
            ["say Completed"] * 2, 0, Outcome.COMPLETED, "said by rank 0", id="0, 2 ranks"
        ),
        pytest.param(
            ["say Stopped", "say-second Stopped"], 10, Outcome.STOPPED, "said by rank 0", id="10"
        ),
        pytest.param(["say GateFailed"], 11, Outcome.GATE_FAILED, "said by rank 0", id="11"),
        pytest.param(
            ["wait Preempted", "say Invalid"], 20, Outcome.INVALID, "said by rank 1", id="20"
        ),
        pytest.param(["say OutOfMemory"], 21, Outcome.OUT_OF_MEMORY, "said by rank 0", id="21"),
        pytest.param(
            ["wait Stopped", "say Diverged"], 30, Outcome.DIVERGED, "said by rank 1", id="30"
        ),
        pytest.param(
            ["wait Preempted", "exit 7"], 7, Outcome.CRASHED, "rank 1: exited with 7", id="crash"
        ),
        pytest.param(
            ["wait Preempted", "kill SIGKILL"],
            137,
            Outcome.CRASHED,
            "rank 1: was killed by SIGKILL",
            id="killed",
        ),
        pytest.param(
            ["exit 0"], 1, Outcome.CRASHED, "rank 0: ended without saying how", id="exit 0"
        ),
        pytest.param(
            ["kill SIGTERM"], 1, Outcome.CRASHED, "ended by a SIGTERM that its", id="terminated"
        ),
    ],
)
def test_launcher_exits_with_the_code_of_the_outcome(
    start: Start, ranks: list[str], code: int, outcome: Outcome, message: str
) -> None:
    launch = start(*ranks)
    returned, errors = launch.finish()
    result = launch.result()
    assert (returned, result.outcome) == (code, outcome), errors
    assert message in result.message
    assert result.duration_seconds > 0
    assert launch.termination_message() == result
    # One line of the launcher's, none of torchrun's.
    (line,) = errors.splitlines()
    assert line.startswith(f"ppo attempt 1: {outcome} (exit {code}): ")


def test_launcher_sigterm_lets_ranks_save_and_exits_143(start: Start) -> None:
    launch = start("wait Preempted", "wait Preempted")
    launch.wait_for("waiting-0")
    launch.wait_for("waiting-1")
    launch.process.send_signal(signal.SIGTERM)
    code, errors = launch.finish()
    assert (code, launch.result().outcome) == (143, Outcome.PREEMPTED), errors
    assert launch.result().message == "said by rank 0"


def test_launcher_ctrl_c_is_a_sigterm_to_the_ranks(start: Start) -> None:
    launch = start("wait Preempted")
    launch.wait_for("waiting-0")
    launch.process.send_signal(signal.SIGINT)
    assert launch.finish()[0] == 143


def test_launcher_sigterm_crash_while_saving_is_a_crash(start: Start) -> None:
    launch = start("wait Preempted", "wait Crashed")
    launch.wait_for("waiting-0")
    launch.wait_for("waiting-1")
    launch.process.send_signal(signal.SIGTERM)
    code, errors = launch.finish()
    assert (code, launch.result().outcome) == (1, Outcome.CRASHED), errors
    assert "rank 1: said by rank 1" in launch.result().message


@pytest.mark.fault(
    "SIGTERM, and a rank that does not end",
    "it is killed within the grace period",
)
def test_launcher_sigterm_rank_that_will_not_end_is_killed_within_the_grace_period(
    start: Start,
) -> None:
    launch = start("ignore-sigterm", options=("--grace-seconds=8",))
    rank = launch.wait_for("waiting-0")
    launch.process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    code, errors = launch.finish()
    assert time.monotonic() - asked < 8.0
    assert (code, launch.result().outcome) == (143, Outcome.PREEMPTED), errors
    assert not alive(rank)


@pytest.mark.fault(
    "SIGTERM while ranks still look for each other",
    "exit 143",
)
def test_launcher_sigterm_during_rendezvous_ends_at_once(start: Start) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = str(listening.getsockname()[1])
    launch = start(
        "say Completed",
        environment={
            "PET_NNODES": "2",
            "PET_NODE_RANK": "0",
            "PET_MASTER_ADDR": "127.0.0.1",
            "PET_MASTER_PORT": port,
        },
    )

    def meets() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", int(port))) == 0

    until(meets)
    launch.process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    code, errors = launch.finish()
    assert time.monotonic() - asked < 60.0
    assert (code, launch.result().outcome) == (143, Outcome.PREEMPTED), errors
    assert "before any rank could save" in launch.result().message


def test_launcher_sigterm_while_other_nodes_still_work_ends_soon(start: Start) -> None:
    """torchrun's agent then waits in C++ for up to 300 s, deaf to signals."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = str(listening.getsockname()[1])
    job = {"PET_NNODES": "2", "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port}
    first = start("say Completed", environment={**job, "PET_NODE_RANK": "0"})
    ranks = json.dumps({"0": "say Completed", "1": "wait Preempted"})
    start(environment={**job, "PET_NODE_RANK": "1", "PHASE_PROGRAM": ranks})
    first.wait_for("waiting-1")
    until((first.attempt / "outcome-0.json").exists)
    first.process.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    code, errors = first.finish()
    assert time.monotonic() - asked < 120.0
    assert (code, first.result().outcome) == (0, Outcome.COMPLETED), errors


@pytest.mark.fault(
    "a completed attempt is started a second time",
    "it says so again and touches nothing",
)
def test_launcher_of_an_attempt_that_has_completed_says_so_again_and_starts_nothing(
    start: Start,
) -> None:
    first = start("say Completed")
    assert first.finish()[0] == 0
    before = first.result()
    again = start("say Diverged")
    code, errors = again.finish()
    assert (code, again.result(), again.termination_message()) == (0, before, before), errors
    assert "complete already" in errors


def test_launcher_that_is_killed_takes_its_ranks_along(start: Start) -> None:
    launch = start("ignore-sigterm")
    rank = launch.wait_for("waiting-0")
    launch.process.kill()
    until(lambda: not alive(rank), 10.0)


def test_launcher_ends_what_its_ranks_left_behind(start: Start) -> None:
    launch = start("leave-behind 600")
    code, errors = launch.finish()
    assert code == 0, errors
    until(lambda: not alive(launch.wait_for("left-behind")), 10.0)


def test_launcher_forgets_the_verdicts_of_an_earlier_start(start: Start) -> None:
    assert start("say Completed", "say Invalid").finish()[0] == 20
    launch = start("say Completed")
    assert launch.finish()[0] == 0
    assert [path.name for path in launch.attempt.glob("outcome-*.json")] == ["outcome-0.json"]


def test_launcher_bad_config_exits_20_with_one_line_and_a_result(start: Start) -> None:
    launch = start("say Completed", options=("--config=nowhere.json",))
    code, errors = launch.finish()
    assert code == 20
    assert errors == (
        "Invalid: config=nowhere.json: No such file or directory; name a readable file\n"
    )
    assert launch.result().outcome is Outcome.INVALID
    assert launch.termination_message() == launch.result()


def test_launcher_workspace_that_is_a_file_exits_20(start: Start) -> None:
    launch = start("say Completed", options=("--workspace=config.json",))
    code, errors = launch.finish()
    assert code == 20
    assert errors.startswith("Invalid: workspace=config.json: cannot be written (")
    assert launch.termination_message().outcome is Outcome.INVALID


def test_module_unknown_phase_exits_20_without_importing_torch() -> None:
    command = [sys.executable, "-X", "importtime", "-m", "rlhf_trainer.launch", "dpo"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 20
    last = ended.stderr.splitlines()[-1]
    assert last.startswith(
        "Invalid: arguments=dpo: argument phase: phase='dpo': unknown; use one of"
    )
    assert "| torch" not in ended.stderr
