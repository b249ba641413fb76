"""iGSM-style arithmetic problems: generator, canonical solver and verifier.

After Ye et al. 2024, *Physics of Language Models: Part 2.1* - our own code, our own rendering.
"""

from pacbayes_sft.igsm.generate import OpLaw, draw_problem, problem_stream
from pacbayes_sft.igsm.problem import Problem, Step
from pacbayes_sft.igsm.verify import Verdict, verify

__all__ = ["OpLaw", "Problem", "Step", "Verdict", "draw_problem", "problem_stream", "verify"]
