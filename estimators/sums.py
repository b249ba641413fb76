"""Σ(left - right)² over tensors of any size and dtype: in constant memory, at reading speed.

Half- and single-precision tensors are taken through small float32 buffers that stay in the cache.
There the difference and its square are rounded once each, and eight squares are added; everything
beyond that is added in float64. As all terms are >= 0, each rounding of float32 (u = 2⁻²⁴) costs a
relative u at most: 2u for the difference, u for its square, 7u for the additions, so the relative
error never exceeds 10u < 6.1e-7. Which eight squares meet is fixed by their place in the tensor, so
the result does not depend on the chunk size. What float32 cannot hold (squares beyond its range,
or a sum so small that lost ones might matter) is computed again in float64.
"""

from __future__ import annotations

import math

import torch

GROUP = 8 << 12  # entries within which eight squares, 2¹² apart, are added in float32
CHUNK = 8 * GROUP  # entries held at a time
_FAST = (torch.float32, torch.bfloat16, torch.float16)
_LOST = 1e-31  # a sum below this a term may have lost squares below float32's range


class SumOfSquares:
    """Buffers for Σ(left - right)²; one for each thread.

    Args:
        chunk: Entries held at a time, a multiple of `GROUP`.

    >>> SumOfSquares()(torch.ones(3, dtype=torch.bfloat16), torch.zeros(3))
    3.0
    """

    def __init__(self, chunk: int = CHUNK) -> None:
        if chunk < GROUP or chunk % GROUP:
            raise ValueError(f"the chunk must be a multiple of {GROUP}, got {chunk}")
        self._chunk = chunk
        self._buffers: tuple[torch.Tensor, ...] | None = None

    def __call__(self, left: torch.Tensor, right: torch.Tensor | None = None) -> float:
        """Return Σ(left - right)², or Σleft² if there is no right.

        NaN and infinity in a tensor make the result NaN or infinite, never wrong and finite.

        Raises:
            ValueError: If the shapes differ.
        """
        if right is not None and left.shape != right.shape:
            raise ValueError(f"the shapes {tuple(left.shape)} and {tuple(right.shape)} differ")
        left = left.detach().reshape(-1)
        right = None if right is None else right.detach().reshape(-1)
        both = [left] if right is None else [left, right]
        fast = all(t.dtype in _FAST and t.device.type == "cpu" for t in both)
        whole = left.numel() // GROUP * GROUP if fast else 0
        total = 0.0
        if whole:
            total = self._single(left[:whole], None if right is None else right[:whole])
            if not (whole * _LOST <= total < math.inf):
                total = self._double(left[:whole], None if right is None else right[:whole])
        return total + self._double(left[whole:], None if right is None else right[whole:])

    def _single(self, left: torch.Tensor, right: torch.Tensor | None) -> float:
        x, y, sums, total = self._buffers = self._buffers or self._allocate()
        if right is None:
            y.zero_()
        total.zero_()
        for start in range(0, left.numel(), self._chunk):
            piece = left[start : start + self._chunk]
            if (n := piece.numel()) < self._chunk:
                x, y, sums, total = x[:n], y[:n], sums[: n // GROUP], total[: n // GROUP]
            x.copy_(piece)
            if right is not None:
                y.copy_(right[start : start + n])
            torch.ops.aten.mse_loss.out(x, y, 0, out=x)  # (x - y)² in one pass
            torch.sum(x.view(n // GROUP, 8, -1), 1, out=sums)
            total.add_(sums)
        return float(self._buffers[3].sum())

    def _allocate(self) -> tuple[torch.Tensor, ...]:
        sums = torch.empty(self._chunk // GROUP, GROUP // 8)
        return (
            torch.empty(self._chunk),
            torch.empty(self._chunk),
            sums,
            torch.empty_like(sums, dtype=torch.float64),
        )

    def _double(self, left: torch.Tensor, right: torch.Tensor | None) -> float:
        if right is not None and left.numel() and torch.equal(left, right):
            return 0.0  # a frozen tensor
        total = 0.0
        for start in range(0, left.numel(), self._chunk):
            difference = left[start : start + self._chunk].double()
            if right is not None:
                difference = difference - right[start : start + self._chunk].double()
            total += float(difference.square().sum())
        return total
