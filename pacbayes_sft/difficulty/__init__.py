"""Difficulty as numbers: metrics of every row, their laws, and how they rank rows alike."""

from pacbayes_sft.difficulty.measure import METRICS, Difficulty, measure_difficulty
from pacbayes_sft.difficulty.picture import plot_difficulty

__all__ = ["METRICS", "Difficulty", "measure_difficulty", "plot_difficulty"]
