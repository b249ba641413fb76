"""Views of a row: which part of it is looked at, as which features, judged by which classifier.

TV of a view never exceeds that of the whole row, so every number names the view it is of. What
needs scikit-learn is loaded when it is first asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pacbayes_sft.views.counts import COUNT_NAMES, count_features
from pacbayes_sft.views.text import attributes_of, text_of

if TYPE_CHECKING:
    from pacbayes_sft.views.classifiers import CountsAndWords, classifier_for
    from pacbayes_sft.views.features import Featured, featurise

_LATER = {
    "CountsAndWords": "pacbayes_sft.views.classifiers",
    "Featured": "pacbayes_sft.views.features",
    "classifier_for": "pacbayes_sft.views.classifiers",
    "featurise": "pacbayes_sft.views.features",
}

__all__ = [
    "COUNT_NAMES",
    "CountsAndWords",
    "Featured",
    "attributes_of",
    "classifier_for",
    "count_features",
    "featurise",
    "text_of",
]


def __getattr__(name: str) -> Any:
    """Load a class or function when it is first asked for."""
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
