from itertools import product

import numpy as np
import pytest
from sklearn.base import BaseEstimator, ClassifierMixin

from estimators import (
    Guarantee,
    betting_certificate,
    classifier_two_sample,
    clopper_pearson,
    prequential_two_sample,
)
from estimators.total_variation import prequential


class Table(ClassifierMixin, BaseEstimator):
    """Remembers how often each value (a small integer) was seen on each side."""

    def fit(self, x, y):
        seen, y = np.asarray(x)[:, 0], np.asarray(y)
        counts = [np.bincount(seen[y == side], minlength=400) + 1.0 for side in (0, 1)]
        rates = [c / c.sum() for c in counts]
        self.probability_ = rates[1] / (rates[0] + rates[1])
        return self

    def predict_proba(self, x):
        p = self.probability_[np.asarray(x)[:, 0]]
        return np.stack([1 - p, p], axis=1)

    def predict(self, x):
        return (self.predict_proba(x)[:, 1] > 0.5).astype(int)


def sides(generator, n, m, tv, values=10):
    """U{0..values-1} against the same with ``tv`` of its mass moved to another value."""
    left = generator.integers(0, values, n)
    right = np.where(generator.random(m) < tv, values, generator.integers(0, values, m))
    return left.reshape(-1, 1).tolist(), right.reshape(-1, 1).tolist()


@pytest.mark.parametrize("delta", [0.05, 0.9])
@pytest.mark.parametrize("tau", [0.0, 0.3])
def test_wealth_is_a_supermartingale_by_enumeration(delta, tau):
    """E W_6(τ) over all 3⁶ ways to be paid, of two rules at once, with E D = τ at every step.

    At δ = 0.9 the stakes are small enough to move with what was paid.
    """
    law = {-1.0: 0.2, 0.0: 0.6 - tau, 1.0: 0.2 + tau}
    mean = 0.0
    for path in product(law, repeat=6):
        d = np.array([path, [x / 2 + tau / 2 for x in path]])
        stakes = prequential._stakes(d, delta)
        wealth = np.exp(prequential._log_wealth(d, stakes, tau))
        mean += np.prod([law[x] for x in path]) * wealth[-1]
    assert mean == pytest.approx(1.0, abs=1e-9)


def test_stakes_look_back_only():
    """Changing what step 7 was paid changes no stake up to step 7."""
    d = np.random.default_rng(0).uniform(-1, 1, (2, 12))
    changed = d.copy()
    changed[:, 7] = -d[:, 7]
    before, after = (prequential._stakes(p, 0.9) for p in (d, changed))
    assert (before[:, :8] == after[:, :8]).all() and (before[:, 8:] != after[:, 8:]).any()


def test_a_sure_winner():
    """Paid 1 a hundred times: the money at τ is Π(1 + λ(1-τ)/2), so L solves that for 1/δ."""
    limit = betting_certificate(np.ones((1, 100)), 0.05)
    stakes = prequential._stakes(np.ones((1, 100)), 0.05)[0]
    assert np.prod(1 + stakes * (1 - limit) / 2) == pytest.approx(20, rel=1e-6)
    assert 0.9 < limit < 1 and betting_certificate(-np.ones((1, 100)), 0.05) == 0
    with pytest.raises(ValueError, match=r"\[-1, 1\]"):
        betting_certificate([[1.5]], 0.05)


@pytest.mark.parametrize("repeats", [400, pytest.param(3000, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("n", "m"), [(60, 60), (200, 40)], ids=["equal", "five to one"])
def test_false_alarms_stay_below_delta(n, m, repeats):
    generator, delta = np.random.default_rng(3), 0.2
    alarms = {"p": 0, "tv": 0}
    for seed in range(repeats):
        result = prequential_two_sample(*sides(generator, n, m, 0.0), Table(), delta, seed=seed)
        alarms["p"] += result.p_value <= delta
        alarms["tv"] += result.tv.lower > 0
    assert alarms["p"] == alarms["tv"]
    assert clopper_pearson(alarms["p"], repeats, 0.02).upper <= delta


@pytest.mark.slow
@pytest.mark.parametrize("tv", [0.0, 0.05, 0.3, 0.8])
@pytest.mark.parametrize(("n", "m"), [(60, 60), (600, 600), (1000, 100)])
def test_no_certificate_above_the_truth_too_often(tv, n, m):
    generator, delta, repeats = np.random.default_rng(4), 0.05, 3000
    false = 0
    for seed in range(repeats):
        result = prequential_two_sample(*sides(generator, n, m, tv), Table(), delta, seed=seed)
        false += result.tv.lower > tv
    assert clopper_pearson(false, repeats, 0.02).upper <= delta


def test_a_certificate_above_the_truth_is_rare_where_there_is_a_shift():
    generator, delta, repeats, truth = np.random.default_rng(5), 0.2, 400, 0.3
    false = 0
    for seed in range(repeats):
        result = prequential_two_sample(*sides(generator, 80, 80, truth), Table(), delta, seed=seed)
        false += result.tv.lower > truth
    assert clopper_pearson(false, repeats, 0.02).upper <= delta


def test_rules_that_saw_their_rows_would_be_noticed():
    """Planted: betting with a classifier that was fitted on the very rows it bets on."""
    generator, delta, repeats, false = np.random.default_rng(6), 0.05, 100, 0
    for _ in range(repeats):
        left, right = (np.array(s) for s in sides(generator, 100, 100, 0.0, values=60))
        peeked = Table().fit(np.concatenate([left, right]), np.repeat([0, 1], 100))
        payoffs = (peeked.predict(right) - peeked.predict(left)).astype(float)
        false += betting_certificate(payoffs, delta) > 0
    assert clopper_pearson(false, repeats, 0.01).lower > delta


def test_pooled_folds_would_be_noticed():
    """Planted: Clopper-Pearson on scores pooled over five folds, as if they were independent."""
    generator, delta, repeats, false = np.random.default_rng(7), 0.05, 3000, 0
    label = np.repeat([0, 1], 20)
    for _ in range(repeats):
        x = np.concatenate(sides(generator, 20, 20, 0.0, values=3))
        fold, says = generator.permutation(40) % 5, np.zeros(40, dtype=int)
        for k in range(5):
            says[fold == k] = Table().fit(x[fold != k], label[fold != k]).predict(x[fold == k])
        right = clopper_pearson(int((says == label).sum()), 40, 2 * delta)
        false += right.lower > 0.5
    assert clopper_pearson(false, repeats, 0.02).lower > delta


def test_the_truth_is_found_and_labelled():
    left, right = sides(np.random.default_rng(8), 2000, 2000, 0.4)
    result = prequential_two_sample(left, right, Table(), 0.05)
    assert result.tv.value == pytest.approx(0.4, abs=0.04) and 0.35 < result.tv.lower < 0.4
    assert result.tv.guarantee is Guarantee.LOWER and result.tv.upper == 1.0
    assert result.p_value < 1e-6 and result.log_e_value > 20
    assert result.rows == (2000, 2000) and result.steps == 1800


def test_all_rows_beat_half_of_them():
    """Mean lower certificate against the held-out half's, on one and the same data."""
    generator, betting, halved = np.random.default_rng(9), [], []
    for seed in range(30):
        both = sides(generator, 300, 300, 0.3)
        betting.append(prequential_two_sample(*both, Table(), 0.05, seed=seed).tv.lower)
        halved.append(classifier_two_sample(*both, Table(), 0.05, seed=seed).tv.lower)
    assert np.mean(betting) > np.mean(halved) + 0.02


def test_a_rare_event_is_paid_by_the_probability():
    """Two tables alone: the decision bets on noise among 100 even values, the probability less."""
    generator, hard, both = np.random.default_rng(10), [], []
    for seed in range(20):
        rows = sides(generator, 800, 800, 0.06, values=100)
        both.append(prequential_two_sample(*rows, Table(), 0.05, seed=seed).log_e_value)
        hard.append(prequential_two_sample(*rows, Decision(), 0.05, seed=seed).log_e_value)
    assert np.mean(both) > np.mean(hard) + 1


class Decision(ClassifierMixin, BaseEstimator):
    """`Table` without its probability."""

    def fit(self, x, y):
        self.inner_ = Table().fit(x, y)
        return self

    def predict(self, x):
        return self.inner_.predict(x)


def test_a_group_on_both_sides_stands_in_one_step():
    generator = np.random.default_rng(11)
    group = np.concatenate([np.arange(30), np.arange(20, 80)])
    y = np.repeat([0, 1], [30, 60])
    step = prequential._step_of(group, y, generator)
    assert np.bincount(step[y == 0]).tolist() == [1] * 30
    assert np.bincount(step[y == 1]).tolist() == [2] * 30
    for name in range(20, 30):
        assert len(set(step[group == name])) == 1


def test_one_file_twice_is_no_shift():
    rows = [[i] for i in range(300)]
    names = list(range(300))
    result = prequential_two_sample(
        rows, rows, Table(), 0.05, train_groups=names, test_groups=names
    )
    assert result.tv.lower == 0 and result.p_value > 0.05


def test_too_few_rows():
    with pytest.raises(ValueError, match="at least 10 independent units"):
        prequential_two_sample([[1]] * 9, [[2]] * 50, Table(), 0.05)
