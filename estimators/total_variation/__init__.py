"""The shift term: one file a method.

What builds on scikit-learn's classes is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
from estimators.total_variation.share_differences import share_difference_p_value
from estimators.total_variation.sharpest import Sharpest, sharpest

if TYPE_CHECKING:
    from estimators.total_variation.attribute_shift import AttributeShift
    from estimators.total_variation.out_of_core import StreamedTwoSample
    from estimators.total_variation.two_sample import ClassifierTwoSample

_LATER = {
    "AttributeShift": "estimators.total_variation.attribute_shift",
    "ClassifierTwoSample": "estimators.total_variation.two_sample",
    "StreamedTwoSample": "estimators.total_variation.out_of_core",
}

__all__ = [
    "ALL",
    "NON_DECREASING",
    "AttributeShift",
    "ClassifierTwoSample",
    "PrequentialTest",
    "Profiles",
    "RobustShift",
    "Sharpest",
    "StreamedTwoSample",
    "TwoSampleTest",
    "betting_certificate",
    "breakdown_gamma",
    "classifier_two_sample",
    "labelled_mixture",
    "permutation_p_value",
    "prequential_two_sample",
    "profile_shift",
    "robust_shift",
    "share_difference_p_value",
    "sharpest",
    "slice_limit_shift",
    "total_variation_attribute",
    "total_variation_known",
]


def __getattr__(name: str) -> Any:
    """Load an estimator class when it is first asked for."""
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
