"""PAC-Bayes bounds: one function a theorem, all for losses in [0, 1] and a Gibbs predictor.

Setting. S holds n independent units, R̂ = E_{θ~Q} R̂_S(θ) is the empirical Gibbs risk of the
posterior Q, R its true risk on the law S was drawn from, P a prior that S did not shape. Each
theorem holds with probability >= 1-δ over S, for all Q at once.

Each takes R̂ and KL as floats (then known exactly) or as `Estimate` (then their upper limits
enter, and their own δ is paid on top). Each returns an `Estimate` whose ``upper`` is the bound,
**not** clipped at 1: at 1 or above it is vacuous (`is_vacuous`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from estimators.concentration import check_delta, kl_inverse_upper, log_maurer_moment
from estimators.estimate import Estimate, Guarantee, weakest

UNITS = "the n units are independent draws and the prior did not see them"
LOSS = "the loss lies in [0, 1]"
GRID = "Catoni's c, or the grid it is taken from, was fixed before the data were seen"

# The best c is ln(R(1-R̂)/(R̂(1-R))): about √(2·complexity/(n·R̂(1-R̂))), large where R̂ is 0. For
# R̂ <= 0.9 and 30 <= n <= 10⁵ these ten cost at most 6.1 % of the gap R-R̂ against the best c (27 %
# at n = 10⁶ and KL = 0), and ln 10 nats instead of ln ξ(n).
CATONI_GRID = tuple(0.01 * 2**k for k in range(10))


def kl_bound(
    empirical_risk: float | Estimate, kl: float | Estimate, n: int, delta: float
) -> Estimate:
    """PAC-Bayes-kl: kl(R̂‖R) <= (KL + ln(ξ(n)/δ))/n, inverted upwards.

    Seeger 2002; Langford 2005; Maurer 2004 with ξ(n) itself instead of 2√n. The tightest of the
    bounds here that share one event.

    >>> bound = kl_bound(empirical_risk=0.31, kl=120.0, n=4096, delta=0.05)
    >>> print(bound)
    0.4315 probability (upper: <= 0.4315 at 0.95; PAC-Bayes-kl (Maurer 2004))
    >>> is_vacuous(kl_bound(empirical_risk=0.31, kl=1e6, n=4096, delta=0.05))
    True
    """
    risk, complexity, rest = _enter(empirical_risk, kl, n, delta)
    budget = (complexity + log_maurer_moment(n) - math.log(delta)) / n
    return _bound(kl_inverse_upper(min(risk, 1.0), budget), "PAC-Bayes-kl (Maurer 2004)", rest)


def mcallester(
    empirical_risk: float | Estimate, kl: float | Estimate, n: int, delta: float
) -> Estimate:
    """McAllester/Maurer: R <= R̂ + √((KL + ln(2√n/δ))/(2n)) (McAllester 1999, Maurer 2004).

    >>> round(mcallester(empirical_risk=0.31, kl=120.0, n=4096, delta=0.05).upper, 4)
    0.4349
    """
    risk, complexity, rest = _enter(empirical_risk, kl, n, delta)
    kappa = (complexity + _log_2_root_n(n, delta)) / (2 * n)
    return _bound(risk + math.sqrt(kappa), "McAllester (Maurer 2004)", rest)


def quadratic(
    empirical_risk: float | Estimate, kl: float | Estimate, n: int, delta: float
) -> Estimate:
    """PAC-Bayes-quadratic: R <= (√(R̂+κ) + √κ)², κ = (KL + ln(2√n/δ))/(2n).

    Rivasplata et al. 2019; Pérez-Ortiz et al. 2021.

    >>> round(quadratic(empirical_risk=0.31, kl=120.0, n=4096, delta=0.05).upper, 4)
    0.4838
    """
    risk, complexity, rest = _enter(empirical_risk, kl, n, delta)
    kappa = (complexity + _log_2_root_n(n, delta)) / (2 * n)
    root = math.sqrt(risk + kappa) + math.sqrt(kappa)
    return _bound(root * root, "PAC-Bayes-quadratic (Rivasplata et al. 2019)", rest)


def lambda_bound(
    empirical_risk: float | Estimate, kl: float | Estimate, n: int, delta: float
) -> Estimate:
    """PAC-Bayes-λ: R <= R̂/(1-λ/2) + (KL + ln(2√n/δ))/(nλ(1-λ/2)), for all λ in (0,2) at once.

    Thiemann et al. 2017; taken at its minimiser λ* = 2/(√(2nR̂/C + 1) + 1), C = KL + ln(2√n/δ).

    >>> round(lambda_bound(empirical_risk=0.31, kl=120.0, n=4096, delta=0.05).upper, 4)
    0.4838
    """
    risk, complexity, rest = _enter(empirical_risk, kl, n, delta)
    total = complexity + _log_2_root_n(n, delta)
    best = 0.0 if math.isinf(total) else 2 / (math.sqrt(2 * n * risk / total + 1) + 1)
    value = risk / (1 - best / 2) + total / (n * best * (1 - best / 2)) if best > 0 else math.inf
    return _bound(value, "PAC-Bayes-λ (Thiemann et al. 2017)", rest)


def catoni(
    empirical_risk: float | Estimate, kl: float | Estimate, n: int, delta: float, c: float
) -> Estimate:
    """Catoni's bound: R <= [1 - exp(-cR̂ - (KL + ln(1/δ))/n)] / (1 - e⁻ᶜ), c fixed in advance.

    Catoni 2007, Theorem 1.2.6; Germain et al. 2009, Corollary 2.2. Without the ln ξ(n) of
    `kl_bound`, at the price of a c that the data may not choose (see `catoni_grid`). For a given
    c it never exceeds 1/(1 - e⁻ᶜ), also where the KL is infinite.

    Args:
        empirical_risk: E_Q R̂_S, in [0, 1].
        kl: KL(Q‖P) in nats.
        n: Independent units behind R̂_S.
        delta: Probability of failure of the event.
        c: Catoni's parameter, > 0 and finite (λ/n in the notation with λ).

    Raises:
        ValueError: If an argument is out of its range.

    >>> round(catoni(empirical_risk=0.31, kl=2.0, n=4096, delta=0.05, c=0.16).upper, 4)
    0.3351
    """
    risk, complexity, rest = _enter(empirical_risk, kl, n, delta)
    if not 0 < c < math.inf:
        raise ValueError(f"Catoni's c must be positive and finite, got {c}")
    exponent = c * risk + (complexity - math.log(delta)) / n
    value = math.expm1(-exponent) / math.expm1(-c)
    rest = _Parts(rest.delta, rest.label, _merge(rest.assumptions, (GRID,)))
    return _bound(value, f"PAC-Bayes-Catoni, c={c:g} (Catoni 2007)", rest)


def catoni_grid(
    empirical_risk: float | Estimate,
    kl: float | Estimate,
    n: int,
    delta: float,
    grid: Sequence[float] = CATONI_GRID,
) -> Estimate:
    """Return the smallest of Catoni's bounds over a grid of c's, δ split equally over the grid.

    A union bound over `catoni`: it owns one leaf of the ledger and pays ln(len(grid)) nats.

    Args:
        empirical_risk: E_Q R̂_S, in [0, 1].
        kl: KL(Q‖P) in nats.
        n: Independent units behind R̂_S.
        delta: Probability of failure of all c's together.
        grid: The c's, fixed in advance (they may depend on n, not on the data).

    Raises:
        ValueError: If the grid is empty or an argument is out of its range.

    >>> len(CATONI_GRID)
    10
    >>> at_best = catoni_grid(empirical_risk=0.31, kl=2.0, n=4096, delta=0.05)
    >>> round(at_best.upper, 4), at_best.method
    (0.3387, 'PAC-Bayes-Catoni, c=0.16 of a charged grid of 10 (Catoni 2007)')
    >>> at_best.upper < kl_bound(empirical_risk=0.31, kl=2.0, n=4096, delta=0.05).upper
    True
    """
    if len(grid) == 0:
        raise ValueError("Catoni's grid must hold at least one c")
    risk, complexity, rest = _enter(empirical_risk, kl, n, delta)
    each = delta / len(grid)
    best, c = min((catoni(risk, complexity, n, each, c).upper, c) for c in grid)
    rest = _Parts(rest.delta, rest.label, _merge(rest.assumptions, (GRID,)))
    method = f"PAC-Bayes-Catoni, c={c:g} of a charged grid of {len(grid)} (Catoni 2007)"
    return _bound(best, method, rest)


@dataclass(frozen=True)
class Proposition41:
    """The terms of Proposition 4.1 (arXiv 2605.12906) with our constants, and their sum.

    Attributes:
        empirical_risk: E_Q R̂_S, as its upper limit if it was estimated.
        generalization: G_gen = √(KL/(2n)).
        extrapolation: G_ext = the shift term, TV(D_test, D_train) or smaller.
        epsilon: ε = √(ln(2√n/δ)/(2n)).
        bound: The sum, as a bound on the risk under the test distribution.
        train_bound: The sum without the extrapolation term, on the train distribution.

    >>> sum_of = proposition_4_1(empirical_risk=0.31, kl=120.0, n=4096, shift=0.2, delta=0.05)
    >>> isinstance(sum_of, Proposition41), round(sum_of.bound.upper - sum_of.train_bound.upper, 4)
    (True, 0.2)
    """

    empirical_risk: float
    generalization: float
    extrapolation: float
    epsilon: float
    bound: Estimate
    train_bound: Estimate


def proposition_4_1(
    empirical_risk: float | Estimate,
    kl: float | Estimate,
    n: int,
    shift: float | Estimate,
    delta: float,
) -> Proposition41:
    """Proposition 4.1: E_Q R_test <= E_Q R̂_S + √(KL/2n) + TV(D_test, D_train) + √(ln(2√n/δ)/2n).

    Derivation, since the paper states it in O-form only. (1) McAllester/Maurer: with probability
    >= 1-δ over S, R_train <= R̂ + √((KL + ln(2√n/δ))/2n) for all Q. (2) √(a+b) <= √a + √b splits
    the root. (3) For a loss ℓ_θ in [0,1], E_test ℓ_θ - E_train ℓ_θ <= TV for every θ, hence
    R_test <= R_train + TV on average over Q.

    Args:
        empirical_risk: E_Q R̂_S, in [0, 1].
        kl: KL(Q‖P) in nats.
        n: Independent units behind R̂_S.
        shift: An upper limit on R_test - R_train, TV or a smaller valid one.
        delta: Probability of failure of the PAC-Bayes event.

    Raises:
        ValueError: If an argument is out of its range.

    >>> terms = proposition_4_1(empirical_risk=0.31, kl=120.0, n=4096, shift=0.2, delta=0.05)
    >>> round(terms.generalization, 4), terms.extrapolation, round(terms.epsilon, 4)
    (0.121, 0.2, 0.031)
    >>> round(terms.bound.upper, 4), str(terms.bound.guarantee), terms.bound.confidence
    (0.662, 'upper', 0.95)
    """
    risk, complexity, rest = _enter(empirical_risk, kl, n, delta)
    generalization = math.sqrt(complexity / (2 * n))
    epsilon = math.sqrt(_log_2_root_n(n, delta) / (2 * n))
    train = _bound(risk + generalization + epsilon, "Proposition 4.1 without shift", rest)
    shifted = with_shift(train, shift)
    return Proposition41(
        empirical_risk=risk,
        generalization=generalization,
        extrapolation=as_estimate(shift, "").as_upper()[0],
        epsilon=epsilon,
        bound=shifted,
        train_bound=train,
    )


def with_shift(train_bound: Estimate, shift: float | Estimate) -> Estimate:
    """Carry a bound from the train to the test distribution: R_test <= R_train + shift.

    ``shift`` is any upper limit on R_test - R_train, TV(D_test, D_train) in the first place. A
    shift that is only estimated, or only bounded from below, makes the result an estimate. A limit
    on the difference itself (one whose ``lower`` is negative) may be negative; a risk is not, so
    the bound stops at 0.

    Raises:
        ValueError: If the shift is NaN, or negative though it is a distance.

    >>> on_train = kl_bound(empirical_risk=0.31, kl=120.0, n=4096, delta=0.05)
    >>> round(with_shift(on_train, 0.2).upper - on_train.upper, 4)
    0.2
    """
    known = as_estimate(shift, "a shift given as a number")
    amount, label = known.as_upper()
    difference = isinstance(shift, Estimate) and shift.lower < 0 and amount >= -1
    if not (amount >= 0 or difference):
        raise ValueError(f"the shift term must be >= 0, got {amount}")
    parts = _Parts(
        train_bound.delta + known.delta,
        weakest([train_bound.guarantee, label]),
        _merge(train_bound.assumptions, known.assumptions),
    )
    value = max(0.0, train_bound.upper + amount)
    return _bound(value, f"{train_bound.method} + {known.method}", parts)


def is_vacuous(bound: Estimate) -> bool:
    """Return whether a risk bound says nothing about a loss in [0, 1].

    >>> [is_vacuous(mcallester(0.31, kl, 4096, delta=0.05)) for kl in (9000.0, 2.0)]
    [True, False]
    """
    return not bound.upper < 1


@dataclass(frozen=True)
class _Parts:
    """What a bound inherits from its inputs."""

    delta: float
    label: Guarantee
    assumptions: tuple[str, ...]


def _enter(
    empirical_risk: float | Estimate, kl: float | Estimate, n: int, delta: float
) -> tuple[float, float, _Parts]:
    """Check the inputs; return risk and KL as they may enter, and what the bound inherits."""
    check_delta(delta)
    if n < 1:
        raise ValueError(f"a bound needs n >= 1 units, got {n}")
    risk = as_estimate(empirical_risk, "a risk given as a number")
    complexity = as_estimate(kl, "a KL given as a number")
    r, risk_label = risk.as_upper()
    c, kl_label = complexity.as_upper()
    if not 0 <= r <= 1:
        raise ValueError(f"the empirical risk must lie in [0, 1], got {r}")
    if not c >= 0:
        raise ValueError(f"KL must be >= 0 nats, got {c}")
    assumptions = _merge((LOSS, UNITS), risk.assumptions, complexity.assumptions)
    label = weakest([risk_label, kl_label])
    return r, c, _Parts(delta + risk.delta + complexity.delta, label, assumptions)


def _bound(value: float, method: str, parts: _Parts) -> Estimate:
    return Estimate(
        value,
        -math.inf,
        value,
        max(0.0, 1 - parts.delta),
        parts.label,
        method,
        parts.assumptions,
        "probability",
    )


def bound_estimate(
    value: float,
    method: str,
    delta: float,
    inputs: Sequence[Estimate],
    assumptions: tuple[str, ...],
) -> Estimate:
    """Label a bound: its own δ and assumptions, and what its inputs bring along."""
    parts = _Parts(
        delta + sum(known.delta for known in inputs),
        weakest([known.as_upper()[1] for known in inputs]),
        _merge(assumptions, *(known.assumptions for known in inputs)),
    )
    return _bound(value, method, parts)


def as_estimate(number: float | Estimate, method: str) -> Estimate:
    """Return the number as it is, or as an exact quantity if it is a plain float."""
    return number if isinstance(number, Estimate) else Estimate.exactly(number, method=method)


def _merge(*groups: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(sentence for group in groups for sentence in group))


def _log_2_root_n(n: int, delta: float) -> float:
    return math.log(2 * math.sqrt(n) / delta)
