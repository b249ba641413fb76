import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from estimators import DiagonalGaussian, SumOfSquares, kl_divergence, log_density_ratio
from estimators import squared_distance as distance
from estimators.named_tensors import as_dict, named
from estimators.posteriors import isotropic
from estimators.sums import CHUNK, GROUP

WORST = 10 * 2.0**-24  # what the docstring promises
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SUMS = SumOfSquares()


def truth(left, right):
    return math.fsum((left.double() - right.double()).square().tolist())


@settings(deadline=None, max_examples=40)
@given(
    st.sampled_from(DTYPES),
    st.sampled_from(DTYPES),
    st.floats(-14, 4),
    st.floats(0, 12),
    st.integers(0, 2 * GROUP + 5),
    st.integers(0, 999),
)
def test_against_float64_at_adversarial_magnitudes(one, other, centre, spread, extra, seed):
    """Magnitudes over twelve decades, the differences of any size beside the tensors."""
    generator = torch.Generator().manual_seed(seed)
    size = GROUP + extra
    left = torch.randn(size, generator=generator).double()
    left = left * 10 ** (centre + spread * (torch.rand(size, generator=generator).double() - 0.5))
    left = left.clamp(-6e4, 6e4).to(one)
    right = left.double() * (1 + 1e-3 * torch.randn(size, generator=generator).double())
    right = right.clamp(-6e4, 6e4).to(other)
    assert SUMS(left, right) == pytest.approx(truth(left, right), rel=WORST)


def test_the_worst_case_of_rounding_stays_within_the_promise():
    """Equal terms are all rounded the same way: nothing averages out. Checked to fifty digits."""
    worst = 0.0
    for mantissa in range(1, 400):
        value = torch.tensor(1 + mantissa * 0.00250001)
        left = value.expand(GROUP)
        exact = GROUP * mpmath.mpf(float(value)) ** 2
        worst = max(worst, abs(float(SUMS(left) / exact - 1)))
    assert 1e-8 < worst < WORST


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_result_does_not_depend_on_the_chunks(dtype):
    torch.manual_seed(0)
    size = 3 * CHUNK + 5 * GROUP + 77
    left = (torch.randn(size) * 10 ** (6 * torch.rand(size) - 5)).to(dtype)
    right = torch.randn(size).to(torch.bfloat16)
    found = [SumOfSquares(chunk)(left, right) for chunk in (GROUP, 3 * GROUP, CHUNK, 16 * CHUNK)]
    assert found == pytest.approx([found[0]] * 4, rel=1e-12)
    for chunk in (0, GROUP - 1, GROUP + 8):
        with pytest.raises(ValueError, match="multiple"):
            SumOfSquares(chunk)


@pytest.mark.parametrize("scale", [1e-44, 1e-30, 1e-20, 1e-17, 1e18, 3e38])
def test_beyond_the_range_of_float32_squares(scale):
    left = torch.full((GROUP + 3,), scale)
    left[::2] *= -1
    right = torch.zeros_like(left)
    assert SUMS(left, right) == pytest.approx(truth(left, right), rel=1e-6) and SUMS(left) > 0
    assert SUMS(left, -left) == pytest.approx(4 * truth(left, right), rel=1e-6)


def test_float64_keeps_its_digits_and_a_frozen_tensor_has_no_distance():
    left = 1 + 1e-12 * torch.rand(GROUP + 1, dtype=torch.float64)
    assert SUMS(left, torch.ones_like(left)) == pytest.approx(
        truth(left, torch.ones_like(left)), rel=1e-12
    )
    assert SUMS(left, left.clone()) == 0 and SUMS(torch.zeros(0)) == 0
    assert SUMS(torch.arange(5), torch.zeros(5, dtype=torch.int64)) == 30


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("place", [5, GROUP + 2])
def test_what_is_not_finite_never_becomes_a_number(bad, place):
    left, right = torch.zeros(GROUP + 9), torch.zeros(GROUP + 9)
    left[place] = bad
    assert not math.isfinite(SUMS(left, right)) and not math.isfinite(SUMS(right, left))
    assert not math.isfinite(SUMS(left, left)) or math.isinf(bad)


def test_every_layout():
    torch.manual_seed(1)
    left, right = torch.randn(300, 400).T, torch.randn(400, 300)
    assert SUMS(left, right) == pytest.approx(truth(left.flatten(), right.flatten()), rel=WORST)
    with pytest.raises(ValueError, match="differ"):
        SUMS(left, right.T)


def test_one_tensor_a_dict_or_an_iterator():
    torch.manual_seed(2)
    q, p = torch.randn(3, 4), torch.randn(3, 4)
    expected = truth(q.flatten(), p.flatten())
    forms = (lambda t: t, lambda t: {"tensor": t}, lambda t: iter([("tensor", t)]))
    for left in forms:
        for right in forms:
            assert distance(left(q), right(p)) == pytest.approx(expected)
        posterior, prior = DiagonalGaussian(left(q), 0.5), isotropic.fit(left(p), 0.5)
        assert kl_divergence(posterior, prior).value == pytest.approx(2 * expected)
        assert log_density_ratio(left(q), posterior, prior) == pytest.approx(2 * expected)


def test_an_iterator_is_read_once_and_holds_one_tensor():
    alive = []

    def stream(value):
        for i in range(50):
            tensor = torch.full((4,), value)
            alive.append(tensor.untyped_storage()._weak_ref())
            yield f"w{i}", tensor
            del tensor
            still = [r for r in alive if torch.UntypedStorage._new_with_weak_ptr(r) is not None]
            assert len(still) <= 5

    assert distance(stream(1.0), stream(0.0)) == 200
    pairs = stream(1.0)
    assert distance(pairs, {f"w{i}": torch.zeros(4) for i in range(50)}) == 200
    assert next(pairs, None) is None


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("ab", "abc"),
        ("abc", "ab"),
        ("ab", "ba"),
    ],
)
def test_what_has_no_counterpart_is_refused(left, right):
    def make(names):
        return [(name, torch.zeros(2)) for name in names]

    with pytest.raises(ValueError, match="no counterpart"):
        distance(iter(make(left)), iter(make(right)))
    if set(left) != set(right):
        for one, other in ((dict(make(left)), make(right)), (make(left), dict(make(right)))):
            with pytest.raises(ValueError, match="no counterpart"):
                distance(one, other)


def test_what_is_no_named_tensors_is_refused():
    for wrong in ([torch.zeros(2, 2)], [("a", 1.0)], [("a", torch.zeros(1), 2)]):
        with pytest.raises(ValueError, match="give a tensor"):
            list(named(wrong))
    with pytest.raises(ValueError, match="twice"):
        as_dict([("a", torch.zeros(1))] * 2)
