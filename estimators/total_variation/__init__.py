"""The shift term: one file a method."""

from estimators.total_variation.attribute import total_variation_attribute
from estimators.total_variation.known_law import total_variation_known

__all__ = ["total_variation_attribute", "total_variation_known"]
