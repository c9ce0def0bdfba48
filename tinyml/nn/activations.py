"""Layers without parameters: activations, pooling, dropout, flatten."""

from __future__ import annotations

from typing import Any

from .. import checks
from ..tensor import Tensor, as_tensor
from . import functional as F
from .module import Module


class ReLU(Module):
    """max(x, 0)."""

    def forward(self, x: Any) -> Tensor:
        return F.relu(x)


class ReLU6(Module):
    """min(max(x, 0), 6)."""

    def forward(self, x: Any) -> Tensor:
        return F.relu6(x)


class GELU(Module):
    """x * Phi(x); approximate="tanh" for its tanh form (Hendrycks & Gimpel 2016)."""

    def __init__(self, approximate: str = "none"):
        self.approximate = checks.choice("GELU", "approximate", approximate, F.APPROXIMATIONS)

    def forward(self, x: Any) -> Tensor:
        return F.gelu(x, self.approximate)

    def describe(self) -> str:
        return f"approximate={self.approximate!r}"


class SiLU(Module):
    """x * sigmoid(x)."""

    def forward(self, x: Any) -> Tensor:
        return F.silu(x)


def name_of(layer: Module) -> str | None:
    """What functional.linear calls this activation; None for another layer."""
    if type(layer) is GELU:
        return "gelu" if layer.approximate == "none" else "gelu_tanh"
    return {ReLU: "relu", SiLU: "silu"}.get(type(layer))


class Sigmoid(Module):
    """1 / (1 + e^-x)."""

    def forward(self, x: Any) -> Tensor:
        return F.sigmoid(x)


class Tanh(Module):
    """Hyperbolic tangent."""

    def forward(self, x: Any) -> Tensor:
        return F.tanh(x)


class Softmax(Module):
    """exp(x) / sum of exp(x) over `axis`."""

    def __init__(self, axis: int = -1):
        self.axis = checks.axis("Softmax", axis)

    def forward(self, x: Any) -> Tensor:
        return F.softmax(x, self.axis)


class Dropout(Module):
    """In training, zero elements with probability p and scale the rest by 1 / (1 - p) (Srivastava et al. 2014)."""

    def __init__(self, p: float = 0.5):
        self.p = checks.probability("Dropout", "p", p)

    def forward(self, x: Any) -> Tensor:
        return F.dropout(x, self.p, self.training)

    def describe(self) -> str:
        return f"p={self.p}"


class MaxPool2d(Module):
    """Largest of each window of x (B, C, H, W); stride None is the window's size."""

    function = staticmethod(F.max_pool2d)

    def __init__(self, kernel_size: F.Pair, stride: F.Pair | None = None, padding: F.Pair = 0):
        name = type(self).__name__
        self.size = checks.pair(name, "kernel_size", kernel_size)
        self.stride = self.size if stride is None else checks.pair(name, "stride", stride)
        self.padding = checks.pair(name, "padding", padding, 0)

    def forward(self, x: Any) -> Tensor:
        return self.function(x, self.size, self.stride, self.padding)

    def describe(self) -> str:
        return f"{self.size}, stride={self.stride}, padding={self.padding}"


class AvgPool2d(MaxPool2d):
    """Mean of each window of x (B, C, H, W), padding counted as zeros; stride None is the window's size."""

    function = staticmethod(F.avg_pool2d)


class AdaptiveAvgPool2d(Module):
    """Mean of outputs[0] x outputs[1] windows that cover the image."""

    def __init__(self, outputs: F.Pair):
        self.outputs = checks.pair("AdaptiveAvgPool2d", "outputs", outputs)

    def forward(self, x: Any) -> Tensor:
        return F.adaptive_avg_pool2d(x, self.outputs)

    def describe(self) -> str:
        return f"{self.outputs}"


class Flatten(Module):
    """Dimensions from `start` on as one: (B, C, H, W) to (B, C*H*W)."""

    def __init__(self, start: int = 1):
        self.start = checks.axis("Flatten", start)

    def forward(self, x: Any) -> Tensor:
        return as_tensor(x).flatten(self.start)
