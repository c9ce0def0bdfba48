"""Normalisation: over the batch (per channel), over the last dimension, and softmax."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from .. import checks
from .._kernels.layout import nchw, nhwc
from .._kernels.products.windows import Window
from .._kernels.rows import norms
from .._kernels.rows.softmax import log_softmax, log_softmax_grad, softmax, softmax_grad
from ..errors import ShapeError
from ..tape import Context
from .integer import lower_product
from .op import Gradients, IntegerStep, Op, Operand, Sample, Target, normal, sample


def _check(name: str, x: np.ndarray, channels: int, *params: np.ndarray) -> None:
    """Raise ShapeError unless all parameters are (channels)."""
    if any(p.shape != (channels,) for p in params):
        raise ShapeError(f"{name}: expected parameters of shape ({channels},) for input {x.shape}, got "
                         f"{', '.join(str(p.shape) for p in params)}")


def fold_batch_norm(weight: Any, bias: Any, gain: Any, beta: Any, mean: Any) -> tuple[Any, Any]:
    """The weight (N, ...) and the bias (N) of a layer and the batch norm behind it as one layer, of arrays or Tensors:
    weight g and (bias - mean) g + beta."""
    shift = beta - mean * gain if bias is None else (bias - mean) * gain + beta
    return weight * gain.reshape(-1, *(1,) * (weight.ndim - 1)), shift


def fold_arrays(weight: np.ndarray, bias: np.ndarray | None, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray,
                variance: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """`fold_batch_norm` in float64, rounded to float32 once."""
    wide = [None if a is None else a.astype(np.float64) for a in (weight, bias, beta, mean)]
    weight, shift = fold_batch_norm(wide[0], wide[1], batch_norm_gain(gamma, variance, eps), *wide[2:])
    return weight.astype(np.float32), shift.astype(np.float32)


def batch_norm_gain(gamma: np.ndarray, variance: np.ndarray, eps: float) -> np.ndarray:
    """What batch norm multiplies each channel by, g = gamma / sqrt(variance + eps), in float64."""
    return gamma.astype(np.float64) / np.sqrt(variance.astype(np.float64) + eps)


def _cast_like(x: np.ndarray, a: np.ndarray) -> np.ndarray:
    """`a` in the dtype of x, contiguous."""
    return np.ascontiguousarray(a, x.dtype)


class BatchNorm(Op):
    """Batch normalisation per channel: y = (x - mean) / sqrt(variance + eps) * gamma + beta (Ioffe & Szegedy 2015).

    x (B, C), (B, C, L) or (B, C, H, W); gamma, beta, mean, variance (C). In training mean and variance are None: then they
    are those of the batch (the variance with n in the denominator), and `moments`, a list, receives them for the running
    averages.

    Raises:
        ShapeError: shapes do not fit, or in training a channel has fewer than two values.
    """

    name = "batch_norm"
    optional = (3, 4)
    one_precision = True
    relu: ClassVar[bool] = False

    @classmethod
    def forward(cls, ctx: Context, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray | None,
                variance: np.ndarray | None, *, eps: float, moments: list[np.ndarray] | None = None) -> np.ndarray:
        if not 2 <= x.ndim <= 4:
            raise ShapeError(f"{cls.name}: expected input (B, C), (B, C, L) or (B, C, H, W), got {x.shape}")
        _check(cls.name, x, x.shape[1], gamma, beta, *(v for v in (mean, variance) if v is not None))
        xs = nhwc(x)
        ctx.training = mean is None or variance is None
        if mean is None or variance is None:
            if x.size // max(x.shape[1], 1) < 2:
                raise ShapeError(f"{cls.name}: training needs more than one value a channel, got input {x.shape}")
            mean, variance = norms.moments(xs)
            if moments is not None:
                moments[:] = [mean, variance]
        mean, variance, gamma = _cast_like(x, mean), _cast_like(x, variance), _cast_like(x, gamma)
        rstd = 1 / np.sqrt(variance + x.dtype.type(eps))
        a = gamma * rstd
        b = _cast_like(x, beta) - mean * a
        ctx.x, ctx.mean, ctx.rstd, ctx.gamma, ctx.shift = xs, mean, rstd, gamma, b if cls.relu else None
        return nchw(norms.batch_norm(xs, a, b, cls.relu))

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        dx, dgamma, dbeta = norms.batch_norm_grad(ctx.x, nhwc(grad), ctx.mean, ctx.rstd, ctx.gamma, ctx.shift,
                                                  ctx.training)
        return nchw(dx), dgamma, dbeta, None, None

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        for shape, eps in (((3, 4, 2, 3), 1e-5), ((2, 3, 1, 1), 1e-3), ((5, 3), 1e-5), ((3, 2, 4), 1e-3)):
            yield sample(normal(rng, *shape), normal(rng, shape[1]), normal(rng, shape[1]), None, None, eps=eps)

    @staticmethod
    def parity(torch: Any, x: Any, gamma: Any, beta: Any, mean: Any, variance: Any, eps: Any) -> Any:
        return torch.nn.functional.batch_norm(x, None, None, gamma, beta, True, 0.1, eps)


class BatchNormReLU(BatchNorm):
    """Batch normalisation and ReLU in one pass: y = max(BatchNorm of x, 0).

    Backward keeps x alone, and computes again where y is above 0.
    """

    name = "batch_norm_relu"
    relu = True

    @staticmethod
    def parity(torch: Any, *operands: Any, **attrs: Any) -> Any:
        return torch.relu(BatchNorm.parity(torch, *operands, **attrs))


class BatchNormEval(Op):
    """BatchNorm with given mean and variance (C), which get no gradient: what layers run in evaluation mode."""

    name = "batch_norm_eval"
    int8 = "lower"
    takes_clamp = True
    batch_norm = True
    own_codes = True

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, mean: np.ndarray, variance: np.ndarray, *,
                eps: float) -> np.ndarray:
        return BatchNorm.forward(ctx, x, gamma, beta, mean, variance, eps=eps)

    backward = staticmethod(BatchNorm.backward)

    @classmethod
    def lower(cls, operands: list[Operand], target: Target, attrs: dict[str, Any]) -> IntegerStep | None:
        """Where it is not folded into a layer before it: y = x g + (beta - mean g) with g = gamma / sqrt(variance + eps), a
        convolution by 1x1 of each channel by itself."""
        x, *parameters = operands
        values = [p.value for p in parameters if p.value is not None]
        if x.codec is None or len(x.shape) != 4 or len(values) < len(parameters):
            return None
        weight, bias, window = cls.product_of(values, attrs["eps"])
        return lower_product(weight, bias, x.codec, target, window)

    @classmethod
    def as_product(cls, ndim: int, parameters: list[Any], attrs: dict[str, Any]) -> tuple[Any, Any, Window] | None:
        return cls.product_of(parameters, attrs["eps"]) if ndim == 4 else None

    @staticmethod
    def product_of(parameters: list[Any], eps: float) -> tuple[np.ndarray, np.ndarray, Window]:
        """The convolution of each channel by itself that it is behind no layer that could take it in."""
        gamma, beta, mean, variance = parameters
        weight, bias = fold_arrays(np.ones((len(gamma), 1, 1, 1)), None, gamma, beta, mean, variance, eps)
        return weight, bias, Window(groups=len(weight))

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        for shape in ((3, 4, 2, 3), (3, 4), (2, 4, 3)):
            yield sample(normal(rng, *shape), normal(rng, 4), normal(rng, 4), normal(rng, 4).astype(np.float32),
                         np.abs(normal(rng, 4)).astype(np.float32) + 0.1, eps=1e-5)

    @staticmethod
    def parity(torch: Any, x: Any, gamma: Any, beta: Any, mean: Any, variance: Any, eps: Any) -> Any:
        return torch.nn.functional.batch_norm(x, mean, variance, gamma, beta, False, 0.1, eps)


class LayerNorm(Op):
    """Layer normalisation: y = (x - mean) / sqrt(variance + eps) * gamma + beta (Ba et al. 2016).

    Mean and variance are over the last dimension of x (..., C); gamma (C), beta (C) or None.

    Raises:
        ShapeError: shapes do not fit.
    """

    name = "layer_norm"
    optional = (2,)
    one_precision = True
    has_gain = True

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, gamma: np.ndarray, beta: np.ndarray | None, *, eps: float) -> np.ndarray:
        if not x.ndim:
            raise ShapeError("layer_norm: expected input (..., C), got a 0-dimensional Tensor")
        beta = np.zeros(x.shape[-1:], x.dtype) if beta is None else beta
        _check("layer_norm", x, x.shape[-1], gamma, beta)
        gamma = _cast_like(x, gamma)
        y, mean, rstd = norms.layer_norm(x, gamma, _cast_like(x, beta), eps)
        ctx.x, ctx.mean, ctx.rstd, ctx.gamma = x, mean, rstd, gamma
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return norms.layer_norm_grad(ctx.x, grad, ctx.mean, ctx.rstd, ctx.gamma)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 5), normal(rng, 5), normal(rng, 5), eps=1e-5)
        yield sample(normal(rng, 2, 3, 4), normal(rng, 4), None, eps=1e-3)
        yield sample(normal(rng, 0, 4), normal(rng, 4), normal(rng, 4), eps=1e-5)

    @staticmethod
    def parity(torch: Any, x: Any, gamma: Any, beta: Any, eps: Any) -> Any:
        return torch.nn.functional.layer_norm(x, x.shape[-1:], gamma, beta, eps)


class RMSNorm(Op):
    """Root mean square normalisation: y = x / sqrt(mean of x^2 + eps) * gamma (Zhang & Sennrich 2019).

    The mean is over the last dimension of x (..., C); gamma (C).

    Raises:
        ShapeError: shapes do not fit.
    """

    name = "rms_norm"
    one_precision = True
    has_gain = True

    @staticmethod
    def forward(ctx: Context, x: np.ndarray, gamma: np.ndarray, *, eps: float) -> np.ndarray:
        if not x.ndim:
            raise ShapeError("rms_norm: expected input (..., C), got a 0-dimensional Tensor")
        _check("rms_norm", x, x.shape[-1], gamma)
        gamma = _cast_like(x, gamma)
        y, rstd = norms.rms_norm(x, gamma, eps)
        ctx.x, ctx.rstd, ctx.gamma = x, rstd, gamma
        return y

    @staticmethod
    def backward(ctx: Context, grad: np.ndarray) -> Gradients:
        return norms.rms_norm_grad(ctx.x, grad, ctx.rstd, ctx.gamma)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 5), normal(rng, 5), eps=1e-5)
        yield sample(normal(rng, 2, 3, 4), normal(rng, 4), eps=1e-3)

    @staticmethod
    def parity(torch: Any, x: Any, gamma: Any, eps: Any) -> Any:
        return torch.nn.functional.rms_norm(x, x.shape[-1:], gamma, eps)


class Softmax(Op):
    """Shares that sum to 1: y = exp(x) / sum of exp(x) over `axis` of x, which keeps its shape.

    Raises:
        ShapeError: x has no such axis.
    """

    name = "softmax"
    kernel, kernel_grad = staticmethod(softmax), staticmethod(softmax_grad)

    @classmethod
    def forward(cls, ctx: Context, x: np.ndarray, *, axis: int) -> np.ndarray:
        checks.fits(cls.name, axis, x.ndim)
        ctx.axis = axis
        ctx.y = y = cls.kernel(x.swapaxes(axis, -1))
        return y.swapaxes(-1, axis)

    @classmethod
    def backward(cls, ctx: Context, grad: np.ndarray) -> Gradients:
        return (cls.kernel_grad(ctx.y, grad.swapaxes(ctx.axis, -1)).swapaxes(-1, ctx.axis),)

    @staticmethod
    def samples(rng: np.random.Generator) -> Iterator[Sample]:
        yield sample(normal(rng, 3, 5), axis=-1)
        yield sample(normal(rng, 2, 3, 4), axis=1)
        yield sample(normal(rng, 0, 4), axis=1)

    @classmethod
    def parity(cls, torch: Any, x: Any, axis: Any) -> Any:
        return getattr(torch, cls.name)(x, dim=axis)


class LogSoftmax(Softmax):
    """Logarithm of the softmax: y = x - ln(sum of exp(x)) over `axis` of x, which keeps its shape."""

    name = "log_softmax"
    kernel, kernel_grad = staticmethod(log_softmax), staticmethod(log_softmax_grad)
