"""Which records are held out from training: a hash decides, not the position in the file.

The same record falls on the same side in every run, on every machine, in whatever order and company
it stands. Files are often sorted, by topic or by quality: a split by position would train on one
end and validate on the other. Records that must not be torn apart share a key: comparisons with one
prompt (very correlated, InstructGPT section 3.5), identical demonstrations, identical prompts.
Comparisons and prompts share keys too: where both are split, what Evaluation uses trains no reward
model. Responses without prompts have no such bond; name a held-out set where one response is in
many pairs.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rlhf_trainer.data.records import Comparison, Demonstration, Record, digest

KEY_RANGE = 2**64


def holdout_key(record: Record) -> int:
    """Return the key that places `record`, uniform over [0, 2^64)."""
    if isinstance(record, Demonstration):
        return digest((record.prompt, record.completion))
    if isinstance(record, Comparison) and not record.prompt:
        # swapping the two responses must not change the side, so their order must not count
        smaller, larger = sorted((digest((record.chosen,)), digest((record.rejected,))))
        return digest((f"{smaller:016x}{larger:016x}",))
    return digest((record.prompt,))


def held_out(keys: Sequence[int], fraction: float) -> NDArray[np.bool_]:
    """Return which of the records with `keys` are held out: about `fraction`, and never none.

    A small set whose keys all lie above the fraction holds out those with the smallest key.
    """
    limit = max(fraction * KEY_RANGE, min(keys, default=0) + 1)
    return np.array([key < limit for key in keys], np.bool_)
