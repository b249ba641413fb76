"""The shift term: one file a method."""

from estimators.total_variation.attribute import total_variation_attribute
from estimators.total_variation.classifier import TwoSampleTest, classifier_two_sample
from estimators.total_variation.known_law import total_variation_known
from estimators.total_variation.permutation import permutation_p_value
from estimators.total_variation.prequential import (
    PrequentialTest,
    betting_certificate,
    prequential_two_sample,
)

__all__ = [
    "PrequentialTest",
    "TwoSampleTest",
    "betting_certificate",
    "classifier_two_sample",
    "permutation_p_value",
    "prequential_two_sample",
    "total_variation_attribute",
    "total_variation_known",
]
