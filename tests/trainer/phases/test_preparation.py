import json

import pytest
from preparing import Prepare, Recording, annotated, refused, write
from transformers import AutoTokenizer

from rlhf_trainer.data.prepared import PreparedData
from rlhf_trainer.data.special_tokens import SpecialTokens
from rlhf_trainer.errors import GateFailedError, PreemptedError
from rlhf_trainer.phases import preparation


def test_run_leaves_every_set_for_the_phases_after_it(prepare: Prepare) -> None:
    context = prepare()
    preparation.run(context)
    prepared = PreparedData(context.paths.data)
    tokenizer = AutoTokenizer.from_pretrained(prepared.tokenizer)
    demonstration = prepared.demonstrations()[0]
    assert tokenizer.decode(demonstration.tokens).startswith("<bos> the movie was fine")
    assert tokenizer.decode(demonstration.tokens[demonstration.response_mask]).endswith("<eos>")
    pair = prepared.pairs()[0]
    assert tokenizer.decode(pair.chosen).endswith("was good <eos>")
    assert tokenizer.decode(pair.rejected).endswith("was bad <eos>")
    prompt = prepared.prompts()[0]
    assert tokenizer.decode(prompt.tokens) == f"<bos> {prompt.text}"


def test_run_holds_out_what_it_does_not_train_on(prepare: Prepare) -> None:
    context = prepare()
    preparation.run(context)
    prepared = PreparedData(context.paths.data)
    train, held_out = prepared.prompts(), prepared.held_out_prompts()
    texts = [prompts[row].text for prompts in (train, held_out) for row in range(len(prompts))]
    assert sorted(texts) == sorted(f"the movie {number}" for number in range(60))
    assert len(prepared.demonstrations()) + len(prepared.held_out_demonstrations()) == 60
    assert len(prepared.pairs()) + len(prepared.held_out_pairs()) == 60


def test_run_reports_counts_and_agreement(prepare: Prepare) -> None:
    context = prepare()
    report = preparation.run(context)
    prepared = PreparedData(context.paths.data)
    counts = len(prepared.demonstrations()), len(prepared.pairs()), len(prepared.prompts())
    assert report.metrics == {
        "demonstrationCount": counts[0],
        "comparisonCount": counts[1],
        "promptCount": counts[2],
        "percentAgreement": 1.0,
        "cohenKappa": pytest.approx(1.0),
        "fleissKappa": pytest.approx(1.0),
    }
    assert report.message == (
        f"{counts[0]} demonstrations, {counts[1]} comparisons, {counts[2]} prompts; "
        "annotators agree in 100.0% of pairs"
    )


def test_run_reports_held_out_records_that_are_trained_on(prepare: Prepare) -> None:
    context = prepare()
    write(context.data_root / "h.jsonl", [{"text": "the movie was fine 3"}, {"text": "the movie"}])
    held_out = {"demonstrations": {"path": "h.jsonl"}}
    data = context.config.data.model_dump(by_alias=True) | {"heldOut": held_out}
    report = preparation.run(prepare(data=data))
    assert report.message.endswith("; held-out records that are trained on, too: 1")


def test_run_pads_with_a_token_that_is_not_eos(prepare: Prepare) -> None:
    context = prepare()
    preparation.run(context)
    prepared = PreparedData(context.paths.data)
    tokenizer = AutoTokenizer.from_pretrained(prepared.tokenizer)
    special = prepared.special_tokens()
    assert special == SpecialTokens(bos=1, eos=2, pad=tokenizer.pad_token_id)
    assert special.pad != special.eos


def test_run_writes_a_summary_for_people(prepare: Prepare) -> None:
    context = prepare()
    report = preparation.run(context)
    summary = json.loads(PreparedData(context.paths.data).summary.read_text("utf-8"))
    assert summary["model"] == {"source": "base"}
    assert summary["data"]["agreementGate"]["passed"] is True
    assert summary["tokens"]["prompts"]["count"] == report.metrics["promptCount"]
    assert summary["tokens"]["demonstrations"]["longestTokens"] == 7
    assert summary["tokens"]["comparisons"]["leftOutTooLong"] == 0
    assert set(summary["tokens"]) == {
        "demonstrations",
        "demonstrations-heldout",
        "comparisons",
        "comparisons-heldout",
        "prompts",
        "prompts-heldout",
    }


def test_run_twice_gives_the_same_tokens(prepare: Prepare) -> None:
    context = prepare()
    preparation.run(context)
    first = {p.name: p.read_bytes() for p in context.paths.data.rglob("*.npy")}
    preparation.run(context)
    assert {p.name: p.read_bytes() for p in context.paths.data.rglob("*.npy")} == first


def test_run_shows_progress_and_signs_of_life(prepare: Prepare) -> None:
    context = prepare()
    preparation.run(context)
    telemetry = context.telemetry
    assert isinstance(telemetry, Recording)
    assert [step for step, _, _ in telemetry.activities] == list(range(10))
    assert {total for _, total, _ in telemetry.activities} == {9}
    assert telemetry.activities[3][2] == "tokenising comparisons"
    assert telemetry.beats == 6


def test_wrong_records_are_refused_one_per_line(prepare: Prepare) -> None:
    context = prepare()
    write(context.data_root / "d.jsonl", [{"text": "a"}, {"text": ""}])
    write(context.data_root / "c.jsonl", [{"chosen": "a", "rejected": "a"}])
    assert refused(context).splitlines() == [
        "d.jsonl:2 text='': is empty; write some text, or remove the record",
        "c.jsonl:1 rejected='a': is the same as chosen; remove the record: it prefers nothing",
    ]


def test_low_agreement_ends_the_run_before_anything_is_tokenised(
    prepare: Prepare, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("loaded before the gate")

    monkeypatch.setattr(preparation, "load_tokenizer", fail)
    monkeypatch.setattr(preparation, "load_limits", fail)
    context = prepare()
    rows = [annotated(n, "chosen", "rejected" if n % 3 == 0 else "chosen") for n in range(60)]
    write(context.data_root / "c.jsonl", rows)
    with pytest.raises(GateFailedError) as caught:
        preparation.run(context)
    assert caught.value.reason == "AgreementTooLow"
    assert caught.value.message.startswith(
        "spec.data.comparisons.minimumAgreement.atLeast=0.8: FleissKappa is 0.3"
    )
    assert " on 60 comparisons by 2 annotators; " in caught.value.message
    assert not context.paths.data.exists()


def test_no_gate_lets_low_agreement_pass(prepare: Prepare) -> None:
    context = prepare(
        data={
            "demonstrations": {"path": "d.jsonl"},
            "comparisons": {"path": "c.jsonl"},
            "prompts": {"path": "p.jsonl"},
            "heldOut": {"fraction": 0.2},
        }
    )
    write(context.data_root / "c.jsonl", [annotated(n) for n in range(60)])
    report = preparation.run(context)
    assert report.metrics.keys() == {"demonstrationCount", "comparisonCount", "promptCount"}
    assert "annotators" not in report.message


def test_long_prompt_is_refused_by_name(prepare: Prepare) -> None:
    context = prepare()
    write(
        context.data_root / "p.jsonl",
        [{"prompt": f"the {n}"} for n in range(40)] + [{"prompt": "the " * 600}],
    )
    assert refused(context).startswith("p.jsonl:41 prompt='the the")


def test_limit_that_leaves_no_comparison_is_refused(prepare: Prepare) -> None:
    context = prepare(rewardModel={"maximumTokens": 8})
    rows = [{**annotated(n, "chosen", "chosen"), "chosen": "good " * 9} for n in range(60)]
    write(context.data_root / "c.jsonl", rows)
    assert refused(context).startswith(
        "spec.rewardModel.maximumTokens=8: nothing is left of comparisons (leftOutTooLong "
    )


def test_context_too_short_for_responses_is_refused(prepare: Prepare) -> None:
    context = prepare(ppo={"maximumResponseTokens": 61})
    assert refused(context).startswith(
        "spec.ppo.maximumResponseTokens=61: the longest sequence has 65 tokens, and the model "
        "takes 64"
    )


def test_judge_that_cannot_be_loaded_is_refused(prepare: Prepare) -> None:
    judge = {"kind": "EntryPoint", "entryPoint": "no_such_module:score"}
    context = prepare(evaluation={"promptCount": 4, "judge": judge})
    assert refused(context).startswith(
        "spec.evaluation.judge.entryPoint=no_such_module:score: cannot be loaded: No module"
    )


def test_conversations_without_a_chat_template_are_refused(prepare: Prepare) -> None:
    context = prepare()
    rows = [{"prompt": [{"role": "user", "content": f"the {n}"}]} for n in range(60)]
    write(context.data_root / "p.jsonl", rows)
    assert "the model's tokenizer has no chat template" in refused(context)


def test_missing_model_folder_is_refused(prepare: Prepare) -> None:
    context = prepare()
    (context.data_root / "base" / "config.json").unlink()
    assert refused(context).startswith("spec.model.source='")


def test_preemption_ends_the_phase_between_chunks(prepare: Prepare) -> None:
    context = prepare()
    context.preemption.request()
    with pytest.raises(PreemptedError):
        preparation.run(context)
    assert not context.paths.data.exists()
