"""The change of one weight tensor: what a fine-tune makes of it, and how far that is.

In the order of PEFT's forward pass, for a base tensor W₀ (all in float64):

    C  = the stored copy where there is one, else W₀
    R  = C − s·B₀A₀ where the initialisation took that out of the base (PiSSA, OLoRA), else C
    V  = R + s·BA
    W  = V with each output's norm set to the stored magnitude (DoRA), else V
    W  with the stored token rows in their places; + s·b for a bias
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from estimators import low_rank_squared_norm
from pacbayes_sft.checkpoints.base_weights import Stored
from pacbayes_sft.checkpoints.streaming import Place
from pacbayes_sft.errors import InputError

_CANCELS = 1e-8  # below this share of ‖B‖²‖A‖² the trace formula loses digits


@dataclass(frozen=True)
class Factors:
    """ΔW = s·BA of one tensor; a matrix is a mixture of one expert.

    Attributes:
        a: Shape (experts, r, in).
        b: Shape (experts, out, r).
        scaling: s.
        transposed: Whether the tensor lies as (in, out): GPT-2's Conv1D, embeddings.
        matrix: Whether the tensor has two dimensions.
    """

    a: torch.Tensor
    b: torch.Tensor
    scaling: float
    transposed: bool = False
    matrix: bool = True

    def rows(self, start: int, stop: int) -> torch.Tensor:
        """Return rows of ΔW (of a mixture: experts) as the tensor lies, float64."""
        if not self.matrix:
            found = self.b[start:stop].double() @ self.a[start:stop].double()
            return self.scaling * (found.transpose(1, 2) if self.transposed else found)
        a, b = self.a[0].double(), self.b[0].double()
        if self.transposed:
            return self.scaling * (a[:, start:stop].T @ b.T)
        return self.scaling * (b[start:stop] @ a)

    def squared_norm(self) -> float:
        """Return ‖ΔW‖², never forming BA.

        The trace formula cancels where A and B are large and BA is not (an orthogonal start, a
        converted PiSSA): there the triangular factors of B and Aᵀ are multiplied instead.
        """
        total = 0.0
        for a, b in zip(self.a.double(), self.b.double(), strict=True):
            found = low_rank_squared_norm(a, b, self.scaling)
            most = self.scaling**2 * float(a.square().sum()) * float(b.square().sum())
            if found < _CANCELS * most:
                left, right = (torch.linalg.qr(x, mode="r").R for x in (b, a.T))
                found = self.scaling**2 * float((left @ right.T).square().sum())
            total += found
        return total


@dataclass(frozen=True)
class TensorChange:
    """What a fine-tune makes of one tensor of the base.

    Attributes:
        name: Its name in the loaded model.
        base: The tensor in the base: the prior's mean.
        copy: The tensor stored absolutely.
        factors: Low-rank change.
        magnitude: DoRA's norms of the outputs, shape (out,).
        init: ``pissa`` or ``olora``: what the base lost at load.
        tokens: Rows that were replaced: indices of shape (k,), values of shape (k, columns).
        addend: s·b, shape of the tensor.
    """

    name: str
    base: Stored
    copy: Stored | None = None
    factors: Factors | None = None
    magnitude: torch.Tensor | None = None
    init: str | None = None
    tokens: tuple[torch.Tensor, torch.Tensor] | None = None
    addend: torch.Tensor | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.base.shape

    @property
    def parameters(self) -> int:
        """Number of its entries."""
        return int(torch.Size(self.shape).numel())

    @property
    def only_factors(self) -> bool:
        """Whether the change is s·BA and nothing else, so that W₀ is not needed."""
        rest = (self.copy, self.magnitude, self.init, self.tokens, self.addend)
        return self.factors is not None and all(part is None for part in rest)

    def plain_copy(self) -> tuple[Place, Place] | None:
        """Return where W and W₀ lie, if both are floating tensors just as files have them."""
        rest = (self.factors, self.magnitude, self.init, self.tokens, self.addend)
        if self.copy is None or any(part is not None for part in rest):
            return None
        if not (self.copy.as_stored and self.base.as_stored):
            return None
        return (self.copy.files, self.copy.name), (self.base.files, self.base.name)

    def squared_norm(self) -> float:
        """Return ‖W − W₀‖², reading the base only where it is needed, block by block."""
        if self.factors is not None and self.only_factors:
            return self.factors.squared_norm()
        return sum(float((w - w0).square().sum()) for _, w, w0 in self.blocks())

    def blocks(self) -> Iterator[tuple[slice, torch.Tensor, torch.Tensor]]:
        """Yield (rows, W there, W₀ there) in float64, a block of rows at a time."""
        taken = self._taken_out()
        norms = self._column_norms(taken)
        for start, stop in self.base.blocks():
            before = self.base.rows(start, stop)
            yield slice(start, stop), self._after(start, stop, before, taken, norms), before

    def dense(self) -> torch.Tensor:
        """Return W in float32."""
        found = torch.empty(self.shape, dtype=torch.float32)
        for rows, after, _ in self.blocks():
            if self.shape:
                found[rows] = after.float()
            else:
                found = after.float().reshape(())
        return found

    def _after(
        self,
        start: int,
        stop: int,
        before: torch.Tensor,
        taken: torch.Tensor | None,
        norms: torch.Tensor | None,
    ) -> torch.Tensor:
        found = self._sum(start, stop, before, taken)
        if self.magnitude is not None:
            magnitude = self.magnitude.double()
            if norms is not None:
                found = found * (magnitude / norms)
            else:
                length = found.norm(dim=1, keepdim=True)
                found = found * (magnitude[start:stop, None] / self._positive(length))
        if self.tokens is not None:
            inside = (self.tokens[0] >= start) & (self.tokens[0] < stop)
            found = found.index_copy(
                0, self.tokens[0][inside] - start, self.tokens[1][inside].double()
            )
        if self.addend is not None:
            found = found + self.addend[start:stop].double()
        return found

    def _sum(
        self, start: int, stop: int, before: torch.Tensor, taken: torch.Tensor | None
    ) -> torch.Tensor:
        """Return V: the base or the copy, less what was taken out of it, plus s·BA."""
        found = before if self.copy is None else self.copy.rows(start, stop)
        if taken is not None:
            found = found - taken[start:stop]
        if self.factors is not None:
            found = found + self.factors.rows(start, stop)
        return found

    def _column_norms(self, taken: torch.Tensor | None) -> torch.Tensor | None:
        """Where outputs are columns, DoRA's norms need a pass of their own."""
        if self.magnitude is None or self.factors is None or not self.factors.transposed:
            return None
        total = torch.zeros(self.shape[1], dtype=torch.float64)
        for start, stop in self.base.blocks():
            before = self.base.rows(start, stop)
            total += self._sum(start, stop, before, taken).square().sum(0)
        return self._positive(total.sqrt())

    def _positive(self, norms: torch.Tensor) -> torch.Tensor:
        if not bool((norms > 0).all()):
            raise InputError(
                f"{self.name}: an output of the base is zero, and DoRA's magnitude cannot be "
                "divided by its norm; train without use_dora on this module"
            )
        return norms

    def _taken_out(self) -> torch.Tensor | None:
        """Return s·B₀A₀ as the tensor lies, computed in float32 as PEFT does at load.

        PEFT then rounds the base to the dtype that it was loaded in; that is not repeated here.
        """
        if self.init is None or self.factors is None:
            return None
        rank, scaling = self.factors.a.shape[1], self.factors.scaling
        weight = (self.base if self.copy is None else self.copy).whole().float()
        if self.init == "olora":  # PEFT takes the tensor as it lies, transposed or not
            q, r = torch.linalg.qr(weight)
            return (scaling * q[:, :rank] @ r[:rank]).double()
        weight = weight.T if self.factors.transposed else weight
        u, values, v = torch.linalg.svd(weight, full_matrices=False)
        roots = torch.diag(torch.sqrt(values[:rank] / scaling))
        found = scaling * (u[:, :rank] @ roots) @ (roots @ v[:rank])
        return (found.T if self.factors.transposed else found).double()
