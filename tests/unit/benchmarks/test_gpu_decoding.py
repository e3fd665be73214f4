"""The decoding benchmark still runs where there is no card, on a toy."""

import torch

from gpu_decoding import measure_decoding
from gpu_measuring import SIZES
from rlhf_trainer.config.model import Attention
from rlhf_trainer.engine.ranks import Ranks


def test_sampler_and_graph_decode_all_tokens_of_a_toy() -> None:
    ranks = Ranks(rank=0, world_size=1, device=torch.device("cpu"))
    rows = list(measure_decoding(SIZES["toy"], Attention.SDPA, ranks))
    assert [row.what for row in rows] == ["decode: sampler", "decode: graph"]
    assert all(row.tokens_per_second > 0 for row in rows)
