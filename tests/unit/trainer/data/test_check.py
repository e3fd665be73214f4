from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.data.check import CheckedData, check_data

Jsonl = Callable[..., Path]
Document = dict[str, Any]


def told(document: Document, data_root: Path) -> list[str]:
    checked = check_data(TrainingConfig.model_validate(document), data_root)
    return [str(problem) for problem in checked.problems]


def test_sound_data_is_split_and_summarised(document: Document, tmp_path: Path) -> None:
    checked = check_data(TrainingConfig.model_validate(document), tmp_path)
    assert checked.problems == []
    for split in (checked.demonstrations, checked.comparisons, checked.prompts):
        assert len(split.train) + len(split.held_out) == 40
        assert 4 <= len(split.held_out) <= 16
    summary = checked.summary()
    assert summary["prompts"] == {
        "train": len(checked.prompts.train),
        "heldOut": len(checked.prompts.held_out),
        "heldOutRepeated": None,
        "heldOutTrainedOn": None,
        "format": "prompt, text",
        "ignoredFields": ["topic"],
    }
    assert summary["agreementGate"] == {
        "statistic": "PercentAgreement",
        "value": 1.0,
        "atLeast": 0.8,
        "passed": True,
    }


def test_held_out_prompts_train_no_reward_model(document: Document, tmp_path: Path) -> None:
    checked = check_data(TrainingConfig.model_validate(document), tmp_path)
    held_out = {record.prompt for record in checked.prompts.held_out}
    assert held_out.isdisjoint(record.prompt for record in checked.comparisons.train)


def test_held_out_records_come_in_an_order_of_their_own(
    document: Document, jsonl: Jsonl, tmp_path: Path
) -> None:
    first = check_data(TrainingConfig.model_validate(document), tmp_path).prompts.held_out
    jsonl("p.jsonl", *[{"prompt": f"p {number}"} for number in reversed(range(40))])
    again = check_data(TrainingConfig.model_validate(document), tmp_path).prompts.held_out
    assert [record.prompt for record in first] == [record.prompt for record in again]
    assert [record.place for record in first] != sorted(record.place for record in first)


def test_named_held_out_sets_leave_the_training_sets_whole(
    document: Document, jsonl: Jsonl, tmp_path: Path
) -> None:
    jsonl("h.jsonl", *[{"prompt": f"other {number}"} for number in range(5)])
    document["data"]["heldOut"]["prompts"] = {"path": "h.jsonl"}
    checked = check_data(TrainingConfig.model_validate(document), tmp_path)
    assert checked.problems == []
    assert (len(checked.prompts.train), len(checked.prompts.held_out)) == (40, 5)


def test_agreement_is_measured_on_all_comparisons(document: Document, tmp_path: Path) -> None:
    checked = check_data(TrainingConfig.model_validate(document), tmp_path)
    assert checked.agreement.items == 40


def test_problems_of_all_sets_are_told_together(
    document: Document, jsonl: Jsonl, tmp_path: Path
) -> None:
    jsonl("d.jsonl", {"text": ""})
    jsonl("c.jsonl", {"chosen": "a"})
    jsonl("h.jsonl", {"prompt": 3})
    document["data"]["heldOut"]["prompts"] = {"path": "h.jsonl"}
    document["data"]["prompts"] = {"path": "missing.jsonl"}
    assert [line.split("=")[0] for line in told(document, tmp_path)] == [
        "d.jsonl:1 text",
        "c.jsonl:1 fields",
        "spec.data.prompts.path",
        "h.jsonl:1 prompt",
    ]


def test_too_few_evaluation_prompts_are_a_problem(document: Document, tmp_path: Path) -> None:
    document["evaluation"]["promptCount"] = 39
    (line,) = told(document, tmp_path)
    assert line.startswith("spec.evaluation.promptCount=39: only ")
    assert line.endswith(
        " prompts are held out; lower it, raise spec.data.heldOut.fraction, "
        "or name spec.data.heldOut.prompts"
    )


def test_evaluation_prompts_are_different_ones_in_the_order_they_had(
    document: Document, jsonl: Jsonl, tmp_path: Path
) -> None:
    config = TrainingConfig.model_validate(document)
    alone = check_data(config, tmp_path).prompts
    jsonl("p.jsonl", *[{"prompt": f"p {number}"} for number in range(40) for _ in range(8)])
    split = check_data(config, tmp_path).prompts
    assert [record.prompt for record in split.held_out] == [
        record.prompt for record in alone.held_out
    ]
    assert len(split.train) == 8 * len(alone.train)
    assert split.summary()["heldOutRepeated"] == 7 * len(alone.held_out)


def test_repeated_prompts_do_not_make_enough_of_too_few(
    document: Document, jsonl: Jsonl, tmp_path: Path
) -> None:
    jsonl("h.jsonl", *[{"prompt": f"other {number % 3}"} for number in range(24)])
    document["data"]["heldOut"]["prompts"] = {"path": "h.jsonl"}
    assert told(document, tmp_path) == [
        (
            "spec.evaluation.promptCount=4: only 3 different prompts are held out (21 more repeat "
            "them); lower it, raise spec.data.heldOut.fraction, or name spec.data.heldOut.prompts"
        )
    ]


@pytest.mark.parametrize(("kind", "file"), [("demonstrations", "d"), ("comparisons", "c")])
def test_training_set_named_as_held_out_is_a_problem(
    document: Document, tmp_path: Path, kind: str, file: str
) -> None:
    document["data"]["heldOut"][kind] = {"path": f"{file}.jsonl"}
    assert told(document, tmp_path) == [
        (
            f"spec.data.heldOut.{kind}='{file}.jsonl': all 40 {kind} are trained on, too; "
            f"name others, or none to hold out a part of spec.data.{kind}"
        )
    ]


@pytest.mark.parametrize(
    ("kind", "file", "phase"), [("demonstrations", "d", "sft"), ("comparisons", "c", "rewardModel")]
)
def test_set_that_no_phase_trains_on_may_be_held_out_whole(
    document: Document, tmp_path: Path, kind: str, file: str, phase: str
) -> None:
    document["data"]["heldOut"][kind] = {"path": f"{file}.jsonl"}
    document[phase] = {"from": {"path": "model"}}
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", encoding="utf-8")
    assert told(document, tmp_path) == []


def test_prompts_that_are_trained_on_may_be_held_out_and_are_counted(
    document: Document, tmp_path: Path
) -> None:
    document["data"]["heldOut"]["prompts"] = {"path": "p.jsonl"}
    checked = check_data(TrainingConfig.model_validate(document), tmp_path)
    assert checked.problems == []
    assert checked.prompts.summary()["heldOutTrainedOn"] == 40


HELD_OUT: dict[str, list[dict[str, Any]]] = {
    "demonstrations": [{"text": "text 3"}, {"text": "another"}],
    "comparisons": [
        {"prompt": "p 3", "chosen": "bad", "rejected": "good"},
        {"prompt": "p 3", "chosen": "good", "rejected": "best"},
    ],
    "prompts": [{"prompt": "p 3"}, *[{"prompt": f"other {number}"} for number in range(4)]],
}


@pytest.mark.parametrize("kind", HELD_OUT)
def test_held_out_records_that_are_trained_on_are_counted(
    document: Document, jsonl: Jsonl, tmp_path: Path, kind: str
) -> None:
    jsonl("h.jsonl", *HELD_OUT[kind])
    document["data"]["heldOut"][kind] = {"path": "h.jsonl"}
    checked = check_data(TrainingConfig.model_validate(document), tmp_path)
    assert checked.problems == []
    counts = {name: part["heldOutTrainedOn"] for name, part in splits(checked).items()}
    assert counts == {**dict.fromkeys(HELD_OUT), kind: 1}


def splits(checked: CheckedData) -> dict[str, Any]:
    summary = checked.summary()
    return {name: summary[name] for name in HELD_OUT}


def test_comparisons_of_one_prompt_cannot_be_split(
    document: Document, jsonl: Jsonl, tmp_path: Path
) -> None:
    rows = [{"prompt": "p", "chosen": f"good {n}", "rejected": "bad"} for n in range(9)]
    jsonl("c.jsonl", *rows)
    del document["data"]["comparisons"]["minimumAgreement"]
    assert told(document, tmp_path) == [
        (
            "spec.data.heldOut.fraction=0.25: holds out all 9 comparisons, which are of one "
            "prompt or "
            "few; lower it, or name spec.data.heldOut.comparisons"
        )
    ]


def test_gate_without_annotations_is_a_problem(
    document: Document, jsonl: Jsonl, tmp_path: Path
) -> None:
    rows = [{"prompt": f"p {n}", "chosen": "good", "rejected": "bad"} for n in range(9)]
    jsonl("c.jsonl", *rows)
    assert told(document, tmp_path) == [
        (
            "spec.data.comparisons.minimumAgreement.statistic=PercentAgreement: undefined on 0 "
            "comparisons with two annotators or more; add `annotations` to the comparisons, or "
            "remove "
            "the gate"
        )
    ]


@pytest.mark.parametrize(
    ("statistic", "choices", "instead"),
    [
        ("CohenKappa", ("chosen", "tie"), "FleissKappa"),
        ("CohenKappa", ("tie", "tie"), "PercentAgreement"),
        ("FleissKappa", ("tie", "tie"), "PercentAgreement"),
    ],
)
def test_gate_on_kappa_that_is_undefined_names_another(
    document: Document,
    jsonl: Jsonl,
    tmp_path: Path,
    statistic: str,
    choices: tuple[str, str],
    instead: str,
) -> None:
    rows = []
    for n in range(9):
        both = [{"annotator": f"{n}{i}", "choice": choice} for i, choice in enumerate(choices)]
        rows.append({"prompt": f"p {n}", "chosen": "good", "rejected": "bad", "annotations": both})
    jsonl("c.jsonl", *rows)
    document["data"]["comparisons"]["minimumAgreement"]["statistic"] = statistic
    (problem,) = told(document, tmp_path)
    assert problem == (
        f"spec.data.comparisons.minimumAgreement.statistic={statistic}: undefined on 9 comparisons "
        f"with two annotators or more; use {instead}, or remove the gate"
    )


def test_gate_that_is_missed_is_reported_and_no_problem(
    document: Document, jsonl: Jsonl, tmp_path: Path
) -> None:
    torn = [{"annotator": "ann", "choice": "chosen"}, {"annotator": "bob", "choice": "tie"}]
    rows = [
        {"prompt": f"p {n}", "chosen": "good", "rejected": "bad", "annotations": torn}
        for n in range(9)
    ]
    jsonl("c.jsonl", *rows)
    checked = check_data(TrainingConfig.model_validate(document), tmp_path)
    assert checked.problems == []
    assert checked.gate is not None
    assert not checked.gate.passed
    assert checked.gate.value == 0.0


@pytest.mark.parametrize("phase", ["sft", "rewardModel"])
def test_model_that_takes_the_place_of_a_phase_must_be_there(
    document: Document, tmp_path: Path, phase: str
) -> None:
    document[phase] = {"from": {"path": "models/x"}}
    assert told(document, tmp_path) == [
        (
            f"spec.{phase}.from.path='models/x': holds no model (config.json) below the data root "
            f"{tmp_path}; name the folder of a model that transformers saved"
        )
    ]
    (tmp_path / "models" / "x").mkdir(parents=True)
    (tmp_path / "models" / "x" / "config.json").touch()
    assert told(document, tmp_path) == []
