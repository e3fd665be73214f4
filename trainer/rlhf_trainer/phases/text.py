"""The tokenizer that Preparation left, and texts from tokens."""

from collections.abc import Sequence
from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from rlhf_trainer.rollout.protocol import Response


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer saved in a folder; its code is never run."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    return tokenizer


def response_texts(tokenizer: PreTrainedTokenizerBase, responses: Sequence[Response]) -> list[str]:
    """Return responses as text, without special tokens."""
    tokens = [response.tokens.tolist() for response in responses]
    texts: list[str] = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    return texts
