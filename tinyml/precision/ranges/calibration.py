"""Calibration: run sample inputs through a graph, and note the range of every activation."""

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
from ...tensors import FLOATS
from .observers import MinMax, Observer


@dataclass
class Calibration:
    """The ranges that calibration found, and a record of its data.

    Attributes:
        ranges: the (lo, hi) of every float activation, by its number in the graph.
        samples: how many samples were seen.
        digest: SHA-256 of the shapes and bytes of the inputs, in their order.
    """

    ranges: Ranges
    samples: int
    digest: str


def new_observer(factory: Any) -> Observer:
    """Make an observer with a class, or with a function without arguments.

    Raises:
        DtypeError: the result is not an observer.
    """
    try:
        made: Observer = checks.function("calibration", "what makes an observer", factory)()
    except (TypeError, ValueError) as error:
        raise DtypeError(f"calibration: expected an Observer's class, or a function without arguments, to make observers, "
                         f"got {checks.described(factory)}: {error}") from error
    if not (callable(getattr(made, "observe", None)) and callable(getattr(made, "range", None))):
        raise DtypeError(f"calibration: expected an Observer, which has observe(x) and range(), got "
                         f"{checks.described(made)}")
    return made


def calibrate(graph: Graph, data: Any, observer: Callable[[str], Callable[[], Observer]] = lambda _: MinMax,
              progress: bool = False) -> Calibration:
    """The range of every float activation of a graph over the batches of `data`. Memory does not grow with their number.

    Args:
        graph: the program of a forward, from `trace`.
        data: batches of inputs or of (inputs, targets), as `to_int8(calibration=...)` takes them.
        observer: a function from a layer's name ("" for the input) to the class, or the function without arguments, that
            makes the observers of its activations. By default the range is that of the data.
        progress: whether to show a bar.

    Returns:
        A Calibration. Values that may be infinite on purpose, as an attention mask makes them, have no range in it.

    Raises:
        QuantizationError: there is no batch, or a value is NaN or infinite; the message names the batch and the op.
        ShapeError: a batch does not fit the graph.

    Example:
        >>> import numpy as np
        >>> from tinyml import nn, precision
        >>> from tinyml.graph import trace
        >>> x = np.array([[-1.0], [3.0]], np.float32)
        >>> found = precision.calibrate(trace(nn.ReLU(), x), [x])
        >>> found.samples, found.ranges
        (2, {0: (-1.0, 3.0), 1: (0.0, 3.0)})
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
                infinite.add(value)     # it has no range: the ops that make or read it stay float
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
                digest.update(np.ascontiguousarray(x).data)
            samples += len(inputs[0])
            batch += 1
    if not batch:
        raise QuantizationError("calibration: expected at least one batch of data, got none")
    ranges = {value: o.range() for value, o in observers.items() if value not in infinite}
    return Calibration(ranges, samples, digest.hexdigest())
