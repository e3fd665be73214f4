"""Processes step in turns, and what they take is summed up without the warm-up."""

import io
import os
import sys
import textwrap
from pathlib import Path

import pytest

import stopwatch
from stopwatch import Pace, Stopwatch, summary
from turns import ALLOCATOR, Side, environment, take_turns

STEPS = """
import sys
from stopwatch import Pace, Stopwatch
name, log = sys.argv[1:]
pace, watch = Pace(0, paced=True), Stopwatch()
more = pace.ready()
while more:
    watch.begin()
    with watch.stage("update"):
        with open(log, "a") as file:
            file.write(name)
    more = pace.finish(watch.end(), {})
pace.say({"what": "rates", "rates": {"name": name}})
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    file = tmp_path / "steps.py"
    file.write_text(textwrap.dedent(STEPS), encoding="utf-8")
    return file


def side(program: Path, name: str, log: Path) -> Side:
    home = str(Path(stopwatch.__file__).parent)
    variables = environment(1, os.environ | {"PYTHONPATH": home})
    return Side(name, (str(program), name, str(log)), variables)


def test_sides_step_in_turns_and_say_what_they_found(program: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    found = take_turns([side(program, name, log) for name in ("A", "B")], rounds=2)
    assert log.read_text("utf-8") == "ABABAB"
    assert [len(found[name].steps) for name in ("A", "B")] == [3, 3]
    assert found["A"].facts["rates"] == {"name": "A"}
    assert found["B"].peak_bytes > 2**20
    assert all(took["total"]["wall"] > took["update"]["wall"] > 0 for took in found["A"].steps)
    assert found["A"].median("rollout") == 0


def test_a_side_that_fails_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise SystemExit('no such model')", encoding="utf-8")
    with pytest.raises(RuntimeError, match="TRL has ended with 1: no such model"):
        take_turns([Side("TRL", (str(broken),), os.environ)], rounds=1)


def test_all_sides_get_the_same_allocator_and_threads() -> None:
    got = environment(2, {"OMP_NUM_THREADS": "1", "KEPT": "yes"})
    assert ALLOCATOR.items() <= got.items()
    assert (got["OMP_NUM_THREADS"], got["KEPT"]) == ("2", "yes")


def test_stages_of_one_name_add_up_and_the_rest_is_other() -> None:
    seconds = iter([0.0, 1.0, 2.0, 4.0, 7.0, 12.0, 20.0])  # made, begun, twice in and out, ended
    watch = Stopwatch(lambda: dict.fromkeys(("cpu", "wall"), next(seconds)))
    watch.begin()
    for _ in range(2):
        with watch.stage("update"):
            pass
    assert watch.end() == {
        "update": {"cpu": 7.0, "wall": 7.0},
        "other": {"cpu": 12.0, "wall": 12.0},
        "total": {"cpu": 19.0, "wall": 19.0},
    }


def test_the_first_step_is_not_counted_unless_it_is_alone() -> None:
    steps = [{"total": {"cpu": seconds, "wall": 2 * seconds}} for seconds in (9.0, 1.0, 4.0, 2.0)]
    told = summary(steps)
    assert told["median"]["total"] == {"cpu": 2.0, "wall": 4.0}
    assert told["best"]["total"] == {"cpu": 1.0, "wall": 2.0}
    assert summary(steps[:1])["median"]["total"]["cpu"] == 9.0


def test_alone_it_takes_as_many_steps_as_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    pace = Pace(2, paced=False, told=io.StringIO())
    assert pace.ready()
    assert pace.finish({}, {"tokens": 3})
    assert not pace.finish({}, {})
    assert '"tokens": 3' in capsys.readouterr().out


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not forget the peak")
def test_the_peak_is_that_since_it_was_forgotten() -> None:
    held = b"x" * (64 * 2**20)
    before = stopwatch.peak_memory()
    del held
    stopwatch.forget_peak_memory()
    assert stopwatch.peak_memory() < before - 32 * 2**20
