import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast
from typing_extensions import override

from rlhf_trainer.config import TrainingConfig
from rlhf_trainer.contract import Phase, Workspace
from rlhf_trainer.data.prepared import PreparedData
from rlhf_trainer.data.special_tokens import SpecialTokens
from rlhf_trainer.errors import GateFailedError, InvalidError, PreemptedError
from rlhf_trainer.phases import preparation
from rlhf_trainer.phases.context import PhaseContext
from rlhf_trainer.telemetry.telemetry import SilentTelemetry

WORDS = ("the", "movie", "was", "good", "bad", "fine", *map(str, range(60)))
SPECIAL = ("<pad>", "<bos>", "<eos>")
Rows = list[dict[str, Any]]
Prepare = Callable[..., PhaseContext]


class Recording(SilentTelemetry):
    """Notes progress and heartbeats."""

    def __init__(self) -> None:
        self.activities: list[tuple[int, int, str]] = []
        self.beats = 0

    @override
    def progress(self, step: int, total_steps: int, text: str) -> None:
        self.activities.append((step, total_steps, text))

    @override
    def heartbeat(self) -> None:
        self.beats += 1


def write(path: Path, rows: Rows) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")


def make_model(folder: Path, *, words: tuple[str, ...] = WORDS, positions: int = 64) -> None:
    vocabulary = {word: index for index, word in enumerate([*SPECIAL, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, SPECIAL[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    roles = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<eos>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **roles).save_pretrained(folder)
    LlamaConfig(vocab_size=len(vocabulary) + 1, max_position_embeddings=positions).save_pretrained(
        folder
    )


def annotated(number: int, *choices: str) -> dict[str, Any]:
    return {
        "prompt": f"the movie {number}",
        "chosen": "was good",
        "rejected": "was bad",
        "annotations": [
            {"annotator": f"r{i}", "choice": choice} for i, choice in enumerate(choices)
        ],
    }


@pytest.fixture
def prepare(tmp_path: Path) -> Prepare:
    """Return a function that lays out sound data and returns the context of a Preparation on it."""
    data_root = tmp_path / "data"
    make_model(data_root / "base")
    numbers = range(60)
    write(data_root / "d.jsonl", [{"text": f"the movie was fine {n}"} for n in numbers])
    write(data_root / "c.jsonl", [annotated(n, "chosen", "chosen", "chosen") for n in numbers])
    write(data_root / "p.jsonl", [{"prompt": f"the movie {n}"} for n in numbers])

    def context(**changes: object) -> PhaseContext:
        document: dict[str, Any] = {
            "model": {"source": "base"},
            "data": {
                "demonstrations": {"path": "d.jsonl"},
                "comparisons": {"path": "c.jsonl", "minimumAgreement": {"atLeast": 0.8}},
                "prompts": {"path": "p.jsonl"},
                "heldOut": {"fraction": 0.2},
            },
            "ppo": {"maximumResponseTokens": 8},
            "evaluation": {"promptCount": 4},
        }
        document.update(changes)
        return PhaseContext(
            config=TrainingConfig.model_validate(document),
            workspace=Workspace(tmp_path / "workspace"),
            data_root=data_root,
            phase=Phase.PREPARATION,
            iteration=1,
            attempt=1,
            telemetry=Recording(),
        )

    return context


def refused(context: PhaseContext) -> str:
    with pytest.raises(InvalidError) as caught:
        preparation.run(context)
    assert not context.paths.data.exists()
    return caught.value.message


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
    assert [step for step, _, _ in telemetry.activities] == list(range(9))
    assert {total for _, total, _ in telemetry.activities} == {8}
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


@pytest.mark.parametrize("own", ["model", "from"])
def test_reward_model_of_a_shorter_context_is_refused(prepare: Prepare, own: str) -> None:
    named = {"source": "short"} if own == "model" else {"path": "short"}
    context = prepare(rewardModel={own: named})
    make_model(context.data_root / "short", positions=12)
    assert refused(context).startswith(
        "spec.ppo.maximumResponseTokens=8: the longest sequence has 13 tokens, and the reward "
        "model takes 12"
    )


@pytest.mark.parametrize("section", ["sft", "rewardModel"])
def test_existing_model_of_another_family_is_refused(prepare: Prepare, section: str) -> None:
    context = prepare(**{section: {"from": {"path": "other"}}})
    make_model(context.data_root / "other", words=("une", "autre", "langue"))
    assert refused(context).startswith(f"spec.{section}.from.path='other': its tokenizer is not")


def test_existing_models_of_the_same_family_are_accepted(prepare: Prepare) -> None:
    existing = {"from": {"path": "larger"}}
    context = prepare(sft=existing, rewardModel=existing)
    make_model(context.data_root / "larger", positions=128)
    preparation.run(context)


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


def test_reward_model_of_another_family_is_refused(prepare: Prepare) -> None:
    context = prepare(rewardModel={"model": {"source": "other"}})
    make_model(context.data_root / "other", words=("une", "autre", "langue"))
    assert refused(context).startswith(
        "spec.rewardModel.model.source='other': its tokenizer is not"
    )


def test_reward_model_of_the_same_family_is_accepted(prepare: Prepare) -> None:
    context = prepare(rewardModel={"model": {"source": "larger"}})
    make_model(context.data_root / "larger")
    preparation.run(context)


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
