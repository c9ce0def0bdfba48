"""The steps of optimizers."""

from collections.abc import Iterator
from typing import Any

import numpy as np


def _parts(p: list[np.ndarray], g: list[np.ndarray], at: np.ndarray,
           slots: tuple[np.ndarray, ...]) -> Iterator[tuple[Any, ...]]:
    """For each parameter its number, its elements, its gradient, and its part of each slot."""
    for i, (values, grad) in enumerate(zip(p, g, strict=True)):
        yield i, values, grad, *(slot[at[i] : at[i] + values.size] for slot in slots)


@np.errstate(all="ignore")
def sgd_f32(p: list[np.ndarray], g: list[np.ndarray], b: np.ndarray | None, at: np.ndarray, lr: float, momentum: float,
            decay: np.ndarray, nesterov: bool, scale: float, threads: int) -> None:
    """d = scale g + decay p;  b = momentum b + d;  p -= lr (d + momentum b if nesterov, else b). Without b: p -= lr d."""
    for i, w, grad, *slot in _parts(p, g, at, () if b is None else (b,)):
        d = grad * scale
        if decay[i]:
            d += w * decay[i]
        for c in slot:
            c *= momentum
            c += d
            d = d + c * momentum if nesterov else c
        w -= d * lr


@np.errstate(all="ignore")
def adam_f32(p: list[np.ndarray], g: list[np.ndarray], m: np.ndarray, v: np.ndarray, at: np.ndarray, step: np.ndarray,
             beta1: float, beta2: float, eps: np.ndarray, decay: np.ndarray, scale: float, threads: int) -> None:
    """d = scale g + decay p;  m += (1 - beta1) (d - m);  v = beta2 v + (1 - beta2) d^2;  p -= step m / (sqrt(v) + eps)."""
    for i, w, grad, first, second in _parts(p, g, at, (m, v)):
        d = grad * scale
        if decay[i]:
            d += w * decay[i]
        first += (d - first) * (1 - beta1)
        second *= beta2
        second += d * d * (1 - beta2)
        w -= first / (np.sqrt(second) + eps[i]) * step[i]


@np.errstate(all="ignore")
def adamw_f32(p: list[np.ndarray], g: list[np.ndarray], m: np.ndarray, v: np.ndarray, at: np.ndarray, step: np.ndarray,
              beta1: float, beta2: float, eps: np.ndarray, keep: np.ndarray, scale: float, threads: int) -> None:
    """p = keep p, then adam_f32 without decay."""
    for i, w in enumerate(p):
        w *= keep[i]
    adam_f32(p, g, m, v, at, step, beta1, beta2, eps, np.zeros(len(p)), scale, threads)


def square_sums_f32(x: list[np.ndarray], sums: np.ndarray, threads: int) -> None:
    """The sum of the squares of each array, in float64."""
    sums[:] = [np.square(a, dtype=np.float64).sum() for a in x]
