"""Products of vectors, matrices and batches of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import checks
from ..arguments import dimension
from ..dtypes import FLOATS
from ..errors import DtypeError, ShapeError
from .types import OPS, Tensor, TensorLike, apply


def matmul(input: Tensor, other: TensorLike) -> Tensor:
    """Matrix product (..., M, K) @ (..., K, N): sum over k of input[m, k] other[k, n].

    Args:
        other: the second factor. Leading dimensions broadcast; a vector counts as one row of `input`, or one column of it.

    Returns:
        A Tensor (..., M, N), without the dimension of a vector.

    Raises:
        ShapeError: shapes that do not fit; DtypeError: bools.

    Example:
        >>> Tensor([[1.0, 2.0]]).matmul(Tensor([[3.0], [4.0]]))
        tensor([[11.]])
    """
    return apply(OPS["matmul"], input, other)


def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The matrix product of two matrices.

    Args:
        mat2: the second factor.

    Returns:
        A Tensor.

    Raises:
        ShapeError: shapes that do not fit; DtypeError: bools, or dtypes that differ.

    Example:
        >>> tinyml.mm(Tensor([[1.0, 2.0]]), Tensor([[3.0], [4.0]]))
        tensor([[11.]])
    """
    return _product("mm", input, mat2, 2, 2)


def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The matrix products of two batches (B, M, K) and (B, K, N), which do not broadcast.

    Args:
        mat2: the second factor.

    Returns:
        A Tensor.

    Raises:
        ShapeError: shapes that do not fit; DtypeError: bools, or dtypes that differ.

    Example:
        >>> tinyml.bmm(Tensor(np.ones((2, 1, 3))), Tensor(np.ones((2, 3, 1)))).shape
        (2, 1, 1)
    """
    return _product("bmm", input, mat2, 3, 3)


def mv(input: Tensor, vec: Tensor) -> Tensor:
    """The product of a matrix (M, K) and a vector (K).

    Args:
        vec: a vector (K).

    Returns:
        A Tensor.

    Raises:
        ShapeError: shapes that do not fit; DtypeError: bools, or dtypes that differ.

    Example:
        >>> tinyml.mv(Tensor([[1.0, 2.0]]), Tensor([3.0, 4.0]))
        tensor([11.])
    """
    return _product("mv", input, vec, 2, 1)


def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """sum of x y over the elements of two vectors.

    Args:
        tensor: the other vector.

    Returns:
        A Tensor.

    Raises:
        ShapeError: shapes that do not fit; DtypeError: bools, or dtypes that differ.

    Example:
        >>> tinyml.dot(Tensor([1.0, 2.0]), Tensor([3.0, 4.0]))
        tensor(11.)
    """
    return _product("dot", input, tensor, 1, 1)


def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """The product x y of each pair of elements of two vectors, (M, N).

    Args:
        vec2: the second vector (N).

    Returns:
        A Tensor.

    Raises:
        ShapeError: shapes that do not fit; DtypeError: bools, or dtypes that differ.

    Example:
        >>> tinyml.outer(Tensor([1.0, 2.0]), Tensor([3.0, 4.0]))
        tensor([[3., 4.],
                [6., 8.]])
    """
    _check("outer", input, vec2, 1, 1)
    return apply(OPS["mul"], input.reshape(-1, 1), vec2)


def inner(input: Tensor, other: Tensor) -> Tensor:
    """sum of x y over the last dimension, for each pair of vectors that lie along it; x y for a single number.

    Args:
        other: of the same last dimension.

    Returns:
        A Tensor of the leading dimensions of `input`, then those of `other`.

    Raises:
        ShapeError: last dimensions that differ.

    Example:
        >>> tinyml.inner(Tensor([[1.0, 2.0]]), Tensor([[3.0, 4.0], [5.0, 6.0]]))
        tensor([[11., 17.]])
    """
    if not input.ndim or not other.ndim:
        return apply(OPS["mul"], input, other)
    return tensordot(input, other, ([-1], [-1]))


def tensordot(a: Tensor, b: Tensor, dims: Any = 2) -> Tensor:
    """sum of a b over some dimensions of each, for each pair of the rest.

    Args:
        a: one Tensor.
        b: the other.
        dims: how many, the last of `a` with the first of `b`; or two lists, the dimensions of `a` and those of `b`.

    Returns:
        A Tensor of the other dimensions of `a`, then those of `b`.

    Raises:
        ShapeError: dimensions that there are not, or whose sizes differ.

    Example:
        >>> tinyml.tensordot(Tensor(np.ones((2, 3, 4))), Tensor(np.ones((4, 3, 5))), ([1, 2], [1, 0])).shape
        (2, 5)
    """
    dims = dims.tolist() if isinstance(dims, Tensor) else dims
    if checks.is_whole(dims):
        n = checks.whole("tensordot", "dims", dims, 0, min(a.ndim, b.ndim))
        dims = range(a.ndim - n, a.ndim), range(n)
    dims = [checks.several("tensordot", "dims", ds) for ds in checks.rows("tensordot", "dims", dims, "dimensions")]
    if len(dims) != 2:
        raise ShapeError(f"tensordot: expected dims to be a number or two lists of dimensions, got {len(dims)} of them")
    left, right = ([dimension("tensordot", d, t.ndim) for d in ds] for ds, t in zip(dims, (a, b)))
    for d, e in zip(left, right):       # a size of 1 is stretched: each element of the other meets the same number
        a = a.sum(d, keepdim=True) if b.shape[e] == 1 != a.shape[d] else a
        b = b.sum(e, keepdim=True) if a.shape[d] == 1 != b.shape[e] else b
    if [a.shape[d] for d in left] != [b.shape[d] for d in right] or any(len(set(d)) < len(d) for d in (left, right)):
        raise ShapeError(f"tensordot: dimensions {left} of {a.shape} do not match dimensions {right} of {b.shape}")
    rest = [[d for d in range(t.ndim) if d not in ds] for t, ds in ((a, left), (b, right))]
    k = math.prod(a.shape[d] for d in left)
    shape = [t.shape[d] for t, ds in zip((a, b), rest) for d in ds]
    rows, columns = a.permute(*rest[0], *left), b.permute(*right, *rest[1])
    m, n = (math.prod(t.shape[d] for d in ds) for t, ds in zip((a, b), rest))
    return apply(OPS["matmul"], rows.reshape(m, k), columns.reshape(k, n)).reshape(tuple(shape))


def trace(input: Tensor) -> Tensor:
    """The sum of the elements on the diagonal of a matrix.

    Raises:
        ShapeError: no matrix.

    Example:
        >>> tinyml.trace(Tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor(5.)
    """
    if input.ndim != 2:
        raise ShapeError(f"trace: expected a matrix, got shape {input.shape}")
    places = np.arange(min(input.shape))
    return apply(OPS["getitem"], input, index=(places, places)).sum()


def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta input + alpha (mat1 @ mat2), of two matrices; `input` broadcasts.

    Args:
        mat1: (M, K).
        mat2: (K, N).
        beta: the factor of `input`, which is not read where it is 0.
        alpha: the factor of the product.

    Returns:
        A Tensor (M, N).

    Raises:
        ShapeError: shapes that do not fit; DtypeError: a factor of integers that is none.

    Example:
        >>> tinyml.addmm(Tensor([1.0]), Tensor([[1.0, 2.0]]), Tensor([[3.0], [4.0]]), alpha=2)
        tensor([[23.]])
    """
    return _added("addmm", input, _product("addmm", mat1, mat2, 2, 2), beta, alpha)


def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta input + alpha (mat @ vec), as `addmm`, of a matrix (M, K) and a vector (K).

    Args:
        mat: a matrix.
        vec: a vector (K).
        beta: what `input` is multiplied by; NaN in it does not count where this is 0.
        alpha: what the product is multiplied by.

    Returns:
        A Tensor.

    Raises:
        ShapeError: shapes that do not fit; DtypeError: bools, or dtypes that differ.

    Example:
        >>> tinyml.addmv(Tensor([1.0]), Tensor([[1.0, 2.0]]), Tensor([3.0, 4.0]))
        tensor([12.])
    """
    return _added("addmv", input, _product("addmv", mat, vec, 2, 1), beta, alpha)


def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta input + alpha outer(vec1, vec2), as `addmm`, of two vectors.

    Args:
        vec1: the first vector of the outer product.
        vec2: the second vector (N).
        beta: what `input` is multiplied by; NaN in it does not count where this is 0.
        alpha: what the product is multiplied by.

    Returns:
        A Tensor.

    Raises:
        ShapeError: shapes that do not fit; DtypeError: bools, or dtypes that differ.

    Example:
        >>> tinyml.addr(Tensor([[1.0]]), Tensor([2.0]), Tensor([3.0]))
        tensor([[7.]])
    """
    return _added("addr", input, outer(vec1, vec2), beta, alpha)


def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta input + alpha bmm(batch1, batch2), as `addmm`, of two batches (B, M, K) and (B, K, N).

    Args:
        batch1: a batch of matrices (B, M, K).
        batch2: a batch of matrices (B, K, N).
        beta: what `input` is multiplied by; NaN in it does not count where this is 0.
        alpha: what the product is multiplied by.

    Returns:
        A Tensor.

    Raises:
        ShapeError: shapes that do not fit; DtypeError: bools, or dtypes that differ.

    Of integers, `beta` and `alpha` are cut to integers, as in PyTorch.

    Example:
        >>> tinyml.baddbmm(Tensor([1.0]), Tensor(np.ones((2, 1, 3))), Tensor(np.ones((2, 3, 1)))).shape
        (2, 1, 1)
    """
    return _added("baddbmm", input, _product("baddbmm", batch1, batch2, 3, 3), beta, alpha)


def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta input + alpha (the sum over the batch of bmm(batch1, batch2)), as `addmm`.

    Args:
        batch1: a batch of matrices (B, M, K).
        batch2: a batch of matrices (B, K, N).
        beta: what `input` is multiplied by; NaN in it does not count where this is 0.
        alpha: what the product is multiplied by.

    Returns:
        A Tensor.

    Raises:
        ShapeError: shapes that do not fit; DtypeError: bools, or dtypes that differ.

    Example:
        >>> tinyml.addbmm(Tensor([1.0]), Tensor(np.ones((2, 1, 3))), Tensor(np.ones((2, 3, 1))))
        tensor([[7.]], dtype=float64)
    """
    _check("addbmm", batch1, batch2, 3, 3)
    return _added("addbmm", input, tensordot(batch1, batch2, ([0, 2], [0, 1])), beta, alpha)


def _check(name: str, a: Tensor, b: Tensor, *ndims: int) -> None:
    """Raise ShapeError where two operands do not have so many dimensions, or other batches."""
    if (a.ndim, b.ndim) != ndims or (ndims == (3, 3) and (a.shape[0], a.shape[2]) != b.shape[:2]):
        kinds = {1: "a vector", 2: "a matrix", 3: "a batch (B, M, K) of matrices"}
        raise ShapeError(f"{name}: expected {kinds[ndims[0]]} and {kinds[ndims[1]]} that fit, got {a.shape} and {b.shape}")


def _product(name: str, a: Tensor, b: Tensor, *ndims: int) -> Tensor:
    _check(name, a, b, *ndims)
    return apply(OPS["matmul"], a, b)


def _added(name: str, input: Tensor, product: Tensor, beta: float, alpha: float) -> Tensor:
    alpha, beta = _factor(name, "alpha", alpha, product), _factor(name, "beta", beta, product)
    try:
        fits = np.broadcast_shapes(input.shape, product.shape) == product.shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(f"{name}: input of shape {input.shape} does not broadcast to the product's shape {product.shape}")
    product = product if alpha == 1 else product * alpha
    if beta == 0:
        return product
    return (input if beta == 1 else input * beta) + product


def _factor(name: str, argument: str, value: Any, product: Tensor) -> Any:
    """An int for a product of integers, which stays one, else a float."""
    number = checks.number(name, argument, value)
    if product.dtype in FLOATS:
        return number
    if number != int(number) and name != "baddbmm":
        raise DtypeError(f"{name}: {argument}={number} of integers; convert them with .to('float32')")
    return int(number)
