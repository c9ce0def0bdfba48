"""Layers without parameters: activations, pooling, dropout, flatten."""

from __future__ import annotations

from .. import checks
from ..arguments import renamed
from ..engine import numpy_names
from ..tensors import Tensor, TensorLike, as_tensor
from . import functional as F
from .functional.activations import APPROXIMATIONS
from .functional.products import Pair
from .module import Module


class ReLU(Module):
    """max(x, 0) of each element.

    Example:
        >>> nn.ReLU()([-1.0, 2.0])
        tensor([0., 2.])
    """

    def forward(self, x: TensorLike) -> Tensor:
        return F.relu(x)


class ReLU6(Module):
    """min(max(x, 0), 6) of each element.

    Example:
        >>> nn.ReLU6()([-1.0, 2.0, 9.0])
        tensor([0., 2., 6.])
    """

    def forward(self, x: TensorLike) -> Tensor:
        return F.relu6(x)


class GELU(Module):
    """x Phi(x) of each element, Phi the normal distribution's cumulative function (Hendrycks & Gimpel 2016).

    Args:
        approximate: "none", or "tanh" for x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).

    Raises:
        ShapeError: another name as `approximate`.

    Example:
        >>> nn.GELU()([-1.0, 0.0, 1.0])
        tensor([-0.1587,  0.0000,  0.8413])
    """

    def __init__(self, approximate: str = "none"):
        self.approximate = checks.choice("GELU", "approximate", approximate, APPROXIMATIONS)

    def forward(self, x: TensorLike) -> Tensor:
        return F.gelu(x, self.approximate)

    def describe(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x sigmoid(x) of each element (Elfwing et al. 2017).

    Example:
        >>> nn.SiLU()([0.0, 1.0])
        tensor([0.0000, 0.7311])
    """

    def forward(self, x: TensorLike) -> Tensor:
        return F.silu(x)


def name_of(layer: Module) -> str | None:
    """What functional.linear calls this activation; None for another layer."""
    if type(layer) is GELU:
        return "gelu" if layer.approximate == "none" else "gelu_tanh"
    return "relu" if type(layer) is ReLU else "silu" if type(layer) is SiLU else None


class Sigmoid(Module):
    """1 / (1 + e^-x) of each element.

    Example:
        >>> nn.Sigmoid()([0.0])
        tensor([0.5000])
    """

    def forward(self, x: TensorLike) -> Tensor:
        return F.sigmoid(x)


class Tanh(Module):
    """Hyperbolic tangent of each element.

    Example:
        >>> nn.Tanh()([0.0, 1.0])
        tensor([0.0000, 0.7616])
    """

    def forward(self, x: TensorLike) -> Tensor:
        return F.tanh(x)


class Softmax(Module):
    """exp(x) / sum of exp(x) over the dimension `dim`.

    Args:
        dim: the dimension whose elements sum to 1 afterwards; None: the last of up to two dimensions.

    Example:
        >>> nn.Softmax()([0.0, 0.0])
        tensor([0.5000, 0.5000])
    """

    @numpy_names
    def __init__(self, dim: int | None = None):
        self.dim = None if dim is None else checks.axis("Softmax", dim)

    def forward(self, x: TensorLike) -> Tensor:
        return F.softmax(x, self.dim)


class Dropout(Module):
    """In training, zero each element with probability p, and scale the others by 1 / (1 - p) (Srivastava et al. 2014).

    Args:
        p: from 0 to 1.

    Raises:
        ShapeError: p out of range.

    Example:
        >>> nn.Dropout(0.5).eval()([1.0, 2.0])
        tensor([1., 2.])
    """

    def __init__(self, p: float = 0.5):
        self.p = checks.probability("Dropout", "p", p)

    def forward(self, x: TensorLike) -> Tensor:
        return F.dropout(x, self.p, self.training)

    def describe(self) -> str:
        return f"p={self.p}"


class MaxPool2d(Module):
    """Largest element of each window of x (B, C, H, W).

    Args:
        kernel_size: (rows, columns) of a window, or one number for both.
        stride: pixels from one window to the next; None: the window's size.
        padding: rows and columns on each side, which are never the largest.

    Raises:
        ShapeError, DtypeError: numbers out of range, or no numbers.

    Example:
        >>> nn.MaxPool2d(2)(np.zeros((1, 3, 8, 8), np.float32)).shape
        (1, 3, 4, 4)
    """

    function = staticmethod(F.max_pool2d)

    def __init__(self, kernel_size: Pair, stride: Pair | None = None, padding: Pair = 0):
        name = type(self).__name__
        self.kernel_size = checks.pair(name, "kernel_size", kernel_size)
        self.stride = self.kernel_size if stride is None else checks.pair(name, "stride", stride)
        self.padding = checks.pair(name, "padding", padding, 0)

    def forward(self, x: TensorLike) -> Tensor:
        return self.function(x, self.kernel_size, self.stride, self.padding)

    def describe(self) -> str:
        return f"{self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(MaxPool2d):
    """Mean of each window of x (B, C, H, W); padding counts as zeros.

    Args:
        kernel_size: (rows, columns) of a window, or one number for both.
        stride: pixels from one window to the next; None: the window's size.
        padding: rows and columns of zeros on each side.

    Raises:
        ShapeError, DtypeError: numbers out of range, or no numbers.

    Example:
        >>> nn.AvgPool2d(2, stride=1)(np.zeros((1, 3, 8, 8), np.float32)).shape
        (1, 3, 7, 7)
    """

    function = staticmethod(F.avg_pool2d)


class AdaptiveAvgPool2d(Module):
    """Mean of each of output_size[0] x output_size[1] windows, which cover the image x (B, C, H, W).

    Args:
        output_size: how many windows there are, as (rows, columns) or one number for both.

    Raises:
        ShapeError, DtypeError: numbers out of range, or no numbers.

    Example:
        >>> nn.AdaptiveAvgPool2d(1)(np.zeros((1, 3, 8, 8), np.float32)).shape
        (1, 3, 1, 1)
    """

    @renamed(outputs="output_size")
    def __init__(self, output_size: Pair):
        self.output_size = checks.pair("AdaptiveAvgPool2d", "output_size", output_size)

    def forward(self, x: TensorLike) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.output_size)

    def describe(self) -> str:
        return f"{self.output_size}"


class Flatten(Module):
    """The dimensions from `start_dim` to `end_dim` as one: (B, C, H, W) to (B, C * H * W).

    Args:
        start_dim: the first of these dimensions.
        end_dim: the last of them.

    Example:
        >>> nn.Flatten()(np.zeros((2, 3, 4, 4), np.float32)).shape
        (2, 48)
    """

    @renamed(start="start_dim")
    def __init__(self, start_dim: int = 1, end_dim: int = -1):
        self.start_dim, self.end_dim = checks.axis("Flatten", start_dim), checks.axis("Flatten", end_dim)

    def forward(self, x: TensorLike) -> Tensor:
        return as_tensor(x).flatten(self.start_dim, self.end_dim)
