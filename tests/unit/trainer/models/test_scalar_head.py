import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForSequenceClassification

from rlhf_trainer.models.batch import collate
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


def test_score_is_that_of_the_last_token_and_of_nothing_after_it() -> None:
    """Huang et al. 2023, "The N implementation details of RLHF with PPO": never at a pad."""
    network = ScalarHead(classifier()).eval()
    network.reset_head(torch.Generator().manual_seed(0))
    sequences = [np.array([1, 5, 6, 7, 8]), np.array([1, 9]), np.array([1, 3, 4])]
    masks = [np.zeros(len(sequence), np.bool_) for sequence in sequences]
    batch = collate(sequences, masks, torch.device("cpu"))
    scores = network(batch.tokens_BT, batch.last_B)
    for row, sequence in enumerate(sequences):
        alone = torch.from_numpy(sequence).unsqueeze(0)
        hidden = network.classifier.base_model(input_ids=alone).last_hidden_state[0, -1]
        assert scores[row].item() == pytest.approx(network.head(hidden).item(), abs=1e-6)
    behind = batch.tokens_BT.clone()
    behind[1, 2:], behind[2, 3:] = 11, 12
    assert network(behind, batch.last_B).tolist() == scores.tolist()
    behind[1, 1] = 10
    changed = network(behind, batch.last_B)
    assert changed[1] != scores[1]
    assert changed[[0, 2]].tolist() == scores[[0, 2]].tolist()


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
