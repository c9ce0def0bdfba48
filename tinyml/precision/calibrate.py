"""Calibration: run sample inputs through a graph and note the range of every activation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from ..errors import QuantizationError, ShapeError
from ..graph import Graph
from ..tape import no_grad
from ..tensor import FLOATS, Tensor
from .observers import MinMax, Observer

Ranges = dict[int, tuple[float, float]]


def inputs_of(data: Any) -> Iterator[np.ndarray]:
    """The inputs of calibration or evaluation data: arrays, Tensors, or (input, target) pairs.

    One array or Tensor is one batch.
    """
    if isinstance(data, (np.ndarray, Tensor)):
        data = [data]
    if not isinstance(data, Iterable):
        raise ShapeError(f"calibration: expected an iterable of batches (arrays, Tensors or (input, target) pairs), got "
                         f"{type(data).__name__}")
    for batch in data:
        x = batch[0] if isinstance(batch, (tuple, list)) else batch
        x = x.data if isinstance(x, Tensor) else np.asarray(x)
        yield x.astype(np.float32) if x.dtype == np.float64 else x      # NumPy's default; plans take float32


def calibrate(graph: Graph, data: Any, observer: Callable[[], Observer] = MinMax, progress: bool = False) -> Ranges:
    """Range of every float activation of `graph` over the batches of `data`.

    Raises:
        QuantizationError: no batch came, or a NaN or infinity, naming batch and op.
        ShapeError: a batch that does not fit the graph.
    """
    observers: dict[int, Observer] = {}
    names = {n.output: str(n) for n in graph.nodes}
    infinite = {i for i, c in graph.constants.items() if c.tensor.dtype in FLOATS and np.isinf(c.tensor.data).any()}
    # an attention mask adds infinities on purpose; its op has no integer rule and needs no range
    masked = {n.output for n in graph.nodes if n.op.int8 is None and infinite.intersection(n.inputs)}
    batch = 0

    def observe(value: int, x: np.ndarray) -> None:
        if x.dtype not in FLOATS or value in masked:
            return
        if not np.isfinite(x).all():
            what = names.get(value)
            where = f"the result of {what}" if what else "the input"
            raise QuantizationError(f"calibration: {np.count_nonzero(~np.isfinite(x))} NaN or infinite values in {where}, "
                                    f"batch {batch}; expected finite data")
        observers.setdefault(value, observer()).observe(x)

    with no_grad():
        for x in tqdm(inputs_of(data), desc="calibrating", unit="batch", disable=not progress):
            graph(x, observe=observe)
            batch += 1
    if not observers:
        raise QuantizationError("calibration: expected at least one batch of data, got none")
    return {value: o.range() for value, o in observers.items()}
