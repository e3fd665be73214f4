"""The committed base model: small, loadable, and with the tokenizer that it promises."""

import json

import pytest
from safetensors import safe_open
from tokenizers import Tokenizer

from movie_reviews import EXAMPLE_ROOT

FOLDER = EXAMPLE_ROOT / "base-model"


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(FOLDER / "tokenizer.json"))


def test_tokenizer_special_tokens_are_distinct_and_first(tokenizer: Tokenizer) -> None:
    assert [tokenizer.id_to_token(index) for index in range(3)] == ["<pad>", "<bos>", "<eos>"]
    settings = json.loads((FOLDER / "tokenizer_config.json").read_text())
    names = [settings[f"{name}_token"] for name in ("pad", "bos", "eos")]
    assert names == ["<pad>", "<bos>", "<eos>"]


def test_tokenizer_adds_nothing_and_gives_the_text_back(tokenizer: Tokenizer) -> None:
    text = 'an odd, made-up line: it\'s "nice" (mostly) 100% & so on...'
    assert tokenizer.encode(text).ids == tokenizer.encode(text, add_special_tokens=False).ids
    assert tokenizer.decode(tokenizer.encode(text).ids) == " " + text
    assert tokenizer.encode("").ids == []


def test_tokenizer_folds_case_and_accents(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("Caf\u00e9 Noir").ids == tokenizer.encode("cafe noir").ids


@pytest.mark.parametrize("length", [1, 3, 5])
def test_tokenizer_whole_word_opening_is_a_prefix(tokenizer: Tokenizer, length: int) -> None:
    words = ["they're", "made-up", "words,", "(so", "many)", "of", "'em;", "isn't", "it", "so?"]
    opening, rest = " ".join(words[:length]), " ".join(words[length:])
    whole = tokenizer.encode(f"{opening} {rest}").ids
    assert tokenizer.encode(opening).ids + tokenizer.encode(f" {rest}").ids == whole
    assert tokenizer.encode(opening).ids + tokenizer.encode(rest).ids == whole


def test_weights_are_small_and_match_the_configuration() -> None:
    path = FOLDER / "model.safetensors"
    assert path.stat().st_size <= 4_000_000
    config = json.loads((FOLDER / "config.json").read_text())
    with safe_open(path, framework="np") as weights:
        embedding = weights.get_slice("model.embed_tokens.weight")
        assert embedding.get_shape() == [config["vocab_size"], config["hidden_size"]]
        assert embedding.get_dtype() == "BF16"
        assert "lm_head.weight" not in weights.keys()  # noqa: SIM118 - it is no mapping


def test_configuration_agrees_with_the_tokenizer(tokenizer: Tokenizer) -> None:
    config = json.loads((FOLDER / "config.json").read_text())
    assert config["vocab_size"] == tokenizer.get_vocab_size()
    assert [config[f"{name}_token_id"] for name in ("pad", "bos", "eos")] == [0, 1, 2]
    assert config["tie_word_embeddings"] is True
