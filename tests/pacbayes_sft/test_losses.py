import pytest
import torch

from pacbayes_sft.losses import (
    exact_match,
    smoothed_bits_per_token,
    smoothed_nll,
    smoothed_range,
    token_error,
)


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


def test_smoothed_nll_against_its_formula_and_range():
    torch.manual_seed(0)
    logits, labels = torch.randn(3, 5, 7), torch.tensor([[-100, 1, 2, 3, -100]] * 3)
    p = torch.softmax(logits.double(), dim=-1)
    expected = [
        -sum(torch.log2(0.9 * p[i, t - 1, labels[i, t]] + 0.1 / 7) for t in (1, 2, 3)) / 3
        for i in range(3)
    ]
    torch.testing.assert_close(smoothed_bits_per_token(logits, labels), torch.stack(expected))
    low, high = smoothed_range(7)
    sure = torch.full((1, 5, 7), -1e9)
    for place, token in ((0, 1), (1, 2), (2, 3)):
        sure[0, place, token] = 1e9
    wrong = sure.roll(1, dims=-1)
    assert float(smoothed_bits_per_token(sure, labels[:1])) == pytest.approx(low)
    assert float(smoothed_bits_per_token(wrong, labels[:1])) == pytest.approx(high)
    assert float(smoothed_nll(sure, labels[:1])) == pytest.approx(0, abs=1e-12)
    assert float(smoothed_nll(wrong, labels[:1])) == pytest.approx(1)


def test_logits_that_are_not_numbers_have_no_loss():
    """The arg-max of NaN is token 0, which may be the right one."""
    logits, labels = torch.zeros(2, 3, 4), torch.tensor([[-100, 0, 0], [-100, -100, 0]])
    logits[0, 1] = float("nan")
    logits[1, 0] = float("nan")  # where nothing is supervised
    for loss in (exact_match, token_error):
        found = loss(logits, labels)
        assert found[0].isnan() and found[1] == 0
