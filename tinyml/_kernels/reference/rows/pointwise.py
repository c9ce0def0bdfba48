"""Functions of one element, and their gradients."""

import math
from collections.abc import Callable

import numpy as np

from ...table import POINTWISE

erfc = np.vectorize(math.erfc, otypes=[np.float64])


def identity_f32(x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """x."""
    y[...] = x


def relu_f32(x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """max(x, 0)."""
    np.maximum(x, 0, out=y)


def exp_f32(x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """e^x."""
    with np.errstate(over="ignore", under="ignore"):
        np.exp(x, out=y)


def tanh_f32(x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """tanh x."""
    np.tanh(x, out=y)


def tanh_grad_f32(y: np.ndarray, dy: np.ndarray, dx: np.ndarray, threads: int) -> None:
    """dy * (1 - y^2)."""
    dx[...] = dy * (1 - y * y)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    with np.errstate(under="ignore"):
        z = np.exp(-np.abs(x))
    y: np.ndarray = np.where(x < 0, z, 1) / (1 + z)
    return y


def sigmoid_f32(x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """1 / (1 + e^-x), without overflow."""
    y[...] = _sigmoid(x)


def sigmoid_grad_f32(y: np.ndarray, dy: np.ndarray, dx: np.ndarray, threads: int) -> None:
    """dy * y * (1 - y)."""
    dx[...] = dy * y * (1 - y)


# Below, x is bounded where the other factor of the function is 0: the product with an infinite x would be NaN.
def silu_f32(x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """x * sigmoid(x)."""
    y[...] = np.maximum(x, -1000) * _sigmoid(x)


def silu_grad_f32(x: np.ndarray, dy: np.ndarray, dx: np.ndarray, threads: int) -> None:
    """dy * s * (1 + x * (1 - s)), s = sigmoid(x)."""
    dx[...] = dy * _sigmoid(x) * (1 + np.clip(x, -1000, 1000) * _sigmoid(-x))


def gelu_f32(x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """x * Phi(x)."""
    y[...] = np.maximum(x, -50) * 0.5 * erfc(x / -math.sqrt(2)) if x.size else 0


def gelu_grad_f32(x: np.ndarray, dy: np.ndarray, dx: np.ndarray, threads: int) -> None:
    """dy * (Phi(x) + x * phi(x))."""
    if x.size:
        c = np.clip(x, -50, 50)
        density = np.exp(-0.5 * c * c) / math.sqrt(2 * math.pi)
        dx[...] = dy * (0.5 * erfc(x / -math.sqrt(2)) + c * density)


_TANH_SCALE, _TANH_CUBE = 2 * math.sqrt(2 / math.pi), 0.044715


def gelu_tanh_f32(x: np.ndarray, y: np.ndarray, threads: int) -> None:
    """x / 2 * (1 + tanh(u)) = x * sigmoid(2u), u = sqrt(2/pi) (x + 0.044715 x^3)."""
    c = np.clip(x, -50, 50)
    y[...] = np.maximum(x, -50) * _sigmoid(_TANH_SCALE * (c + _TANH_CUBE * c * c * c))


def gelu_tanh_grad_f32(x: np.ndarray, dy: np.ndarray, dx: np.ndarray, threads: int) -> None:
    """dy * the derivative of gelu_tanh_f32."""
    c = np.clip(x, -50, 50)
    v = _TANH_SCALE * (c + _TANH_CUBE * c * c * c)
    dx[...] = dy * _sigmoid(v) * (1 + c * _sigmoid(-v) * _TANH_SCALE * (1 + 3 * _TANH_CUBE * c * c))


def relu_grad_f32(y: np.ndarray, dy: np.ndarray, dx: np.ndarray, threads: int) -> None:
    """dy where y > 0, else 0."""
    dx[...] = np.where(y > 0, dy, 0)


def fake_quantize_f32(x: np.ndarray, scale: np.ndarray, zero_point: int, lo: int, hi: int, y: np.ndarray,
                      inside: np.ndarray, threads: int) -> None:
    """y = scale * (q - zero_point), where q = clamp(rint(x / scale) + zero_point); inside = 1 where q is not clamped."""
    s, zero_point, lo, hi = scale[:, None], *(x.dtype.type(v) for v in (zero_point, lo, hi))
    with np.errstate(over="ignore"):
        q = np.rint(x / s) + zero_point
    clamped = np.clip(q, lo, hi)
    y[...] = s * (clamped - zero_point)
    inside[...] = clamped == q


# By the numbers of table.POINTWISE.
FUNCTIONS: list[Callable[..., None]] = [globals()[f"{name}_f32"] for name in POINTWISE]
GRADIENTS: dict[int, Callable[..., None]] = {i: globals()[f"{name}_grad_f32"] for i, name in enumerate(POINTWISE)
                                             if f"{name}_grad_f32" in globals()}
