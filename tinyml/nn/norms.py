"""Normalisation layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import numpy as np

from .. import checks
from ..arguments import renamed
from ..engine import note_change
from ..errors import ShapeError
from ..ops import norm
from ..tensors import Tensor, TensorLike, apply, as_tensor
from . import functional as F
from . import init
from .activations import ReLU
from .module import Module
from .parameter import Parameter


class BatchNorm(Module):
    """What BatchNorm1d and BatchNorm2d share: parameters, running moments, both modes.

    Training uses the batch's moments and moves running ones: running = (1 - momentum) running + momentum batch, the
    variance with n - 1; evaluation uses the running ones. In training a Sequential runs it and a ReLU behind it as one op.
    """

    inputs: ClassVar[dict[int, str]]        # by their number of dimensions

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1):
        name = type(self).__name__
        num_features = checks.whole(name, "num_features", num_features, 1)
        self.eps, self.momentum = checks.number(name, "eps", eps, 0), checks.probability(name, "momentum", momentum)
        self.weight = Parameter(init.full((num_features,), 1))
        self.bias = Parameter(init.full((num_features,), 0))
        self.running_mean = Tensor(init.full((num_features,), 0))
        self.running_var = Tensor(init.full((num_features,), 1))
        self.num_batches_tracked = Tensor(np.array(0, np.int64))

    def forward(self, x: TensorLike) -> Tensor:
        if self.training:
            return self._train(norm.BatchNorm, x)
        return apply(norm.BatchNormEval, self._checked(x), self.weight, self.bias, self.running_mean, self.running_var,
                     eps=self.eps)

    def fused_with(self, following: Module) -> Callable[[TensorLike], Tensor] | None:
        if self.training and type(following) is ReLU and type(self).forward is BatchNorm.forward:
            return partial(self._train, norm.BatchNormReLU)
        return None

    def _checked(self, x: TensorLike) -> Tensor:
        x = as_tensor(x)
        if x.ndim not in self.inputs:
            raise ShapeError(f"{type(self).__name__}: expected input {' or '.join(self.inputs.values())}, got {x.shape}")
        return x

    def _train(self, op: type[norm.BatchNorm], x: TensorLike) -> Tensor:
        moments: list[np.ndarray] = []
        y = apply(op, self._checked(x), self.weight, self.bias, None, None, eps=self.eps, moments=moments)
        mean, variance = moments
        self.track(mean, variance, y.numel() // y.shape[1])
        return y

    def track(self, mean: np.ndarray, variance: np.ndarray, n: int) -> None:
        """Move the running moments towards those of a batch.

        Args:
            mean: (C,), of the batch.
            variance: (C,), with n in the denominator.
            n: values per channel.
        """
        for running, batch in ((self.running_mean, mean), (self.running_var, variance * (n / (n - 1)))):
            running.array[...] = (1 - self.momentum) * running.array + self.momentum * batch
            note_change(running.array, "the running moments of a batch norm")
        self.num_batches_tracked.array[...] += 1

    def describe(self) -> str:
        return f"{self.weight.shape[0]}, eps={self.eps}, momentum={self.momentum}"


class BatchNorm1d(BatchNorm):
    """Normalise each channel of x (B, C) or (B, C, L) over the batch: (x - mean) / sqrt(variance + eps) * weight + bias.

    In training the moments are the batch's; running ones move by running = (1 - momentum) running + momentum batch, the
    variance with n - 1. Evaluation uses the running ones (Ioffe & Szegedy 2015). In training a Sequential runs it and a
    ReLU behind it as one op.

    Args:
        num_features: channels C.
        eps: what is added to the variance.
        momentum: how far running moments move to the batch's.

    Raises:
        ShapeError, DtypeError: a number out of range, or that is none.

    Example:
        >>> nn.BatchNorm1d(3)(np.ones((4, 3), np.float32)).shape
        (4, 3)
    """

    inputs: ClassVar[dict[int, str]] = {2: "(B, C)", 3: "(B, C, L)"}


class BatchNorm2d(BatchNorm):
    """Normalise each channel of x (B, C, H, W) over the batch: (x - mean) / sqrt(variance + eps) * weight + bias.

    In training the moments are the batch's; running ones move by running = (1 - momentum) running + momentum batch, the
    variance with n - 1. Evaluation uses the running ones (Ioffe & Szegedy 2015). In training a Sequential runs it and a
    ReLU behind it as one op.

    Args:
        num_features: channels C.
        eps: what is added to the variance.
        momentum: how far running moments move to the batch's.

    Raises:
        ShapeError, DtypeError: a number out of range, or that is none.

    Example:
        >>> nn.BatchNorm2d(3)(np.ones((4, 3, 8, 8), np.float32)).shape
        (4, 3, 8, 8)
    """

    inputs: ClassVar[dict[int, str]] = {4: "(B, C, H, W)"}


class LayerNorm(Module):
    """(x - mean) / sqrt(variance + eps) * weight + bias, moments over the last dimensions of x (Ba et al. 2016).

    Args:
        normalized_shape: C for the last dimension of x (..., C), or the sizes of several.
        eps: what is added to the variance.
        elementwise_affine: whether there are weight and bias, of this shape.
        bias: whether there is a bias.

    Raises:
        ShapeError, DtypeError: a number out of range, or that is none.

    Example:
        >>> nn.LayerNorm(2)([[1.0, 3.0]]).numpy().round(3).tolist()
        [[-1.0, 1.0]]
    """

    @renamed(dim="normalized_shape")
    def __init__(self, normalized_shape: int | Sequence[int], eps: float = 1e-5, elementwise_affine: bool = True,
                 bias: bool = True):
        name = "LayerNorm"
        self.normalized_shape = checks.several(name, "normalized_shape", normalized_shape, 1)
        self.eps = checks.number(name, "eps", eps, 0)
        self.elementwise_affine = checks.flag(name, "elementwise_affine", elementwise_affine)
        bias = checks.flag(name, "bias", bias) and self.elementwise_affine
        self.weight = Parameter(init.full(self.normalized_shape, 1)) if elementwise_affine else None
        self.bias = Parameter(init.full(self.normalized_shape, 0)) if bias else None

    def forward(self, x: TensorLike) -> Tensor:
        return F.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)

    def describe(self) -> str:
        return _describe_norm(self) + (", bias=False" if self.elementwise_affine and self.bias is None else "")


class RMSNorm(Module):
    """x / sqrt(mean of x^2 + eps) * weight, the mean over the last dimensions of x (Zhang & Sennrich 2019).

    Args:
        normalized_shape: C for the last dimension of x (..., C), or the sizes of several.
        eps: what is added to the mean square; None: `finfo.eps` of the dtype that it is computed in.
        elementwise_affine: whether there is a weight, of this shape.

    Raises:
        ShapeError, DtypeError: a number out of range, or that is none.

    Example:
        >>> nn.RMSNorm(2)([[1.0, -1.0]]).numpy().round(3).tolist()
        [[1.0, -1.0]]
    """

    @renamed(dim="normalized_shape")
    def __init__(self, normalized_shape: int | Sequence[int], eps: float | None = None, elementwise_affine: bool = True):
        self.normalized_shape = checks.several("RMSNorm", "normalized_shape", normalized_shape, 1)
        self.eps = None if eps is None else checks.number("RMSNorm", "eps", eps, 0)
        self.elementwise_affine = checks.flag("RMSNorm", "elementwise_affine", elementwise_affine)
        self.weight = Parameter(init.full(self.normalized_shape, 1)) if elementwise_affine else None

    def forward(self, x: TensorLike) -> Tensor:
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def describe(self) -> str:
        return _describe_norm(self)


def _describe_norm(layer: LayerNorm | RMSNorm) -> str:
    """The numbers that both have; files tell layers by them, so one dimension is what it was in version 0.1."""
    shape = layer.normalized_shape
    return (f"{shape[0] if len(shape) == 1 else shape}, eps={layer.eps}"
            + ("" if layer.elementwise_affine else ", elementwise_affine=False"))
