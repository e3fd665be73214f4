"""From the policy's tokens to those of a reward model that has a tokenizer of its own, by text.

Decided here: responses are decoded with the policy's tokenizer; a conversation is rendered with the
reward model's own chat template, plain text gets the special tokens that its tokenizer adds. What
is longer than the reward model reads loses its beginning, since scores are read where it ends, and
is counted. Imports no transformers: tokenizers are passed in.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rlhf_trainer.data.chat import ChatTemplate
from rlhf_trainer.data.problems import shortened
from rlhf_trainer.data.records import Message, Prompt, Role
from rlhf_trainer.data.store import PromptTokens
from rlhf_trainer.errors import InvalidError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

NO_LIMIT = 10**6
"""Tokenizers that know no longest text name an absurd length instead; this one is absurd too."""

SAMPLE_ANSWER = Message(Role.ASSISTANT, "Yes.")
"""Stands for a response when a template is tried before there is one."""


class Bridge:
    """Turns prompts and responses of a policy into a reward model's tokens."""

    def __init__(
        self,
        policy: "PreTrainedTokenizerBase",
        reward: "PreTrainedTokenizerBase",
        *,
        maximum_positions: int | None,
        ends_with_eos: bool,
    ) -> None:
        """Take both tokenizers and the reward model's context.

        ends_with_eos: plain text ends with the reward model's end-of-sequence token, as it does
        for models that are read at their last token.
        """
        self._policy, self._reward = policy, reward
        self._chat = ChatTemplate(reward)
        limits = (maximum_positions or NO_LIMIT, reward.model_max_length)
        self.maximum_tokens = min(limits)
        self._ends_with_eos = ends_with_eos

    def require_prompts(self, prompts: Sequence[Prompt], place: str, source: str) -> None:
        """Try every prompt, before any response to it exists.

        Raises:
            InvalidError: a conversation cannot be rendered, or a prompt leaves no room to respond.
        """
        if not self._reward.chat_template and any(
            isinstance(record.prompt, tuple) for record in prompts
        ):
            raise InvalidError(
                place,
                source,
                "the prompts are conversations, and its tokenizer has no chat template",
                "put a chat_template.jinja into its folder, or write the prompts as text",
            )
        for record in prompts:
            if isinstance(record.prompt, str):
                num_tokens = len(self._plain(record.prompt))
            else:
                turns = (*record.prompt, SAMPLE_ANSWER)
                num_tokens = len(self._conversation(turns, record.place))
            if num_tokens >= self.maximum_tokens:
                raise InvalidError(
                    f"{record.place} prompt",
                    shortened(str(record.prompt)),
                    f"has {num_tokens} tokens of the reward model {source}, which reads "
                    f"{self.maximum_tokens}, prompt and response together",
                    "shorten or remove the prompt, or choose a reward model of a longer context",
                )

    def encode(
        self, prompts: Sequence[PromptTokens], responses: Sequence[NDArray[np.int64]]
    ) -> tuple[list[NDArray[np.int64]], int]:
        """Return a sequence for each prompt and response, and how many lost their beginning."""
        encoded = [
            self._conversation(
                (*prompt.turns, Message(Role.ASSISTANT, self._answer(response))), "prompt"
            )
            if prompt.turns
            else self._plain(prompt.text + self._continuation(prompt.tokens, response))
            for prompt, response in zip(prompts, responses, strict=True)
        ]
        num_cut = sum(len(tokens) > self.maximum_tokens for tokens in encoded)
        return [np.array(self._cut(tokens), np.int64) for tokens in encoded], num_cut

    def _answer(self, response: NDArray[np.int64]) -> str:
        return str(self._policy.decode(response.tolist(), skip_special_tokens=True))

    def _continuation(self, prompt: NDArray[np.int64], response: NDArray[np.int64]) -> str:
        """Return the response with the space before it, which it has only after its prompt."""
        both = self._answer(np.concatenate([prompt, response]))
        before = self._answer(prompt)
        return both[len(before) :] if both.startswith(before) else self._answer(response)

    def _plain(self, text: str) -> list[int]:
        tokens: list[int] = self._reward(text, verbose=False)["input_ids"]
        eos = self._reward.eos_token_id
        if self._ends_with_eos and eos is not None and tokens[-1:] != [eos]:
            return [*tokens, eos]
        return tokens

    def _conversation(self, turns: Sequence[Message], place: str) -> list[int]:
        """Return what the template renders; it writes special tokens itself."""
        text = self._chat.whole(turns, place)
        encoded = self._reward(text, add_special_tokens=False, verbose=False)
        tokens: list[int] = encoded["input_ids"]
        return tokens

    def _cut(self, tokens: list[int]) -> list[int]:
        """Leave out what is too much after the special token that begins the sequence, if any."""
        excess = len(tokens) - self.maximum_tokens
        if excess <= 0:
            return tokens
        kept = int(tokens[0] in self._reward.all_special_ids)
        return tokens[:kept] + tokens[kept + excess :]
