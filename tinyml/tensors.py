"""Tensor: what `core.py` says it is, with the functions of `functions/` as its methods, and `apply` with its type."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import checks
from .apply import OPS
from .apply import apply as _apply
from .arguments import index_of
from .core import TensorCore
from .dtypes import FLOATS, INT8, INTEGERS, as_dtype
from .engine import wrap
from .errors import ShapeError
from .explain import explained
from .functions import (
    arithmetic,
    comparison,
    conversion,
    cumulative,
    diagonals,
    distances,
    facts,
    filling,
    indexing,
    likes,
    linear_algebra,
    pointwise,
    random,
    rearranging,
    reductions,
    scattering,
    shape,
    shares,
    sorting,
    splitting,
    statistics,
    trigonometry,
)
from .functions.types import Axes, TensorLike
from .in_place import assign, check_changeable, in_place, in_place_view, put

__all__ = ["FLOATS", "INT8", "INTEGERS", "OPS", "Axes", "Tensor", "TensorLike", "apply", "as_dtype", "as_tensor", "call",
           "change"]


HOT = (reductions.mean, reductions.sum, shape.reshape)      # check what they are given, and are called too often for more
PLAIN = {"apply", "OPS", "shape_of"}        # what functions use that call one op and nothing else


class Tensor(TensorCore):
    __doc__ = TensorCore.__doc__
    __slots__ = ()
    grad: Tensor | None

    @staticmethod
    def _of(array: np.ndarray) -> Tensor:
        """A Tensor of an ndarray that nothing else sees, without the checks of the constructor."""
        return wrap(Tensor, array)

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    @property
    def T(self) -> Tensor:
        """The two dimensions of a matrix swapped; for the last two of more, `mT`.

        Raises:
            ShapeError: the Tensor does not have two dimensions.
        """
        if self.ndim != 2:
            raise ShapeError(f"T: expected a matrix, got shape {self.shape}; mT swaps the last two dimensions")
        return shape.transpose(self, 0, 1)

    @property
    def mT(self) -> Tensor:
        """The last two dimensions swapped.

        Raises:
            ShapeError: the Tensor has fewer than two dimensions.
        """
        if self.ndim < 2:
            raise ShapeError(f"mT: expected a matrix or a batch of them, got shape {self.shape}")
        return shape.transpose(self, -2, -1)

    # -- operators ----------------------------------------------------------------------------------------------------
    def __add__(self, other: TensorLike) -> Tensor: return apply(OPS["add"], self, other)
    def __radd__(self, other: TensorLike) -> Tensor: return apply(OPS["add"], other, self)
    def __sub__(self, other: TensorLike) -> Tensor: return apply(OPS["sub"], self, other)
    def __rsub__(self, other: TensorLike) -> Tensor: return apply(OPS["sub"], other, self)
    def __mul__(self, other: TensorLike) -> Tensor: return apply(OPS["mul"], self, other)
    def __rmul__(self, other: TensorLike) -> Tensor: return apply(OPS["mul"], other, self)
    def __truediv__(self, other: TensorLike) -> Tensor: return apply(OPS["div"], self, other)
    def __rtruediv__(self, other: TensorLike) -> Tensor: return apply(OPS["div"], other, self)
    def __matmul__(self, other: TensorLike) -> Tensor: return apply(OPS["matmul"], self, other)
    def __rmatmul__(self, other: TensorLike) -> Tensor: return apply(OPS["matmul"], other, self)
    def __rpow__(self, other: TensorLike) -> Tensor: return apply(OPS["power"], other, self)
    def __neg__(self) -> Tensor: return apply(OPS["neg"], self)
    def __getitem__(self, index: Any) -> Tensor:
        if type(index) in (int, slice):
            return apply(OPS["getitem"], self, index=(index,))
        return indexing.getitem(self, index)

    def __pow__(self, other: TensorLike) -> Tensor: return arithmetic.pow(self, other)
    def __floordiv__(self, other: TensorLike) -> Tensor: return apply(OPS["floor_divide"], self, other)
    def __rfloordiv__(self, other: TensorLike) -> Tensor: return apply(OPS["floor_divide"], other, self)
    def __mod__(self, other: TensorLike) -> Tensor: return apply(OPS["remainder"], self, other)
    def __rmod__(self, other: TensorLike) -> Tensor: return apply(OPS["remainder"], other, self)
    def __and__(self, other: TensorLike) -> Tensor: return apply(OPS["bitwise_and"], self, other)
    def __rand__(self, other: TensorLike) -> Tensor: return apply(OPS["bitwise_and"], other, self)
    def __or__(self, other: TensorLike) -> Tensor: return apply(OPS["bitwise_or"], self, other)
    def __ror__(self, other: TensorLike) -> Tensor: return apply(OPS["bitwise_or"], other, self)
    def __xor__(self, other: TensorLike) -> Tensor: return apply(OPS["bitwise_xor"], self, other)
    def __rxor__(self, other: TensorLike) -> Tensor: return apply(OPS["bitwise_xor"], other, self)
    def __lshift__(self, other: TensorLike) -> Tensor: return apply(OPS["bitwise_left_shift"], self, other)
    def __rlshift__(self, other: TensorLike) -> Tensor: return apply(OPS["bitwise_left_shift"], other, self)
    def __rrshift__(self, other: TensorLike) -> Tensor: return apply(OPS["bitwise_right_shift"], other, self)
    def __rshift__(self, other: TensorLike) -> Tensor: return apply(OPS["bitwise_right_shift"], self, other)
    def __invert__(self) -> Tensor: return comparison.bitwise_not(self)
    def __abs__(self) -> Tensor: return apply(OPS["abs"], self)
    def __round__(self, ndigits: int = 0) -> Tensor: return pointwise.round(self, decimals=ndigits)

    def __eq__(self, other: object) -> Tensor:      # type: ignore[override]
        return apply(OPS["eq"], self, other) if comparable(other) else NotImplemented

    def __ne__(self, other: object) -> Tensor:      # type: ignore[override]
        return apply(OPS["ne"], self, other) if comparable(other) else NotImplemented

    def __lt__(self, other: TensorLike) -> Tensor: return apply(OPS["lt"], self, other)
    def __le__(self, other: TensorLike) -> Tensor: return apply(OPS["le"], self, other)
    def __gt__(self, other: TensorLike) -> Tensor: return apply(OPS["gt"], self, other)
    def __ge__(self, other: TensorLike) -> Tensor: return apply(OPS["ge"], self, other)
    __hash__ = object.__hash__

    # -- in place: the Tensor stays the same object -------------------------------------------------------------------
    def __iadd__(self, other: TensorLike) -> Tensor: return change(self, "add", other)
    def __isub__(self, other: TensorLike) -> Tensor: return change(self, "sub", other)
    def __imul__(self, other: TensorLike) -> Tensor: return change(self, "mul", other)
    def __itruediv__(self, other: TensorLike) -> Tensor: return change(self, "div", other)
    def __imatmul__(self, other: TensorLike) -> Tensor: return change(self, "matmul", other)

    def __ifloordiv__(self, other: TensorLike) -> Tensor: return change(self, "floor_divide", other)
    def __imod__(self, other: TensorLike) -> Tensor: return change(self, "remainder", other)
    def __iand__(self, other: TensorLike) -> Tensor: return change(self, "bitwise_and", other)
    def __ior__(self, other: TensorLike) -> Tensor: return change(self, "bitwise_or", other)
    def __ixor__(self, other: TensorLike) -> Tensor: return change(self, "bitwise_xor", other)
    def __ipow__(self, other: TensorLike) -> Tensor: return self.pow_(other)

    def where(self, condition: Tensor, other: TensorLike) -> Tensor:
        """The elements where the condition holds, those of `other` elsewhere.

        Args:
            condition: a Tensor of bools.
            other: a Tensor or a number.

        Returns:
            A Tensor of the shape to which all broadcast.

        Raises:
            ShapeError: the shapes do not broadcast.

        Example:
            >>> Tensor([1.0, -2.0]).where(Tensor([True, False]), 0.0)
            tensor([1., 0.])
        """
        return apply(OPS["where"], condition, self, other)

    def __setitem__(self, index: Any, value: TensorLike) -> None:
        put(self, index_of(index), value, "setitem")

    # -- functions of each subject ------------------------------------------------------------------------------------
    detach, clone, contiguous, cpu = conversion.detach, conversion.clone, conversion.contiguous, conversion.cpu
    to, to_fp16, to_int8, dequantize = conversion.to, conversion.to_fp16, conversion.to_int8, conversion.dequantize
    float, half, double = conversion.as_float, conversion.as_half, conversion.as_double
    int, long, bool, type = conversion.as_int, conversion.as_long, conversion.as_bool, conversion.as_type
    add, sub, mul, div = arithmetic.add, arithmetic.sub, arithmetic.mul, arithmetic.div
    floor_divide, remainder, fmod = arithmetic.floor_divide, arithmetic.remainder, arithmetic.fmod
    pow, maximum, minimum, atan2 = arithmetic.pow, arithmetic.maximum, arithmetic.minimum, arithmetic.atan2
    hypot, logaddexp, xlogy, lerp = arithmetic.hypot, arithmetic.logaddexp, arithmetic.xlogy, arithmetic.lerp
    addcmul, addcdiv, neg = arithmetic.addcmul, arithmetic.addcdiv, arithmetic.neg
    add_, sub_, mul_ = in_place(arithmetic.add), in_place(arithmetic.sub), in_place(arithmetic.mul)
    div_, floor_divide_ = in_place(arithmetic.div), in_place(arithmetic.floor_divide)
    remainder_, fmod_, pow_ = in_place(arithmetic.remainder), in_place(arithmetic.fmod), in_place(arithmetic.pow)
    atan2_, hypot_, xlogy_ = in_place(arithmetic.atan2), in_place(arithmetic.hypot), in_place(arithmetic.xlogy)
    lerp_, addcmul_, addcdiv_ = in_place(arithmetic.lerp), in_place(arithmetic.addcmul), in_place(arithmetic.addcdiv)
    neg_ = in_place(arithmetic.neg)
    eq, ne, lt, le, gt, ge = comparison.eq, comparison.ne, comparison.lt, comparison.le, comparison.gt, comparison.ge
    logical_not, logical_and, logical_or = comparison.logical_not, comparison.logical_and, comparison.logical_or
    logical_xor, bitwise_and, bitwise_or = comparison.logical_xor, comparison.bitwise_and, comparison.bitwise_or
    bitwise_xor, bitwise_not = comparison.bitwise_xor, comparison.bitwise_not
    bitwise_left_shift, bitwise_right_shift = comparison.bitwise_left_shift, comparison.bitwise_right_shift
    eq_, ne_, lt_ = in_place(comparison.eq), in_place(comparison.ne), in_place(comparison.lt)
    le_, gt_, ge_ = in_place(comparison.le), in_place(comparison.gt), in_place(comparison.ge)
    logical_not_, logical_and_ = in_place(comparison.logical_not), in_place(comparison.logical_and)
    logical_or_, logical_xor_ = in_place(comparison.logical_or), in_place(comparison.logical_xor)
    bitwise_and_, bitwise_or_ = in_place(comparison.bitwise_and), in_place(comparison.bitwise_or)
    bitwise_xor_, bitwise_not_ = in_place(comparison.bitwise_xor), in_place(comparison.bitwise_not)
    bitwise_left_shift_ = in_place(comparison.bitwise_left_shift)
    bitwise_right_shift_ = in_place(comparison.bitwise_right_shift)
    exp, exp2, expm1, log, log2 = pointwise.exp, pointwise.exp2, pointwise.expm1, pointwise.log, pointwise.log2
    log10, log1p, sqrt, rsqrt = pointwise.log10, pointwise.log1p, pointwise.sqrt, pointwise.rsqrt
    reciprocal, square, abs, sign = pointwise.reciprocal, pointwise.square, pointwise.abs, pointwise.sign
    floor, ceil, trunc, frac, relu = pointwise.floor, pointwise.ceil, pointwise.trunc, pointwise.frac, pointwise.relu
    sigmoid, erf, round, clamp = pointwise.sigmoid, pointwise.erf, pointwise.round, pointwise.clamp
    clip, clamp_min, clamp_max, logit = pointwise.clip, pointwise.clamp_min, pointwise.clamp_max, pointwise.logit
    nan_to_num = pointwise.nan_to_num
    exp_, exp2_, expm1_ = in_place(pointwise.exp), in_place(pointwise.exp2), in_place(pointwise.expm1)
    log_, log2_, log10_ = in_place(pointwise.log), in_place(pointwise.log2), in_place(pointwise.log10)
    log1p_, sqrt_, rsqrt_ = in_place(pointwise.log1p), in_place(pointwise.sqrt), in_place(pointwise.rsqrt)
    reciprocal_, square_, abs_ = in_place(pointwise.reciprocal), in_place(pointwise.square), in_place(pointwise.abs)
    sign_, floor_, ceil_ = in_place(pointwise.sign), in_place(pointwise.floor), in_place(pointwise.ceil)
    trunc_, frac_, relu_ = in_place(pointwise.trunc), in_place(pointwise.frac), in_place(pointwise.relu)
    sigmoid_, erf_, round_ = in_place(pointwise.sigmoid), in_place(pointwise.erf), in_place(pointwise.round)
    clamp_, clamp_min_ = in_place(pointwise.clamp), in_place(pointwise.clamp_min)
    clamp_max_, logit_ = in_place(pointwise.clamp_max), in_place(pointwise.logit)
    nan_to_num_ = in_place(pointwise.nan_to_num)
    sin, cos, tan, asin = trigonometry.sin, trigonometry.cos, trigonometry.tan, trigonometry.asin
    acos, atan, sinh, cosh = trigonometry.acos, trigonometry.atan, trigonometry.sinh, trigonometry.cosh
    tanh, asinh, acosh, atanh = trigonometry.tanh, trigonometry.asinh, trigonometry.acosh, trigonometry.atanh
    sin_, cos_, tan_ = in_place(trigonometry.sin), in_place(trigonometry.cos), in_place(trigonometry.tan)
    asin_, acos_, atan_ = in_place(trigonometry.asin), in_place(trigonometry.acos), in_place(trigonometry.atan)
    sinh_, cosh_, tanh_ = in_place(trigonometry.sinh), in_place(trigonometry.cosh), in_place(trigonometry.tanh)
    asinh_, acosh_, atanh_ = in_place(trigonometry.asinh), in_place(trigonometry.acosh), in_place(trigonometry.atanh)
    isnan, isinf, isfinite, isclose = comparison.isnan, comparison.isinf, comparison.isfinite, comparison.isclose
    allclose, equal = comparison.allclose, comparison.equal
    absolute, negative, multiply, divide = pointwise.abs, arithmetic.neg, arithmetic.mul, arithmetic.div
    true_divide, subtract, greater, greater_equal = arithmetic.div, arithmetic.sub, comparison.gt, comparison.ge
    less, less_equal, not_equal, arcsin = comparison.lt, comparison.le, comparison.ne, trigonometry.asin
    arccos, arctan, arctan2, fix = trigonometry.acos, trigonometry.atan, arithmetic.atan2, pointwise.trunc
    true_divide_, clip_ = in_place(arithmetic.div), in_place(pointwise.clip)
    requires_grad_, detach_, type_as = conversion.requires_grad_, conversion.detach_, conversion.type_as
    is_floating_point, element_size, stride = facts.is_floating_point, facts.element_size, facts.stride
    is_contiguous, nelement, ndimension = facts.is_contiguous, TensorCore.numel, TensorCore.dim
    fill_, zero_, copy_ = filling.fill_, filling.zero_, filling.copy_
    normal_, uniform_, bernoulli_ = filling.normal_, filling.uniform_, filling.bernoulli_
    bernoulli, multinomial = random.bernoulli, random.multinomial
    new_zeros, new_ones, new_empty = likes.new_zeros, likes.new_ones, likes.new_empty
    new_full, new_tensor = likes.new_full, likes.new_tensor
    softmax, log_softmax = shares.softmax, shares.log_softmax
    sum, mean, prod, logsumexp = reductions.sum, reductions.mean, reductions.prod, reductions.logsumexp
    max, min, amax, amin = reductions.max, reductions.min, reductions.amax, reductions.amin
    argmax, argmin, any, all = reductions.argmax, reductions.argmin, reductions.any, reductions.all
    count_nonzero, var, std = reductions.count_nonzero, statistics.var, statistics.std
    median, mode, quantile, norm = statistics.median, statistics.mode, statistics.quantile, statistics.norm
    bincount, histc = statistics.bincount, statistics.histc
    cumsum, cumprod, cumsum_ = cumulative.cumsum, cumulative.cumprod, in_place(cumulative.cumsum)
    cumprod_, cummax, cummin = in_place(cumulative.cumprod), cumulative.cummax, cumulative.cummin
    diff, sort, argsort = cumulative.diff, sorting.sort, sorting.argsort
    topk, kthvalue, unique = sorting.topk, sorting.kthvalue, sorting.unique
    matmul, mm, bmm, mv, dot = (linear_algebra.matmul, linear_algebra.mm, linear_algebra.bmm, linear_algebra.mv,
                                linear_algebra.dot)
    inner, outer, trace, dist = linear_algebra.inner, linear_algebra.outer, linear_algebra.trace, distances.dist
    addmm, addmm_ = linear_algebra.addmm, in_place(linear_algebra.addmm)
    addmv, addmv_ = linear_algebra.addmv, in_place(linear_algebra.addmv)
    addr, addr_ = linear_algebra.addr, in_place(linear_algebra.addr)
    baddbmm, baddbmm_ = linear_algebra.baddbmm, in_place(linear_algebra.baddbmm)
    addbmm, addbmm_ = linear_algebra.addbmm, in_place(linear_algebra.addbmm)
    reshape, reshape_as, view, view_as = shape.reshape, shape.reshape_as, shape.view, shape.view_as
    flatten, ravel, unflatten = shape.flatten, shape.ravel, shape.unflatten
    permute, movedim, moveaxis, t = shape.permute, shape.movedim, shape.moveaxis, shape.t
    transpose, swapaxes, swapdims = shape.transpose, shape.swapaxes, shape.swapdims
    squeeze, unsqueeze = shape.squeeze, shape.unsqueeze
    t_, transpose_, swapaxes_ = in_place_view(shape.t), in_place_view(shape.transpose), in_place_view(shape.transpose)
    squeeze_, unsqueeze_ = in_place_view(shape.squeeze), in_place_view(shape.unsqueeze)
    expand, expand_as, broadcast_to = shape.expand, shape.expand_as, shape.broadcast_to
    diagonal, diag, diag_embed, unfold = diagonals.diagonal, diagonals.diag, diagonals.diag_embed, diagonals.unfold
    tril, triu = diagonals.tril, diagonals.triu
    tril_, triu_ = in_place(diagonals.tril), in_place(diagonals.triu)
    repeat, tile, repeat_interleave = rearranging.repeat, rearranging.tile, rearranging.repeat_interleave
    flip, roll, rot90 = rearranging.flip, rearranging.roll, rearranging.rot90
    select, narrow, unbind, chunk = splitting.select, splitting.narrow, splitting.unbind, splitting.chunk
    split, split_with_sizes, tensor_split = splitting.split, splitting.split_with_sizes, splitting.tensor_split
    gather, take, take_along_dim = indexing.gather, indexing.take, indexing.take_along_dim
    index_select, masked_select = indexing.index_select, indexing.masked_select
    nonzero, argwhere = indexing.nonzero, indexing.argwhere
    scatter, scatter_ = scattering.scatter, in_place(scattering.scatter)
    scatter_add, scatter_add_ = scattering.scatter_add, in_place(scattering.scatter_add)
    index_add, index_add_ = scattering.index_add, in_place(scattering.index_add)
    index_copy, index_copy_ = scattering.index_copy, in_place(scattering.index_copy)
    index_fill, index_fill_ = scattering.index_fill, in_place(scattering.index_fill)
    index_put, index_put_ = scattering.index_put, in_place(scattering.index_put)
    masked_fill, masked_fill_ = scattering.masked_fill, in_place(scattering.masked_fill)
    masked_scatter, masked_scatter_ = scattering.masked_scatter, in_place(scattering.masked_scatter)


def as_tensor(value: TensorLike, dtype: np.dtype[Any] | None = None) -> Tensor:
    """`value` itself if it is a Tensor, else a Tensor of it; Python numbers take `dtype`."""
    if isinstance(value, Tensor):
        return value
    if dtype is not None and isinstance(value, (int, float)):
        try:
            return Tensor._of(np.asarray(value, dtype))
        except (OverflowError, ValueError):         # NaN is a ValueError
            raise ShapeError(f"Tensor: expected a number that fits {dtype}, got {checks.described(value)}") from None
    return Tensor(value)


def comparable(value: object) -> bool:
    """Whether a Tensor may be compared with `value`; with anything else Python finds them unequal."""
    return isinstance(value, (Tensor, np.ndarray, np.generic, int, float, tuple, list))


def call(name: str, *inputs: Any, **attrs: Any) -> Tensor:
    """`apply` by the op's name."""
    return apply(OPS[name], *inputs, **attrs)


def change(t: Tensor, name: str, *others: Any, **attrs: Any) -> Tensor:
    """`t` itself, its elements replaced by those of the op `name` on it."""
    what = f"{name} in place"
    check_changeable(t, what)
    assign(t, apply(OPS[name], t, *others, **attrs), what)
    return t


for _name, _method in list(vars(Tensor).items()):       # ops check their operands themselves, what is composed does not
    _code = getattr(inspect.unwrap(_method), "__code__", None) if callable(_method) else None
    if _code is not None and _method not in HOT and not set(_code.co_names) <= PLAIN and _method.__module__.startswith(
            f"{__package__}.functions"):
        setattr(Tensor, _name, explained(_method))

_apply.tensor, _apply.as_tensor = Tensor, staticmethod(as_tensor)
apply: Callable[..., Tensor] = _apply
