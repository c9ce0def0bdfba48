"""Matrix products: of two activations (matmul), by a weight (linear), and that with an activation behind it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .._kernels.products.matmul import matmul
from .._kernels.products.windows import Window
from .._kernels.rows.codes import to_unsigned
from .._kernels.rows.columns import activation_grad_sum, sum_columns
from .._kernels.rows.pointwise import pointwise, pointwise_grad
from .._kernels.table import ACTIVATIONS
from ..errors import DtypeError, ShapeError
from ..quantized import Quantized
from ..tape import Context
from ..tensors import Tensor, TensorLike
from .integer import WeightedOp, multiply, multiply_rows, pack_codes
from .op import Gradients, Op, Sample, normal, sample


def _swap(a: np.ndarray) -> np.ndarray:
    return a.swapaxes(-1, -2)


class MatMul(Op):
    """Matrix product: y (..., M, N) = a (..., M, K) @ b (..., K, N).

    Leading dimensions broadcast; a vector counts as one row of a, or one column of b. int8 operands have one scale and zero
    point (b may have one scale per column); their result is float32, or int8 where `scale` and `zero_point` of the output
    are given.

    Raises:
        ShapeError: shapes do not fit; DtypeError: one operand is int8 and the other is not, or both are bools.
    """

    name = "matmul"
    promotes = "numbers"
    one_precision = True
    multiplies = True

    @staticmethod
    def forward(ctx: Context, a: np.ndarray, b: np.ndarray, *, scale: TensorLike | None = None,
                zero_point: TensorLike | None = None) -> np.ndarray:
        if scale is not None:
            raise DtypeError("matmul: an output scale goes with int8 operands, got floats")
        if a.dtype == np.bool_:
            raise DtypeError("matmul: expected floats or integers, got bools; convert them with .to('float32')")
        if not a.ndim or not b.ndim or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
            raise ShapeError(f"matmul: cannot multiply {a.shape} by {b.shape}: the last dimension of the first must "
                             "match the second to last of the second")
        ctx.vectors = a.ndim == 1, b.ndim == 1
        if a.ndim == b.ndim == 2:
            ctx.a, ctx.b = a, b
            return matmul(a, b)
        a = a[None] if a.ndim == 1 else a
        b = b[:, None] if b.ndim == 1 else b
        if a.ndim > 2 and b.ndim > 2:
            try:
                np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
            except ValueError:
                raise ShapeError(f"matmul: leading dimensions of {a.shape} and {b.shape} do not broadcast") from None
        ctx.a, ctx.b = a, b
        y = matmul(a, b)
        y = y[..., 0, :] if ctx.vectors[0] else y
        return y[..., 0] if ctx.vectors[1] else y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        a, b = ctx.a, ctx.b
        grad = grad[..., None] if ctx.vectors[1] else grad
        grad = grad[..., None, :] if ctx.vectors[0] else grad
        da = matmul(grad, _swap(b)) if ctx.needs[0] else None
        db = None
        if ctx.needs[1]:
            if b.ndim == 2 and a.ndim > 2:
                rows = math.prod(a.shape[:-1])
                db = matmul(a.reshape(rows, a.shape[-1]).T, grad.reshape(rows, grad.shape[-1]))
            else:
                db = matmul(_swap(a), grad)
        if ctx.vectors[0] and da is not None:
            da = da[..., 0, :]
        return da, db[..., 0] if ctx.vectors[1] and db is not None else db

    @classmethod
    def run_int8(cls, a: Tensor, b: Tensor, *, scale: TensorLike | None = None,
                  zero_point: TensorLike | None = None) -> Tensor:
        left, right = a.quantized, b.quantized
        if left is None or right is None:
            which, dtype = ("left", a.dtype) if left is None else ("right", b.dtype)
            raise DtypeError(f"matmul: expected both operands int8, got {dtype} on the {which}; "
                             "quantize it with to_int8() or dequantize() the other")
        if b.ndim != 2 or a.ndim < 2 or a.shape[-1] != b.shape[0]:
            raise ShapeError(f"matmul: int8 expects (..., M, K) @ (K, N), got {a.shape} and {b.shape}")
        if left.axis is not None or right.axis not in (None, 1):
            raise DtypeError(f"matmul: int8 expects one scale on the left and one, or one a column, on the right; "
                             f"got axis {left.axis} and {right.axis}")
        rows, columns = a.array.reshape(math.prod(a.shape[:-1]), a.shape[-1]), np.ascontiguousarray(b.array.T)
        shape = *a.shape[:-1], b.shape[1]
        if right.zero_point.any():
            y = Tensor(cls._multiply_shifted(rows, left, columns, right).reshape(shape))
            return y if scale is None else y.to_int8(scale, zero_point)
        x = Tensor(rows[:, :, None, None], scale=left.scale, zero_point=left.zero_point)
        w = Tensor(columns, scale=right.scale, axis=0 if right.axis == 1 else None)
        product = multiply("matmul", x, w, None, Window(), scale, zero_point)
        out = Tensor._of(product.array.reshape(shape))
        out.quantized = product.quantized
        return out

    @staticmethod
    def _multiply_shifted(a: np.ndarray, left: Quantized, b: np.ndarray, right: Quantized) -> np.ndarray:
        """sum (a - z_a)(b - z_b) = sum (a - z_a) b - z_b sum (a - z_a) of codes a (R, K) and b (N, K), in float32 at the
        end."""
        z = int(left.zero_point)
        acc = pack_codes("matmul", b, z, Window()).accumulators(to_unsigned(a[:, None, None]))[:, 0, 0].astype(np.int64)
        sums = (a.astype(np.int64) - z).sum(axis=1, keepdims=True)
        y: np.ndarray = (acc - right.zero_point.astype(np.int64) * sums).astype(np.float32) * (left.scale * right.scale)
        return y

    @staticmethod
    def flops(y: np.ndarray, a: np.ndarray, b: np.ndarray, **attrs: Any) -> float:
        return float(2 * y.size * a.shape[-1])

    @staticmethod
    def elements(a: tuple[int, ...], b: tuple[int, ...], **attrs: Any) -> int:
        # both operands are copied where they are stretched
        return math.prod(np.broadcast_shapes(a[:-2], b[:-2])) * max(a[-2:]) * max(b[-2:])

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4), normal(rng, 4, 5))
        yield sample(normal(rng, 2, 3, 4), normal(rng, 4, 5))
        yield sample(normal(rng, 2, 1, 3, 4), normal(rng, 3, 4, 2))
        yield sample(normal(rng, 4), normal(rng, 4))
        yield sample(normal(rng, 4), normal(rng, 2, 4, 3))
        yield sample(normal(rng, 2, 3, 4), normal(rng, 4))
        yield sample(normal(rng, 5, 3).T, normal(rng, 2, 5).T)
        yield sample(normal(rng, 0, 4), normal(rng, 4, 2))
        yield sample(normal(rng, 2, 0), normal(rng, 0, 3))
        yield sample(normal(rng, 2, 3, 0), normal(rng, 0, 3))


def _forward(name: str, ctx: Context, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None) -> np.ndarray:
    """x (..., K) @ weight (N, K)^T + bias (N), for both ops below."""
    if weight.ndim != 2 or not x.ndim or x.shape[-1] != weight.shape[1] or (
            bias is not None and bias.shape != weight.shape[:1]):
        raise ShapeError(f"{name}: expected input (..., {weight.shape[-1] if weight.ndim else '?'}) and bias "
                         f"({weight.shape[0] if weight.ndim else '?'},) for weight {weight.shape}, got input "
                         f"{x.shape}, bias {None if bias is None else bias.shape}")
    ctx.x, ctx.weight = x, weight
    y = matmul(x.reshape(math.prod(x.shape[:-1]), x.shape[-1]), weight.T, bias)
    return y.reshape(*x.shape[:-1], weight.shape[0])


def _backward(ctx: Context, grad: np.ndarray, bias_grad: np.ndarray | None) -> Gradients:
    """Gradients to x, weight and bias of _forward."""
    rows = math.prod(grad.shape[:-1])
    g, x = grad.reshape(rows, grad.shape[-1]), ctx.x.reshape(rows, ctx.x.shape[-1])
    return (matmul(g, ctx.weight).reshape(ctx.x.shape) if ctx.needs[0] else None,
            matmul(g.T, x) if ctx.needs[1] else None, bias_grad)


class Linear(WeightedOp):
    """Product with a weight: y (..., N) = x (..., K) @ weight (N, K)^T + bias (N); bias may be None.

    By int8 weights, float activations are quantized per row (and per group, where the weights are in groups) as they come,
    equation (9). Where the activations are int8 too, the result is float32, or int8 where `scale` and `zero_point` of the
    output are given.

    Raises:
        ShapeError: shapes do not fit; DtypeError: int8 activations with float weights.
    """

    name = "linear"
    reads_half = (1,)
    int8 = "lower"
    takes_clamp = True

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, *,
                scale: TensorLike | None = None, zero_point: TensorLike | None = None) -> np.ndarray:
        if scale is not None:
            raise DtypeError("linear: an output scale goes with int8 activations and weights, got floats")
        return _forward("linear", ctx, x, weight, bias)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return _backward(ctx, grad, sum_columns(grad) if ctx.needs[2] else None)

    @classmethod
    def run_int8(cls, x: Tensor, weight: Tensor, bias: Tensor | None, *, scale: TensorLike | None = None,
                  zero_point: TensorLike | None = None) -> Tensor:
        q = weight.quantized
        if x.quantized is None and q is not None and scale is None:
            return multiply_rows(x, weight.array, q, bias)
        if weight.ndim != 2 or not x.ndim or x.shape[-1] != weight.shape[1]:
            raise ShapeError(f"linear: expected input (..., {weight.shape[-1]}) for weight {weight.shape}, got {x.shape}")
        rows = Tensor._of(x.array.reshape(math.prod(x.shape[:-1]), x.shape[-1], 1, 1))
        rows.quantized = x.quantized
        y = multiply("linear", rows, weight, bias, Window(), scale, zero_point)
        out = Tensor._of(y.array.reshape(*x.shape[:-1], weight.shape[0]))
        out.quantized = y.quantized
        return out

    @classmethod
    def takes_norm(cls, ndim: int) -> bool:
        return ndim == 2        # of more dimensions, the outputs are not the channels of a batch norm

    @staticmethod
    def flops(y: np.ndarray, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, **attrs: Any) -> float:
        return float(2 * y.size * weight.shape[1])

    @staticmethod
    def elements(x: tuple[int, ...], weight: tuple[int, ...], bias: tuple[int, ...] = (), **attrs: Any) -> int:
        return math.prod(x[:-1]) * weight[0]

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 4), normal(rng, 5, 4), normal(rng, 5))
        yield sample(normal(rng, 2, 3, 4), normal(rng, 5, 4), None)
        yield sample(normal(rng, 4), normal(rng, 2, 4), normal(rng, 2))
        yield sample(normal(rng, 4, 3).T, normal(rng, 4, 5).T, None)
        yield sample(normal(rng, 0, 4), normal(rng, 2, 4), normal(rng, 2))


class LinearActivation(WeightedOp):
    """Linear and an activation in one: y (..., N) = activation(x (..., K) @ weight (N, K)^T + bias (N)).

    `activation` is one of ACTIVATIONS but the identity. Backward passes the gradient through the activation and sums that
    of the bias in one walk over memory. int8 weights by float activations are as in Linear. A traced graph has two ops
    instead, for which there are integer steps (nn.functional.linear).

    Raises:
        ShapeError: shapes do not fit.
    """

    name = "linear_activation"
    reads_half = (1,)

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, *, activation: str) -> np.ndarray:
        y = _forward("linear_activation", ctx, x, weight, bias)
        ctx.kernel, ctx.kept = activation, y
        # ReLU's gradient needs its output only, which may take the place of its input
        return np.maximum(y, 0, out=y) if activation == "relu" else pointwise(activation, y)

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        if not ctx.needs[2]:
            return _backward(ctx, pointwise_grad(ctx.kernel, ctx.kept, grad), None)
        return _backward(ctx, *activation_grad_sum(ctx.kernel, ctx.kept, grad))

    @classmethod
    def run_int8(cls, x: Tensor, weight: Tensor, bias: Tensor | None, *, activation: str) -> Tensor:
        q = weight.quantized
        if x.quantized is not None or q is None:
            return super().run_int8(x, weight, bias)
        return multiply_rows(x, weight.array, q, bias, activation)

    @classmethod
    def as_product(cls, ndim: int, parameters: list[Any], attrs: dict[str, Any]) -> tuple[Any, Any, Window] | None:
        return None     # its activation is part of it

    flops = staticmethod(Linear.flops)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        for activation in ACTIVATIONS[1:]:
            yield sample(normal(rng, 3, 4), normal(rng, 5, 4), normal(rng, 5), activation=activation)
        yield sample(normal(rng, 2, 3, 4), normal(rng, 5, 4), None, activation="relu")
        yield sample(normal(rng, 4), normal(rng, 2, 4), normal(rng, 2), activation="gelu")
        yield sample(normal(rng, 0, 4), normal(rng, 2, 4), normal(rng, 2), activation="relu")

    @staticmethod
    def parity(torch: Any, x: Any, weight: Any, bias: Any, activation: Any) -> Any:
        f = torch.nn.functional
        y = f.linear(x, weight, bias)
        return f.gelu(y, approximate="tanh") if activation == "gelu_tanh" else getattr(f, activation)(y)
