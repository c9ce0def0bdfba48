"""compare(model, int8_model, data): what int8 cost and what it gained, measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np

from ..errors import ShapeError
from ..nn import functional as F
from ..nn.module import Module, conversions
from ..tape import no_grad
from ..tensor import Tensor, as_tensor


@dataclass
class Measured:
    """One model over the data: loss, accuracy (None without integer targets), bytes, milliseconds a batch."""

    loss: float | None
    accuracy: float | None
    memory_bytes: int
    file_bytes: int
    latency_ms: float


@dataclass
class Comparison:
    """Two models on the same data; prints as a table.

    agreement: share of targets (or outputs) for which both models predict the same class.
    """

    a: Measured
    b: Measured
    agreement: float
    samples: int
    batch: int
    names: tuple[str, str] = ("float32", "int8")

    def as_dict(self) -> dict[str, Any]:
        """The figures, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        a, b = self.a, self.b
        rows = [("", *self.names, "change")]
        if a.accuracy is not None:
            change = f"{(b.accuracy - a.accuracy) * 100:+.2f} points"
            rows.append(("accuracy", f"{a.accuracy:.2%}", f"{b.accuracy:.2%}", change))
        if a.loss is not None:
            rows.append(("loss", f"{a.loss:.4f}", f"{b.loss:.4f}", f"{b.loss - a.loss:+.4f}"))
        rows += [
            ("bytes in memory", f"{a.memory_bytes:,}", f"{b.memory_bytes:,}", f"{b.memory_bytes / a.memory_bytes:.1%}"),
            ("bytes on disk", f"{a.file_bytes:,}", f"{b.file_bytes:,}", f"{b.file_bytes / a.file_bytes:.1%}"),
            (f"ms a batch of {self.batch}", f"{a.latency_ms:.2f}", f"{b.latency_ms:.2f}",
             f"{a.latency_ms / b.latency_ms:.2f}x as fast"),
        ]
        widths = [max(len(r[i]) for r in rows) for i in range(4)]
        lines = ["  ".join(c.ljust(w) if not i else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))) for r in rows]
        lines.insert(1, "-" * len(lines[0]))
        return "\n".join([*lines, f"same prediction for {self.agreement:.2%} of {self.samples:,}"])


def alternate(functions: list[Callable[[], Any]], seconds: float = 1.0, least: int = 5) -> list[float]:
    """Median milliseconds of each function, called in turn so that all see the same machine."""
    for f in functions:
        f()
    times: list[list[float]] = [[] for _ in functions]
    until = time.perf_counter() + seconds
    while len(times[0]) < least or time.perf_counter() < until:
        for f, mine in zip(functions, times):
            start = time.perf_counter()
            f()
            mine.append((time.perf_counter() - start) * 1e3)
    return [median(t) for t in times]


@contextmanager
def _evaluating(models: tuple[Module, Module]) -> Iterator[None]:
    """Both models in evaluation mode, and every layer back in its own at the end."""
    modes = [(m, m.training) for model in models for m in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for m, training in modes:
            m.training = training


def compare(model: Module, int8_model: Module, data: Iterable, show: bool = True, seconds: float = 1.0) -> Comparison:
    """Run two models over the same data and time them on its first batch; prints the table unless `show` is off.

    Args:
        data: batches of inputs, or of (input, target); integer targets of the shape of the predicted classes give accuracy
            and cross entropy, float targets the mean squared error.
        seconds: how long to time.

    Raises:
        ShapeError: no batch came, or the two models give results of different shapes.
    """
    models = (model, int8_model)
    sums, agreed, count, targets_seen = np.zeros((2, 2)), 0, 0, 0
    first, kind = None, None
    with _evaluating(models), no_grad():
        for item in [data] if isinstance(data, (np.ndarray, Tensor)) else data:
            x, y = item if isinstance(item, (tuple, list)) else (item, None)
            x, y = as_tensor(x), None if y is None else as_tensor(y)
            first = x if first is None else first
            outs = [m(x) for m in models]
            if outs[0].shape != outs[1].shape:
                raise ShapeError(f"compare: the models give results of shapes {outs[0].shape} and {outs[1].shape}")
            classes = [o.data.argmax(axis=-1) for o in outs]
            agreed += int((classes[0] == classes[1]).sum())
            count += classes[0].size
            if y is None:
                continue
            kind = "classes" if y.dtype.kind in "iu" else "values"
            targets_seen += y.size
            for i, out in enumerate(outs):
                loss = F.cross_entropy(out, y) if kind == "classes" else F.mse_loss(out, y)
                sums[i, 0] += loss.item() * y.size
                if kind == "classes":
                    sums[i, 1] += (classes[i] == y.data).sum()
        if first is None or count == 0:
            raise ShapeError("compare: expected at least one batch of data, got none")
        latency = alternate([lambda m=m: m(first) for m in models], seconds)
    measured = [Measured(sums[i, 0] / targets_seen if targets_seen else None,
                         sums[i, 1] / targets_seen if kind == "classes" else None,
                         m.nbytes, len(conversions["serialize"](m)), latency[i]) for i, m in enumerate(models)]
    result = Comparison(measured[0], measured[1], agreed / count, count, first.shape[0])
    if show:
        print(result)
    return result
