"""Calibration: run sample inputs through a graph and note the range of every activation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from ... import checks
from ...batches import read_inputs
from ...errors import DtypeError, QuantizationError
from ...graph import Graph, Ranges
from ...tape import no_grad
from ...tensor import FLOATS
from .observers import MinMax, Observer


@dataclass
class Calibration:
    """What calibration found, and from which data.

    ranges: (lo, hi) of every activation by its number in the graph.
    samples: The number of samples.
    digest: The SHA-256 of the inputs' shapes and bytes, in their order.
    """

    ranges: Ranges
    samples: int
    digest: str


def new_observer(factory: Any) -> Observer:
    """The observer that a class, or a function without arguments, makes; raises DtypeError if it makes none."""
    try:
        made = checks.function("calibration", "what makes an observer", factory)()
    except (TypeError, ValueError) as error:
        raise DtypeError(f"calibration: expected an Observer's class, or a function without arguments, to make observers, "
                         f"got {checks.described(factory)}: {error}") from error
    if not (callable(getattr(made, "observe", None)) and callable(getattr(made, "range", None))):
        raise DtypeError(f"calibration: expected an Observer, which has observe(x) and range(), got "
                         f"{checks.described(made)}")
    return made


def calibrate(graph: Graph, data: Any, observer: Callable[[str], Callable[[], Observer]] = lambda _: MinMax,
              progress: bool = False) -> Calibration:
    """The range of every float activation of a graph over data. Memory does not grow with the number of batches.

    >>> import numpy as np
    >>> from tinyml import nn, trace
    >>> graph = trace(nn.Sequential(nn.ReLU()), np.ones((2, 3), np.float32))
    >>> found = calibrate(graph, [np.float32([[-1, 0, 2]])])
    >>> [found.ranges[value] for value in (*graph.inputs, *graph.outputs)], found.samples
    ([(-1.0, 2.0), (0.0, 2.0)], 1)

    Args:
        graph: What `trace` gives.
        data: Batches of inputs, or of (inputs, targets).
        observer: observer(name) gives what makes the observers of the layer `name` ("" for the input): a class, or a
            function without arguments.
        progress: Whether to show a bar on stderr.

    Returns:
        A Calibration.

    Raises:
        QuantizationError: No batch came, or one has a NaN or an infinity; the message names the batch and the op.
        ShapeError: A batch does not fit the graph.
    """
    checks.instance("calibrate", "graph", graph, Graph)
    checks.function("calibrate", "observer", observer)
    progress = checks.flag("calibrate", "progress", progress)
    observers: dict[int, Observer] = {}
    made = {n.output: n for n in graph.nodes}
    masked, infinite = graph.may_be_infinite(), set()
    digest, samples, batch = hashlib.sha256(), 0, 0

    def observe(value: int, x: np.ndarray) -> None:
        if x.dtype not in FLOATS or value in infinite:
            return
        if not np.isfinite(x).all():
            if value in masked and not np.isnan(x).any():
                infinite.add(value)     # no range: what makes or reads it stays float
                return
            where = f"the result of {made[value]}" if value in made else "the input"
            raise QuantizationError(f"calibration: {np.count_nonzero(~np.isfinite(x))} NaN or infinite values in {where}, "
                                    f"batch {batch}; expected finite data")
        if value not in observers:
            observers[value] = new_observer(observer(made[value].module if value in made else ""))
        observers[value].observe(x)

    with no_grad():
        for inputs in tqdm(read_inputs("calibration", data, graph), desc="calibrating", unit="batch", disable=not progress):
            graph(*inputs, observe=observe)
            for x in inputs:
                digest.update(f"{x.dtype}{x.shape}".encode())
                digest.update(np.ascontiguousarray(x))
            samples += len(inputs[0])
            batch += 1
    if not batch:
        raise QuantizationError("calibration: expected at least one batch of data, got none")
    ranges = {value: o.range() for value, o in observers.items() if value not in infinite}
    return Calibration(ranges, samples, digest.hexdigest())
