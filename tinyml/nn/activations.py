"""Layers without parameters: activations, pooling, dropout, flatten."""

from __future__ import annotations

from .. import checks
from ..tensor import Tensor, TensorLike, as_tensor
from . import functional as F
from .module import Module


class ReLU(Module):
    """max(x, 0) of each element.

    Example:
        >>> nn.ReLU()([-1.0, 2.0])
        Tensor([0., 2.], shape=(2,))
    """

    def forward(self, x: TensorLike) -> Tensor:
        return F.relu(x)


class ReLU6(Module):
    """min(max(x, 0), 6) of each element.

    Example:
        >>> nn.ReLU6()([-1.0, 2.0, 9.0])
        Tensor([0., 2., 6.], shape=(3,))
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
        Tensor([-0.1587,  0.    ,  0.8413], shape=(3,))
    """

    def __init__(self, approximate: str = "none"):
        self.approximate = checks.choice("GELU", "approximate", approximate, F.APPROXIMATIONS)

    def forward(self, x: TensorLike) -> Tensor:
        return F.gelu(x, self.approximate)

    def describe(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x sigmoid(x) of each element (Elfwing et al. 2017).

    Example:
        >>> nn.SiLU()([0.0, 1.0])
        Tensor([0.    , 0.7311], shape=(2,))
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
        Tensor([0.5], shape=(1,))
    """

    def forward(self, x: TensorLike) -> Tensor:
        return F.sigmoid(x)


class Tanh(Module):
    """Hyperbolic tangent of each element.

    Example:
        >>> nn.Tanh()([0.0, 1.0])
        Tensor([0.    , 0.7616], shape=(2,))
    """

    def forward(self, x: TensorLike) -> Tensor:
        return F.tanh(x)


class Softmax(Module):
    """exp(x) / sum of exp(x) over the dimension `axis`.

    Args:
        axis: the dimension whose elements sum to 1 afterwards.

    Example:
        >>> nn.Softmax()([0.0, 0.0])
        Tensor([0.5, 0.5], shape=(2,))
    """

    def __init__(self, axis: int = -1):
        self.axis = checks.axis("Softmax", axis)

    def forward(self, x: TensorLike) -> Tensor:
        return F.softmax(x, self.axis)


class Dropout(Module):
    """In training, zero each element with probability p, and scale the others by 1 / (1 - p) (Srivastava et al. 2014).

    Args:
        p: from 0 to 1.

    Raises:
        ShapeError: p out of range.

    Example:
        >>> nn.Dropout(0.5).eval()([1.0, 2.0])
        Tensor([1., 2.], shape=(2,))
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

    def __init__(self, kernel_size: F.Pair, stride: F.Pair | None = None, padding: F.Pair = 0):
        name = type(self).__name__
        self.size = checks.pair(name, "kernel_size", kernel_size)
        self.stride = self.size if stride is None else checks.pair(name, "stride", stride)
        self.padding = checks.pair(name, "padding", padding, 0)

    def forward(self, x: TensorLike) -> Tensor:
        return self.function(x, self.size, self.stride, self.padding)

    def describe(self) -> str:
        return f"{self.size}, stride={self.stride}, padding={self.padding}"


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
    """Mean of each of outputs[0] x outputs[1] windows, which cover the image x (B, C, H, W).

    Args:
        outputs: how many windows there are, as (rows, columns) or one number for both.

    Raises:
        ShapeError, DtypeError: numbers out of range, or no numbers.

    Example:
        >>> nn.AdaptiveAvgPool2d(1)(np.zeros((1, 3, 8, 8), np.float32)).shape
        (1, 3, 1, 1)
    """

    def __init__(self, outputs: F.Pair):
        self.outputs = checks.pair("AdaptiveAvgPool2d", "outputs", outputs)

    def forward(self, x: TensorLike) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.outputs)

    def describe(self) -> str:
        return f"{self.outputs}"


class Flatten(Module):
    """The dimensions from `start` on as one: (B, C, H, W) to (B, C * H * W).

    Args:
        start: the first of these dimensions.

    Example:
        >>> nn.Flatten()(np.zeros((2, 3, 4, 4), np.float32)).shape
        (2, 48)
    """

    def __init__(self, start: int = 1):
        self.start = checks.axis("Flatten", start)

    def forward(self, x: TensorLike) -> Tensor:
        return as_tensor(x).flatten(self.start)
