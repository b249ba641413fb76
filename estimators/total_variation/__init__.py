"""The shift term: one file a method."""

from estimators.total_variation.attribute import total_variation_attribute
from estimators.total_variation.classifier import TwoSampleTest, classifier_two_sample
from estimators.total_variation.known_law import total_variation_known
from estimators.total_variation.mixture import labelled_mixture
from estimators.total_variation.permutation import permutation_p_value
from estimators.total_variation.prequential import (
    PrequentialTest,
    betting_certificate,
    prequential_two_sample,
)
from estimators.total_variation.risk_profiles import (
    ALL,
    NON_DECREASING,
    Profiles,
    breakdown_gamma,
    profile_shift,
)
from estimators.total_variation.robust import RobustShift, robust_shift, slice_limit_shift

__all__ = [
    "ALL",
    "NON_DECREASING",
    "PrequentialTest",
    "Profiles",
    "RobustShift",
    "TwoSampleTest",
    "betting_certificate",
    "breakdown_gamma",
    "classifier_two_sample",
    "labelled_mixture",
    "permutation_p_value",
    "prequential_two_sample",
    "profile_shift",
    "robust_shift",
    "slice_limit_shift",
    "total_variation_attribute",
    "total_variation_known",
]
