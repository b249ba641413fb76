"""Settings to scan on real text: the paper's on Qwen2.5-Math, and small ones for SmolLM2.

A recipe is a scan configuration (``NAME.yaml``) and the code that makes its row files. What needs
a GPU is marked *not yet run on a GPU* until it was.
"""

from pacbayes_sft.recipes.settings import RECIPES
from pacbayes_sft.recipes.table_1 import table_1
from pacbayes_sft.recipes.write import write_recipe

__all__ = ["RECIPES", "table_1", "write_recipe"]
