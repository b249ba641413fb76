"""Views of a row: which part of it is looked at, as which features, judged by which classifier.

TV of a view never exceeds that of the whole row, so every number names the view it is of.
"""

from pacbayes_sft.views.classifiers import CountsAndWords, classifier_for, text_classifier
from pacbayes_sft.views.counts import COUNT_NAMES, count_features
from pacbayes_sft.views.features import Featured, featurise
from pacbayes_sft.views.text import attributes_of, text_of

__all__ = [
    "COUNT_NAMES",
    "CountsAndWords",
    "Featured",
    "attributes_of",
    "classifier_for",
    "count_features",
    "featurise",
    "text_classifier",
    "text_of",
]
