"""Reward models of many kinds, scored by text as plain transformers scores them one by one."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    BloomConfig,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    RobertaConfig,
)

from rlhf_trainer.config.model import ModelConfig
from rlhf_trainer.data.bridge import Bridge
from rlhf_trainer.data.store import PromptTokens
from rlhf_trainer.engine.ranks import Ranks
from rlhf_trainer.models.loading import load_classifier
from rlhf_trainer.models.scalar_head import ScoreNormalisation
from rlhf_trainer.rollout.experience import Sampled
from rlhf_trainer.rollout.protocol import Response
from rlhf_trainer.rollout.scoring import TextScorer

WORDS = ("<pad>", "<s>", "</s>", *"abcdefghij")
SMALL = {
    "vocab_size": len(WORDS),
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 40,
    "num_labels": 1,
    "initializer_range": 0.3,
}
GPT2 = {"vocab_size": len(WORDS), "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 40}
KINDS = {
    "llama": LlamaConfig(**SMALL, pad_token_id=0),
    "llama without padding": LlamaConfig(**SMALL, pad_token_id=None),
    "gpt2 that pads with its end": GPT2Config(
        **GPT2, num_labels=1, initializer_range=0.3, eos_token_id=2, pad_token_id=2
    ),
    "bloom without SDPA": BloomConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        n_layer=2,
        n_head=2,
        num_labels=1,
        initializer_range=0.3,
        pad_token_id=0,
    ),
    "bert, an encoder whose head has a bias": BertConfig(**SMALL, pad_token_id=0),
    "roberta, whose head has two layers": RobertaConfig(**SMALL, pad_token_id=0),
}
CPU = Ranks(0, 1, torch.device("cpu"))


def tokenizer_of(words: tuple[str, ...]) -> PreTrainedTokenizerFast:
    made = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, words[0]))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="</s>", bos_token="<s>")


def sampled(policy: PreTrainedTokenizerFast, texts: list[str]) -> Sampled:
    def response(text: str) -> Response:
        tokens = np.array(policy(text)["input_ids"])
        zeros = np.zeros(len(tokens), np.float32)
        return Response(tokens, zeros, zeros, ended=False)

    return Sampled([np.array([3])] * len(texts), [response(text) for text in texts])


@pytest.mark.parametrize("kind", KINDS)
def test_text_scores_are_those_of_plain_transformers_one_by_one(kind: str, tmp_path: Path) -> None:
    config: PreTrainedConfig = KINDS[kind]
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(tmp_path)
    own, policy = tokenizer_of(WORDS), tokenizer_of(("</s>", "<s>", "?", *"jihgfedcba"))
    classifier = load_classifier(tmp_path, ModelConfig(source="x"), CPU.device)
    is_decoder = hasattr(classifier, "score")
    bridge = Bridge(policy, own, maximum_positions=40, ends_with_eos=is_decoder)
    scorer = TextScorer(classifier, bridge, 64, CPU, lambda: None, pytest.fail)
    responses = ["b", "c d e f g h", "i a", "d d d d d d d d d d d", "g h a"]
    scores = scorer.responses([PromptTokens(np.array([3]), "j")] * 5, sampled(policy, responses))

    plain = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    for text, score in zip(responses, scores, strict=True):
        inputs = own(f"j {text}" + (" </s>" if is_decoder else ""), return_tensors="pt")
        with torch.no_grad():
            expected = float(plain(input_ids=inputs["input_ids"]).logits[0, 0])
        assert score == pytest.approx(expected, abs=1e-5)
    assert len({round(score, 4) for score in scores}) == len(scores)


def test_text_that_is_cut_is_told_and_stored_maps_are_applied(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = AutoModelForSequenceClassification.from_config(KINDS["llama"])
    ScoreNormalisation(mean=1.0, std=2.0).store(made)
    made.save_pretrained(tmp_path)
    own = tokenizer_of(WORDS)
    classifier = load_classifier(tmp_path, ModelConfig(source="x"), CPU.device)
    bridge = Bridge(own, own, maximum_positions=4, ends_with_eos=True)
    notes: list[str] = []
    scorer = TextScorer(classifier, bridge, 64, CPU, lambda: None, notes.append)
    prompts = [PromptTokens(np.array([3]), "a")] * 2
    scores = scorer.responses(prompts, sampled(own, ["b", "b c d e f"]))
    told = "1 of 2 prompts with their responses were longer and lost their beginning"
    assert notes == [f"the reward model reads 4 tokens: {told}"]
    with torch.no_grad():
        kept = own("d e f </s>", return_tensors="pt")["input_ids"]
        raw = float(made.eval()(input_ids=kept).logits[0, 0])
    assert scores[1] == pytest.approx((raw - 1.0) / 2.0, abs=1e-6)
