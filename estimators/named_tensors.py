"""Named tensors in whatever form they come, and the distance between two sets of them.

Wherever tensors are asked for, one tensor, a dict of them or an iterator of (name, tensor) pairs
will do; an iterator is read once, and by `squared_distance` in constant memory, so that it can be
streamed over a checkpoint that does not fit into memory. All sums run in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import zip_longest

import torch

from estimators.sums import SumOfSquares

NamedTensors = Mapping[str, torch.Tensor]
Tensors = torch.Tensor | NamedTensors | Iterable[tuple[str, torch.Tensor]]
ALONE = "tensor"  # the name of a tensor that came without one


def named(tensors: Tensors) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield (name, tensor) from one tensor, a dict of them, or an iterator of such pairs.

    Raises:
        ValueError: If it is none of these.

    >>> [(name, t.numel()) for name, t in named(torch.zeros(2))]
    [('tensor', 2)]
    >>> [name for name, _ in named(zip("ab", torch.zeros(2, 3)))]
    ['a', 'b']
    """
    if isinstance(tensors, torch.Tensor):
        tensors = {ALONE: tensors}
    pairs = tensors.items() if isinstance(tensors, Mapping) else tensors
    for pair in pairs:
        # a list of tensors would unpack into nonsense: a (2, n) tensor is a "pair" too
        if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], torch.Tensor)):
            raise ValueError("give a tensor, a dict of tensors, or pairs (name, tensor)")
        yield pair


def as_dict(tensors: Tensors) -> NamedTensors:
    """Return tensors by name; a dict is returned as it is.

    Raises:
        ValueError: If they are no tensors, or a name comes twice.

    >>> as_dict(torch.zeros(1))
    {'tensor': tensor([0.])}
    """
    if isinstance(tensors, Mapping):
        return tensors
    found: dict[str, torch.Tensor] = {}
    for name, tensor in named(tensors):
        if name in found:
            raise ValueError(f"{name!r} comes twice")
        found[name] = tensor
    return found


def squared_distance(left: Tensors, right: Tensors) -> float:
    """Return Σ‖left[name] - right[name]‖², each tensor read once; see `SumOfSquares` for the error.

    Where both sides are iterators they must name the same tensors in the same order: of each side
    only one tensor is held at a time.

    Raises:
        ValueError: If the two name different tensors or shapes.

    >>> squared_distance(torch.ones(3), torch.zeros(3))
    3.0
    >>> squared_distance(((n, torch.ones(2)) for n in "ab"), {n: torch.zeros(2) for n in "ab"})
    4.0
    """
    if isinstance(right, Mapping):
        left, right = right, left  # a distance; any order will do for the side that is a dict
    sums, terms = SumOfSquares(), []
    for name, one, other in _side_by_side(left, right):
        if one.shape != other.shape:
            raise ValueError(f"the shapes of {name!r} differ")
        terms.append(sums(one, other))
    return math.fsum(terms)


def _side_by_side(
    left: Tensors, right: Tensors
) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
    """Yield (name, left, right); a dict on the left is looked into, iterators go in step."""
    if isinstance(left, Mapping):
        seen = set()
        for name, tensor in named(right):
            if name not in left or name in seen:
                raise ValueError(f"{name!r} has no counterpart")
            seen.add(name)
            yield name, left[name], tensor
        if missing := left.keys() - seen:
            raise ValueError(f"{min(missing)!r} has no counterpart")
        return
    for one, other in zip_longest(named(left), named(right)):
        if one is None or other is None or one[0] != other[0]:
            name = (one or other)[0]
            raise ValueError(f"{name!r} has no counterpart in the same place")
        yield one[0], one[1], other[1]


def check_alike(left: NamedTensors, is_left: str, right: NamedTensors, is_right: str) -> None:
    """Refuse two sets of tensors that differ in names or shapes."""
    if left.keys() != right.keys():
        raise ValueError(f"{is_left} and {is_right} name different tensors")
    for name, tensor in left.items():
        if tensor.shape != right[name].shape:
            raise ValueError(
                f"{name!r} has shape {tuple(tensor.shape)} in the {is_left}, "
                f"{tuple(right[name].shape)} in the {is_right}"
            )
