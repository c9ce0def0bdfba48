"""Distances between Tensors, and between all rows of two matrices."""

from __future__ import annotations

import math

from .. import checks
from ..dtypes import FLOATS
from ..errors import DtypeError, ShapeError
from .types import OPS, Axes, Tensor, apply

MODES = ("use_mm_for_euclid_dist_if_necessary", "use_mm_for_euclid_dist", "donot_use_mm_for_euclid_dist")
FEW = 25        # rows up to which differences of p = 2 are not computed by a matrix product, as in PyTorch


def dist(input: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of input - other: (sum |x - y|^p)^(1/p).

    Args:
        other: of a shape that broadcasts.
        p: 0 counts the elements that differ; infinity takes the largest difference, -infinity the smallest.

    Returns:
        A Tensor of no dimensions. The gradient of a distance of 0 is 0.

    Raises:
        ShapeError: shapes that do not broadcast; DtypeError: no floats.

    Example:
        >>> tinyml.dist(Tensor([1.0, 2.0]), Tensor([4.0, 6.0]))
        tensor(5.)
    """
    _check_floats("dist", input, other)
    return _norm(apply(OPS["sub"], input, other), checks.number("dist", "p", p, infinite=True), None)


def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str = MODES[0]) -> Tensor:
    """The p-norm of the difference of each row of x1 and each of x2.

    Args:
        x1: (..., P, M).
        x2: (..., R, M); leading dimensions broadcast.
        p: as of `dist`, not below 0.
        compute_mode: whether distances of p = 2 are computed by a matrix product, |x|^2 + |y|^2 - 2 x y, which is faster
            and less exact where rows are near each other: "use_mm_for_euclid_dist_if_necessary" (more than 25 rows),
            "use_mm_for_euclid_dist" or "donot_use_mm_for_euclid_dist".

    Returns:
        A Tensor (..., P, R). The gradient of a distance of 0 is 0.

    Raises:
        ShapeError: shapes that do not fit, or `p` below 0; DtypeError: no floats.

    Example:
        >>> tinyml.cdist(Tensor([[0.0, 0.0], [3.0, 4.0]]), Tensor([[0.0, 0.0]]))
        tensor([[0.],
                [5.]])
    """
    _check_floats("cdist", x1, x2)
    p, mode = checks.number("cdist", "p", p, 0, infinite=True), checks.choice("cdist", "compute_mode", compute_mode, MODES)
    if x1.ndim < 2 or x2.ndim < 2 or x1.shape[-1] != x2.shape[-1]:
        raise ShapeError(f"cdist: expected (..., P, M) and (..., R, M), got {x1.shape} and {x2.shape}")
    if p == 2 and (mode == MODES[1] or (mode == MODES[0] and max(x1.shape[-2], x2.shape[-2]) > FEW)):
        squares = [(x * x).sum(-1, keepdim=True) for x in (x1, x2)]
        product = apply(OPS["matmul"], x1, x2.transpose(-2, -1))
        return (squares[0] + squares[1].transpose(-2, -1) - 2 * product).clip(1e-30).sqrt()
    return _norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p, -1)


def _check_floats(name: str, a: Tensor, b: Tensor) -> None:
    if a.dtype not in FLOATS or b.dtype not in FLOATS:
        raise DtypeError(f"{name}: expected floats, got {a.dtype} and {b.dtype}; convert them with .to('float32')")


def _norm(x: Tensor, p: float, dim: Axes) -> Tensor:
    """The p-norm along a dimension, whose gradient is 0 where it is 0."""
    if p == 2:
        return _power((x * x).sum(dim), 0.5)
    x = x.abs()
    if p == 0:
        return (1 - _is_zero(x) + x.clip(0, 0)).sum(dim)       # on the tape, though its gradient is 0
    if p == 1:
        return x.sum(dim)
    if math.isinf(p):
        return x.amax(dim) if p > 0 else x.amin(dim)
    return _power(_power(x, p).sum(dim), 1 / p)


def _is_zero(x: Tensor) -> Tensor:
    return apply(OPS["eq"], x, 0).to(x.dtype)


def _power(x: Tensor, exponent: float) -> Tensor:
    """x^exponent of x >= 0, whose gradient is 0, and not infinite, where x is 0."""
    if exponent < 0:
        return x ** exponent
    zero = _is_zero(x)
    x = x + zero
    return (x.sqrt() if exponent == 0.5 else x ** exponent) * (1 - zero)
