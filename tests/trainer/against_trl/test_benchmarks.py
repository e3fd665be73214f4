"""The benchmarks against TRL still run, on toys; what they measure there decides nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from peer import Peer

import ppo_against_trl
from ppo_start import CASES, make_start
from ppo_variants import Variant, compare, parser_of
from recording import Result, Table, read_results

BENCHMARKS = Path(ppo_against_trl.__file__).parent


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    make_start(CASES["toy"], folder)
    return folder


def measured(program: str, folder: Path, *arguments: str) -> Result:
    command = [sys.executable, str(BENCHMARKS / program), "--case", "toy", *arguments]
    command += ["--rounds", "1", "--threads", "1", "--results", str(folder)]
    done = subprocess.run(command, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (result,) = read_results(folder)
    return result


def by_side(table: Table) -> dict[object, dict[str, object]]:
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    return {row["side"]: row for row in rows}


def test_ppo_is_compared_with_trl_and_with_its_floor(
    trl_with_ppo: Peer, start: Path, tmp_path: Path
) -> None:
    result = measured("ppo_against_trl.py", tmp_path, "--start", str(start), "--critic", "Separate")
    compared, floor = result.tables
    sides = by_side(compared)
    assert sides.keys() == {"TRL", "ours"}
    assert sides["TRL"]["times as fast (CPU)"] == 1
    for side in sides.values():
        assert all(isinstance(side[stage], float) for stage in ppo_against_trl.STAGES)
        assert all(side[stage] for stage in ppo_against_trl.STAGES)
    stages = [dict(zip(floor.columns, row, strict=True)) for row in floor.rows]
    assert [row["stage"] for row in stages] == ["generation", "update", "all"]
    assert all(row["times the floor"] for row in stages)
    assert stages[1]["with torch's products"] <= stages[1]["times the floor"]
    (found,) = result.headlines
    assert found.startswith("Separate: ")
    assert result.conditions is not None
    assert result.conditions.versions["trl"] == trl_with_ppo.version


def test_the_reward_model_is_compared_with_trl(
    newest_trl: Peer, start: Path, tmp_path: Path
) -> None:
    result = measured(
        "supervised_against_trl.py", tmp_path, "--start", str(start), "--phase", "reward-model"
    )
    sides = by_side(result.tables[0])
    assert sides.keys() == {"TRL", "ours"}
    assert all(side["samples/s"] for side in sides.values())
    assert result.conditions is not None
    assert result.conditions.versions["trl"] == newest_trl.version


def test_variants_of_ppo_are_compared_with_the_first(tmp_path: Path) -> None:
    result = measured("ppo_formats.py", tmp_path, "--critic", "SharedTrunk")
    (table,) = result.tables
    full, half = (dict(zip(table.columns, row, strict=True)) for row in table.rows)
    assert (full["format"], half["format"]) == ("Float32", "BFloat16")
    assert full["times as fast (CPU)"] == full["memory of Float32"] == 1
    assert half["update"]


def test_what_sets_a_variant_apart_reaches_its_process() -> None:
    asked = parser_of(None).parse_args(["--case", "toy", "--critic", "Separate"])
    with pytest.raises(RuntimeError, match="Float8"):
        compare(asked, "format", [Variant("Float8", model={"dtype": "Float8"})])
