import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from rlhf_trainer.models.scalar_head import ScalarHead, ScoreNormalisation


def classifier(hidden_size: int = 32) -> LlamaForSequenceClassification:
    torch.manual_seed(0)
    return LlamaForSequenceClassification(
        LlamaConfig(
            vocab_size=16,
            hidden_size=hidden_size,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            num_labels=1,
        )
    )


def test_reset_head_draws_from_a_normal_of_variance_one_over_d_plus_one() -> None:
    network = ScalarHead(classifier(4096))
    network.reset_head(torch.Generator().manual_seed(0))
    weight = network.head.weight.detach()
    assert float(weight.std()) == pytest.approx(4097**-0.5, rel=0.05)
    assert float(weight.mean()) == pytest.approx(0.0, abs=3 * 4097**-0.5 / 64)


def test_reset_head_without_generator_is_zero() -> None:
    network = ScalarHead(classifier())
    network.reset_head(None)
    assert network.head.weight.abs().sum() == 0


def test_dropout_acts_in_training_mode_only() -> None:
    network = ScalarHead(classifier(), dropout=0.5)
    network.reset_head(torch.Generator().manual_seed(0))
    tokens, positions = torch.arange(8).unsqueeze(0), torch.arange(8)
    network.eval()
    torch.testing.assert_close(network(tokens, positions), network(tokens, positions))
    network.train()
    assert not torch.equal(network(tokens, positions), network(tokens, positions))


def test_normalisation_travels_in_the_models_config() -> None:
    model = classifier()
    assert ScoreNormalisation.of(model) == ScoreNormalisation(0.0, 1.0)
    normalisation = ScoreNormalisation(mean=2.0, std=4.0)
    normalisation.store(model)
    assert ScoreNormalisation.of(model) == normalisation
    assert normalisation.apply(np.array([2.0, 10.0])).tolist() == [0.0, 2.0]
