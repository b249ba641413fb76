"""What others do with the same pool and budget: rules that pick rows, to be judged beside advice.

Each returns row numbers of a pool. Rules that rank rows break the independence that a certificate
needs (`pacbayes_sft.advise.select` says so); they are here to be measured, not to be certified.
"""

from pacbayes_sft.advise.selectors.gradients import by_influence, row_gradients
from pacbayes_sft.advise.selectors.scores import BaseScores, base_scores, closest, unsolved
from pacbayes_sft.advise.selectors.simple import all_windows, at_random, curriculum
from pacbayes_sft.advise.selectors.thtb import Columns, thtb

__all__ = [
    "BaseScores",
    "Columns",
    "all_windows",
    "at_random",
    "base_scores",
    "by_influence",
    "closest",
    "curriculum",
    "row_gradients",
    "thtb",
    "unsolved",
]
