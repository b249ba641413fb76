import pytest
import torch

from pacbayes_sft.losses import exact_match, token_error


@pytest.fixture
def batch():
    """Vocabulary 3; position t predicts token t+1; the second row errs on one of two tokens."""
    logits = torch.zeros(2, 4, 3)
    for row, guesses in enumerate([[0, 1, 2, 0], [0, 1, 1, 0]]):
        for place, guess in enumerate(guesses):
            logits[row, place, guess] = 1.0
    labels = torch.tensor([[-100, -100, 1, 2], [-100, -100, 1, 2]])
    return logits, labels


def test_exact_match_and_token_error(batch):
    assert exact_match(*batch).tolist() == [0.0, 1.0]
    assert token_error(*batch).tolist() == [0.0, 0.5]


def test_what_is_not_supervised_does_not_count(batch):
    logits, labels = batch
    logits[0, 0] = torch.tensor([0.0, 0.0, 9.0])
    assert exact_match(logits, labels).tolist() == [0.0, 1.0]


def test_the_end_of_sequence_counts(batch):
    logits, labels = batch
    labels = torch.cat([labels, torch.tensor([[2], [2]])], dim=1)
    logits = torch.cat([logits, torch.zeros(2, 1, 3)], dim=1)
    assert exact_match(logits, labels).tolist() == [1.0, 1.0]  # position 3 guesses 0, not 2
