from typing import Any

import pytest
from preparing import Prepare, make_model, refused, write
from transformers import AutoTokenizer, CohereConfig, GraniteConfig, MambaConfig, PreTrainedConfig

from rlhf_trainer.data.prepared import PreparedData
from rlhf_trainer.phases import preparation


@pytest.mark.parametrize("own", ["model", "from"])
def test_reward_model_of_a_shorter_context_is_refused(prepare: Prepare, own: str) -> None:
    named = {"source": "short"} if own == "model" else {"path": "short"}
    context = prepare(rewardModel={own: named})
    make_model(context.data_root / "short", positions=12, labels=1)
    assert refused(context).startswith(
        "spec.ppo.maximumResponseTokens=8: the longest sequence has 13 tokens, and the reward "
        "model takes 12"
    )


def test_existing_sft_model_of_another_family_is_refused(prepare: Prepare) -> None:
    context = prepare(sft={"from": {"path": "other"}})
    make_model(context.data_root / "other", words=("une", "autre", "langue"))
    assert refused(context).startswith("spec.sft.from.path='other': its tokenizer is not")


def test_existing_models_of_the_same_family_are_accepted(prepare: Prepare) -> None:
    existing = {"from": {"path": "larger"}}
    context = prepare(sft=existing, rewardModel=existing)
    make_model(context.data_root / "larger", positions=128, labels=1)
    preparation.run(context)
    assert not PreparedData(context.paths.data).reward_model_reads_text


def test_existing_reward_model_of_another_family_is_given_text(prepare: Prepare) -> None:
    context = prepare(rewardModel={"from": {"path": "other"}})
    make_model(context.data_root / "other", words=("une", "autre", "langue"), labels=1)
    preparation.run(context)
    assert PreparedData(context.paths.data).reward_model_reads_text


def test_same_words_that_end_otherwise_are_another_tokenizer(prepare: Prepare) -> None:
    """As base and chat models of one family: a score is read at the end its trainer chose."""
    context = prepare(rewardModel={"from": {"path": "other"}})
    make_model(context.data_root / "other", labels=1)
    tokenizer = AutoTokenizer.from_pretrained(context.data_root / "other")
    tokenizer.eos_token = "fine"
    tokenizer.save_pretrained(context.data_root / "other")
    preparation.run(context)
    assert PreparedData(context.paths.data).reward_model_reads_text


def test_prompt_that_fills_another_familys_reward_model_is_refused(prepare: Prepare) -> None:
    context = prepare(rewardModel={"from": {"path": "other"}})
    make_model(context.data_root / "other", words=("une",), positions=4, labels=1)
    message = refused(context)
    assert message.startswith("p.jsonl:")
    assert message.endswith(
        "has 4 tokens of the reward model 'other', which reads 4, prompt and response together; "
        "shorten or remove the prompt, or choose a reward model of a longer context"
    )


def test_conversations_need_a_chat_template_of_the_reward_model(prepare: Prepare) -> None:
    context = prepare(rewardModel={"from": {"path": "other"}})
    make_model(context.data_root / "other", words=("une",), labels=1)
    tokenizer = AutoTokenizer.from_pretrained(context.data_root / "base")
    tokenizer.chat_template = "{% for m in messages %}{{ m.content }} {% endfor %}"
    tokenizer.save_pretrained(context.data_root / "base")
    rows = [{"prompt": [{"role": "user", "content": f"the movie {n}"}]} for n in range(60)]
    write(context.data_root / "p.jsonl", rows)
    assert refused(context) == (
        "spec.rewardModel.from.path='other': the prompts are conversations, and its tokenizer has "
        "no chat template; put a chat_template.jinja into its folder, or write the prompts as text"
    )


def test_existing_reward_model_with_two_labels_is_refused(prepare: Prepare) -> None:
    context = prepare(rewardModel={"from": {"path": "other"}})
    make_model(context.data_root / "other", labels=2)
    assert refused(context) == (
        "spec.rewardModel.from.path='other': its score.weight has the shape [2, 8], and that of "
        "one label is [1, 8]: it tells 2 labels apart; name a sequence classifier with one label, "
        "saved by transformers as safetensors"
    )


@pytest.mark.parametrize(
    ("config", "settings", "message"),
    [
        pytest.param(
            MambaConfig(hidden_size=8, num_hidden_layers=1, vocab_size=80),
            {},
            "spec.model.source='base': MambaForCausalLM decodes with a recurrent state, and "
            "rollouts need keys and values; choose a model of another architecture",
            id="recurrent",
        ),
        pytest.param(
            CohereConfig(hidden_size=8, num_hidden_layers=1, vocab_size=80, logit_scale=0.5),
            {},
            "spec.model.source='base': its logit_scale is 0.5, and logits are used as its output "
            "layer gives them; choose a model of another architecture",
            id="logits-scaled",
        ),
        pytest.param(
            GraniteConfig(hidden_size=8, num_hidden_layers=1, vocab_size=80),
            {},
            "spec.model.source='base': transformers has no sequence classifier of type 'granite' "
            "with a linear head named score, and the reward model starts from it; choose a model "
            "of another architecture",
            id="no-classifier-for-the-reward-model",
        ),
        pytest.param(
            GraniteConfig(hidden_size=8, num_hidden_layers=1, vocab_size=80),
            {"rewardModel": {"from": {"path": "other"}}},
            "spec.model.source='base': transformers has no sequence classifier of type 'granite' "
            "with a linear head named score, and the critic starts from it; choose a model of "
            "another architecture",
            id="no-classifier-for-the-critic",
        ),
    ],
)
def test_architecture_that_a_later_phase_cannot_use_is_refused(
    prepare: Prepare, config: PreTrainedConfig, settings: dict[str, Any], message: str
) -> None:
    context = prepare(**settings)
    make_model(context.data_root / "other", words=("une",), labels=1)
    config.save_pretrained(context.data_root / "base")
    assert refused(context) == message


def test_shared_trunk_needs_no_classifier_of_the_policys_architecture(prepare: Prepare) -> None:
    context = prepare(
        rewardModel={"from": {"path": "other"}},
        ppo={"maximumResponseTokens": 8, "critic": "SharedTrunk"},
    )
    make_model(context.data_root / "other", words=("une",), labels=1)
    granite = GraniteConfig(
        hidden_size=8, num_hidden_layers=1, vocab_size=80, num_attention_heads=2
    )
    granite.save_pretrained(context.data_root / "base")
    preparation.run(context)


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


@pytest.mark.parametrize(
    ("folder", "settings", "place"),
    [
        ("base", {}, "spec.model.source"),
        ("own", {"sft": {"from": {"path": "own"}}}, "spec.sft.from.path"),
        (
            "own",
            {"sft": {"from": {"path": "own"}}, "model": {"source": "base", "lora": {}}},
            "spec.sft.from.path",
        ),
        ("own", {"rewardModel": {"model": {"source": "own"}}}, "spec.rewardModel.model.source"),
    ],
    ids=["base", "sft", "sft-under-lora", "reward-model"],
)
def test_model_without_weights_is_refused(
    prepare: Prepare, folder: str, settings: dict[str, Any], place: str
) -> None:
    context = prepare(**settings)
    make_model(context.data_root / "own")
    weights = context.data_root / folder / "model.safetensors"
    weights.unlink()
    assert refused(context).startswith(f"{place}={folder!r}: has no weights (model.safetensors);")
    weights.with_name("pytorch_model.bin").touch()
    assert refused(context).startswith(f"{place}={folder!r}: has pickled weights only")


def test_base_of_a_whole_sft_model_needs_no_weights(prepare: Prepare) -> None:
    context = prepare(sft={"from": {"path": "own"}})
    make_model(context.data_root / "own")
    (context.data_root / "base" / "model.safetensors").unlink()
    preparation.run(context)
