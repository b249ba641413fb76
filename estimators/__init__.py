"""Statistics for PAC-Bayes bounds: arrays, tensors and callables in, labelled numbers out.

Useful alone: nothing here knows of language models.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from estimators.bounds import (
    CATONI_GRID,
    Proposition41,
    catoni,
    catoni_grid,
    is_vacuous,
    kl_bound,
    lambda_bound,
    mcallester,
    proposition_4_1,
    quadratic,
    with_shift,
)
from estimators.compression import compression_bound, quantise
from estimators.concentration import (
    binary_kl,
    clopper_pearson,
    kl_interval,
    kl_inverse_lower,
    kl_inverse_upper,
    log_maurer_moment,
)
from estimators.density_ratio import log_density_ratio, log_density_ratio_mixture
from estimators.estimate import Estimate, Guarantee, weakest
from estimators.gaussian import DiagonalGaussian, kl_divergence, kl_isotropic
from estimators.gaussian_files import gaussian_metadata, load_gaussian, save_gaussian
from estimators.held_out import held_out_bound
from estimators.ledger import Ledger
from estimators.low_rank import balanced_factors, balanced_squared_norm, low_rank_squared_norm
from estimators.monte_carlo import gibbs_risk, split_gibbs_risk, split_pays
from estimators.named_tensors import squared_distance
from estimators.recursive import Excess, excess_limits, recursive_bound
from estimators.single_draw import disintegrated, draw_delta
from estimators.sums import SumOfSquares
from estimators.total_variation import (
    PrequentialTest,
    Sharpest,
    TwoSampleTest,
    betting_certificate,
    classifier_two_sample,
    labelled_mixture,
    permutation_p_value,
    prequential_two_sample,
    profile_shift,
    robust_shift,
    share_difference_p_value,
    sharpest,
    total_variation_attribute,
    total_variation_known,
)

if TYPE_CHECKING:
    from estimators.total_variation import AttributeShift, ClassifierTwoSample, StreamedTwoSample

__all__ = [
    "CATONI_GRID",
    "AttributeShift",
    "ClassifierTwoSample",
    "DiagonalGaussian",
    "Estimate",
    "Excess",
    "Guarantee",
    "Ledger",
    "PrequentialTest",
    "Proposition41",
    "Sharpest",
    "StreamedTwoSample",
    "SumOfSquares",
    "TwoSampleTest",
    "balanced_factors",
    "balanced_squared_norm",
    "betting_certificate",
    "binary_kl",
    "catoni",
    "catoni_grid",
    "classifier_two_sample",
    "clopper_pearson",
    "compression_bound",
    "disintegrated",
    "draw_delta",
    "excess_limits",
    "gaussian_metadata",
    "gibbs_risk",
    "held_out_bound",
    "is_vacuous",
    "kl_bound",
    "kl_divergence",
    "kl_interval",
    "kl_inverse_lower",
    "kl_inverse_upper",
    "kl_isotropic",
    "labelled_mixture",
    "lambda_bound",
    "load_gaussian",
    "log_density_ratio",
    "log_density_ratio_mixture",
    "log_maurer_moment",
    "low_rank_squared_norm",
    "mcallester",
    "permutation_p_value",
    "prequential_two_sample",
    "profile_shift",
    "proposition_4_1",
    "quadratic",
    "quantise",
    "recursive_bound",
    "robust_shift",
    "save_gaussian",
    "share_difference_p_value",
    "sharpest",
    "split_gibbs_risk",
    "split_pays",
    "squared_distance",
    "total_variation_attribute",
    "total_variation_known",
    "weakest",
    "with_shift",
]


def __getattr__(name: str) -> Any:
    """Load the classes that build on scikit-learn when they are first asked for."""
    if name in ("AttributeShift", "ClassifierTwoSample", "StreamedTwoSample"):
        from estimators import total_variation

        return getattr(total_variation, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
