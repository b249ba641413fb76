"""The shift term: one file a method."""

from estimators.total_variation.attribute import total_variation_attribute
from estimators.total_variation.classifier import TwoSampleTest, classifier_two_sample
from estimators.total_variation.known_law import total_variation_known

__all__ = [
    "TwoSampleTest",
    "classifier_two_sample",
    "total_variation_attribute",
    "total_variation_known",
]
