"""Train the example's tokenizer: byte-level BPE over lower-cased words.

What an encoder may rely on:

- Special tokens are `<pad>`=0, `<bos>`=1, `<eos>`=2. None is ever added: `add_special_tokens` makes
  no difference, so whoever builds a sequence adds its BOS and EOS.
- Case and accents are folded before encoding; text that `corpus.clean_text` made comes back from
  decoding unchanged but for one leading blank.
- Every text is read as if a blank stood before it, and no token spans a blank between words. Hence
  for a whole-word opening `tokens(opening) + tokens(" " + rest) == tokens(opening + " " + rest)`.
"""

from collections.abc import Iterable

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS = 0, 1, 2
SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>")

VOCABULARY_SIZE = 4096
"""With 1024 the model invents words; 4096 keeps the embedding at half a million weights."""


def train_tokenizer(texts: Iterable[str], vocabulary_size: int = VOCABULARY_SIZE) -> Tokenizer:
    """Train byte-level BPE on `texts`; the same texts give the same tokenizer."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def as_pretrained(tokenizer: Tokenizer, *, max_length: int) -> PreTrainedTokenizerFast:
    """Wrap the tokenizer in the form that `AutoTokenizer.from_pretrained` loads."""
    pad, bos, eos = SPECIAL_TOKENS
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        model_max_length=max_length,
        clean_up_tokenization_spaces=False,
    )
