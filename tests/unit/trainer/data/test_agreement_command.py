import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rlhf_trainer.data.agreement_command import main

Jsonl = Callable[..., Path]


def row(number: int, *choices: str) -> dict[str, object]:
    annotations = [{"annotator": f"r{i}", "choice": choice} for i, choice in enumerate(choices)]
    return {"chosen": f"good {number}", "rejected": f"bad {number}", "annotations": annotations}


@pytest.fixture
def annotated(jsonl: Jsonl) -> Path:
    agreed = [row(number, "chosen", "chosen") for number in range(18)]
    return jsonl("c.jsonl", *agreed, row(18, "rejected", "rejected"), row(19, "chosen", "tie"))


def test_json_holds_every_statistic(annotated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(annotated), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["comparisons"] == report["items"] == 20
    assert report["raters"] == 2
    assert report["percentAgreement"] == 0.95
    assert report["tieShare"] == 0.025
    assert report["overruledShare"] == 0.05
    assert 0.8 < report["fleissKappa"] < 1
    assert 0.8 < report["cohenKappa"] < 1


def test_table_is_for_people(annotated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(annotated)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "percent agreement        95.0%" in lines
    assert "ties                     2.5%" in lines
    assert "majority against chosen  5.0%" in lines
    assert any(line.endswith("(mean over 1 pairs of raters)") for line in lines)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(0, "better")], "c.jsonl:1 annotations[0].choice='better': is unknown"),
        ([row(0), row(1, "tie")], "no comparison has choices of two annotators or more"),
    ],
    ids=["invalid", "not annotated"],
)
def test_file_that_cannot_be_measured_is_refused(
    jsonl: Jsonl, capsys: pytest.CaptureFixture[str], rows: list[object], message: str
) -> None:
    assert main([str(jsonl("c.jsonl", *rows))]) == 20
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err


def test_missing_file_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "c.jsonl")]) == 20
    assert "no such file or folder" in capsys.readouterr().err
