"""PPO and Evaluation with a reward model from elsewhere, whose tokenizer is not the policy's."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from one_process import Run, run_all
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from toy import NEUTRAL, make_run, training_config
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
)

from rlhf_trainer.contract import Phase
from rlhf_trainer.phases.ppo_networks import critic_start
from rlhf_trainer.telemetry.telemetry import SilentTelemetry

POLICY_TEMPLATE = (
    "{% for m in messages %}{{ m.content }} {% if m.role == 'assistant' %}<eos> {% endif %}"
    "{% endfor %}"
)
REWARD_TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content | trim }}<end>{% endfor %}"
SPECIAL = ("<none>", "<end>")
SMALL: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_labels": 1,
    "initializer_range": 0.3,
    "pad_token_id": 0,
}
BATCH = 4


def save_reward_model(folder: Path, kind: type[PreTrainedConfig], positions: int) -> None:
    """Write a classifier that reads bytes, and renders conversations in its own way."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *alphabet])}
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(SPECIAL))
    PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<none>",
        eos_token="<end>",
        chat_template=REWARD_TEMPLATE,
    ).save_pretrained(folder)
    config = kind(**SMALL, vocab_size=len(vocabulary), max_position_embeddings=positions)
    torch.manual_seed(1)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)


def run_of(root: Path, name: str, **changes: Any) -> Run:
    settings: dict[str, Any] = {
        "sft": {"maximumSteps": 1},
        "rewardModel": {"from": {"path": name}},
        "ppo": {
            "totalEpisodes": BATCH,
            "rolloutBatchSize": BATCH,
            "minibatchSize": BATCH,
            "maximumResponseTokens": 6,
        },
        "evaluation": {"promptCount": 2},
    }
    phases = tuple(phase for phase in Phase if phase is not Phase.REWARD_MODEL)
    config = training_config(**(settings | changes))
    return Run(str(root), str(root / f"run-{name}"), config, phases)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Run], str]:
    root = make_run(tmp_path_factory.mktemp("foreign"))
    save_reward_model(root / "encoder", BertConfig, 200)
    save_reward_model(root / "chat", LlamaConfig, 44)
    talking = root / "talking"
    AutoModelForCausalLM.from_pretrained(root / "base").save_pretrained(talking)
    tokenizer = AutoTokenizer.from_pretrained(root / "base")
    tokenizer.chat_template = POLICY_TEMPLATE
    tokenizer.save_pretrained(talking)
    turns = [[{"role": "user", "content": f"the {word}"}] for word in NEUTRAL] * 3
    lines = [json.dumps({"prompt": turn}) + "\n" for turn in turns]
    (root / "turns.jsonl").write_text("".join(lines), "utf-8")
    data = training_config()["data"] | {"prompts": {"path": "turns.jsonl"}}
    runs = {
        "encoder": run_of(root, "encoder", deepspeed={"zeroStage": 2}),
        "chat": run_of(root, "chat", model={"source": "talking"}, data=data),
    }
    return runs, run_all(list(runs.values()), root)


def score(run: Run, name: str, texts: list[str]) -> list[float]:
    folder = Path(run.data_root) / name
    classifier = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    limit = classifier.config.max_position_embeddings
    with torch.no_grad():
        return [
            float(
                classifier(input_ids=torch.tensor([tokenizer(text)["input_ids"][-limit:]])).logits
            )
            for text in texts
        ]


@pytest.mark.parametrize("name", ["encoder", "chat"])
def test_ppo_is_scored_by_the_text_of_its_responses(
    finished: tuple[dict[str, Run], str], name: str
) -> None:
    run = finished[0][name]
    policy = AutoTokenizer.from_pretrained(run.prepared.tokenizer)
    texts = []
    for prompt, response in zip(*run.last_rollout(), strict=True):
        answer = policy.decode(response.tokens, skip_special_tokens=True)
        if name == "chat":
            asked = prompt.turns[0].content
            texts.append(f"[user] {asked}<end>[assistant] {answer}<end>")
        else:
            texts.append(f"{prompt.text} {answer}".rstrip())
    measured = run.last_record["reward_score"]
    assert sum(score(run, name, texts)) / BATCH == pytest.approx(measured, abs=1e-5)


def test_evaluation_is_judged_by_the_text_too(finished: tuple[dict[str, Run], str]) -> None:
    run = finished[0]["encoder"]
    lines = run.paths(Phase.EVALUATION).samples.read_text("utf-8").splitlines()
    for row in map(json.loads, lines):
        texts = [f"{row['prompt']} {row[side]}".rstrip() for side in ("sft", "ppo")]
        expected = score(run, "encoder", texts)
        assert [row["sftScore"], row["ppoScore"]] == pytest.approx(expected, abs=1e-5)


def test_what_the_reward_model_does_not_read_is_told(
    finished: tuple[dict[str, Run], str],
) -> None:
    assert "the reward model reads 44 tokens: " in finished[1]


def test_critic_starts_from_the_sft_model(finished: tuple[dict[str, Run], str]) -> None:
    """Its trunk reads the policy's tokens; the head is zero, so that no value is yet claimed."""
    run = finished[0]["encoder"]
    context = run.context(Phase.PPO, SilentTelemetry())
    critic, _ = critic_start(context, torch.device("cpu"))
    trunk, sft = critic.classifier.base_model.state_dict(), run.policy(Phase.SFT).base_model
    for name, weight in sft.state_dict().items():
        assert torch.equal(trunk[name], weight), name
    assert not critic.head.weight.any()
