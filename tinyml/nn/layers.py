"""Layers with parameters: Linear, Conv2d, Embedding."""

from __future__ import annotations

from collections.abc import Callable

from .. import checks
from ..errors import ShapeError
from ..tensors import Tensor, TensorLike
from . import functional as F
from . import init
from .activations import name_of
from .functional.products import Pair
from .module import Module
from .parameter import Parameter


class Linear(Module):
    """y (..., N) = x (..., K) @ weight^T + bias; weight (N, K), bias (N,).

    Both begin uniform in +-1 / sqrt(K), as PyTorch's. A Sequential runs it and a ReLU, GELU or SiLU behind it as one op.

    Args:
        in_features: K.
        out_features: N.
        bias: whether there is one.

    Raises:
        ShapeError, DtypeError: a size below 1, or that is no whole number.

    Example:
        >>> nn.Linear(4, 2)(np.ones((3, 4), np.float32)).shape
        (3, 2)
    """

    stored_weights = ("weight",)

    def __init__(self, in_features: int, out_features: int, bias: bool = True):
        in_features, out_features = checks.sizes("Linear", in_features=in_features, out_features=out_features)
        bias = checks.flag("Linear", "bias", bias)
        self.weight = Parameter(init.fan_in_uniform((out_features, in_features)))
        self.bias = Parameter(init.uniform((out_features,), in_features**-0.5)) if bias else None

    def forward(self, x: TensorLike) -> Tensor:
        return F.linear(x, self.weight, self.bias)

    def fused_with(self, following: Module) -> Callable[[TensorLike], Tensor] | None:
        activation = name_of(following)
        if activation is None or type(self).forward is not Linear.forward:
            return None
        return lambda x: F.linear(x, self.weight, self.bias, activation=activation)

    def describe(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, bias={self.bias is not None}"


class Conv2d(Module):
    """y (B, N, OH, OW) = x (B, C, H, W) * weight (N, C / groups, kh, kw) + bias (N,), * the cross-correlation.

    OH = floor((H + 2 padding - dilation (kh - 1) - 1) / stride) + 1, and OW likewise. Weight and bias begin uniform in
    +-1 / sqrt(C / groups * kh * kw), as PyTorch's.

    Args:
        in_channels: C.
        out_channels: N.
        kernel_size: (kh, kw), or one number for both.
        stride: pixels from one window to the next, as (down, across) or one number for both.
        padding: (rows, columns) of zeros on each side, or one number for both.
        dilation: pixels from one element of a window to the next, as (down, across) or one number for both.
        groups: into how many groups channels are divided, each convolved by itself; C for a depthwise convolution.
        bias: whether there is one.

    Raises:
        ShapeError, DtypeError: a number out of range, that is no whole number, or groups that do not divide C and N.

    Example:
        >>> nn.Conv2d(3, 8, 3, stride=2, padding=1)(np.ones((1, 3, 32, 32), np.float32)).shape
        (1, 8, 16, 16)
    """

    stored_weights = ("weight",)

    def __init__(self, in_channels: int, out_channels: int, kernel_size: Pair, stride: Pair = 1, padding: Pair = 0,
                 dilation: Pair = 1, groups: int = 1, bias: bool = True):
        in_channels, out_channels, groups = checks.sizes("Conv2d", in_channels=in_channels, out_channels=out_channels,
                                                         groups=groups)
        if in_channels % groups or out_channels % groups:
            raise ShapeError(f"Conv2d: groups must divide both channel counts, got {groups} for {in_channels} and "
                             f"{out_channels}")
        size, bias = checks.pair("Conv2d", "kernel_size", kernel_size), checks.flag("Conv2d", "bias", bias)
        self.stride, self.padding = checks.pair("Conv2d", "stride", stride), checks.pair("Conv2d", "padding", padding, 0)
        self.dilation, self.groups = checks.pair("Conv2d", "dilation", dilation), groups
        fan_in = in_channels // groups * size[0] * size[1]
        self.weight = Parameter(init.fan_in_uniform((out_channels, in_channels // groups, *size)))
        self.bias = Parameter(init.uniform((out_channels,), fan_in**-0.5)) if bias else None

    def forward(self, x: TensorLike) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def describe(self) -> str:
        n, c, *size = self.weight.shape
        return (f"{c * self.groups}, {n}, kernel_size={tuple(size)}, stride={self.stride}, padding={self.padding}"
                + (f", dilation={self.dilation}" if self.dilation != (1, 1) else "")
                + (f", groups={self.groups}" if self.groups > 1 else "") + f", bias={self.bias is not None}")


class Embedding(Module):
    """y (..., D) = weight[ids]: rows of weight (V, D) by integer ids (...).

    Args:
        num_embeddings: V.
        embedding_dim: D.
        std: standard deviation of the normal distribution that the weight is drawn from.

    Raises:
        ShapeError, DtypeError: a number out of range, or a size that is no whole number.

    Example:
        >>> nn.Embedding(10, 4)([[1, 2, 3]]).shape
        (1, 3, 4)
    """

    stored_weights = ("weight",)

    def __init__(self, num_embeddings: int, embedding_dim: int, std: float = 1.0):
        shape = checks.sizes("Embedding", num_embeddings=num_embeddings, embedding_dim=embedding_dim)
        self.weight = Parameter(init.normal(tuple(shape), checks.number("Embedding", "std", std, 0)))

    def forward(self, ids: TensorLike) -> Tensor:
        return F.embedding(ids, self.weight)

    def describe(self) -> str:
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}"
