"""Token weights between SFT and DFT: each token's loss times its own probability to the α.

The paper reads DFT (α = 1, arXiv 2508.05629) as an implicit shift to easy tokens, ahead of SFT
(α = 0) at small n with hard data and behind at large n. Between them lies a family, and which α is
best may depend on n: `advise` takes each α as a candidate like a window, judged by the same bound.
The weight is a constant to the gradient: what descends is -p^α/α (α > 0), since sg(p)^α·∇ln p =
∇p^α/α. A training loss is not a risk; that is measured in the same loss as ever.
"""

from __future__ import annotations

import functools
from typing import Any

from pacbayes_sft.choices import Objective


def loss_type(objective: Objective) -> str:
    """Return TRL's own word for the ends of the family, ``nll`` for what lies between."""
    return objective.value if objective in (Objective.NLL, Objective.DFT) else Objective.NLL.value


def trainer_class(objective: Objective) -> Any:
    """Return TRL's `SFTTrainer` for the ends, a subclass of it for what lies between."""
    from trl import SFTTrainer  # type: ignore[attr-defined]

    if objective in (Objective.NLL, Objective.DFT):
        return SFTTrainer
    return power_trainer(objective.power)


@functools.cache
def power_trainer(alpha: float) -> Any:
    """Return a subclass of `SFTTrainer` with the loss Σ_t sg(p_t)^α·(-ln p_t) / tokens.

    At α = 0 and 1 its training equals TRL's ``nll`` and ``dft``. It takes every argument that
    `SFTTrainer` takes; ``loss_type`` must stay ``nll``, and mixture-of-experts router losses are
    not added.

    Args:
        alpha: The power, in [0, 1].

    Raises:
        ValueError: If the power is out of its range.
    """
    from trl import SFTTrainer  # type: ignore[attr-defined]

    if not 0 <= alpha <= 1:
        raise ValueError(f"the power of a token's probability must lie in [0, 1], got {alpha}")

    class PowerTrainer(SFTTrainer):  # type: ignore[misc]
        """`SFTTrainer` with token weights p^α."""

        def compute_loss(
            self,
            model: Any,
            inputs: Any,
            return_outputs: bool = False,
            num_items_in_batch: Any = None,
        ) -> Any:
            """Return the weighted loss of a batch."""
            import torch

            if return_outputs:  # evaluation with metrics: TRL's own, an unweighted loss
                return super().compute_loss(model, inputs, True, num_items_in_batch)
            outputs = model(**{**inputs, "use_cache": False, "fused_lm_head": True})
            log_p = outputs.log_probs  # zero on ignored positions
            weighted = -log_p * (alpha * log_p.detach()).exp()
            tokens = outputs.label_mask.sum() if num_items_in_batch is None else num_items_in_batch
            loss = weighted.sum() / torch.as_tensor(tokens).clamp(min=1)
            if self.args.average_tokens_across_devices and num_items_in_batch is not None:
                loss = loss * self.accelerator.num_processes
            return loss

    return PowerTrainer
