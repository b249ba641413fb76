import pytest

from estimators import Ledger


def test_leaves_sum_to_at_most_delta():
    ledger = Ledger(0.05)
    share = ledger.share(7)
    for i in range(7):
        ledger.spend(f"leaf {i}", share)
    assert 0.0499 < ledger.spent <= 0.05
    with pytest.raises(ValueError, match="only"):
        ledger.spend("one more", 1e-6)


def test_an_event_is_entered_once():
    ledger = Ledger(0.05)
    ledger.spend("a", 0.01)
    with pytest.raises(ValueError, match="already"):
        ledger.spend("a", 0.01)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, 2.0])
def test_delta_is_a_probability(delta):
    with pytest.raises(ValueError, match="delta"):
        Ledger(delta)
